"""What a member of the bus's group is told of an error: nothing of the rows that it may not read.

The text of an error may hold what a statement read (``json_extract('{}', 'x' || (SELECT …))``), and any member may
submit such a job. Whoever may read the database finds all of it in the dead letters.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

from telemetry_bus.protocol.messages import Ack, Control
from telemetry_bus.runtime.folder import BusFolder

WITHHELD = "the text is for those who may read the database: telemetry-bus dead-letters"


class Discretion:
    """Whether the group may hear what errors say, and what it hears instead."""

    def __init__(self, folder: BusFolder, database: Path | None) -> None:
        self._folder = folder.path
        self._database = database

    @property
    def needed(self) -> bool:
        """A bus that more may use than may read its database. Asked anew each time: rights change."""
        try:
            folder = self._folder.stat()
            database = folder if self._database is None else self._database.stat()
        except OSError:
            return True
        if not folder.st_mode & stat.S_ISGID or folder.st_mode & 0o007:
            return False
        return not (database.st_mode & stat.S_IRGRP and database.st_gid == folder.st_gid)

    def told(self, message: Control) -> Control:
        """A message to a producer, without the texts of its failures if need be."""
        if not isinstance(message, Ack) or not message.failures or not self.needed:
            return message
        return replace(message, failures=[failure._replace(error=WITHHELD) for failure in message.failures])

    def text(self, error: str | None) -> str | None:
        """An error's text for the answer to a command."""
        return WITHHELD if error is not None and self.needed else error
