"""The locks that make a writer the only one: `flock` on a file that is never deleted, never a pid file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .files import open_inside

#: Every lock that is held on a Linux machine: proc_locks(5). The processes of other containers are 0.
_LOCKS = Path("/proc/locks")


class InstanceLock:
    """An exclusive lock that lives as long as its descriptor: it is free the moment its process is dead."""

    def __init__(self, path: Path, fd: int) -> None:
        """Use `acquire`."""
        self._path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path) -> InstanceLock | None:
        """The lock, or None when another process (or another part of this one) holds it."""
        while True:
            fd = _lock(path, fcntl.LOCK_EX)
            if fd is None:
                if is_held(path):
                    return None
                continue  # somebody only looked
            lock = cls(path, fd)
            if lock.valid():
                return lock
            lock.release()  # the file was replaced between opening and locking it

    def valid(self) -> bool:
        """Whether the path still leads to the file that is locked: somebody may have removed the folder."""
        return leads_to(self._path, self._fd)

    def release(self) -> None:
        """Let go; in a forked child the parent keeps the lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock at `path` at this moment."""
    if not path.exists():
        return False
    fd = _lock(path, fcntl.LOCK_SH)  # shared: those who only look do not see each other
    if fd is None:
        return True
    os.close(fd)
    return False


def _lock(path: Path, kind: int) -> int | None:
    fd = open_inside(path, os.O_RDWR | os.O_CREAT)
    try:
        if try_lock(fd, kind):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def holder(path: Path, locks: Path = _LOCKS) -> int | None:
    """The process that holds the lock of a file; None when none does or it cannot be told."""
    try:
        status = path.stat()
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:  # number, kind, ADVISORY, READ or WRITE, process, file, range
        match line.split():
            case [_, "FLOCK", _, "WRITE", pid, where, *_] if where == file and pid.isdigit() and pid != "0":
                return int(pid)
    return None


def try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file, unless another descriptor has it locked; whether that came about."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(fd: int) -> bool:
    """Whether another descriptor has a file locked. Only a glance: while it lasts no other can take the lock."""
    if not try_lock(fd, fcntl.LOCK_SH):
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def leads_to(path: Path, fd: int) -> bool:
    """Whether a path leads to the file that is open: it may have been removed, or replaced.

    Who may not look, because the process has become another user meanwhile, has found nothing wrong.
    """
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
