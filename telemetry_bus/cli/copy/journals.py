"""The journals of the producers: those whose producer has ended go to the bus folder of the new database."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...journal.layout import lock_file
from ...journal.orphan import JournalState
from ...runtime.files import make_private, remove_inside, rename_inside, sync_folder
from ..survey import Bus

#: A journal on its way to another file system. No producer's name for one that it makes.
_ON_ITS_WAY = ".moving"


@dataclass
class Brought:
    """How many journals have come over, and those of living producers, which have not."""

    journals: int = 0
    jobs: int = 0
    left: list[JournalState] = field(default_factory=list)


def bring(source: Bus, target: Bus) -> Brought:
    """Move the journals of producers that have ended; those of others follow when this is called again.

    A kill in the middle leaves a journal twice at most: both are of one stream, whose jobs the ledger lets in once.
    """
    brought = Brought()
    known = {journal.stream.hex(): journal for journal in source.journals().readable}
    for path in source.folder.journal_paths():
        fd = lock_file(path)
        journal = known.get(path.stem)
        if fd is None:
            brought.left += [journal] if journal is not None and path.exists() else []
            continue
        try:
            target.folder.prepare()
            _move(path, fd, target.folder.journals / path.name)
        finally:
            os.close(fd)
        brought.journals += 1
        brought.jobs += journal.pending_jobs if journal is not None else 0
    return brought


def _move(path: Path, fd: int, to: Path) -> None:
    try:
        rename_inside(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        unfinished = to.with_suffix(_ON_ITS_WAY)
        with suppress(FileNotFoundError):
            remove_inside(unfinished)
        with open(os.dup(fd), "rb") as old, open(make_private(unfinished), "wb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        rename_inside(unfinished, to)
        sync_folder(to.parent)
        remove_inside(path)
    sync_folder(to.parent)
    sync_folder(path.parent)
