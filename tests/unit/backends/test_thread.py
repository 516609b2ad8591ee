"""In thread mode the first job finds the database locked by somebody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus import DatabaseFault, TelemetryStore
from telemetry_bus.backends import thread
from telemetry_bus.database import Writer


@pytest.fixture
def locker(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Holds the lock of a database in which the bus has no tables yet."""
    monkeypatch.setattr(thread, "_BUSY_TIMEOUT_S", 0.01)
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_free_before_the_time_is_over(
    database: Path, locker: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job waits for it, as it would wait later, and is written."""
    attempts = 0

    class Freeing(Writer):
        def __init__(self, *arguments: object, **options: object) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 5:
                locker.execute("ROLLBACK")
            super().__init__(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(thread, "Writer", Freeing)
    with TelemetryStore(database, mode="thread") as store:
        store.execute("INSERT INTO t VALUES (1)")
        store.flush()
        with store.connection() as connection:
            assert [(1,)] == connection.execute("SELECT a FROM t").fetchall()
    assert 5 == attempts


def test_held_for_longer(database: Path, locker: sqlite3.Connection) -> None:
    """It is the database's fault, and nothing is submitted; the next job tries anew."""
    with TelemetryStore(database, mode="thread", timeout=0.05) as store:
        with pytest.raises(DatabaseFault, match="locked"):
            store.execute("INSERT INTO t VALUES (1)")
        assert 0 == store.stats().submitted
        locker.execute("ROLLBACK")
        store.execute("INSERT INTO t VALUES (2)")
        store.flush(10)


def test_what_waiting_does_not_mend(database: Path) -> None:
    """A file that is no database is told at once."""
    database.write_bytes(b"something else entirely\n" * 100)
    store = TelemetryStore(database, mode="thread", timeout=3600)
    with store, pytest.raises(DatabaseFault, match="not a database"):
        store.execute("INSERT INTO t VALUES (1)")
