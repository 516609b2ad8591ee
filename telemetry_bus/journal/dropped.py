"""How many jobs the policy "drop" has dropped: in a journal's header while there is one, then in a file beside them."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..runtime.files import open_inside

_NAME = "dropped"
#: stream, jobs: one for each journal that has gone and whose program had dropped any.
_ENTRY = struct.Struct("<16sQ")
#: With more entries than this the older half becomes one, under a name that no stream has.
MAX_ENTRIES = 1024
_EARLIER = bytes(16)


def keep_dropped(journals: Path, stream: bytes, jobs: int) -> None:
    """Note what a stream has dropped, before its journal goes. What is noted twice counts once, unless hundreds of
    others were noted in between.

    Where that cannot be written the number is lost with the journal, and nothing else: no job depends on it.
    """
    if not jobs:
        return
    with suppress(OSError):
        path = journals.parent / _NAME
        fd = open_inside(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            alone = _lock(fd)
            size = os.fstat(fd).st_size
            filler = bytes(-size % _ENTRY.size)  # behind what a full disk has torn
            os.write(fd, filler + _ENTRY.pack(stream, jobs))  # at once, behind those of others
            if alone and size >= MAX_ENTRIES * _ENTRY.size:
                _shorten(path)
        finally:
            os.close(fd)


def _lock(fd: int) -> bool:
    """Whether no other process is at the file. It is not waited for, or a program could be held up for ever."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shorten(path: Path) -> None:
    """Make one entry of the older half. In place: what is left behind it by a kill are entries that are kept as well,
    and count once."""
    entries = [*dict(_kept(path)).items()]
    older, newer = entries[: len(entries) // 2], entries[len(entries) // 2 :]
    data = b"".join(_ENTRY.pack(*entry) for entry in [(_EARLIER, sum(jobs for _, jobs in older)), *newer])
    fd = open_inside(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def dropped_jobs(journals: Path, living: Iterable[tuple[bytes, int]]) -> int:
    """The jobs that were dropped so far: by the streams of journals that are there, and by those that have gone."""
    found = dict(_kept(journals.parent / _NAME))
    found.update(living)
    return sum(found.values())


def _kept(path: Path) -> Iterable[tuple[bytes, int]]:
    try:
        with open(open_inside(path, os.O_RDONLY), "rb") as file:
            data = file.read()
    except OSError:  # there is none, or something else has taken its place
        return ()
    return _ENTRY.iter_unpack(data[: len(data) - len(data) % _ENTRY.size])
