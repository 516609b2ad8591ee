"""Which jobs a writer was at when it ended, in a small mapped file: the next one must not end with the same job again.

The file holds words of eight bytes, of this machine's order, and names::

    0      MAGIC
    8      names of the batch in flight, or last in flight
    16     the job in flight: 1 + the place of its stream's name in the batch; 0: not one job alone
    24     its sequence
    32     1: the writer gave the job up and ended itself
    64     jobs that were in flight when a writer ended: stream, sequence, how often
    4096   the names of the batch: stream, last sequence

A batch costs one copy of its names and three stores. It is not taken back after COMMIT, since jobs that are in the
ledger never come again. Nothing is synced: the file has to outlive a process, not the machine.
"""

from __future__ import annotations

import logging
import mmap
import os
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

MAGIC = int.from_bytes(b"TBtries1", "little")
FILE_BYTES = 64 * 1024
_BATCH, _PLACE, _SEQUENCE, _GIVEN_UP = 1, 2, 3, 4  # words
_NAMED_AT, _NAMED_BYTES = 64, 32
_NAMES_AT, _NAME_BYTES = 4096, 24
_MAX_NAMED = (_NAMES_AT - _NAMED_AT) // _NAMED_BYTES
_MAX_NAMES = (FILE_BYTES - _NAMES_AT) // _NAME_BYTES

Key = tuple[bytes, int]


class Attempts:
    """What earlier writers and this one know of jobs that were tried and are not settled.

    Without a `path`, or where the file cannot be made, only what this one knows.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = None if path is None else _map(path)
        #: Whether anything is known that `concern` and `settled` have to look at.
        self.suspicious = False
        self._words = memoryview(self._file or bytearray(FILE_BYTES)).cast("Q")
        self._bytes = self._words.cast("B")
        self._places: dict[bytes, int] = {}
        #: Streams of a batch in which a writer ended or the database failed, up to which sequence.
        self._suspects: dict[bytes, int] = {}
        self._ended: Counter[Key] = Counter()
        self._faults: Counter[Key] = Counter()
        self._recall()

    def concern(self, runs: Sequence[Run]) -> bool:
        """Whether any of these jobs must run one by one."""
        return any(run.first <= self._suspects.get(run.stream, 0) for run in runs)

    def batch(self, runs: Sequence[Run]) -> None:
        """These jobs are in flight from now on."""
        self._words[_BATCH] = 0
        names = {run.stream: run.first + len(run.payloads) - 1 for run in runs}
        if len(names) > _MAX_NAMES:
            return
        data = b"".join([stream.ljust(16)[:16] + last.to_bytes(8, "little") for stream, last in names.items()])
        self._bytes[_NAMES_AT : _NAMES_AT + len(data)] = data
        self._places = dict(zip(names, range(1, len(names) + 1), strict=True))
        alone = len(runs) == 1 and len(runs[0].payloads) == 1
        self._words[_SEQUENCE] = runs[0].first if alone else 0
        self._words[_PLACE] = int(alone)
        self._words[_BATCH] = len(names)

    def at(self, stream: bytes, sequence: int) -> None:
        """Of the batch this job is in flight now, alone."""
        self._words[_SEQUENCE] = sequence
        self._words[_PLACE] = self._places.get(stream, 0)

    def together(self) -> None:
        """All of the batch is in flight: COMMIT."""
        self._words[_PLACE] = 0

    def suspect(self, runs: Sequence[Run]) -> None:
        """The database failed in one of these jobs."""
        self._suspects.update({run.stream: run.last for run in runs})
        self.suspicious = True

    def failed(self, stream: bytes, sequence: int) -> int:
        """The database failed in this job: how often by now."""
        self.suspicious = True
        self._faults[stream, sequence] += 1
        return self._faults[stream, sequence]

    def ended_writers(self, stream: bytes, sequence: int) -> int:
        """How many writers have ended while this job was in flight alone."""
        return self._ended.get((stream, sequence), 0)

    def settled(self, sequences: Mapping[bytes, int]) -> None:
        """The jobs of these streams up to these sequences need no memory."""
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
        self._words[_GIVEN_UP] = 1

    def close(self) -> None:
        """Nothing is in flight. Idempotent."""
        if self._file is not None:
            self._words[_BATCH] = 0
        self._bytes.release()
        self._words.release()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _recall(self) -> None:
        """What the last writer left behind."""
        if self._words[0] != MAGIC:
            self._bytes[:] = bytes(FILE_BYTES)
            self._words[0] = MAGIC
        for at in range(_NAMED_AT, _NAMED_AT + _MAX_NAMED * _NAMED_BYTES, _NAMED_BYTES):
            stream, (sequence, times) = bytes(self._bytes[at : at + 16]), self._words[at // 8 + 2 : at // 8 + 4]
            if times:
                self._ended[stream, sequence] = times
        count = min(self._words[_BATCH], _MAX_NAMES)
        names = [
            (bytes(self._bytes[at : at + 16]), int.from_bytes(self._bytes[at + 16 : at + _NAME_BYTES], "little"))
            for at in range(_NAMES_AT, _NAMES_AT + count * _NAME_BYTES, _NAME_BYTES)
        ]
        self._suspects = dict(names)
        if 0 < self._words[_PLACE] <= count:
            job = names[self._words[_PLACE] - 1][0], self._words[_SEQUENCE]
            self._ended[job] += MAX_ENDED_WRITERS if self._words[_GIVEN_UP] else 1
        for stream, sequence in self._ended:
            self._suspects[stream] = max(sequence, self._suspects.get(stream, 0))
        self._note_ended()
        self._words[_GIVEN_UP] = self._words[_PLACE] = self._words[_BATCH] = 0
        self.suspicious = bool(self._suspects)

    def _note_ended(self) -> None:
        named = list(self._ended.items())[-_MAX_NAMED:]
        data = b"".join([s.ljust(16)[:16] + n.to_bytes(8, "little") + t.to_bytes(8, "little") for (s, n), t in named])
        self._bytes[_NAMED_AT:_NAMES_AT] = data.ljust(_NAMES_AT - _NAMED_AT, b"\0")


def _map(path: Path) -> mmap.mmap | None:
    """The file, all of it on the disk: a store into a hole of a full disk would be a signal."""
    try:
        fd = open_inside(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(fd).st_size != FILE_BYTES:
                os.ftruncate(fd, 0)
                os.posix_fallocate(fd, 0, FILE_BYTES)
            return mmap.mmap(fd, FILE_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        logger.warning("cannot keep %s: a job that ends the writer is not known to the next one: %s", path, error)
        return None
