"""Jobs that read before they write: what they see, and what is recorded of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.errors import NotRecordable
from telemetry_bus.producer.bridge import BridgeConnection

TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, hits INTEGER NOT NULL DEFAULT 0)"
INSERT, COUNT = "INSERT INTO t (name) VALUES (?)", "SELECT count(*) FROM t"


class Store:
    """A database, the barrier in front of it, and what came of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.barriers = 0
        self.opened: list[sqlite3.Connection] = []

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection:
            self.opened.append(connection)
            yield connection

    def barrier(self) -> None:
        self.barriers += 1

    def run(self, task: Callable[[BridgeConnection], object], *ensure: str) -> list[tuple[str, list[Any]]]:
        """What the task has recorded."""
        bridge = BridgeConnection(self.barrier, self.connect, ensure or (TABLE,))
        try:
            task(bridge)
        finally:
            bridge.close()
        return [(statement.sql, [tuple(row) for row in statement.rows]) for statement in bridge.statements()]

    def rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "x.db")
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(TABLE)
        connection.execute(INSERT, ("old",))
        connection.commit()
    return store


def test_a_job_that_does_not_read(store: Store) -> None:
    """It is recorded and nothing else: no barrier, no connection."""
    assert [(INSERT, [("new",)])] == store.run(lambda job: job.execute(INSERT, ("new",)))
    assert (0, []) == (store.barriers, store.opened)


def test_a_job_sees_what_it_has_written(store: Store) -> None:
    """Behind the barrier it reads the database, with its own writes before and behind the first read; then all of it
    is rolled back, and only what it wrote is recorded."""
    seen = []

    def task(job: BridgeConnection) -> None:
        job.execute(INSERT, ("one",))
        seen.append(job.execute(COUNT).fetchone())
        job.executemany(INSERT, [("two",), ("three",)])
        seen.append(job.cursor().execute(COUNT).fetchall())
        seen.append(list(job.execute("SELECT name FROM t ORDER BY id")))
        seen.append(job.execute("SELECT name FROM t ORDER BY id").fetchmany(2))

    recorded = store.run(task)
    assert [(INSERT, ["one"]), (INSERT, ["two"]), (INSERT, ["three"])] == [
        (sql, [*row]) for sql, rows in recorded for row in rows
    ]
    names = [("old",), ("one",), ("two",), ("three",)]
    assert [(2,), [(4,)], names, names[:2]] == seen
    assert (1, [("old",)]) == (store.barriers, store.rows("SELECT name FROM t"))


def test_read_modify_write(store: Store) -> None:
    """The old shape of a counter: it reads, and writes what it has computed."""

    def task(job: BridgeConnection) -> None:
        found = job.execute("SELECT hits FROM t WHERE name = ?", ("old",)).fetchone()
        job.execute("UPDATE t SET hits = ? WHERE name = ?", (found[0] + 1, "old"))

    assert [("UPDATE t SET hits = ? WHERE name = ?", [(1, "old")])] == store.run(task)


def test_row_counts(store: Store) -> None:
    """The count of a recorded statement is known, of one before the first read as well."""
    counts = []

    def task(job: BridgeConnection) -> None:
        before = job.execute("UPDATE t SET hits = 1")
        none = job.execute("UPDATE t SET hits = 1 WHERE name = 'nobody'")
        counts.extend([none.rowcount, before.rowcount, job.executemany(INSERT, [("a",), ("b",)]).rowcount])
        counts.append(job.execute("UPDATE t SET hits = 2").rowcount)

    store.run(task)
    assert [0, 1, 2, 3] == counts


def test_a_statement_that_fails_is_not_recorded(store: Store) -> None:
    """The old shape of an upsert: it inserts, and when that fails it updates. Only what worked is submitted."""
    counts = []

    def task(job: BridgeConnection) -> None:
        job.execute(COUNT)
        try:
            job.execute(INSERT, ("old",))
        except sqlite3.IntegrityError:
            counts.append(job.execute("UPDATE t SET hits = hits + 1 WHERE name = ?", ("old",)).rowcount)
        counts.append(job.execute(INSERT, ("new",)).rowcount)

    assert [("UPDATE t SET hits = hits + 1 WHERE name = ?", [("old",)]), (INSERT, [("new",)])] == store.run(task)
    assert [1, 1] == counts


def test_rollback_within_a_job(store: Store) -> None:
    """It drops what was recorded so far, also where the job reads."""
    seen = []

    def task(job: BridgeConnection) -> None:
        job.execute(INSERT, ("one",))
        seen.append(job.execute(COUNT).fetchone())
        job.rollback()
        seen.append(job.execute(COUNT).fetchone())
        seen.append(job.execute(INSERT, ("two",)).rowcount)

    assert [(INSERT, [("two",)])] == store.run(task)
    assert [(2,), (1,), 1] == seen


def test_definitions_are_there(tmp_path: Path) -> None:
    """What the job ensures stands before it reads; what was done already is no error; nothing of it stays."""
    store = Store(tmp_path / "new.db")
    seen = []
    store.run(
        lambda job: seen.append(job.execute("SELECT extra FROM t").fetchall()),
        TABLE,
        "ALTER TABLE t ADD COLUMN extra",
        "ALTER TABLE t ADD COLUMN extra",
    )
    assert [[]] == seen
    assert [] == store.rows("SELECT name FROM sqlite_master")


def test_bad_definition(store: Store) -> None:
    """Another error of a definition is the job's."""
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        store.run(lambda job: job.execute(COUNT), "CREATE TABEL u (a)")
    assert [("old",)] == store.rows("SELECT name FROM t"), "the lock is free"


def test_values_as_the_writer_stores_them(store: Store) -> None:
    """A job reads back what the writer will store, not what it was given."""
    seen = []

    def task(job: BridgeConnection) -> None:
        job.execute(COUNT)
        job.execute("INSERT INTO t (name, hits) VALUES (:name, :hits)", {"name": Decimal("1.50"), "hits": 3})
        seen.append(job.execute("SELECT name, hits FROM t WHERE name = '1.50'").fetchall())

    assert [("INSERT INTO t (name, hits) VALUES (?, ?)", [(Decimal("1.50"), 3)])] == store.run(task)
    assert [[("1.50", 3)]] == seen


def test_a_job_that_raises(store: Store) -> None:
    """Nothing of it stays, and the database is free."""

    def task(job: BridgeConnection) -> None:
        job.execute(COUNT)
        job.execute(INSERT, ("new",))
        raise KeyError("of the job")

    with pytest.raises(KeyError):
        store.run(task)
    with closing(sqlite3.connect(store.path, timeout=0)) as other:
        other.execute(INSERT, ("another",))
        other.commit()
    assert [("old",), ("another",)] == store.rows("SELECT name FROM t ORDER BY id")


def test_a_statement_that_ends_the_transaction(store: Store) -> None:
    """After a trigger's `RAISE(ROLLBACK)` the job may go on, or end."""
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.name = 'no' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
        )
    for go_on in (False, True):

        def task(job: BridgeConnection, go_on: bool = go_on) -> None:
            job.execute(COUNT)
            with pytest.raises(sqlite3.IntegrityError):
                job.execute(INSERT, ("no",))
            if go_on:
                job.rollback()
                job.execute(INSERT, ("new",))

        assert ([(INSERT, [("new",)])] if go_on else []) == store.run(task)
        assert [("old",)] == store.rows("SELECT name FROM t")


def test_locked_database(store: Store) -> None:
    """A database that another holds is the driver's error; no connection stays open."""
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")

        @contextmanager
        def connect() -> Iterator[sqlite3.Connection]:
            with store.connect() as connection:
                connection.execute("PRAGMA busy_timeout = 0")
                yield connection

        bridge = BridgeConnection(store.barrier, connect, ())
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            bridge.execute(COUNT)
        bridge.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.opened[0].execute(COUNT)


def test_what_stays_unknown(store: Store) -> None:
    """`lastrowid` would be another one when the writer runs the job; a cursor that has done nothing has no rows."""

    def task(job: BridgeConnection) -> None:
        with pytest.raises(NotRecordable, match="lastrowid"):
            job.execute(INSERT, ("new",)).lastrowid  # noqa: B018  # the look itself is refused
        with pytest.raises(NotRecordable, match="nothing was executed"):
            job.cursor().fetchone()
        with pytest.raises(NotRecordable):
            job.backup(None)
        with pytest.raises(NotRecordable):
            job.execute("COMMIT")
        assert "count(*)" == job.execute(COUNT).description[0][0]

    store.run(task)
