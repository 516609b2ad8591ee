"""What is examined: one bus and the environment. What several checks need is looked at once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ...config import env_flag
from ...control import ANSWER_S, ask
from ...errors import DatabaseFault, TelemetryError
from ...runtime import sqlite
from ..survey import Bus, Journals, Owner

#: https://www.sqlite.org/fileformat.html#the_database_header
HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
_BUSY_S = 5.0


@dataclass(frozen=True)
class Case:
    """Looking makes nothing and changes nothing. `maybe_bus` is None when the environment names no database."""

    maybe_bus: Bus | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    full: bool = False

    @property
    def bus(self) -> Bus:
        assert self.maybe_bus is not None
        return self.maybe_bus

    @property
    def path(self) -> Path:
        """The database's file."""
        assert self.bus.database.path is not None
        return self.bus.database.path

    @cached_property
    def held(self) -> bool:
        return self.bus.held

    @cached_property
    def journals(self) -> Journals:
        return self.bus.journals()

    @cached_property
    def owner(self) -> Owner:
        return self.bus.owner(self.journals)

    @cached_property
    def answer(self) -> dict[str, Any] | None:
        """What the writer tells of itself; None when there is none that is asked. Raises `TelemetryError` when it
        does not answer."""
        if not self.held or self.owner.is_program:
            return None
        answer: dict[str, Any] = ask(self.bus.folder, "status", ANSWER_S)
        return answer

    @property
    def answer_or_none(self) -> dict[str, Any] | None:
        """For checks that have nothing to say of a writer's silence."""
        try:
            return self.answer
        except TelemetryError:
            return None

    @cached_property
    def header(self) -> bytes:
        """The first bytes of the file, fewer when it has no more."""
        with self.path.open("rb") as file:
            return file.read(HEADER_BYTES)

    @property
    def may_spawn(self) -> bool:
        return env_flag("TELEMETRY_BUS_SPAWN", True, self.environ)

    @property
    def is_wal(self) -> bool:
        """Whether the file is in WAL mode; a connection that ignores the log says otherwise."""
        return len(self.header) == HEADER_BYTES and self.header[18] == 2

    @property
    def is_database(self) -> bool:
        """Whether there is a file, and it begins as a database does."""
        return self.path.exists() and len(self.header) == HEADER_BYTES and self.header.startswith(MAGIC)

    def size(self, suffix: str) -> int | None:
        """The size of a file beside the database; None when it is not there."""
        try:
            return os.stat(f"{self.path}{suffix}").st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that takes no lock of a writer's and makes no file (https://www.sqlite.org/wal.html#readonly):
        the index of the log is not written to, and where there is no log the file is read alone.

        Raises `DatabaseFault` where that is impossible.
        """
        options = "mode=ro"
        if self.is_wal:
            if self.size("-shm") is not None and self.size("-wal") is not None:
                options = "mode=ro&readonly_shm=1"
            elif not self.size("-wal"):
                options = "mode=ro&immutable=1"
            else:
                raise DatabaseFault(
                    "the log stands without its index, and cannot be read without making one",
                    hint="have a writer recover it: telemetry-bus flush, or start telemetry-writer",
                )
        with closing(sqlite.connect(f"{self.path.as_uri()}?{options}", uri=True, timeout=_BUSY_S)) as connection:
            connection.execute("PRAGMA query_only=ON")
            yield connection
