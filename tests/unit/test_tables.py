"""SQLAlchemy tables as a source of jobs."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy
import pytest
from sqlalchemy import (
    JSON,
    TIMESTAMP,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    TypeDecorator,
    func,
    select,
)
from sqlalchemy.dialects import sqlite

from telemetry_bus.encoding.records import Encoder
from telemetry_bus.encoding.values import pack_job, unpack_job
from telemetry_bus.errors import JobError, UnsupportedValue
from telemetry_bus.jobs import Job, Statement
from telemetry_bus.tables import definitions, insert_job, reading_engine, upsert_job


class Upper(TypeDecorator[str]):
    """A type of the program's own."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value.upper()


def table(*columns: Column[Any], name: str = "t") -> Table:
    return Table(name, MetaData(), *columns)


def run(job: Job, connection: sqlite3.Connection) -> None:
    """As the writer does, from the job's bytes; twice what is ensured, for it must be repeatable."""
    job = unpack_job(pack_job(job))
    for definition in (*job.ensure, *job.ensure):
        connection.execute(definition)
    for statement in job.statements:
        connection.executemany(statement.sql, statement.rows)
    connection.commit()


def stored(job: Job, sql: str = "SELECT * FROM t") -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as connection:
        run(job, connection)
        return connection.execute(sql).fetchall()


def test_one_row_and_many() -> None:
    """A mapping is one row, an iterable of mappings are many; the table is made with them."""
    events = table(Column("id", Integer, primary_key=True), Column("name", String))
    assert [(1, "a")] == stored(insert_job(events, {"name": "a"}))
    rows: list[dict[str, Any]] = [{"name": "a"}, {"id": 5, "name": "b"}]
    assert [(1, "a"), (5, "b")] == stored(insert_job(events, iter(rows)))
    assert ((), 1) == (insert_job(events, []).statements, len(insert_job(events, []).ensure))


def test_rows_of_one_shape_are_one_statement() -> None:
    """Rows with the same columns are joined; the order of the keys does not matter."""
    events = table(Column("a", Integer), Column("b", Integer))
    job = insert_job(events, [{"a": 1, "b": 2}, {"b": 4, "a": 3}, {"a": 5}, {"a": 6}])
    assert [2, 2] == [len(statement.rows) for statement in job.statements]
    assert [(1, 2), (3, 4), (5, None), (6, None)] == stored(job)


def test_defaults() -> None:
    """A column that is left out gets its default: a value, a function's, SQL, or the database's; None is a value."""
    counter = iter(range(100))
    events = table(
        Column("id", Integer, primary_key=True),
        Column("state", String, default="new"),
        Column("number", Integer, default=lambda: next(counter)),
        Column("upper", String, default=func.upper("sql")),
        Column("server", String, server_default="there"),
    )
    assert [(1, "new", 0, "SQL", "there"), (2, None, 7, "given", "here")] == stored(
        insert_job(
            events,
            [
                {},
                {"state": None, "number": 7, "upper": "given", "server": "here"},
            ],
        )
    )


def test_nothing_but_what_the_database_gives() -> None:
    """A row without a single value is a row."""
    assert [(1,), (2,)] == stored(insert_job(table(Column("id", Integer, primary_key=True)), [{}, {}]))


def test_values_by_the_types_of_columns() -> None:
    """Each value is stored as SQLAlchemy would store it, so that its readers understand it."""
    values: dict[str, Any] = {
        "json": {"a": [1, None]},
        "at": datetime(2024, 2, 29, 1, 2, 3, 4),
        "day": date(2024, 2, 29),
        "yes": True,
        "amount": Decimal("1.50"),
        "raw": b"\0\xff",
        "kind": "red",
        "upper": "shout",
    }
    events = table(
        Column("json", JSON),
        Column("at", DateTime),
        Column("day", Date),
        Column("yes", Boolean),
        Column("amount", Numeric(10, 2, asdecimal=True)),
        Column("raw", LargeBinary),
        Column("kind", Enum("red", "blue")),
        Column("upper", Upper),
    )
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        run(insert_job(events, values), connection)
        raw = connection.execute("SELECT json, at, upper FROM t").fetchone()
        assert (values["json"], "2024-02-29 01:02:03.000004", "SHOUT") == (json.loads(raw[0]), *raw[1:])
        engine = reading_engine(lambda: connection)
        with engine.connect() as reader:
            (row,) = reader.execute(select(events)).mappings()
        assert {**values, "upper": "SHOUT"} == dict(row)


def test_a_value_that_changes_afterwards() -> None:
    """What was handed in is what is stored."""
    events = table(Column("json", JSON))
    value = {"a": 1}
    job = insert_job(events, {"json": value})
    value["a"] = 2
    assert [('{"a": 1}',)] == stored(job)


@pytest.mark.parametrize("rows", [{"nmae": "a"}, [{"name": "a"}, {"name": "b", "nmae": "c"}]])
def test_unknown_column(rows: Any) -> None:
    """A key that is no column is refused, and the columns are named."""
    events = table(Column("id", Integer, primary_key=True), Column("name", String))
    with pytest.raises(JobError, match="table t has no column 'nmae'") as caught:
        insert_job(events, rows)
    assert "it has id, name" == caught.value.hint


def test_columns_with_a_key() -> None:
    """A column that goes by another name in Python is given by that name, as everywhere in SQLAlchemy."""
    events = table(Column("n", Integer, key="number"), Column("d", Integer, key="other", default=5))
    assert [(1, 5), (2, 6)] == stored(insert_job(events, [{"number": 1}, {"number": 2, "other": 6}]))
    with pytest.raises(JobError, match="no column 'n'"):
        insert_job(events, {"n": 1})


def test_definitions_are_repeatable() -> None:
    """The table's and its indexes', in a settled order, each of which may run again."""
    events = table(
        Column("id", Integer, primary_key=True),
        Column("a", String, index=True),
        Column("b", String, unique=True),
    )
    Index("a_first", events.c.a, events.c.b, unique=True)
    texts = definitions(events)
    assert 3 == len(texts)
    assert all("IF NOT EXISTS" in text for text in texts)
    assert sorted(texts[1:], key=lambda text: text.split("EXISTS ")[1]) == [*texts[1:]]
    assert [(1, "a", "b")] == stored(insert_job(events, {"a": "a", "b": "b"}))


def test_names_that_need_quotes() -> None:
    """Words of SQL and odd characters are no hindrance."""
    events = table(Column("select", Integer), Column("a b", Integer), Column("100%", Integer), name="order")
    job = insert_job(events, {"select": 1, "a b": 2, "100%": 3})
    assert [(1, 2, 3)] == stored(job, 'SELECT * FROM "order"')


def test_engine_closes_its_connections() -> None:
    """Each connection of the engine is opened for its use and closed behind it."""
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        opened.append(sqlite3.connect(":memory:"))
        return opened[-1]

    engine = reading_engine(connect)
    for _ in range(2):
        with engine.connect() as reader:
            assert 1 == reader.execute(select(1)).scalar()
    assert 2 == len(opened)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


class NaTType(datetime):
    """As pandas has it: a datetime that is none."""

    __module__ = "pandas._libs.tslibs.nattype"

    def isoformat(self, *_: Any) -> str:
        return "NaT"


class Later(datetime):
    """As pandas, pendulum and others have it: a datetime that can do more."""


NOT_A_TIME = NaTType(1, 1, 1)
NO_VALUES = (NOT_A_TIME, Decimal("NaN"), Decimal("sNaN"), Decimal("-NaN123"), numpy.datetime64("NaT"))


@pytest.mark.parametrize("value", NO_VALUES, ids=repr)
@pytest.mark.parametrize(
    "kind", [DateTime(), Date(), Time(), Numeric(), Integer(), String(), JSON(), TIMESTAMP()], ids=repr
)
def test_what_only_looks_like_a_value_is_null(kind: Any, value: Any) -> None:
    """Neither the texts NaT and NaN, nor an error."""
    events = table(Column("a", kind), Column("b", Integer))
    assert [(None, 1)] == stored(insert_job(events, {"a": value, "b": 1}))


@pytest.mark.parametrize("value", NO_VALUES, ids=repr)
def test_no_value_without_a_table(value: Any) -> None:
    """The same in rows and in jobs of SQL."""
    sql = "INSERT INTO t VALUES (?)"
    assert Job((Statement(sql, ((None,),)),)) == unpack_job(pack_job(Job((Statement(sql, ((value,),)),))))
    encoder = Encoder(lambda definition: 0)
    assert encoder.row(sql, (None,), ()) == encoder.row(sql, (value,), ())


INDIA = timezone(timedelta(hours=5, minutes=30))
MOMENT = datetime(2026, 1, 2, 3, 4, 5)
SHORT: Any = sqlite.DATETIME(truncate_microseconds=True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Date(), MOMENT, date(2026, 1, 2)),
        (DateTime(), MOMENT.date(), datetime(2026, 1, 2)),
        (DateTime(), MOMENT, MOMENT),
        (Date(), MOMENT.date(), MOMENT.date()),
        (Time(), MOMENT.time(), MOMENT.time()),
        (SHORT, datetime(2026, 1, 2, 3, 4, 5, 6), MOMENT),
        (TIMESTAMP(), MOMENT, MOMENT),
        (DateTime(), Later(2026, 1, 2, 3, tzinfo=INDIA), datetime(2026, 1, 2, 3, tzinfo=INDIA)),
        (DateTime(), numpy.datetime64("2026-01-02T03:04:05"), MOMENT),
        (Date(), numpy.datetime64("2026-01-02"), MOMENT.date()),
        (Interval(), timedelta(days=1), timedelta(days=1)),
    ],
    ids=repr,
)
def test_times_of_another_kind_can_be_read(kind: Any, value: Any, expected: Any) -> None:
    """What SQLAlchemy would store: the column's type reads it."""
    events = table(Column("a", kind))
    with closing(sqlite3.connect(":memory:")) as connection:
        run(insert_job(events, {"a": value}), connection)
        with reading_engine(lambda: connection).connect() as reader:
            assert [(expected,)] == reader.execute(select(events)).all()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Time(), MOMENT),
        (Time(), MOMENT.date()),
        (Date(), MOMENT.time()),
        (DateTime(), MOMENT.time()),
        (JSON(), MOMENT.date()),
        (JSON(), {"at": MOMENT}),
        (Numeric(), MOMENT.date()),
        (LargeBinary(), MOMENT),
        (LargeBinary(), "text"),
        (LargeBinary(), 5),
        (Boolean(), MOMENT),
        (Enum("a", "b"), MOMENT),
        (Date(), "2026-01-02"),
        (DateTime(), 1767323045),
    ],
    ids=repr,
)
def test_times_that_a_type_does_not_take(kind: Any, value: Any) -> None:
    """A typed error that names the column; nothing that cannot be read is stored."""
    with pytest.raises(UnsupportedValue, match="column 'a' does not take"):
        insert_job(table(Column("a", kind)), {"a": value})


EVENTS = table(Column("k", String, primary_key=True), Column("n", Integer))
MODEL = type("Model", (), {"__table__": EVENTS})


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({0: "a", 1: 200}, "no column 0"),
        ({"k": "a", 1: 200}, "no column 1"),
        ({EVENTS.c.k: "a"}, "no column Column"),
        ({b"k": "a"}, "no column b'k'"),
        ({None: "a"}, "no column None"),
        ({"k": "a", "m": 1}, "no column 'm'"),
        ([("a", 1)], "row 1 is of type tuple"),
        ([{"k": "a"}, None], "row 2 is of type NoneType"),
        ("k", "rows are of type str"),
        (None, "rows are of type NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("make", [insert_job, upsert_job])
def test_rows_that_are_none(make: Any, rows: Any, told: str) -> None:
    """One error of the bus that names what is wrong, and neither a row of NULLs nor an error of somebody else's."""
    with pytest.raises(JobError, match=re.escape(told)):
        make(EVENTS, rows)


@pytest.mark.parametrize("make", [insert_job, upsert_job])
@pytest.mark.parametrize("wrong", ["t", None, MODEL, EVENTS.metadata], ids=lambda wrong: type(wrong).__name__)
def test_tables_that_are_none(make: Any, wrong: Any) -> None:
    """A class of the ORM is told where its table is."""
    with pytest.raises(JobError, match="the table is of type") as caught:
        make(wrong, {"k": "a"})
    assert ("__table__" in str(caught.value)) is (wrong is MODEL)


def test_a_table_that_cannot_be_defined() -> None:
    """One error of the bus, whatever SQLAlchemy says of it."""
    with pytest.raises(JobError, match=r"table t cannot be defined: .*column 'a'"):
        insert_job(table(Column("a")), {"a": 1})
