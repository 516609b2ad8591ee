"""Which jobs a writer was at when it ended, in a small file: the next one must not end with the same job again.

The file holds words of eight bytes, of this machine's order, and names::

    0      MAGIC
    8      names of the batch in flight, or last in flight
    16     the job in flight: 1 + the place of its stream's name in the batch; 0: not one job alone
    24     its sequence
    32     1: the writer gave the job up and ended itself
    64     jobs that were in flight when a writer ended: stream, sequence, how often
    4096   the names of the batch: stream, last sequence

A batch costs three writes. It is not taken back after COMMIT, since jobs that are in the ledger never come again.
Nothing is synced: the file has to outlive a process, not the machine. It is not mapped: each member of the bus's group
may write to it, and one that cut it short would end the writer (SIGBUS).
"""

from __future__ import annotations

import logging
import os
import struct
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..jobs import Run
from ..runtime.files import open_inside

logger = logging.getLogger("telemetry_bus.writer")

#: A job that was in flight alone when so many writers ended is not tried again. Once may have been a kill from outside.
MAX_ENDED_WRITERS = 2
#: A job in which the database fails is tried so often, in a transaction of its own, while the database works otherwise.
MAX_FAULTS = 3
#: A job alone in flight when so many sessions of a server ended is not tried again. Some may have been ended by others.
MAX_ENDED_SESSIONS = 5

FILE_BYTES = 64 * 1024
_MAGIC = b"TBtries1"
#: Names of the batch, place, sequence, given up.
_IN_FLIGHT = struct.Struct("=QQQQ")
_IN_FLIGHT_AT, _GIVEN_UP_AT = 8, 32
_NAMED = struct.Struct("=16sQQ")
_NAMED_AT = 64
_NAME = struct.Struct("=16sQ")
_NAMES_AT = 4096
_MAX_NAMED = (_NAMES_AT - _NAMED_AT) // _NAMED.size
_MAX_NAMES = (FILE_BYTES - _NAMES_AT) // _NAME.size

Key = tuple[bytes, int]


class Attempts:
    """What earlier writers and this one know of jobs that were tried and are not settled.

    Without a `path`, or where the file cannot be made, only what this one knows.
    """

    def __init__(self, path: Path | None = None) -> None:
        #: Whether anything is known that `concern` and `settled` have to look at.
        self.suspicious = False
        self._fd = -1
        self._unwritten = False
        self._places: dict[bytes, int] = {}
        #: Streams of a batch in which a writer ended or the database failed, up to which sequence.
        self._suspects: dict[bytes, int] = {}
        self._ended: Counter[Key] = Counter()
        self._faults: Counter[Key] = Counter()
        #: Sessions of a server that ended in jobs since the last one that was settled.
        self.ended_sessions = 0
        if path is not None:
            self._open(path)

    def concern(self, runs: Sequence[Run]) -> bool:
        """Whether any of these jobs must run one by one."""
        return any(run.first <= self._suspects.get(run.stream, 0) for run in runs)

    def batch(self, runs: Sequence[Run]) -> None:
        """These jobs are in flight from now on."""
        self._in_flight()
        names = {run.stream: run.first + len(run.payloads) - 1 for run in runs}
        self._places = {}
        if len(names) > _MAX_NAMES:
            return
        self._write(_NAMES_AT, b"".join([_NAME.pack(*name) for name in names.items()]))
        self._places = dict(zip(names, range(1, len(names) + 1), strict=True))
        alone = len(runs) == 1 and len(runs[0].payloads) == 1
        self._in_flight(len(names), int(alone), runs[0].first if alone else 0)

    def at(self, stream: bytes, sequence: int) -> None:
        """Of the batch this job is in flight now, alone."""
        self._in_flight(len(self._places), self._places.get(stream, 0), sequence)

    def together(self) -> None:
        """All of the batch is in flight: COMMIT."""
        self._in_flight(len(self._places))

    def suspect(self, runs: Sequence[Run]) -> None:
        """The database failed in one of these jobs."""
        self._suspects.update({run.stream: run.last for run in runs})
        self.suspicious = True

    def failed(self, stream: bytes, sequence: int) -> int:
        """The database failed in this job: how often by now."""
        self.suspicious = True
        self._faults[stream, sequence] += 1
        return self._faults[stream, sequence]

    def faults(self, stream: bytes, sequence: int) -> int:
        """How often the database has failed in this job."""
        return self._faults.get((stream, sequence), 0)

    def ended_writers(self, stream: bytes, sequence: int) -> int:
        """How many writers have ended while this job was in flight alone."""
        return self._ended.get((stream, sequence), 0)

    def settled(self, sequences: Mapping[bytes, int]) -> None:
        """The jobs of these streams up to these sequences need no memory."""
        self.ended_sessions = 0
        for stream, last in sequences.items():
            if self._suspects.get(stream, last + 1) <= last:
                del self._suspects[stream]
        for counts in (self._ended, self._faults):
            for key in [key for key in counts if key[1] <= sequences.get(key[0], -1)]:
                del counts[key]
        self.suspicious = bool(self._suspects or self._ended or self._faults)
        self._note_ended()

    def give_up(self) -> None:
        """This process ends itself because the job in flight cannot be stopped. From any thread."""
        self._write(_GIVEN_UP_AT, (1).to_bytes(8, sys.byteorder))

    def close(self) -> None:
        """Nothing is in flight. Idempotent."""
        self._in_flight()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, path: Path) -> None:
        try:
            self._fd = open_inside(path, os.O_RDWR | os.O_CREAT)
            self._recall(os.pread(self._fd, FILE_BYTES, 0).ljust(FILE_BYTES, b"\0"))
        except OSError as error:
            self._cannot(error)

    def _recall(self, data: bytes) -> None:
        """What the last writer left behind."""
        if not data.startswith(_MAGIC):
            data = bytes(FILE_BYTES)
        for stream, sequence, times in _NAMED.iter_unpack(data[_NAMED_AT : _NAMED_AT + _MAX_NAMED * _NAMED.size]):
            if times:
                self._ended[stream, sequence] = times
        count, place, sequence, given_up = _IN_FLIGHT.unpack_from(data, _IN_FLIGHT_AT)
        count = min(count, _MAX_NAMES)
        names = list(_NAME.iter_unpack(data[_NAMES_AT : _NAMES_AT + count * _NAME.size]))
        self._suspects = dict(names)
        if 0 < place <= count:
            self._ended[names[place - 1][0], sequence] += MAX_ENDED_WRITERS if given_up else 1
        for stream, sequence in self._ended:
            self._suspects[stream] = max(sequence, self._suspects.get(stream, 0))
        self._note_ended()
        self._in_flight()
        self._write(0, _MAGIC)
        self.suspicious = bool(self._suspects)

    def _note_ended(self) -> None:
        named = list(self._ended.items())[-_MAX_NAMED:]
        data = b"".join([_NAMED.pack(*job, times) for job, times in named])
        self._write(_NAMED_AT, data.ljust(_NAMES_AT - _NAMED_AT, b"\0"))

    def _in_flight(self, names: int = 0, place: int = 0, sequence: int = 0) -> None:
        """At once: no kill finds half of it."""
        self._write(_IN_FLIGHT_AT, _IN_FLIGHT.pack(names, place, sequence, 0))

    def _write(self, at: int, data: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, data, at)
        except OSError as error:
            if not self._unwritten:
                self._unwritten = True
                self._cannot(error)

    def _cannot(self, error: OSError) -> None:
        logger.warning(
            "cannot keep writer.attempts: a job that ends the writer is not known to the next one: %s", error
        )
