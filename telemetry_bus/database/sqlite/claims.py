"""One file, one name: a writer claims its database's file under the name by which it has it open.

SQLite finds the log of a database by its name. Two writers of one file by two names (a hard link, a bind mount of the
file alone, another bus folder) would each have a log of their own, and write over what the other has written. So each
holds a lock on the file itself, on a byte that its name gives, and looks whether another byte is locked. Writers of one
name do not see each other here: between these stands the lock in their folder, and the ledger.

It is a lock of the open file (F_OFD_SETLK in fcntl(2)), far behind the bytes that SQLite locks. To close any descriptor
of a file drops all of SQLite's locks on it in this process, so one that was opened here stays open and is used again.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path
from zlib import crc32

from ...errors import OtherName
from ...runtime import lifecycle

#: Names have the bytes from here on.
_BASE = 1 << 62
_NAMES = 1 << 32
#: type, whence, start, length, process: `struct flock` where offsets have 64 bits.
_FLOCK = struct.Struct("hhqqi4x")
#: Two that come at once see each other, and both go back: try again so often, in a pace that differs.
_TRIES = 20
#: Files that are not claimed any more are kept open, so many of them: another part of the program may have them open.
_MOST_IDLE = 64

FileId = tuple[int, int]


class _File:
    """A file that was claimed by this process, and by how many connections now."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.byte = 0
        self.claims = 0


class Claims:
    """The files that this process has claimed."""

    def __init__(self) -> None:
        self._files: dict[FileId, _File] = {}
        lifecycle.watch(self)

    def claim(self, path: Path, place: Path | None) -> FileId:
        """Claim the file at `path`, for the writer whose bus folder is `place`; `release` it when nothing has it open.

        Raises `OtherName` when it is claimed under another name, and `OSError`.
        """
        found = os.stat(path)
        key = found.st_dev, found.st_ino
        byte = _BASE + crc32(_name(path, place))
        file = self._files.get(key) or self._open(path, key)
        if (file.claims and file.byte != byte) or (not file.claims and not _lock(file.fd, byte)):
            raise _claimed_elsewhere(path)
        file.byte = byte
        file.claims += 1
        return key

    def check(self, path: Path, place: Path | None) -> None:
        """Claim nothing, and raise as `claim` does."""
        found = os.stat(path)
        key = found.st_dev, found.st_ino
        byte = _BASE + crc32(_name(path, place))
        file = self._files.get(key) or self._open(path, key)
        if file.byte != byte if file.claims else _is_another_locked(file.fd, byte):
            raise _claimed_elsewhere(path)

    def release(self, key: FileId) -> None:
        """What `claim` gave is free for other names."""
        file = self._files.get(key)
        if file is None or not file.claims:
            return
        file.claims -= 1
        if not file.claims:
            _set(file.fd, fcntl.F_UNLCK, file.byte)

    def after_fork(self) -> None:
        """They are the parent's, and a descriptor here would keep them when it is gone."""
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()

    def at_exit(self, limit: float) -> None:
        """Nothing: the end of the process frees them."""

    def _open(self, path: Path, key: FileId) -> _File:
        self._close_some()
        file = _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        opened = os.fstat(file.fd)
        if (opened.st_dev, opened.st_ino) != key:
            os.close(file.fd)
            raise FileNotFoundError(f"{path} was replaced while it was opened")
        return self._files.setdefault(key, file)

    def _close_some(self) -> None:
        """Those of deleted files, and when there are many the oldest that nothing else in this process has open."""
        idle = [key for key, file in self._files.items() if not file.claims]
        spare = len(idle) - _MOST_IDLE
        for key in idle:
            file = self._files[key]
            if not os.fstat(file.fd).st_nlink or (spare > 0 and not _open_elsewhere(key, file.fd)):
                os.close(file.fd)
                del self._files[key]
                spare -= 1


claims = Claims()


def _claimed_elsewhere(path: Path) -> OtherName:
    return OtherName(
        "another writer has this very file open, under another name or for another bus folder",
        operation="open",
        subject=str(path),
        hint="use one name and one TELEMETRY_BUS_DIR for it everywhere; mount its folder, not the file alone",
    )


def _name(path: Path, place: Path | None) -> bytes:
    """What a file is called, however the way to it is: the number of its folder, and so for its bus folder."""
    parts = []
    for each in (path, place or path):
        folder = os.stat(each.parent)
        parts.append(f"{folder.st_dev}:{folder.st_ino}/{each.name}")
    return "\n".join(parts).encode()


def _lock(fd: int, byte: int) -> bool:
    """Lock a name's byte, and whether no other is locked. Where there are no such locks it cannot be told."""
    for attempt in range(_TRIES):
        if not _set(fd, fcntl.F_RDLCK, byte):
            return True
        if not _is_another_locked(fd, byte):
            return True
        _set(fd, fcntl.F_UNLCK, byte)
        if attempt + 1 < _TRIES:
            time.sleep(0.003 * (1 + (os.getpid() + attempt) % 5))
    return False


def _set(fd: int, kind: int, byte: int) -> bool:
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        return False
    try:
        fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError:
        return False
    return True


def _is_another_locked(fd: int, byte: int) -> bool:
    """Whether another open file has a lock on the byte of another name."""
    below, above = (_BASE, byte - _BASE), (byte + 1, _BASE + _NAMES - byte - 1)
    return hasattr(fcntl, "F_OFD_GETLK") and (_is_locked(fd, *below) or _is_locked(fd, *above))


def _is_locked(fd: int, start: int, length: int) -> bool:
    """Whether another open file has a lock there."""
    if not length:
        return False
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _open_elsewhere(key: FileId, mine: int) -> bool:
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) != mine and (found.st_dev, found.st_ino) == key:
            return True
    return False
