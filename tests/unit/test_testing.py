"""The store for tests without a database: it judges jobs as a real one does, keeps them, and answers questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

import telemetry_bus
from telemetry_bus import Job, NotRecordable, Statement, StoreClosed, TelemetryError, TelemetryStore, get_store
from telemetry_bus.jobs import MAX_JOB_BYTES
from telemetry_bus.testing import RecordedJobs

DDL = "CREATE TABLE IF NOT EXISTS t (a, b, c)"
INSERT = "INSERT INTO t (a, b) VALUES (?, ?)"

PAGES = Table("pages", MetaData(), Column("id", Integer, primary_key=True), Column("url", String, nullable=False))


@pytest.fixture
def jobs() -> RecordedJobs:
    return RecordedJobs()


def test_jobs_as_submitted(jobs: RecordedJobs) -> None:
    """Each way of submitting gives one job with its definitions, and the number of it."""

    def job(connection: Any) -> None:
        connection.execute(INSERT, (1, 2))
        connection.execute("DELETE FROM t WHERE a = :a", {"a": 3})

    assert 1 == jobs.submit(job, ensure=[DDL])
    assert 2 == jobs.execute(INSERT, [4, 5])
    assert 3 == jobs.executemany(INSERT, ([n, n] for n in (6, 7)), ensure=[DDL])
    assert 4 == jobs.submit(Job((Statement(INSERT, ((8, 9),)),)), ensure=[DDL])
    delete = Statement("DELETE FROM t WHERE a = ?", ((3,),))
    assert [
        Job((Statement(INSERT, ((1, 2),)), delete), (DDL,)),
        Job((Statement(INSERT, ((4, 5),)),)),
        Job((Statement(INSERT, ((6, 6), (7, 7))),), (DDL,)),
        Job((Statement(INSERT, ((8, 9),)),), (DDL,)),
    ] == jobs.jobs
    assert delete == jobs.statements[1]
    assert 5 == len(jobs.statements)


def test_rows_of_tables(jobs: RecordedJobs) -> None:
    """`insert` and `upsert` work from a SQLAlchemy table, with its definition."""
    jobs.insert(PAGES, [{"url": "/a"}, {"url": "/b"}])
    jobs.upsert(PAGES, {"id": 1, "url": "/c"})
    assert [{"url": "/a"}, {"url": "/b"}, {"id": 1, "url": "/c"}] == jobs.inserted("pages")
    assert "CREATE TABLE IF NOT EXISTS pages" in jobs.jobs[0].ensure[0]


def test_later_changes(jobs: RecordedJobs) -> None:
    """What the program does to its lists afterwards does not change what was recorded, nor does a list that was
    returned."""
    row = [1, 2]
    jobs.execute(INSERT, row)
    row[0] = 9
    jobs.jobs.clear()
    assert [(1, 2)] == jobs.rows("t")


def test_values_as_given(jobs: RecordedJobs) -> None:
    """Values are kept as the program gave them, so that a test compares with what it knows."""
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    jobs.execute(INSERT, (moment, b"x"))
    assert [(moment, b"x")] == jobs.rows("t")


WRONG: list[Any] = [
    lambda store: store.execute(INSERT, (1,)),
    lambda store: store.execute(INSERT, (1, object())),
    lambda store: store.execute(INSERT, (1, 2**63)),
    lambda store: store.execute(INSERT, (1, "\udc80")),
    lambda store: store.execute(INSERT, (1, b"x" * MAX_JOB_BYTES)),
    lambda store: store.execute("SELECT 1"),
    lambda store: store.execute("COMMIT"),
    lambda store: store.execute("DELETE FROM t; DELETE FROM t"),
    lambda store: store.execute(INSERT, (1, 2), ensure=DDL),
    lambda store: store.execute(INSERT, (1, 2), ensure=["DROP TABLE t"]),
    lambda store: store.executemany(INSERT, [(1, 2), (3,)]),
    lambda store: store.submit(Job((Statement(INSERT, ((1,),)),))),
    lambda store: store.submit(lambda connection: connection.execute(INSERT, (1, 2)).fetchall()),
    lambda store: store.submit(7),
    lambda store: store.insert(PAGES, {"nothing": 1}),
]


@pytest.mark.parametrize("submit", WRONG)
def test_judges_like_a_store(submit: Any, jobs: RecordedJobs, database: Path) -> None:
    """What a store refuses at submit is refused with the same error, and nothing is recorded."""
    with TelemetryStore(database, mode="sync") as store, pytest.raises(TelemetryError) as expected:
        submit(store)
    with pytest.raises(expected.type) as found:
        submit(jobs)
    assert str(expected.value) == str(found.value)
    assert [] == jobs.jobs


def test_a_callable_that_fails(jobs: RecordedJobs) -> None:
    """Nothing of a job is recorded whose callable raises."""

    def job(connection: Any) -> None:
        connection.execute(INSERT, (1, 2))
        raise LookupError

    with pytest.raises(LookupError):
        jobs.submit(job)
    assert [] == jobs.jobs


@pytest.mark.parametrize(
    ("sql", "row", "found"),
    [
        ("INSERT INTO t (a, b) VALUES (?, ?)", (1, 2), [{"a": 1, "b": 2}]),
        ("INSERT INTO t (b, a) VALUES (?, ?)", (1, 2), [{"b": 1, "a": 2}]),
        ('insert or ignore into main."T" ("a", [b]) values (?, ?)', (1, 2), [{"a": 1, "b": 2}]),
        ("REPLACE INTO t (a, b) VALUES (:x, :y)", {"y": 2, "x": 1}, [{"a": 1, "b": 2}]),
        ("INSERT INTO t AS old (a, b) VALUES (?, 1)", (1,), [{"a": 1}]),
        ("INSERT INTO t (a, b, c) VALUES (?, max(?, 2), ?)", (1, 2, 3), [{"a": 1, "c": 3}]),
        ("INSERT INTO t (a, b) VALUES (?, ?), (?, CURRENT_TIMESTAMP)", (1, 2, 3), [{"a": 1, "b": 2}, {"a": 3}]),
        ("INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET b = b + ?", (1, 2), [{"a": 1}]),
        ("WITH x (n) AS (SELECT ?) INSERT INTO t (a, b) VALUES ((SELECT n FROM x), ?)", (1, 2), [{"b": 2}]),
        ("INSERT INTO t (a, b) SELECT ?, ?", (1, 2), []),
        ("INSERT INTO others (a, b) VALUES (?, ?)", (1, 2), []),
        ("UPDATE t SET a = ?", (1,), []),
        ("DELETE FROM t WHERE a = ?", (1,), []),
    ],
)
def test_inserted(sql: str, row: Any, found: list[dict[str, Any]], jobs: RecordedJobs) -> None:
    """The values that are inserted into a table stand under their columns, however the SQL is written."""
    jobs.execute(sql, row)
    assert found == jobs.inserted("t")


def test_inserted_without_columns(jobs: RecordedJobs) -> None:
    """Without names there is no telling, and the error says what to do."""
    jobs.execute("INSERT INTO t VALUES (?, ?)", (1, 2))
    with pytest.raises(TelemetryError, match=r"rows\(\)"):
        jobs.inserted("t")
    assert [(1, 2)] == jobs.rows("t")


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("INSERT INTO t VALUES (?)", True),
        ("INSERT OR REPLACE INTO T VALUES (?)", True),
        ("UPDATE OR IGNORE t SET a = ?", True),
        ("DELETE FROM main.t WHERE a = ?", True),
        ("WITH x AS (SELECT 1) UPDATE t SET a = ?", True),
        ("/* t */ UPDATE other SET a = ?", False),
        ("INSERT INTO other (t) VALUES (?)", False),
        ("INSERT INTO other SELECT t FROM t WHERE a = ?", False),
        ("CREATE TABLE t (a)", False),
        ("ALTER TABLE t ADD COLUMN b", False),
    ],
)
def test_rows_by_table(sql: str, writes: bool, jobs: RecordedJobs) -> None:
    """`rows` finds the statements that write to a table, not those that only mention it."""
    values = (1,) if "?" in sql else ()
    jobs.execute(sql, values)
    assert ([values] if writes else []) == jobs.rows("t") == jobs.rows("T")


def test_clear(jobs: RecordedJobs) -> None:
    """What a test's preparation has submitted can be forgotten; the numbers go on."""
    jobs.execute(INSERT, (1, 2))
    jobs.clear()
    assert [] == jobs.jobs
    assert 2 == jobs.execute(INSERT, (3, 4))


@pytest.mark.parametrize("look", [lambda jobs: jobs.connection(), lambda jobs: jobs.engine])
def test_nothing_to_read(look: Any, jobs: RecordedJobs) -> None:
    """Reading says that there is no database, and what to do."""
    with pytest.raises(NotRecordable, match="no database to read"):
        look(jobs)


def test_waiting_and_the_end(jobs: RecordedJobs) -> None:
    """`flush` returns; after `shutdown` no job is taken, and those before can still be looked at."""
    with jobs:
        jobs.execute(INSERT, (1, 2))
        jobs.flush()
        asyncio.run(jobs.aflush())
        assert (0, 1) == (jobs.queue.qsize(), jobs.stats().submitted)
    submits: list[Callable[[], object]] = [
        lambda: jobs.execute(INSERT, (3, 4)),
        lambda: jobs.submit(lambda connection: None),
    ]
    for submit in submits:
        with pytest.raises(StoreClosed):
            submit()
    jobs.shutdown(wait=True)
    assert [(1, 2)] == jobs.rows("t")


def test_what_it_says_of_itself(jobs: RecordedJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a store, of no file, and the environment has no say; empty it is as true as any."""
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "nonsense")
    monkeypatch.setenv("TELEMETRY_DEBUG", "nonsense")
    jobs = RecordedJobs()
    assert isinstance(jobs, TelemetryStore)
    assert ("sync", False, "sqlite:///:memory:") == (jobs.mode, jobs.async_writes, jobs.database_url)
    assert jobs
    jobs.execute(INSERT, (1, 2))
    assert "<RecordedJobs 1 jobs open>" == repr(jobs)


def test_all_of_a_store(database: Path) -> None:
    """Everything that a store has in itself the fake has too, so that no method of it fails for want of something."""
    with TelemetryStore(database, mode="sync") as store:
        assert set(vars(store)) <= set(vars(RecordedJobs()))


def test_get_store_is_another(jobs: RecordedJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program calls `get_store` itself, the fake is put in its place like anything else."""
    monkeypatch.setattr(telemetry_bus, "get_store", lambda *_: jobs)
    telemetry_bus.get_store().execute(INSERT, (1, 2))
    assert get_store is not telemetry_bus.get_store
    assert [(1, 2)] == jobs.rows("t")
