"""Dead letters as they stand in the database, read without a writer."""

from __future__ import annotations

import base64
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...config import DEFAULT_TIMEOUT, Database
from ...encoding.values import unpack_job
from ...errors import DatabaseFault, ProtocolError
from ...jobs import Job
from ...reading import connect

_IS_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'telemetry_bus_dead_letters'"
_COUNT = "SELECT count(*) FROM telemetry_bus_dead_letters"
_IDS = "SELECT id FROM telemetry_bus_dead_letters ORDER BY id"
#: Without the jobs, which may have megabytes each. A limit of -1 is none: https://www.sqlite.org/lang_select.html
_SUMMARIES = """SELECT id, stream, sequence, failed_at, error_type, error, statement
    FROM telemetry_bus_dead_letters ORDER BY id LIMIT ?"""
_WHOLE = """SELECT id, stream, sequence, failed_at, error_type, error, statement, job
    FROM telemetry_bus_dead_letters WHERE id = ?"""

_TRACEBACK = "\nTraceback (most recent call last):\n"


@dataclass(frozen=True)
class Letter:
    """A dead letter. `failed_at` is UTC; `job` is packed, and only there when the letter was read whole."""

    id: int
    stream: bytes
    sequence: int
    failed_at: str
    error_type: str
    error: str
    statement: str | None
    job: bytes = b""

    @property
    def first_line(self) -> str:
        """The error without what stands below it."""
        return self.error.partition("\n")[0]

    @property
    def message(self) -> str:
        """The error without its traceback."""
        return self.error.partition(_TRACEBACK)[0]

    @property
    def traceback(self) -> str:
        return self.error[len(self.message) :].strip()

    def unpacked(self) -> Job | None:
        """The job; None when it was so wrong that it could only be kept as it came."""
        try:
            return unpack_job(self.job)
        except ProtocolError:
            return None

    def summary(self) -> dict[str, Any]:
        """For JSON: what `list` shows."""
        return {
            "id": self.id,
            "stream": self.stream.hex(),
            "sequence": self.sequence,
            "failed_at": self.failed_at,
            "error_type": self.error_type,
            "error": self.error,
            "statement": self.statement,
        }

    def whole(self) -> dict[str, Any]:
        """For JSON: all of it. A job that cannot be read stands there as its bytes."""
        job = self.unpacked()
        if job is None:
            return {**self.summary(), "traceback": self.traceback, "job": _json_value(self.job)}
        statements = [
            {"sql": statement.sql, "rows": [[_json_value(value) for value in row] for row in statement.rows]}
            for statement in job.statements
        ]
        return {**self.summary(), "traceback": self.traceback, "ensure": list(job.ensure), "statements": statements}


class Letters:
    """The table of dead letters; a database that the bus has never written to has none."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._none = connection.execute(_IS_THERE).fetchone() is None

    def count(self) -> int:
        return 0 if self._none else int(self._connection.execute(_COUNT).fetchone()[0])

    def ids(self) -> list[int]:
        return [] if self._none else [id for (id,) in self._connection.execute(_IDS)]

    def summaries(self, limit: int | None = None) -> Iterator[Letter]:
        """The first `limit` of them, or all, without their jobs, in the order of their ids."""
        if not self._none:
            for row in self._connection.execute(_SUMMARIES, (-1 if limit is None else limit,)):
                yield Letter(*row)

    def get(self, id: int) -> Letter | None:
        """One of them, whole."""
        row = None if self._none else self._connection.execute(_WHOLE, (id,)).fetchone()
        return row and Letter(*row)


@contextmanager
def reading(database: Database) -> Iterator[Letters]:
    """The dead letters of a database, for the block. Raises `DatabaseFault`, also when there is no database."""
    if database.path is not None and not database.path.exists():
        raise DatabaseFault(
            "there is no such database",
            operation="dead letters",
            subject=database.masked,
            hint="name it with --database",
        )
    try:
        with connect(database, DEFAULT_TIMEOUT, True, None) as connection:
            yield Letters(connection)
    except sqlite3.Error as error:
        raise DatabaseFault(f"cannot be read: {error}", operation="dead letters", subject=database.masked) from error


def _json_value(value: Any) -> Any:
    """What JSON has no form for, as an object that names its kind."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value
