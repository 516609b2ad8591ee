"""Upserts that are compiled from tables, and tables that have grown since a database was made."""

from __future__ import annotations

import enum
import math
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    case,
    func,
    literal,
    text,
)

from telemetry_bus import TelemetryStore, tables
from telemetry_bus.encoding.values import pack_job, unpack_job
from telemetry_bus.errors import JobError, UnsupportedValue
from telemetry_bus.jobs import Job, Statement
from telemetry_bus.sql.shapes import insert_shape
from telemetry_bus.tables import definitions, insert_job, upsert_job


def hosts(*more: Any) -> Table:
    return Table(
        "hosts",
        MetaData(),
        Column("host", String, primary_key=True),
        Column("visits", Integer),
        Column("best", Integer),
        *more,
    )


def counted(stored: Any, given: Any) -> dict[str, Any]:
    """One visit more, and the best of both."""
    return {
        "visits": func.coalesce(stored.visits, 0) + 1,
        "best": case((given.best > stored.best, given.best), else_=stored.best),
    }


def stored(*jobs: Job, sql: str = "SELECT * FROM hosts", first: tuple[str, ...] = ()) -> list[Any]:
    """What a database holds after these definitions and jobs, each ensured twice."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for definition in first:
            connection.execute(definition)
        for job in jobs:
            for definition in (*job.ensure, *job.ensure):
                try:
                    connection.execute(definition)
                except sqlite3.OperationalError as error:
                    if "duplicate column" not in str(error):
                        raise
            job(connection)
        return connection.execute(sql).fetchall()


def test_given_values_replace_stored_ones() -> None:
    """By default the primary key tells rows apart, and every given column is taken over; what is not given stays."""
    table = hosts()
    assert [("a", 2, 9), ("b", 5, None)] == stored(
        upsert_job(table, {"host": "a", "visits": 1, "best": 9}),
        upsert_job(table, [{"host": "b", "visits": 5}, {"host": "a", "visits": 2}]),
    )


def test_some_columns_replace_stored_ones() -> None:
    """`update` names those that are taken over from a row that is there already."""
    table = hosts()
    rows = [{"host": "a", "visits": 1, "best": 9}, {"host": "a", "visits": 2, "best": 3}]
    assert [("a", 1, 3)] == stored(upsert_job(table, rows, update=["best"]))


def test_nothing_to_change() -> None:
    """With no column to update the first row stays."""
    rows = [{"host": "a", "visits": 1}, {"host": "a", "visits": 2}]
    assert [("a", 1, None)] == stored(upsert_job(hosts(), rows, update=[]))


def test_expressions_of_stored_and_given_values() -> None:
    """A function says what becomes of each column, from the row as it was and the given one."""
    rows: list[dict[str, object]]
    rows = [
        {"host": "a", "visits": None, "best": 4},
        {"host": "a", "visits": 7, "best": 9},
        {"host": "a", "best": 2},
    ]
    assert [("a", 2, 9)] == stored(upsert_job(hosts(), rows, update=counted))


def test_an_upsert_may_be_batched() -> None:
    """Constants of the expressions stand in the text, so that the rows of many jobs become one statement."""
    (statement,) = upsert_job(hosts(), {"host": "a", "best": 1}, update=counted).statements
    shape = insert_shape(statement.sql)
    assert shape is not None
    assert ("hosts", 2) == (shape.table, shape.parameters)


def test_another_key() -> None:
    """`key` names other columns that tell rows apart."""
    table = hosts(Column("address", String, unique=True))
    rows = [{"host": "a", "address": "1"}, {"host": "b", "address": "1"}]
    assert [("b", None, None, "1")] == stored(upsert_job(table, rows, key=["address"]))


def test_a_partial_unique_index_as_key() -> None:
    """A unique index may be the key, with its condition: rows outside it are never taken for the same."""
    table = hosts(Column("mark", String), Column("id", Integer))
    marks = Index("marks", table.c.mark, unique=True, sqlite_where=text("length(mark) > 1"))
    rows = [{"host": str(n), "mark": mark, "id": n} for n, mark in enumerate(["x", "x", "long", "long"])]
    job = upsert_job(table, rows, key=marks, update=["id"])
    assert [("0", 0), ("1", 1), ("2", 3)] == stored(job, sql="SELECT host, id FROM hosts ORDER BY host")


def test_it_is_compiled_once() -> None:
    """The same function of the same table gives the same text, object for object."""
    table = hosts()
    one, two = (upsert_job(table, {"host": "a", "best": n}, update=counted).statements[0].sql for n in (1, 2))
    assert one is two


@pytest.mark.parametrize(
    "options",
    [
        {"key": ["nmae"]},
        {"update": ["nmae"]},
        {"update": lambda stored, given: {"nmae": given.best}},
    ],
)
def test_unknown_column(options: Any) -> None:
    """A column that is not there is refused, wherever it is named."""
    with pytest.raises(JobError, match="table hosts has no column 'nmae'"):
        upsert_job(hosts(), {"host": "a"}, **options)
    with pytest.raises(JobError, match="table hosts has no column 'nmae'"):
        upsert_job(hosts(), {"nmae": "a"})


@pytest.mark.parametrize(
    "update",
    [
        lambda stored, given: {"best": max(stored.best, given.best)},
        lambda stored, given: {"best": given.bets},
        lambda stored, given: None,
    ],
)
def test_a_function_that_makes_no_sql(update: Any) -> None:
    """What works on values and not on columns is an error that says so."""
    with pytest.raises(JobError, match=r"update= raises \w+: .*func.max"):
        upsert_job(hosts(), {"host": "a", "best": 1}, update=update)


def test_no_key() -> None:
    """A table without a primary key needs one to be named."""
    with pytest.raises(JobError, match=r"table t has no primary key \(say key="):
        upsert_job(Table("t", MetaData(), Column("a", Integer)), {"a": 1})


def test_for_postgresql() -> None:
    """The same table speaks the other database's SQL, with the same placeholders."""
    table = hosts()
    Index("best", table.c.best)
    job = upsert_job(table, {"host": "a", "best": 1}, update=counted, dialect="postgresql")
    (statement,) = job.statements
    counted_ids = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("a", Integer))
    assert "RETURNING" not in insert_job(counted_ids, {"a": 1}, dialect="postgresql").statements[0].sql
    assert 2 == statement.sql.count("?")
    assert "best INTEGER" in job.ensure[0]
    assert ("a", 1) == statement.rows[0]
    assert job.ensure == definitions(table, "postgresql")


def test_a_column_that_came_later() -> None:
    """A table that exists without it gets it, with its rows; a new table has it from the beginning."""
    table = hosts(Column("note", String, server_default="-", info={"added": True}))
    old = ("CREATE TABLE hosts (host VARCHAR PRIMARY KEY, visits, best)", "INSERT INTO hosts (host) VALUES ('a')")
    job = insert_job(table, {"host": "b", "note": "new"})
    assert [("a", "-"), ("b", "new")] == stored(job, sql="SELECT host, note FROM hosts", first=old)
    assert [("b", "new")] == stored(job, sql="SELECT host, note FROM hosts")
    assert "ADD COLUMN IF NOT EXISTS note" in "".join(definitions(table, "postgresql"))


def test_an_index_that_was_another_one() -> None:
    """An index of an old database makes room for the one of the same name."""
    table = hosts()
    Index("by_visits", table.c.visits, unique=True, info={"replaced": True})
    old = ("CREATE TABLE hosts (host VARCHAR PRIMARY KEY, visits, best)", "CREATE INDEX by_visits ON hosts (visits)")
    rows = [{"host": "a", "visits": 1, "best": 2}, {"host": "b", "visits": 1, "best": 3}]
    job = upsert_job(table, rows, key=["visits"])
    assert [("b", 1, 3)] == stored(job, first=old)


def test_a_job_is_a_callable_that_writes() -> None:
    """A job runs its statements, in order, on whatever connection it is called with."""
    job = Job((Statement("CREATE TABLE t (a)"), Statement("INSERT INTO t VALUES (?)", ((1,), (2,)))))
    with closing(sqlite3.connect(":memory:")) as connection:
        job(connection)
        assert [(1,), (2,)] == connection.execute("SELECT a FROM t").fetchall()


def test_two_jobs_as_one() -> None:
    """The sum of two jobs runs the first, then the second; what both ensure is ensured once."""
    one = Job((Statement("a"),), ("CREATE TABLE x (a)", "CREATE TABLE y (a)"))
    two = Job((Statement("b"),), ("CREATE TABLE y (a)", "CREATE TABLE z (a)"))
    both = Job((Statement("a"), Statement("b")), ("CREATE TABLE x (a)", "CREATE TABLE y (a)", "CREATE TABLE z (a)"))
    assert both == one + two


class Stage(enum.Enum):
    """Its values are not its names."""

    NEW = 1
    DONE = 2


def things(*more: Any) -> Table:
    return Table("things", MetaData(), Column("k", String, primary_key=True), *more)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Float(), math.inf),
        (Float(), -math.inf),
        (LargeBinary(), b"\xff'?"),
        (String(), b"ab"),
        (Enum(Stage), Stage.DONE),
        (JSON(), {"a": [1, "?"]}),
        (DateTime(), datetime(2026, 1, 2, 3, 4, 5)),
        (Date(), datetime(2026, 1, 2, 3, 4, 5)),
        (Boolean(), True),
        (Numeric(), Decimal("1.25")),
        (Numeric(), Decimal("NaN")),
        (String(), "it's ? %s :x"),
        (String(), "a\0b"),
        (JSON(), "x ?"),
        (JSON(), 5),
        (Enum("a ?", "b"), "a ?"),
        (LargeBinary(), None),
        (Integer(), True),
        (DateTime(), datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5)))),
        (Integer(), None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("expression", [False, True])
def test_a_constant_is_what_it_would_be_in_a_row(kind: Any, value: Any, expression: bool) -> None:
    """By itself and within an expression: no text of bytes, no value of an enumeration, no SQL that cannot be read."""
    table = things(Column("a", kind), Column("n", Integer))

    def changed(stored: Any, given: Any) -> dict[str, Any]:
        return {"a": func.coalesce(literal(value, kind), stored.a) if expression else value, "n": given.n + 1}

    def found(*jobs: Job) -> list[Any]:
        return stored(*(unpack_job(pack_job(job)) for job in jobs), sql="SELECT a, typeof(a), n FROM things")

    there = upsert_job(table, {"k": "x", "n": 5})
    expected = found(insert_job(table, {"k": "x", "a": value, "n": 6}))
    assert expected == found(there, upsert_job(table, [{"k": "x", "n": 4}, {"k": "x", "n": 5}], update=changed))


@pytest.mark.parametrize(
    ("columns", "where"),
    [
        (lambda c: [func.lower(c.name)], None),
        (lambda c: [func.lower(c.name), c.state], None),
        (lambda c: [c.n % 7 * 0], None),
        (lambda c: [c.name.collate("NOCASE")], None),
        (lambda c: [c.state.desc()], None),
        (lambda c: [c.state], lambda c: c.state == "it's ?"),
        (lambda c: [c.state], lambda c: c.state.in_(["it's ?", "new"])),
        (lambda c: [c.state], lambda c: c.at > datetime(2025, 1, 1)),
        (lambda c: [c.state], lambda c: c.on.is_(True)),
        (lambda c: [func.lower(c.name)], lambda c: (c.n > 0) & (c.state != "x")),
        (lambda c: [c.state], lambda c: text("n > 0")),
    ],
)
def test_an_index_of_expressions_or_of_a_part_tells_rows_apart(database: Path, columns: Any, where: Any) -> None:
    """As its definition says it, with its constants; the writer takes it, alone and with others in one statement."""
    table = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String),
        Column("state", String),
        Column("n", Integer),
        Column("at", DateTime),
        Column("on", Boolean),
    )
    index = Index("one", *columns(table.c), unique=True, sqlite_where=None if where is None else where(table.c))
    row = {"state": "it's ?", "at": datetime(2026, 1, 2), "on": True}
    with TelemetryStore(database, mode="thread") as store:
        for number, name in enumerate(["Ann", "ANN", "ann"], 1):
            store.upsert(table, {**row, "name": name, "n": number}, key=index, update=["n"])
        store.upsert(table, [{**row, "name": "aNN", "n": n} for n in (4, 5)], key=index, update=["n"])
        store.flush(raise_on_failure=True)
        with store.connection() as connection:
            assert [("Ann", 5)] == connection.execute("SELECT name, n FROM people").fetchall()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"key": 5}, "key= is of type int"),
        ({"key": "host"}, "key= is of type str"),
        ({"key": [0]}, "no column 0"),
        ({"key": []}, "key= names no column"),
        ({"key": [hosts().c.host]}, "no column Column"),
        ({"key": Index("of_none", text("lower(host)"), unique=True)}, "not one of table hosts"),
        ({"key": Index("of_another", hosts().c.host, unique=True)}, "not one of table hosts"),
        ({"update": 3}, "update= is of type int"),
        ({"update": "visits"}, "update= is of type str"),
        ({"update": [1]}, "no column 1"),
        ({"update": {"visits": 0}}, "update= is of type dict"),
        ({"key": {"host": "a"}}, "key= is of type dict"),
        ({"update": lambda stored, given: {0: 1}}, "no column 0"),
        ({"update": lambda stored, given: None}, "update= raises TypeError"),
        ({"update": lambda stored, given: {"visits": stored.none}}, "update= raises AttributeError"),
        ({"update": lambda stored, given: {"visits": dict[str, int]()["a"]}}, "update= raises KeyError"),
        ({"update": lambda stored, given: {"visits": 1 / 0}}, "update= raises ZeroDivisionError"),
        ({"update": lambda stored, given: {"visits": func.max(stored.visits, object())}}, "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_keys_and_updates_that_are_none(options: dict[str, Any], told: str) -> None:
    """An error of the bus at the call."""
    with pytest.raises((JobError, UnsupportedValue), match=told):
        pack_job(upsert_job(hosts(), {"host": "a", "visits": 1}, **options))


def test_an_index_that_is_not_unique_is_no_key() -> None:
    """Told at the call, not by the database as a dead letter."""
    table = hosts()
    index = Index("by_visits", table.c.visits)
    with pytest.raises(JobError, match="index by_visits is not unique"):
        upsert_job(table, {"host": "a", "visits": 1}, key=index)


def test_a_constant_that_a_type_does_not_take() -> None:
    """Told without the name that SQLAlchemy has for it."""
    with pytest.raises(UnsupportedValue, match="a constant does not take a date"):
        upsert_job(hosts(), {"host": "a"}, update=lambda stored, given: {"visits": literal(date(2026, 1, 2), Float())})


def test_long_constants_are_let_go() -> None:
    """What is compiled for functions that are made for each call has a bound in characters."""
    for number in range(40):

        def renamed(stored: Any, given: Any, number: int = number) -> dict[str, Any]:
            return {"host": str(number).ljust(100_000)}

        upsert_job(hosts(), {"host": "a"}, update=renamed)
    assert tables._compile.cache_info().currsize <= 11  # type: ignore[attr-defined]
