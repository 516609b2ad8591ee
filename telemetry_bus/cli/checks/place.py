"""Checks of where the database and its bus lie: files, links, file systems, room."""

from __future__ import annotations

import os
from pathlib import Path

from ...database.sqlite.opening import NETWORK_FILE_SYSTEMS, file_system
from ..output import size
from .case import Case
from .finding import Finding, ok, problem, warning

#: One producer's journal has 32 MiB and the log up to 64: with less than this free there is no next one.
NO_SPACE_BYTES = 128 * 1024 * 1024
LITTLE_SPACE_BYTES = 1024 * 1024 * 1024
#: They are gone when the machine is started anew.
_FLEETING = frozenset({"tmpfs", "ramfs"})


def file(case: Case) -> Finding:
    """It is there, a file, and this user may do with it what a writer does."""
    path = case.path
    parent = existing(path.parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        return problem(
            f"this user may make no file in {parent}, and SQLite must", f"correct owner and rights of {parent}"
        )
    if not path.exists():
        return warning(f"{path} is not there", "the first producer makes it; or name another with --database")
    if not path.is_file():
        return problem(f"{path} is not a file", "name another with --database")
    if not os.access(path, os.R_OK | os.W_OK):
        return problem(f"this user may not read and write {path}", f"correct owner and rights of {path}")
    return ok(str(path))


def links(case: Case) -> Finding:
    """One database under two names has two logs (https://www.sqlite.org/howtocorrupt.html, section 2.5)."""
    for suffix in ("", "-wal", "-shm"):
        name = Path(f"{case.path}{suffix}")
        if name.is_symlink():
            return problem(f"{name} is a link", f"remove the link {name} while no writer runs")
    if case.path.exists() and (count := case.path.stat().st_nlink) > 1:
        return problem(
            f"{case.path} has {count} names (hard links), and each would have a log of its own",
            "keep one name and remove the others",
        )
    return ok("one name")


def file_systems(case: Case) -> Finding:
    """Memory that is shared and locks that work; and whether it outlives the machine's next start."""
    found = {place: file_system(Path(os.path.realpath(place))) for place in (case.path, case.bus.folder.path)}
    for place, kind in found.items():
        if kind in NETWORK_FILE_SYSTEMS:
            return problem(
                f"{place} lies on {kind}, and neither the write-ahead log nor journals work over a network",
                "move it to a disk of this machine",
            )
    for place, kind in found.items():
        if kind in _FLEETING:
            return warning(f"{place} lies on {kind}, and does not survive a reboot", "move it to a disk if it has to")
    return ok(", ".join(dict.fromkeys(kind or "unknown" for kind in found.values())))


def space(case: Case) -> Finding:
    """Where there is the least."""
    free, where = min((_free(place), place) for place in (existing(case.path), existing(case.bus.folder.path)))
    if free >= LITTLE_SPACE_BYTES:
        return ok(f"{size(free)} free")
    kind = problem if free < NO_SPACE_BYTES else warning
    return kind(f"only {size(free)} free at {where}", "free some disk space; telemetry-bus prune deletes old rows")


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _free(path: Path) -> int:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize
