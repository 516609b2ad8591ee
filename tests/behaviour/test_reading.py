"""The read side: fresh connections and the engine."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from telemetry_bus import ReadOnly, StoreClosed, TelemetryError, TelemetryStore

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, add, in_process_modes, names, rows


def test_fresh_connection_of_the_driver(store: TelemetryStore) -> None:
    """Each call gives a connection of its own, of the driver's kind, whose rows are plain tuples."""
    add(store, "a")
    store.flush()
    with store.connection() as one, store.connection() as two:
        assert isinstance(one, sqlite3.Connection)
        assert one is not two
        (row,) = one.execute("SELECT name, size FROM events WHERE name = ?", ("a",)).fetchall()
        assert ("a", 1) == row
        assert tuple is type(row)


def test_closed_at_the_end(store: TelemetryStore) -> None:
    """Behind the block the connection is closed, whatever happened inside."""
    with pytest.raises(LookupError), store.connection() as connection:
        raise LookupError
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO events (name) VALUES ('b')",
        "UPDATE events SET size = 0",
        "DELETE FROM events",
        "DROP TABLE events",
        "CREATE TABLE others (id)",
    ],
)
def test_writing_is_refused(store: TelemetryStore, sql: str) -> None:
    """A write through a reading connection fails, and the error names `submit()`."""
    add(store, "a")
    store.flush()
    with store.connection() as connection:
        with pytest.raises(ReadOnly, match=r"submit\(\)"):
            connection.execute(sql)
        with pytest.raises(ReadOnly, match=r"submit\(\)"):
            connection.cursor().execute(sql)
        with pytest.raises(ReadOnly, match=r"submit\(\)"):
            connection.executescript(sql)
    assert [("a", 1)] == rows(store, "SELECT name, size FROM events")


def test_executemany_is_refused(store: TelemetryStore) -> None:
    """So does `executemany`."""
    add(store, "a")
    store.flush()
    with store.connection() as connection, pytest.raises(ReadOnly, match=r"submit\(\)"):
        connection.executemany(INSERT, [("b", 1)])


def test_errors_of_reading_stay(store: TelemetryStore) -> None:
    """An error that has nothing to do with writing is the driver's own."""
    with store.connection() as connection, pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM nowhere")


def test_writable(store: TelemetryStore) -> None:
    """With `readonly=False` a connection can write, foreign keys are enforced, and jobs go on afterwards."""
    add(store, "a")
    store.flush()
    with store.connection(readonly=False) as connection:
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        assert (1,) == connection.execute("PRAGMA foreign_keys").fetchone()
    add(store, "c")
    assert ["a", "b", "c"] == names(store)


def test_pragmas_of_a_reader(store: TelemetryStore) -> None:
    """A reading connection only queries, and enforces foreign keys like the writer."""
    with store.connection() as connection:
        assert (1,) == connection.execute("PRAGMA query_only").fetchone()
        assert (1,) == connection.execute("PRAGMA foreign_keys").fetchone()


def test_nothing_was_written_yet(store: TelemetryStore) -> None:
    """A database in which nothing was written yet can be read: it is empty."""
    with store.connection() as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'telemetry_bus%'").fetchall()
    assert [] == tables
    add(store, "a")
    assert ["a"] == names(store)


def test_reading_after_shutdown(store: TelemetryStore) -> None:
    """A closed store can still be read from, as long as there is a file."""
    add(store, "a")
    store.shutdown(wait=True)
    with store.connection() as connection:
        assert [("a",)] == connection.execute("SELECT name FROM events").fetchall()


def test_snapshot(store: TelemetryStore) -> None:
    """A reader in a transaction keeps seeing what it began with, and keeps no job from being written."""
    add(store, "a")
    store.flush()
    with store.connection() as reader:
        reader.execute("BEGIN")
        assert (1,) == reader.execute("SELECT count(*) FROM events").fetchone()
        add(store, "b")
        assert ["a", "b"] == names(store)
        assert (1,) == reader.execute("SELECT count(*) FROM events").fetchone()


def test_engine(store: TelemetryStore) -> None:
    """The engine reads through SQLAlchemy, what was just committed included; it does not write."""
    add(store, "a", "bb")
    store.flush()
    with store.engine.connect() as connection:
        assert [("a", 1), ("bb", 2)] == connection.execute(text("SELECT name, size FROM events ORDER BY id")).all()
    add(store, "ccc")
    store.flush()
    with store.engine.connect() as connection:
        assert 3 == connection.scalar(text("SELECT count(*) FROM events"))
        with pytest.raises((TelemetryError, SQLAlchemyError), match=r"submit\(\)"):
            connection.execute(text("DELETE FROM events"))
    assert store.engine is store.engine


@in_process_modes
def test_memory(open_store: OpenStore) -> None:
    """`:memory:` is one database for all connections of its store, and none of another store's."""
    store, other = open_store(":memory:"), open_store("sqlite:///:memory:")
    add(store, "a")
    store.flush()
    with store.connection() as one, store.connection() as two:
        assert [("a",)] == one.execute("SELECT name FROM events").fetchall()
        assert [("a",)] == two.execute("SELECT name FROM events").fetchall()
        with pytest.raises(ReadOnly, match=r"submit\(\)"):
            one.execute("DELETE FROM events")
    with store.engine.connect() as connection:
        assert 1 == connection.scalar(text("SELECT count(*) FROM events"))
    assert [] == rows(other, "SELECT name FROM sqlite_master WHERE name = 'events'")


@in_process_modes
def test_memory_writable(open_store: OpenStore) -> None:
    """A writable connection to `:memory:` changes the store's database."""
    store = open_store(":memory:")
    with store.connection(readonly=False) as connection:
        connection.execute(EVENTS)
        connection.execute(INSERT, ("a", 1))
        connection.commit()
    add(store, "b")
    assert ["a", "b"] == names(store)


@in_process_modes
def test_memory_after_shutdown(open_store: OpenStore) -> None:
    """With its store `:memory:` is gone."""
    store = open_store(":memory:")
    add(store, "a")
    store.shutdown(wait=True)
    with pytest.raises(StoreClosed):
        store.connection()


def test_reader_leaves_the_file_alone(store: TelemetryStore, database: Path) -> None:
    """Closing a reader writes nothing: what is not in the database file yet stays in the log."""
    add(store, "a")
    store.flush()
    before = database.stat().st_mtime_ns, database.stat().st_size
    with store.connection() as connection:
        connection.execute("SELECT * FROM events").fetchall()
    if store.mode != "thread":  # there the writer itself may tidy up meanwhile
        assert before == (database.stat().st_mtime_ns, database.stat().st_size)
    assert ["a"] == names(store)


@pytest.mark.parametrize("mode", ["sync"])
def test_a_database_whose_writer_was_killed(store: TelemetryStore, database: Path, tmp_path: Path) -> None:
    """A rollback journal that nobody has played back is played back at the first look."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as killed:
        killed.execute("PRAGMA cache_size=5")  # so that changed pages reach the file before the commit
        killed.execute("CREATE TABLE t (a)")
        killed.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 500)
        killed.execute("BEGIN IMMEDIATE")
        killed.execute("UPDATE t SET a = 'torn'")
        for suffix in ("", "-journal"):
            shutil.copy(tmp_path / f"x.db{suffix}", f"{database}{suffix}")
        with store.connection() as connection:
            assert [(500, "x" * 500)] == connection.execute("SELECT count(*), min(a) FROM t").fetchall()
    assert not Path(f"{database}-journal").exists()
