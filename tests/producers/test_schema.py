"""The tables as they are described, and as SQLAlchemy's: one and the same."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import Table as SqlTable

import producers
from producers import schema
from producers.kinds import BIG_INTEGER, INTEGER, NUMBER_OR_TEXT, REAL
from producers.schema import Column, Table
from telemetry_bus import JobError, UnsupportedValue, tables


class Colour(Enum):
    RED = "red"


def described() -> Iterator[tuple[Table, SqlTable]]:
    for module in pkgutil.walk_packages(producers.__path__, "producers."):
        if module.name.endswith(".tables"):
            metadata = importlib.import_module(module.name).METADATA
            found = vars(importlib.import_module(module.name.replace(".tables", ".schema"))).values()
            yield from ((each, metadata.tables[each.name]) for each in found if isinstance(each, Table))


TABLES = list(described())
both = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
each_table = pytest.mark.parametrize(("table", "made"), TABLES, ids=[table.name for table, _ in TABLES])

#: What a program may have at hand for a column, by what the columns take.
ANY: tuple[object, ...] = (
    *(None, "a", "ä\ud800", Colour.RED, 5, 2.5, True, b"x", {"a": {1}}, [Colour.RED], Decimal("1.5"), float("nan")),
    *(datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:04:05+02:00"),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-5))),
)
NUMBERS: tuple[object, ...] = (None, 5, 2.5, 2**40)


@both
@each_table
def test_definitions(table: Table, made: SqlTable, dialect: Any) -> None:
    """Table, columns that came later and indexes: the same texts in the same order."""
    expected = [text.replace("(0.0)", "0.0") for text in tables.definitions(made, dialect)]
    assert expected == list(schema.definitions(table, dialect))


@both
@each_table
def test_rows(table: Table, made: SqlTable, dialect: Any) -> None:
    """The same statement and the same stored values, whatever a program has at hand."""
    for number in range(len(ANY)):
        row = {name: _value(column, number) for name, column in table.columns.items()}
        (expected,) = tables.insert_job(made, row, dialect=dialect).statements
        (statement,) = schema.insert_job(table, row, dialect=dialect).statements
        assert expected.sql.replace("::INTEGER", "").replace("::BIGINT", "") == statement.sql
        assert _shown(expected.rows) == _shown(statement.rows)


def _shown(rows: Any) -> list[tuple[bool, Any]]:
    """A truth value is told from a number; 5 and 5.0 are the same in a column of either kind."""
    return [(isinstance(value, bool), value) for row in rows for value in row]


def _value(column: Column, number: int) -> object:
    values = NUMBERS if column.kind in (INTEGER, BIG_INTEGER, NUMBER_OR_TEXT, REAL) else ANY
    return values[number % len(values)]


@each_table
def test_the_order_of_a_row_does_not_matter(table: Table, made: SqlTable) -> None:
    """Columns stand in the table's order, so that rows of one kind share one statement."""
    row = dict.fromkeys(table.columns)
    turned = dict(reversed(row.items()))
    assert schema.insert_job(table, row).statements == schema.insert_job(table, turned).statements


def test_what_does_not_fit() -> None:
    """A column that is not there, and a number that is none, say which."""
    table = Table("t", Column("n", REAL))
    with pytest.raises(JobError, match="no column 'm'"):
        schema.insert_job(table, {"m": 1})
    with pytest.raises(UnsupportedValue, match="'n'"):
        schema.insert_job(table, {"n": "many"})


def test_rows_of_different_columns() -> None:
    """They stay in their order, in as many statements as it takes."""
    table = Table("t", Column("n", REAL), Column("m", REAL))
    job = schema.insert_job(table, [{"n": 1}, {"n": 2}, {"m": 3}, {"n": 4}])
    assert [("n", 2), ("m", 1), ("n", 1)] == [(each.sql[15], len(each.rows)) for each in job.statements]
