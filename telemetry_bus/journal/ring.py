"""The journal: one stream's memory-mapped ring file. What is in it survives the process."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from ..encoding.records import CHUNK_BYTES, Position, seal
from ..errors import JournalUnavailable
from ..runtime.bus_errors import catch_bus_errors
from ..runtime.files import open_inside, remove_inside, rename_inside, sync_folder
from ..runtime.folder import JOURNAL_SUFFIX
from ..runtime.locks import leads_to, try_lock
from ..runtime.mapped_files import MappedFile
from .dropped import keep_dropped
from .layout import (
    DEFINITIONS_BYTES,
    DEFINITIONS_TAIL,
    DROPPED,
    PAGE_BYTES,
    TAIL,
    UNFINISHED_SUFFIX,
    Header,
    write_watermark,
)


class Journal:
    """The owner's side: append, read slices to send, trim what is acknowledged.

    `append` and `define` are for one thread at a time (the outbox holds a lock); `boundary`, `read`, `definitions`
    and `trim` belong to the one thread that sends.
    """

    def __init__(self, folder: Path | None, stream: bytes, ring_bytes: int, database: str) -> None:
        """Make the journal in `folder`, or in memory alone when that is None.

        Raises `JournalUnavailable` when the file cannot be made or there is no room on the disk for all of it.
        """
        self.stream = stream
        #: What proves to the writer that the stream is this process's, see `encoding.streams`; empty: nothing does.
        self.secret = b""
        self.path = None if folder is None else folder / (stream.hex() + JOURNAL_SUFFIX)
        self.ring_bytes = ring_bytes
        self.end: Position = (0, 0)
        self.trimmed: Position = (0, 0)
        self._free_to = ring_bytes
        self.definitions_end: Position = (0, 0)  # number of the last definition, and where it ends
        self._marks: deque[Position] = deque()
        self._next_mark = CHUNK_BYTES  # where the message that is being filled is whole
        self._generation = 0
        header = Header(stream, ring_bytes, DEFINITIONS_BYTES, os.getpid(), database).pack()
        total = PAGE_BYTES + DEFINITIONS_BYTES + ring_bytes
        self._lock_fd = -1
        if self.path is None:
            self._map = MappedFile(-1, total)
            self._map[: len(header)] = header
        else:
            self._map = self._create(self.path, header, total)
        self._look()

    def append(self, record: bytes) -> int:
        """Seal and publish a record; returns its sequence number, or 0 when there is no room for it, or it `failed`.

        An interrupt at any bytecode leaves the ring whole: what was counted but not published is published with
        the next record.
        """
        sequence, start = self.end
        if start >= self._next_mark:
            self._marks.append(self.end)
            self._next_mark = start + CHUNK_BYTES
        sequence += 1
        record += (0xCE_0000_0000 | crc32(record, sequence & 0xFFFFFFFF)).to_bytes(5, "big")  # `seal`, without a call
        size = len(record)
        end = start + size
        if end > self._free_to:
            return 0
        position = start % self.ring_bytes
        if position + size <= self.ring_bytes:
            self._ring[position : position + size] = record
        else:
            room = self.ring_bytes - position
            self._ring[position:] = record[:room]
            self._ring[: size - room] = record[room:]
        if self._map.failed:
            return 0
        self.end = (sequence, end)
        self._words[TAIL] = end
        return sequence

    def define(self, definition: bytes) -> int:
        """Seal a definition and keep it for the life of the stream; returns its number, or 0 when there is no room.

        As with `append`, an interrupt at any bytecode leaves the room whole.
        """
        number, start = self.definitions_end
        number += 1
        definition = seal(definition, number)
        end = start + len(definition)
        if end > DEFINITIONS_BYTES:
            return 0
        self._definitions[start:end] = definition
        self.definitions_end = (number, end)
        self._words[DEFINITIONS_TAIL] = end
        return number

    def boundary(self, after: Position) -> Position:
        """The end of the message that begins at `after`; `after` itself when nothing follows."""
        end = self.end  # before the marks: one that is missing now stands behind it
        while self._marks and self._marks[0][0] <= after[0]:
            self._marks.popleft()
        return min(self._marks[0], end) if self._marks else end

    def read(self, start: Position, end: Position) -> bytes:
        """The records between two positions."""
        first, last = start[1] % self.ring_bytes, end[1] % self.ring_bytes
        if end[1] - start[1] == 0:
            return b""
        if first < last:
            return bytes(self._ring[first:last])
        return bytes(self._ring[first:]) + bytes(self._ring[:last])

    def definitions(self, start: Position) -> tuple[bytes, Position]:
        """The definitions behind `start`, a position in their room, and where they end."""
        end = self.definitions_end
        return bytes(self._definitions[start[1] : end[1]]), end

    def trim(self, position: Position) -> None:
        """Everything up to `position` is decided: note it in the file, then free the space."""
        self._generation += 1
        index, slot = write_watermark(self._generation, position)
        self._map[index : index + len(slot)] = slot
        self.trimmed = position
        self._free_to = position[1] + self.ring_bytes

    def drop(self) -> int:
        """Count a job that is dropped, where others see it; how many there are by now."""
        self._words[DROPPED] += 1
        return self._words[DROPPED]

    @property
    def dropped(self) -> int:
        return self._words[DROPPED]

    @property
    def failed(self) -> bool:
        """Whether the file's disk has failed, and what is appended would be in memory alone."""
        return self._map.failed

    @property
    def torn(self) -> bool:
        """Whether the file has `failed` and jobs that waited in it cannot be read any more."""
        return self._map.torn

    def lost(self) -> bool:
        """Whether the file was removed or replaced, or has `failed`: what is in it would not survive the process."""
        if self.path is None or self._lock_fd < 0:
            return False
        return self.failed or not leads_to(self.path, self._lock_fd)

    def renew(self) -> None:
        """Make the file that was `lost` anew, with all that is in it; for when nobody appends. Raises as `__init__`."""
        assert self.path is not None
        lost, lock_fd = self._map, self._lock_fd
        self._lock_fd = -1
        try:
            self._map = self._create(self.path, lost[:], len(lost))
        except BaseException:
            self._lock_fd = lock_fd
            raise
        self._release()
        self._look()
        lost.close()
        os.close(lock_fd)

    def remove(self) -> None:
        """Delete the file: everything in it is decided. Then as `close`."""
        if self.path is not None:
            keep_dropped(self.path.parent, self.stream, self.dropped)
            with suppress(OSError):  # it was removed, perhaps with its folder; or the disk has failed, and it stays
                remove_inside(self.path)
                sync_folder(self.path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; what is in it is left to the writer."""
        self._release()
        self._map.close()
        self._drop_lock()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's lock and map. A submit that the fork has interrupted, in a signal
        handler, fails when it goes on: it must not write there."""
        self._release()
        self._drop_lock()

    def _drop_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _look(self) -> None:
        view = memoryview(self._map)
        self._words = view[:PAGE_BYTES].cast("Q")
        self._definitions = view[PAGE_BYTES : PAGE_BYTES + DEFINITIONS_BYTES]
        self._ring = view[PAGE_BYTES + DEFINITIONS_BYTES :]

    def _release(self) -> None:
        for view in (self._words, self._definitions, self._ring):
            view.release()

    def _create(self, path: Path, content: bytes, total: int) -> MappedFile:
        """A file under a temporary name, locked, allocated, initialised, and closed to all others; then under its own.

        The lock is on a descriptor of its own: the mapping keeps the other one alive, in a forked child too.
        """
        catch_bus_errors()
        unfinished = path.with_suffix(UNFINISHED_SUFFIX)
        try:
            mapped = open_inside(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, others=os.O_RDONLY)
            try:
                self._lock_fd = open_inside(unfinished, os.O_RDWR)
                try_lock(self._lock_fd)  # nobody else knows the file
                os.posix_fallocate(mapped, 0, total)
                os.pwrite(mapped, content, 0)
                memory = MappedFile(mapped, total, self._lock_fd)
                os.fchmod(mapped, os.fstat(mapped).st_mode & 0o440)  # who opens it to write, or cuts it short, may not
                rename_inside(unfinished, path)
                return memory
            except BaseException:
                self._drop_lock()
                with suppress(FileNotFoundError):
                    remove_inside(unfinished)
                raise
            finally:
                os.close(mapped)
        except OSError as error:
            raise JournalUnavailable(
                f"{error.strerror or error}; {total} bytes are needed",
                operation="create journal",
                subject=str(path),
                hint="free space, correct the folder's rights, or choose a smaller journal_bytes",
            ) from error
