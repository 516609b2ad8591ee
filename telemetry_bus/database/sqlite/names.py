"""The name by which a file was last opened: SQLite finds a database's log by it, and another name leads to another log.

It is kept on the file itself, as an extended attribute (xattr(7)): all its names share those, while a row could lie
in the very log that is looked for. Without such attributes only the names in the file's own folder are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import OtherName

_ATTRIBUTE = "user.telemetry_bus.opened_as"


def claim_name(path: Path) -> None:
    """The file is opened as `path` from now on. Raises as `check_name`."""
    check_name(path)
    if _last_name(path) != path and hasattr(os, "setxattr"):
        with suppress(OSError):  # no such attributes here
            os.setxattr(path, _ATTRIBUTE, b"%d %s" % (path.stat().st_ino, os.fsencode(path)))


def check_name(path: Path) -> None:
    """Raises `OtherName` when the log of another name has committed changes: they would be lost, or written over what
    comes now. Raises `OSError` when it cannot be told.
    """
    last = _last_name(path)
    for name in _other_names(path, last):
        for log in (Path(f"{name}-wal"), Path(f"{name}-journal")):
            if log.exists() and log.stat().st_size:
                raise OtherName(
                    f"the file was opened as {name} before, and the log of that name has changes that are not in it",
                    operation="open",
                    subject=str(path),
                    hint=f"open it once as {name}, and use one name from then on"
                    if name.exists()
                    else f"rename it to {name} again, or rename {log} along with it",
                )


def _last_name(path: Path) -> Path | None:
    """None where it is not known; a copy of the file may have brought its original's."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        number, name = os.getxattr(path, _ATTRIBUTE).split(b" ", 1)
    except (OSError, ValueError):
        return None
    return Path(os.fsdecode(name)) if number == b"%d" % path.stat().st_ino else None


def _other_names(path: Path, last: Path | None) -> Iterator[Path]:
    """Names that the file has or had, each of which leads to another log than `path` does."""
    if last is not None and (not last.exists() or last.samefile(path)) and not _leads_to_same_log(path, last):
        yield last
    if path.stat().st_nlink > 1:
        for other in path.parent.iterdir():
            if other.name != path.name and other.is_file() and other.samefile(path):
                yield other


def _leads_to_same_log(path: Path, last: Path) -> bool:
    """One name in one folder, however the way to that folder is written or mounted."""
    return path.name == last.name and last.parent.exists() and path.parent.samefile(last.parent)
