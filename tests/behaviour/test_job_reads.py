"""`job_reads="flush"`: jobs that read before they write, for the time of a migration."""

from __future__ import annotations

import sqlite3
import threading
from datetime import datetime
from typing import Any

import pytest

from telemetry_bus import NotRecordable, ParameterCount, TelemetryStore

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, add, in_process_modes, names, on_both, rows


@pytest.fixture
def store(open_store: OpenStore) -> TelemetryStore:
    """A store whose jobs may read."""
    return open_store(job_reads="flush")


def count(conn: Any) -> None:
    """The old shape: read, then insert or update."""
    row = conn.execute("SELECT size FROM events WHERE name = ?", ("counter",)).fetchone()
    if row is None:
        conn.execute(INSERT, ("counter", 1))
    else:
        conn.execute("UPDATE events SET size = ? WHERE name = ?", (row[0] + 1, "counter"))


@on_both
def test_read_modify_write(store: TelemetryStore) -> None:
    """A job reads what the jobs before it have written, though nobody has flushed them."""
    for _ in range(5):
        store.submit(count, ensure=[EVENTS])
    assert [("counter", 5)] == rows(store, "SELECT name, size FROM events")


def test_read_modify_write_in_threads(store: TelemetryStore) -> None:
    """Such jobs of one store run one after the other: no update is lost."""

    def work() -> None:
        for _ in range(5):
            store.submit(count, ensure=[EVENTS])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [(20,)] == rows(store, "SELECT size FROM events")


@on_both
def test_sees_its_own_writes(store: TelemetryStore) -> None:
    """A read sees what the same job has recorded before, and its definitions."""
    seen: list[Any] = []

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        cursor = conn.cursor()
        cursor.execute("SELECT name FROM events ORDER BY id")
        seen.append(cursor.fetchall())
        conn.executemany(INSERT, [("b", 2), ("c", 3)])
        seen.append([name for (name,) in conn.execute("SELECT name FROM events ORDER BY id")])
        seen.append(conn.execute("SELECT size FROM events ORDER BY id").fetchmany(2))

    store.submit(writer, ensure=[EVENTS])
    assert [[("a",)], ["a", "b", "c"], [(1,), (2,)]] == seen
    assert ["a", "b", "c"] == names(store)


def test_order_with_earlier_jobs(store: TelemetryStore) -> None:
    """A job that reads stands behind the store's earlier jobs and before its later ones."""
    add(store, "a", "b")
    store.submit(
        lambda conn: conn.execute(INSERT, (f"after {conn.execute('SELECT count(*) FROM events').fetchone()[0]}", 1)),
        ensure=[EVENTS],
    )
    add(store, "c")
    assert ["a", "b", "after 2", "c"] == names(store)


@on_both
def test_rowcount(store: TelemetryStore) -> None:
    """`rowcount` of a recorded statement is what it would change now; the statement is applied once."""
    counts = []

    def writer(conn: Any) -> None:
        counts.append(conn.execute("UPDATE events SET size = size + 1").rowcount)
        counts.append(conn.execute("DELETE FROM events WHERE name = 'nobody'").rowcount)
        counts.append(conn.executemany(INSERT, [("x", 1), ("y", 1)]).rowcount)

    add(store, "a", "bb")
    store.submit(writer, ensure=[EVENTS])
    assert [2, 0, 2] == counts
    assert [("a", 2), ("bb", 3), ("x", 1), ("y", 1)] == rows(store, "SELECT name, size FROM events ORDER BY id")


@on_both
def test_exception_leaves_nothing(store: TelemetryStore) -> None:
    """What the callable raises reaches the caller; neither its transaction nor its job remains, nor the lock."""

    def writer(conn: Any) -> None:
        count(conn)
        raise LookupError("own error")

    with pytest.raises(LookupError, match="own error"):
        store.submit(writer, ensure=[EVENTS])
    assert 0 == store.stats().submitted
    store.submit(count, ensure=[EVENTS])
    assert [(1,)] == rows(store, "SELECT size FROM events")


def test_transaction_is_rolled_back(store: TelemetryStore) -> None:
    """What the job did where it read is undone; the job that was recorded does it again, once."""
    add(store, "a")

    def writer(conn: Any) -> None:
        conn.execute("UPDATE events SET size = size + 10")
        assert (11,) == conn.execute("SELECT size FROM events").fetchone()

    store.submit(writer)
    assert [(11,)] == rows(store, "SELECT size FROM events")


@on_both
def test_rollback_inside(store: TelemetryStore) -> None:
    """`rollback()` undoes what the job has done so far, where it reads and where it records."""
    seen = []

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        seen.append(conn.execute("SELECT count(*) FROM events").fetchone())
        conn.rollback()
        seen.append(conn.execute("SELECT count(*) FROM events").fetchone())
        conn.execute(INSERT, ("b", 1))
        conn.commit()
        seen.append(conn.execute("SELECT count(*) FROM events").fetchone())

    store.submit(writer, ensure=[EVENTS])
    assert [(1,), (0,), (1,)] == seen
    assert ["b"] == names(store)


def test_caught_error_is_not_recorded(store: TelemetryStore) -> None:
    """A statement that fails where the job reads can be caught there, and is no part of the job then."""
    add(store, "a")

    def writer(conn: Any) -> None:
        conn.execute("SELECT 1")
        try:
            conn.execute(INSERT, ("a", 9))
        except sqlite3.IntegrityError:
            conn.execute("UPDATE events SET size = 9 WHERE name = 'a'")

    store.submit(writer)
    assert [("a", 9)] == rows(store, "SELECT name, size FROM events")
    assert 0 == store.stats().failed


def test_definitions_that_are_done(store: TelemetryStore) -> None:
    """Definitions without IF NOT EXISTS are no obstacle where the job reads."""
    definitions = [EVENTS, "ALTER TABLE events ADD COLUMN colour TEXT", "CREATE INDEX by_colour ON events (colour)"]
    for _ in range(2):
        store.submit(count, ensure=definitions)
    assert [(2,)] == rows(store, "SELECT size FROM events")


@on_both
def test_values_where_it_reads(store: TelemetryStore) -> None:
    """Values have the same form where the job reads as where it is applied, in reads and in writes."""
    moment = datetime(2024, 2, 29, 1, 2, 3)
    seen = []

    def writer(conn: Any) -> None:
        conn.execute("INSERT INTO events (name) VALUES (:at)", {"at": moment})
        seen.append(conn.execute("SELECT name FROM events WHERE name = ?", (moment,)).fetchone())
        seen.append(conn.execute("SELECT name FROM events WHERE name = :at", {"at": moment}).fetchone())

    store.submit(writer, ensure=[EVENTS])
    assert [("2024-02-29 01:02:03",)] * 2 == seen
    assert ["2024-02-29 01:02:03"] == names(store)


def test_lastrowid_is_still_refused(store: TelemetryStore) -> None:
    """The key that the database will choose is not known before the job is applied."""
    with pytest.raises(NotRecordable) as caught:
        store.submit(lambda conn: conn.execute(INSERT, ("a", 1)).lastrowid, ensure=[EVENTS])
    assert caught.value.hint
    assert 0 == store.stats().submitted


def test_job_that_does_not_read(store: TelemetryStore) -> None:
    """A job without a read is recorded as usual, and checked as usual."""
    store.submit(lambda conn: conn.execute(INSERT, ("a", 1)), ensure=[EVENTS])
    with pytest.raises(ParameterCount):
        store.submit(lambda conn: conn.execute(INSERT, ("b",)), ensure=[EVENTS])
    assert ["a"] == names(store)


@in_process_modes
def test_memory(open_store: OpenStore) -> None:
    """The bridge works in `:memory:` too."""
    store = open_store(":memory:", job_reads="flush")
    for _ in range(3):
        store.submit(count, ensure=[EVENTS])
    assert [(3,)] == rows(store, "SELECT size FROM events")


@on_both
def test_other_stores_go_on(open_store: OpenStore, store: TelemetryStore) -> None:
    """A store that only records may submit while another one's job reads."""
    other = open_store()
    add(store, "before")
    store.flush()
    started, submitted = threading.Event(), threading.Event()

    def writer(conn: Any) -> None:
        conn.execute("SELECT 1")
        started.set()
        assert submitted.wait(30)

    thread = threading.Thread(target=lambda: store.submit(writer, ensure=[EVENTS]))
    thread.start()
    assert started.wait(30)
    if other.mode == "sync":  # there a submit waits for the lock
        submitted.set()
    add(other, "a")
    submitted.set()
    thread.join()
    assert ["before", "a"] == names(other)
