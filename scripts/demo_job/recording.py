"""The two ways to record: through the telemetry bus, and every process for itself."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from telemetry_bus import TelemetryStore

from .extraction import Extraction

TABLES = (
    """CREATE TABLE IF NOT EXISTS extractions (
        id TEXT PRIMARY KEY,
        operation_id TEXT NOT NULL,
        path TEXT NOT NULL,
        publisher TEXT NOT NULL,
        started_at TIMESTAMP NOT NULL,
        took_ms REAL NOT NULL,
        successful_method TEXT,
        is_success BOOLEAN NOT NULL,
        title TEXT,
        author TEXT,
        published TEXT,
        text_length INTEGER NOT NULL,
        error_type TEXT,
        error TEXT)""",
    """CREATE TABLE IF NOT EXISTS extraction_attempts (
        extraction_id TEXT NOT NULL REFERENCES extractions (id),
        position INTEGER NOT NULL,
        method TEXT NOT NULL,
        took_ms REAL NOT NULL,
        is_success BOOLEAN NOT NULL,
        error_type TEXT,
        error TEXT,
        PRIMARY KEY (extraction_id, position)) WITHOUT ROWID""",
)

_INSERT_EXTRACTION = f"INSERT INTO extractions VALUES ({', '.join('?' * 14)})"
_INSERT_ATTEMPT = f"INSERT INTO extraction_attempts VALUES ({', '.join('?' * 7)})"

#: A writer waits this long for the lock, in either way of recording.
BUSY_TIMEOUT_S = 30.0

Task = Callable[[Any], None]


def task_for(extraction: Extraction, operation_id: str) -> Task:
    """The job of one file: its row and one for each method that was tried.

    Works on a connection of `sqlite3` and on the bus's alike. The key is made here, because a job only writes:
    it cannot ask the database for one.
    """

    def write(conn: Any) -> None:
        key, fields = uuid.uuid4().hex, extraction.fields
        conn.execute(
            _INSERT_EXTRACTION,
            (
                key,
                operation_id,
                extraction.file.path,
                extraction.file.publisher,
                extraction.started_at.isoformat(sep=" "),
                extraction.took_ms,
                extraction.successful_method,
                extraction.successful_method is not None,
                fields.title,
                fields.author,
                fields.published,
                len(fields.text or ""),
                *_described(extraction.error),
            ),
        )
        for position, attempt in enumerate(extraction.attempts):
            succeeded = attempt.error is None
            conn.execute(
                _INSERT_ATTEMPT,
                (key, position, attempt.method, attempt.took_ms, succeeded, *_described(attempt.error)),
            )

    return write


def _described(error: Exception | None) -> tuple[str | None, str | None]:
    return (type(error).__name__, str(error)) if error else (None, None)


class Recorder(Protocol):
    """What a worker process records with. `lock_errors` counts the records lost to a locked database."""

    lock_errors: int

    def record(self, task: Task) -> None:
        """Record one task; what it wrote is one transaction."""

    def close(self) -> None:
        """Return when everything recorded is committed."""


class BusRecorder:
    """Hands every task to the bus. The first process to need a writer starts it."""

    lock_errors = 0

    def __init__(self, database: Path) -> None:
        self._store = TelemetryStore(database, mode="daemon", spawn=True, timeout=BUSY_TIMEOUT_S)

    def record(self, task: Task) -> None:
        self._store.submit(task, ensure=TABLES)

    def close(self) -> None:
        self._store.shutdown(wait=True)


class DirectRecorder:
    """Writes to SQLite itself, as well as that can be done: WAL, a long busy timeout, a commit per record."""

    def __init__(self, database: Path) -> None:
        self.lock_errors = 0
        self._connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)
        self._connection.execute("PRAGMA foreign_keys=ON")

    @staticmethod
    def create(database: Path) -> None:
        """The database with its tables, made before the processes start."""
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        for table in TABLES:
            connection.execute(table)
        connection.close()

    def record(self, task: Task) -> None:
        try:
            with self._connection:
                task(self._connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # without the bits that say which kind
                raise
            self.lock_errors += 1

    def close(self) -> None:
        self._connection.close()


def recorded(database: Path, operation_id: str) -> tuple[int, int]:
    """How many files and how many attempts of an operation stand in the database."""
    with closing(sqlite3.connect(database)) as connection:
        files, attempts = connection.execute(
            """SELECT count(DISTINCT id), count(extraction_id)
               FROM extractions LEFT JOIN extraction_attempts ON extraction_id = id
               WHERE operation_id = ?""",
            (operation_id,),
        ).fetchone()
    return files, attempts
