"""What a job's callable may do with its connection, and what it may not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from telemetry_bus import NotRecordable, TelemetryStore

from .looking import EVENTS, INSERT, names, on_both


def test_runs_once_in_the_caller(store: TelemetryStore) -> None:
    """The callable runs once, in the thread that submits, before `submit` returns."""
    ran: list[threading.Thread] = []
    store.submit(lambda conn: ran.append(threading.current_thread()))
    assert [threading.current_thread()] == ran


def test_error_of_the_callable(store: TelemetryStore) -> None:
    """What the callable raises reaches the caller, and nothing of the job is queued."""

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        raise LookupError("own error")

    with pytest.raises(LookupError, match="own error"):
        store.submit(writer, ensure=[EVENTS])
    assert 0 == store.stats().submitted
    assert 1 == store.submit(lambda conn: conn.execute(INSERT, ("b", 1)), ensure=[EVENTS])
    assert ["b"] == names(store)


@on_both
def test_cursor(store: TelemetryStore) -> None:
    """A cursor records like its connection, and can be chained and closed."""

    def writer(conn: Any) -> None:
        cursor = conn.cursor()
        cursor.execute(INSERT, ("a", 1)).execute(INSERT, ("b", 2))
        cursor.executemany(INSERT, [("c", 3)])
        cursor.close()

    store.submit(writer, ensure=[EVENTS])
    assert ["a", "b", "c"] == names(store)


def test_commit_does_nothing(store: TelemetryStore) -> None:
    """`commit()` inside a job divides nothing: the job is still dropped as a whole."""

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        conn.commit()
        raise LookupError

    with pytest.raises(LookupError):
        store.submit(writer, ensure=[EVENTS])

    def committing(conn: Any) -> None:
        conn.execute(INSERT, ("b", 1))
        conn.commit()
        conn.execute(INSERT, ("c", 1))

    store.submit(committing, ensure=[EVENTS])
    assert ["b", "c"] == names(store)


@on_both
def test_rollback(store: TelemetryStore) -> None:
    """`rollback()` drops what the job has recorded so far; what follows counts."""

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        conn.rollback()
        conn.execute(INSERT, ("b", 1))

    store.submit(writer, ensure=[EVENTS])
    assert ["b"] == names(store)


def test_connection_as_context_manager(store: TelemetryStore) -> None:
    """`with conn:` keeps its block's statements, or drops them when the block raises."""

    def writer(conn: Any) -> None:
        with suppress(LookupError), conn:
            conn.execute(INSERT, ("a", 1))
            raise LookupError
        with conn:
            conn.execute(INSERT, ("b", 1))

    store.submit(writer, ensure=[EVENTS])
    assert ["b"] == names(store)


READS: dict[str, Callable[[Any], object]] = {
    "SELECT": lambda conn: conn.execute("SELECT name FROM events"),
    "SELECT by a cursor": lambda conn: conn.cursor().execute("  -- all\n select 1"),
    "WITH": lambda conn: conn.execute("WITH x AS (SELECT 1) SELECT * FROM x"),
    "VALUES": lambda conn: conn.execute("VALUES (1)"),
    "PRAGMA": lambda conn: conn.execute("PRAGMA table_info(events)"),
    "fetchone": lambda conn: conn.execute(INSERT, ("a", 1)).fetchone(),
    "fetchall": lambda conn: conn.execute(INSERT, ("a", 1)).fetchall(),
    "iteration": lambda conn: list(conn.execute(INSERT, ("a", 1))),
    "lastrowid": lambda conn: conn.execute(INSERT, ("a", 1)).lastrowid,
    "rowcount": lambda conn: conn.execute(INSERT, ("a", 1)).rowcount,
    "description": lambda conn: conn.execute(INSERT, ("a", 1)).description,
    "total_changes": lambda conn: conn.total_changes,
    "executescript": lambda conn: conn.executescript("DELETE FROM events"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_reading_is_refused(store: TelemetryStore, read: Callable[[Any], object]) -> None:
    """Whatever would have to read raises `NotRecordable` with a hint at what to do instead; nothing is queued."""
    with pytest.raises(NotRecordable) as caught:
        store.submit(read, ensure=[EVENTS])
    assert "upsert" in caught.value.hint
    assert 0 == store.stats().submitted


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT x",
        "END",
        "RELEASE x",
        "ATTACH 'x' AS y",
        "VACUUM",
        "INSERT OR ROLLBACK INTO events (name) VALUES ('a')",
    ],
)
def test_transactions_are_refused(store: TelemetryStore, sql: str) -> None:
    """A job is one transaction and cannot steer it."""
    with pytest.raises(NotRecordable):
        store.submit(lambda conn: conn.execute(sql))
    assert 0 == store.stats().submitted


def test_reading_outside_a_callable_is_refused(store: TelemetryStore) -> None:
    """`execute` of a store hands in jobs; it does not read either."""
    with pytest.raises(NotRecordable) as caught:
        store.execute("SELECT 1")
    assert "connection()" in caught.value.hint
    with pytest.raises(NotRecordable):
        store.executemany("SELECT ?", [(1,)])
    assert 0 == store.stats().submitted
