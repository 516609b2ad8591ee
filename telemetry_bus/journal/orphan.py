"""Journals that others made: adopted when their owner is dead, looked at while it lives."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..encoding.records import CHUNK_BYTES, scan, scan_definitions
from ..errors import JournalCorrupt
from ..jobs import MAX_JOB_BYTES
from ..runtime.files import open_inside, remove_inside, sync_folder
from ..runtime.locks import is_locked
from .dropped import keep_dropped
from .layout import DEFINITIONS_TAIL, DROPPED, PAGE_BYTES, TAIL, Header, lock_file, read_watermark

#: The ring is read in pieces of this size, so that a large journal does not fill the memory.
_PIECE_BYTES = 1024 * 1024
#: No record is longer; a rest of this length that does not check out is the end.
_MAX_RECORD_BYTES = MAX_JOB_BYTES + 64
#: Most records are shorter than this.
_SHORT_BYTES = 4 * 1024
#: The checksum at the end of a record, and behind it what looks like another: the number of a template, and an array.
#: Each is looked at, for a checksum may have the bytes of one in itself.
_ENDS = re.compile(rb"(?s)(?=(\xce....)(?:[\x00-\x7f]|\xcc.|\xcd..|\xce....)[\x90-\x9f\xdc\xdd])")
#: A journal that is trimmed while its jobs are counted is counted anew, so many times at most.
_LOOKS = 4


class OrphanJournal:
    """A journal's file, read: what is intact in it, message by message.

    Raises `JournalCorrupt` when not even the header or the watermark can be trusted.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """`fd` is an open descriptor of the file; it is the journal's from now on."""
        self.path = path
        self._fd = fd
        page = os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")
        self._header = header = Header.unpack(page)
        self.stream, self.pid = header.stream, header.pid
        self._ring_start = PAGE_BYTES + header.definitions_bytes
        words = memoryview(page).cast("Q")
        self.tail = words[TAIL]
        self.dropped = words[DROPPED]
        self.trimmed = read_watermark(page)
        #: What was found wrong; None so far.
        self.damage: str | None = None
        size, whole = os.fstat(fd).st_size, self._ring_start + header.ring_bytes
        if size < whole:
            self.damage = f"the last {whole - size} bytes of the file are cut off"
        #: Up to which job the ledger knows the stream. Behind that stands what must not be lost.
        self.known = 0
        room = os.pread(fd, header.definitions_bytes, PAGE_BYTES)
        self.definitions_count, self.definitions = self._intact_definitions(room, words[DEFINITIONS_TAIL])

    @classmethod
    def claim(cls, path: Path) -> OrphanJournal | None:
        """The journal at `path` if its owner is dead and nobody else adopts it; None otherwise.

        Raises `JournalCorrupt`; the file is then unlocked again.
        """
        fd = lock_file(path)
        if fd is None:
            return None
        try:
            return cls(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def chunks(self) -> Iterator[tuple[int, int, bytes]]:
        """First sequence number, number of jobs, and records, from the watermark to the last intact record.

        The checksums say where it ends, not the published tail: a record that checks out with the next sequence
        number was appended whole. When it ends before the tail, `damage` says so. After a power cut the page may be
        older than the ring, by laps: what follows the ledger is looked for then.
        """
        last = yield from self._follow(*self.trimmed)
        if last < self.known:
            offset = self._find(self.known + 1)
            if offset is None:
                self.damage = f"its first page is older than the ledger: nothing is found behind job {self.known}"
            else:
                self.damage = None
                yield from self._follow(self.known, offset)

    def _follow(self, sequence: int, offset: int) -> Generator[tuple[int, int, bytes], None, int]:
        """As `chunks`, from one place on; the last job."""
        limit = offset + self._header.ring_bytes
        reach = offset  # how far the ring has been read
        rest = b""
        reason = "nothing follows"
        while reach < limit and len(rest) <= _MAX_RECORD_BYTES:
            piece = self._piece(reach, min(_PIECE_BYTES, limit - reach))
            reach += len(piece)
            data = rest + piece
            start = end = count = 0
            try:
                for end in scan(data, sequence + 1):
                    count += 1
                    if end - start >= CHUNK_BYTES:
                        yield sequence + 1, count, data[start:end]
                        sequence += count
                        start, count = end, 0
            except JournalCorrupt as error:
                reason = error.message
            if count:
                yield sequence + 1, count, data[start:end]
                sequence += count
            rest = data[end:]
            if reach - len(rest) == self.tail:
                return sequence
        if reach - len(rest) < self.tail:
            self.damage = f"{self.tail - reach + len(rest)} bytes after job {sequence} are lost: {reason}"
        return sequence

    def _find(self, sequence: int) -> int | None:
        """Where in the ring the record of a job stands, behind the tail that is published; None when nowhere."""
        ring = self._header.ring_bytes
        lap = -(-self.tail // ring) * ring
        for start in range(0, ring, _PIECE_BYTES):
            piece = self._read(start, min(_PIECE_BYTES, ring - start) + min(_SHORT_BYTES, ring))
            for place in itertools.chain((0,), (found.end(1) for found in _ENDS.finditer(piece))):
                if self._stands_at(start + place, piece[place : place + _SHORT_BYTES], sequence):
                    return lap + (start + place) % ring
        return None

    def _stands_at(self, offset: int, data: bytes, sequence: int) -> bool:
        """Whether the record of a job is at a place of the ring, whose first bytes are `data`."""
        try:
            return bool(next(scan(data, sequence), 0))
        except JournalCorrupt as error:
            if "OutOfData" not in error.message or len(data) == min(_MAX_RECORD_BYTES, self._header.ring_bytes):
                return False
        return self._stands_at(offset, self._read(offset, min(_MAX_RECORD_BYTES, self._header.ring_bytes)), sequence)

    def _read(self, offset: int, length: int) -> bytes:
        """As `_piece`, beyond the wrap too."""
        data = b""
        while len(data) < length:
            data += self._piece(offset + len(data), length - len(data))
        return data

    def delete(self) -> None:
        """Everything in it is decided: unlink the file, make that durable, let go of the lock."""
        self.keep_dropped()
        with suppress(FileNotFoundError):  # somebody has removed it, perhaps with its folder
            remove_inside(self.path)
            sync_folder(self.path.parent)
        self.close()

    def keep_dropped(self) -> None:
        """Before the file goes from its place: what its owner has dropped is still told of."""
        keep_dropped(self.path.parent, self.stream, self.dropped)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _piece(self, offset: int, length: int) -> bytes:
        """A piece of the ring, up to its wrap; what the file does not have reads as zeros."""
        position = offset % self._header.ring_bytes
        length = min(length, self._header.ring_bytes - position)
        return os.pread(self._fd, length, self._ring_start + position).ljust(length, b"\0")

    def _intact_definitions(self, room: bytes, tail: int) -> tuple[int, bytes]:
        """As with records, the checksums say where they end."""
        count = end = 0
        try:
            for position in scan_definitions(room):
                count, end = count + 1, position
        except JournalCorrupt as error:
            if end < tail:
                self.damage = f"definitions after number {count} are lost: {error.message}"
        return count, room[:end]


@dataclass(frozen=True, slots=True)
class JournalState:
    """What a look at a journal shows, its owner alive or not."""

    stream: bytes
    pid: int
    alive: bool
    trimmed: int
    pending_jobs: int
    pending_bytes: int
    #: Bytes since the stream began: up to here it was submitted; from `pending_bytes` before here on it waits.
    end: int
    #: Jobs that its owner has dropped, for they found no room.
    dropped: int = 0


def inspect(path: Path, most_bytes: int = sys.maxsize) -> JournalState:
    """Look at a journal without touching it.

    Its owner may live and move on meanwhile: bytes are of one moment, and jobs are counted again when they were
    overwritten under the count. Of more than `most_bytes` that wait, the first are counted, and the number of all is
    reckoned from their size: a million jobs take a second to count.
    Raises `JournalCorrupt`, or `FileNotFoundError` when it is gone.
    """
    fd = open_inside(path, os.O_RDONLY)
    try:
        for _ in range(_LOOKS):
            journal = OrphanJournal(path, fd)
            waiting = max(0, journal.tail - journal.trimmed[1])
            jobs = counted = 0
            for _, count, data in journal.chunks():
                jobs, counted = jobs + count, counted + len(data)
                if counted >= most_bytes:
                    jobs = jobs * max(waiting, counted) // counted
                    break
            if OrphanJournal(path, fd).trimmed == journal.trimmed:
                break
        return JournalState(
            journal.stream,
            journal.pid,
            is_locked(fd),
            journal.trimmed[0],
            jobs,
            waiting,
            journal.tail,
            journal.dropped,
        )
    finally:
        os.close(fd)
