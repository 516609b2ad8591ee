"""Files inside the bus folder: reached without a link on the way, of the kind they must be, with their folder's rights.

A member of the bus's group may put anything into the folder. Each access therefore begins at the file's own folder,
which is opened as what it is, and goes on from there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_inside(path: Path, flags: int, *, others: int = os.O_RDWR) -> int:
    """A descriptor of a file; one that may be made is private to its owner or its folder's group, and `others` is what
    the group may do with it. Raises `OSError` for a link, and for whatever is no file: to open a pipe would last."""
    try:
        with folder_of(path) as folder:
            fd = os.open(path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        if flags & os.O_CREAT:
            share(fd, path.parent, others)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_private(path: Path) -> int:
    """A descriptor of a new file that only its owner may use, whatever the umask. Raises `FileExistsError`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def remove_inside(path: Path) -> None:
    """Unlink a file. Raises `FileNotFoundError` when it is gone."""
    with folder_of(path) as folder:
        os.unlink(path.name, dir_fd=folder)


def rename_inside(old: Path, new: Path) -> None:
    """Rename a file within the bus folder."""
    with folder_of(old) as source, folder_of(new) as target:
        os.rename(old.name, new.name, src_dir_fd=source, dst_dir_fd=target)


def files_inside(folder: Path, suffix: str) -> list[Path]:
    """The files with this suffix, in the order of their names; none when there is no such folder, or a link to one."""
    try:
        with folder_of(folder / suffix) as fd, os.scandir(fd) as entries:
            names = [e.name for e in entries if e.name.endswith(suffix) and e.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(names)]


def sync_folder(folder: Path) -> None:
    """Make what was renamed or unlinked in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def folder_of(path: Path) -> Iterator[int]:
    """A descriptor of the folder that holds `path`."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def share(fd: int, folder: Path, others: int) -> None:
    """Whatever the umask was when it was made: a file of ours is ours, and in a group's folder the group's too."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        return
    mode = os.stat(folder).st_mode
    shared = mode & stat.S_ISGID and not mode & 0o007
    wanted = 0o600 if not shared else 0o640 if others == os.O_RDONLY else 0o660
    if found.st_mode & wanted != wanted:
        os.fchmod(fd, wanted)
