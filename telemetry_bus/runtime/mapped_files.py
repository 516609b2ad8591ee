"""Files as memory that does not end the program when the disk fails; what that takes is in `bus_errors`."""

from __future__ import annotations

import mmap
import os
import weakref

_PIECE_BYTES = 1024 * 1024
#: The beginning of each file of ours, which never changes: no hole may have been made there.
_HEAD_BYTES = 32

#: Those of this process, as long as they are open.
files: weakref.WeakSet[MappedFile] = weakref.WeakSet()


class MappedFile(mmap.mmap):
    """The first `size` bytes of a file as memory that is shared with it; for -1 memory alone.

    `spare` is another descriptor of the file, open as long as this is used: the file is read through it when the
    mapping has failed. `failed`: it has, and this is memory alone. `torn`: and some of the file could not be read.
    """

    failed = torn = False
    _spare = -1
    _head = b""

    def __new__(cls, fd: int, size: int, spare: int = -1) -> MappedFile:
        mapped = super().__new__(cls, fd, size)
        mapped._spare, mapped._head = spare, mapped[:_HEAD_BYTES]
        files.add(mapped)
        return mapped

    def fail(self) -> None:
        """It has become memory alone, and empty: read the file into it."""
        self.failed, self.torn = True, not (self._read() and self[:_HEAD_BYTES] == self._head)

    def _read(self) -> bool:
        """Whether all of the file could be read."""
        try:
            for start in range(0, len(self), _PIECE_BYTES):
                piece = os.pread(self._spare, min(_PIECE_BYTES, len(self) - start), start)
                self[start : start + len(piece)] = piece
                if start + len(piece) < min(start + _PIECE_BYTES, len(self)):
                    return False
        except OSError:
            return False
        return True
