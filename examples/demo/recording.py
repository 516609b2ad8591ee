"""The ways to record: through the telemetry bus, every process for itself, and not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine

from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics, extraction_job
from producers.extraction.tables import METADATA
from telemetry_bus import TelemetryStore

#: A writer waits this long for the lock, in either way of recording.
BUSY_TIMEOUT_S = 30.0

#: Every operation of the demonstration has a name that begins so.
OPERATION_PREFIX = "demo-"


class Recorder(Protocol):
    """What a worker process records with. `lock_errors` counts the records lost to a locked database."""

    lock_errors: int

    def record(self, metrics: ExtractionMetrics) -> None:
        """Record one extraction; what it wrote is one transaction."""

    def close(self) -> None:
        """Return when everything recorded is committed."""


class BusRecorder:
    """Hands every extraction to the bus. The first process to need a writer starts it."""

    lock_errors = 0

    def __init__(self, database: Path) -> None:
        self._store = TelemetryStore(database, mode="daemon", spawn=True, timeout=BUSY_TIMEOUT_S)
        self._telemetry = ComprehensiveExtractionTelemetry(store=self._store)

    def record(self, metrics: ExtractionMetrics) -> None:
        self._telemetry.record_extraction(metrics)

    def close(self) -> None:
        self._store.shutdown(wait=True)


class DirectRecorder:
    """Writes the same statements to SQLite itself, as well as that can be done: WAL, a long busy timeout, a commit per
    record."""

    def __init__(self, database: Path) -> None:
        self.lock_errors = 0
        self._connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)
        self._connection.execute("PRAGMA foreign_keys=ON")

    @staticmethod
    def create(database: Path) -> None:
        """The database with its tables, made before the processes start."""
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        METADATA.create_all(create_engine(f"sqlite:///{database}"))

    def record(self, metrics: ExtractionMetrics) -> None:
        job = extraction_job(metrics)
        try:
            with self._connection:
                job(self._connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # without the bits that say which kind
                raise
            self.lock_errors += 1

    def close(self) -> None:
        self._connection.close()


class NoRecorder:
    """Records nothing: what the work takes by itself."""

    lock_errors = 0

    def record(self, metrics: ExtractionMetrics) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def recorded(database: Path, operation_id: str) -> int:
    """How many files of an operation stand in the database."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT count(DISTINCT article_id) FROM extraction_telemetry_v2 WHERE operation_id = ?"
        (files,) = connection.execute(query, (operation_id,)).fetchone()
    return int(files)


def operations(connection: sqlite3.Connection) -> set[str]:
    """The operations whose extractions stand in the database."""
    query = "SELECT DISTINCT operation_id FROM extraction_telemetry_v2"
    return {str(operation) for (operation,) in connection.execute(query)}
