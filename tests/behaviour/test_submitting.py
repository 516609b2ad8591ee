"""The ways to hand in jobs, and what a reader then sees."""

from __future__ import annotations

import threading
from datetime import date, datetime
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Date, DateTime, Enum, Index, Integer, MetaData, String, Table, func, select

from telemetry_bus import Job, JobError, Statement, TelemetryStore, UnsupportedValue

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, add, names, on_both, rows

ALL = "SELECT name, size FROM events ORDER BY id"


def table() -> Table:
    return Table(
        "visits",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("url", String, nullable=False),
        Column("status", Integer, default=200),
        Column("tries", Integer, default=lambda: 1),
        Column("agent", String, server_default="robot"),
        Index("visits_by_url", "url"),
    )


@on_both
def test_callable(store: TelemetryStore) -> None:
    """A callable is given a connection; what it executes becomes one job."""

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("a", 1))
        conn.execute("UPDATE events SET size = size + ? WHERE name = ?", (10, "a"))
        conn.executemany(INSERT, [("b", 2), ("c", 3)])

    assert 1 == store.submit(writer, ensure=[EVENTS])
    assert [("a", 11), ("b", 2), ("c", 3)] == rows(store, ALL)


@on_both
def test_job(store: TelemetryStore) -> None:
    """A `Job` that was made by hand is applied with its own definitions, in the order of its statements."""
    job = Job((Statement(INSERT, (("a", 1), ["b", 2])), Statement("DELETE FROM events WHERE name = 'a'")), (EVENTS,))
    assert 1 == store.submit(job)
    assert [("b", 2)] == rows(store, ALL)


def test_job_with_more_definitions(store: TelemetryStore) -> None:
    """`ensure` comes before the definitions that a `Job` brings along."""
    job = Job((Statement(INSERT, (("a", 1),)),), ("CREATE INDEX IF NOT EXISTS by_size ON events (size)",))
    store.submit(job, ensure=[EVENTS])
    assert [("a", 1)] == rows(store, ALL)
    assert [("by_size",)] == rows(store, "SELECT name FROM sqlite_master WHERE name = 'by_size'")


@on_both
def test_execute(store: TelemetryStore) -> None:
    """One statement with one row of values, given as a tuple or a list."""
    store.execute(INSERT, ("a", 1), ensure=[EVENTS])
    store.execute(INSERT, ["b", 2], ensure=[EVENTS])
    store.execute("INSERT INTO events (name) VALUES ('c')", ensure=[EVENTS])
    assert [("a", 1), ("b", 2), ("c", None)] == rows(store, ALL)


@on_both
def test_executemany(store: TelemetryStore) -> None:
    """One statement with many rows, from any iterable, is one job."""
    sequence = store.executemany(INSERT, ((f"e{number}", number) for number in range(1000)), ensure=[EVENTS])
    assert 1 == sequence
    assert [(f"e{number}", number) for number in range(1000)] == rows(store, ALL)


@on_both
def test_executemany_without_rows(store: TelemetryStore) -> None:
    """No rows are a job all the same: its definitions are seen to."""
    assert 1 == store.executemany(INSERT, [], ensure=[EVENTS])
    assert [] == rows(store, ALL)


@on_both
def test_definitions_alone(store: TelemetryStore) -> None:
    """A job without statements makes its tables."""
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.submit(Job(ensure=("CREATE TABLE IF NOT EXISTS others (id INTEGER PRIMARY KEY)",)))
    assert [] == rows(store, "SELECT * FROM events, others")


@on_both
def test_job_without_anything(store: TelemetryStore) -> None:
    """A callable that does nothing is a job that changes nothing."""
    assert [1, 2] == [store.submit(lambda conn: None), store.submit(Job())]
    store.flush()
    assert (2, 0) == (store.stats().acknowledged, store.stats().failed)


@on_both
def test_named_parameters(store: TelemetryStore) -> None:
    """`:name` takes its value from a mapping, as often as it stands there, whatever else the mapping has."""
    sql = "INSERT INTO events (name, size) VALUES (:name || ':x', :size + length(:name))"
    store.execute(sql, {"name": "ab", "size": 1, "unused": None}, ensure=[EVENTS])
    store.executemany(sql, [{"name": "c", "size": 2}, {"size": 3, "name": "d"}], ensure=[EVENTS])
    store.submit(lambda conn: conn.execute(sql, {"name": "e", "size": 4}), ensure=[EVENTS])
    assert [("ab:x", 3), ("c:x", 3), ("d:x", 4), ("e:x", 5)] == rows(store, ALL)


def test_insert_one_row(store: TelemetryStore) -> None:
    """A mapping is one row of a SQLAlchemy table; definition, index, SQL and defaults come from the table."""
    store.insert(table(), {"url": "u"})
    assert [(1, "u", 200, 1, "robot")] == rows(store, "SELECT * FROM visits")
    assert [("visits_by_url",)] == rows(store, "SELECT name FROM sqlite_master WHERE name LIKE 'visits!_%' ESCAPE '!'")


@on_both
def test_insert_many_rows(store: TelemetryStore) -> None:
    """Rows of one job may name different columns; they are inserted in order."""
    visits: list[dict[str, object]]
    visits = [
        {"url": "u", "status": 404},
        {"url": "v"},
        {"url": "w", "agent": None, "status": None},
    ]
    assert 1 == store.insert(table(), iter(visits))
    expected = [("u", 404, "robot"), ("v", 200, "robot"), ("w", None, None)]
    assert expected == rows(store, "SELECT url, status, agent FROM visits ORDER BY id")


@on_both
def test_insert_by_the_key_of_a_column(store: TelemetryStore) -> None:
    """A column that is called otherwise in Python is given by that key, as in SQLAlchemy."""
    keyed = Table("keyed", MetaData(), Column("in_database", String, key="in_python"))
    store.insert(keyed, {"in_python": "x"})
    assert [("x",)] == rows(store, "SELECT in_database FROM keyed")


@on_both
def test_upsert(store: TelemetryStore) -> None:
    """A row that is there takes what is given, and nothing else; or what a function of both rows says."""

    def longer(stored: Any, given: Any) -> dict[str, Any]:
        return {"url": stored.url + given.url}

    visits = table()
    store.upsert(visits, [{"id": 1, "url": "a", "status": 404}, {"id": 1, "url": "b"}])
    store.upsert(visits, {"id": 1, "url": "c"}, key=["id"], update=longer)
    assert [(1, "bc", 404)] == rows(store, "SELECT id, url, status FROM visits")


@on_both
def test_insert_unknown_column(store: TelemetryStore) -> None:
    """A column that the table does not have is refused by name, and nothing is queued."""
    with pytest.raises(JobError, match=r"colour.*url, status"):
        store.insert(table(), [{"url": "u"}, {"url": "v", "colour": "red"}])
    assert 0 == store.stats().submitted


@on_both
def test_insert_sql_default(store: TelemetryStore) -> None:
    """A default that only the database can compute is left to it."""
    timed = Table("timed", MetaData(), Column("id", Integer), Column("at", String, server_default=func.current_date()))
    store.insert(timed, {"id": 1})
    assert [(1, 10)] == rows(store, "SELECT id, length(at) FROM timed")


@on_both
def test_sequence_numbers(store: TelemetryStore) -> None:
    """Jobs of a store are numbered 1, 2, 3 …, by whatever way they came."""
    numbers = [
        store.execute(INSERT, ("a", 1), ensure=[EVENTS]),
        store.executemany(INSERT, [("b", 2), ("c", 3)], ensure=[EVENTS]),
        store.submit(lambda conn: None),
        store.insert(table(), {"url": "u"}),
    ]
    assert [1, 2, 3, 4] == numbers


@on_both
def test_order(store: TelemetryStore) -> None:
    """Jobs are applied in the order of their submission, statements that depend on each other included."""
    store.execute("INSERT INTO events (name, size) VALUES ('sum', 0)", ensure=[EVENTS])
    for number in range(50):
        store.execute("UPDATE events SET size = 2 * size + ? WHERE name = 'sum'", (number % 2,))
        store.execute(INSERT, (f"e{number}", number))
    expected = 0
    for number in range(50):
        expected = 2 * expected + number % 2
    assert [(expected,)] == rows(store, "SELECT size FROM events WHERE name = 'sum'")
    assert ["sum", *(f"e{number}" for number in range(50))] == names(store)


@on_both
def test_threads_submit_concurrently(store: TelemetryStore) -> None:
    """Any number of threads may submit: nothing is lost or doubled, and each thread's jobs stay in order."""
    together = threading.Barrier(8)

    def submit(thread: int) -> None:
        together.wait()
        for number in range(50):
            add(store, f"{thread}-{number}")

    threads = [threading.Thread(target=submit, args=(thread,)) for thread in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = names(store)
    for thread in range(8):
        expected = [f"{thread}-{number}" for number in range(50)]
        assert expected == [name for name in found if name.startswith(f"{thread}-")]
    assert 400 == len(found) == store.stats().submitted


def test_submit_from_inside_a_job(store: TelemetryStore) -> None:
    """A callable may submit another job; that one stands before its own."""

    def writer(conn: Any) -> None:
        conn.execute(INSERT, ("outer", 2))
        add(store, "inner")

    assert 2 == store.submit(writer, ensure=[EVENTS])
    assert ["inner", "outer"] == names(store)


@on_both
def test_values_are_taken_at_the_call(store: TelemetryStore) -> None:
    """What the caller does to its list afterwards does not change the job."""
    values: list[Any] = ["a", 1]

    def writer(conn: Any) -> None:
        conn.execute(INSERT, values)
        values[0] = "b"
        conn.execute(INSERT, values)

    store.submit(writer, ensure=[EVENTS])
    values[0] = "c"
    assert ["a", "b"] == names(store)


def test_many_different_statements(store: TelemetryStore) -> None:
    """Texts that are all different, each longer than any cache likes, arrive like any other."""
    for number in range(300):
        padding = "x" * (200 * (number % 10))
        store.execute(
            f"INSERT INTO events (name, size) VALUES ('{number}', ?) /* {padding} */", (number,), ensure=[EVENTS]
        )
    assert [(300, 299 * 300 // 2)] == rows(store, "SELECT count(*), sum(size) FROM events")


@on_both
def test_two_stores_of_one_database(open_store: OpenStore) -> None:
    """Two stores of one program may write to one database at the same time."""
    one, two = open_store(), open_store()
    add(one, "a")
    add(two, "b")
    add(one, "c")
    one.flush()
    two.flush()
    assert {"a", "b", "c"} == set(names(one)) == set(names(two))


def test_insert_by_the_types_of_columns(store: TelemetryStore) -> None:
    """A column's type says how a value is stored, but a point in time has the one form that it has everywhere."""
    typed = Table(
        "typed",
        MetaData(),
        Column("at", DateTime),
        Column("on", Date),
        Column("tags", JSON),
        Column("kind", Enum("new", "old")),
    )
    store.insert(typed, {"at": datetime(2024, 2, 29, 1, 2, 3), "on": date(2024, 2, 29), "tags": ["a"], "kind": "new"})
    assert [("2024-02-29 01:02:03", "2024-02-29", '["a"]', "new")] == rows(store, "SELECT * FROM typed")
    with pytest.raises(UnsupportedValue, match="tags"):
        store.insert(typed, {"tags": object()})
    assert 1 == store.stats().submitted
    with store.engine.connect() as connection:
        (row,) = connection.execute(select(typed)).all()
    assert (datetime(2024, 2, 29, 1, 2, 3), date(2024, 2, 29), ["a"], "new") == row
