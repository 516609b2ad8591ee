"""The database of a report: opened to be read, and what reading it raises."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from telemetry_bus import TelemetryError, TelemetryStore
from telemetry_bus.config import parse_database


def open_store(database: str | None, *, writes: bool = False) -> TelemetryStore:
    """A store to read from; one that `writes` does so through the writer.

    Raises `FileNotFoundError` instead of making a database that is not there.
    """
    path = parse_database(database).path
    if path is not None and not path.exists():
        raise FileNotFoundError(f"there is no database {path}")
    return TelemetryStore(database, mode="daemon" if writes else "sync")


def errors_of_reading() -> tuple[type[Exception], ...]:
    """What a store and its reading connection raise: psycopg's errors, too, where a PostgreSQL database is read."""
    psycopg: Any = sys.modules.get("psycopg")
    return (TelemetryError, sqlite3.Error, *([] if psycopg is None else [psycopg.Error]))
