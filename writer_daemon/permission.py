"""Who may order the writer about: whoever may write its database.

ZeroMQ does not say who is at the other end of a socket. Where a group shares the bus, the writer therefore lays a key
into the bus folder that can be read by exactly those who may write the database, and an order has to show it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from telemetry_bus.control import KEY, KEY_NAME
from telemetry_bus.runtime.files import make_private, remove_inside
from telemetry_bus.runtime.folder import BusFolder


class Permission:
    """The key of one life of a writer; none where the bus folder is private."""

    def __init__(self, folder: BusFolder, database: Path | None) -> None:
        """Raises `OSError` when the key cannot be laid down."""
        self._path = folder.path / KEY_NAME
        self._key = ""
        with suppress(FileNotFoundError):
            remove_inside(self._path)
        found = folder.path.stat()
        if not found.st_mode & stat.S_ISGID or found.st_mode & 0o007:
            return
        self._key = os.urandom(16).hex()
        fd = make_private(self._path)
        try:
            os.write(fd, self._key.encode())
            if database is not None and _group_writes(database, found.st_gid):
                os.fchmod(fd, 0o640)
        finally:
            os.close(fd)

    def allows(self, arguments: dict[str, Any]) -> bool:
        """Whether an order's arguments have the key, which is taken out of them."""
        return arguments.pop(KEY, "") == self._key or not self._key

    def close(self) -> None:
        """Another writer has another key, or one of an earlier version knows of none."""
        with suppress(OSError):
            remove_inside(self._path)


def _group_writes(database: Path, group: int) -> bool:
    found = database.stat()
    return bool(found.st_mode & stat.S_IWGRP) and found.st_gid == group
