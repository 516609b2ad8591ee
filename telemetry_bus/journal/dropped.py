"""How many jobs the policy "drop" has dropped: in a journal's header while there is one, then in a file beside them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..runtime.files import open_inside

_NAME = "dropped"
#: stream, jobs: one for each journal that has gone and whose program had dropped any.
_ENTRY = struct.Struct("<16sQ")


def keep_dropped(journals: Path, stream: bytes, jobs: int) -> None:
    """Note what a stream has dropped, before its journal goes. What is noted twice counts once.

    Where that cannot be written the number is lost with the journal, and nothing else: no job depends on it.
    """
    if not jobs:
        return
    with suppress(OSError):
        path = journals.parent / _NAME
        fd = open_inside(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            torn = os.fstat(fd).st_size % _ENTRY.size  # by a full disk
            os.write(fd, bytes(-torn % _ENTRY.size) + _ENTRY.pack(stream, jobs))  # at once, behind those of others
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
