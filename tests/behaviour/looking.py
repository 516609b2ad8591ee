"""What the tests of behaviour share: a table, a look at the database through a store, waiting for a condition."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore

from ..support.clock import wait_until

EVENTS = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER)"
INSERT = "INSERT INTO events (name, size) VALUES (?, ?)"

DAEMON = pytest.param("daemon", marks=pytest.mark.integration)
#: In each mode on a PostgreSQL database, too.
on_both = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
#: In place of all three modes: those with a journal, or some of them.
in_journaled_modes = pytest.mark.parametrize("mode", [DAEMON, "thread"])
in_process_modes = pytest.mark.parametrize("mode", ["thread", "sync"])
in_daemon_mode = pytest.mark.parametrize("mode", [DAEMON])
in_thread_mode = pytest.mark.parametrize("mode", ["thread"])
in_sync_mode = pytest.mark.parametrize("mode", ["sync"])


def rows(store: TelemetryStore, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a reader sees once everything submitted before is committed."""
    store.flush()
    with store.connection() as connection:
        return connection.execute(sql, parameters).fetchall()


def names(store: TelemetryStore) -> list[str]:
    """The names of all events, in the order of their insertion."""
    return [name for (name,) in rows(store, "SELECT name FROM events ORDER BY id")]


def dead_letters(store: TelemetryStore) -> list[tuple[int, str]]:
    """Sequence and error type of all dead letters."""
    return rows(store, "SELECT sequence, error_type FROM telemetry_bus_dead_letters ORDER BY id")


def add(store: TelemetryStore, *events: str) -> None:
    """One job for each event."""
    for event in events:
        store.execute(INSERT, (event, len(event)), ensure=[EVENTS])


def eventually(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""
    wait_until(condition, "the condition that was waited for")


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Somebody else holds the database's write lock, so that no job is committed."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
