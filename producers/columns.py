"""The kinds of columns as types of SQLAlchemy: each value is stored in the same form everywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, Boolean, Column, Double, Integer, and_, case, func, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine, UserDefinedType

from . import kinds, moments

#: Eight bytes on every database.
Real: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
Int64: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


class PlainText(UserDefinedType[str]):
    """See `kinds.stored_text`."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        return kinds.stored_text


class UtcTimestamp(UserDefinedType[datetime]):
    """See `kinds.stored_moment` and, without a fraction, `kinds.stored_second`."""

    cache_ok = True

    def __init__(self, fraction: bool = True) -> None:  # SQLAlchemy copies a type by its positional parameters
        self.fraction = fraction

    def get_col_spec(self, **_: Any) -> str:
        return "TIMESTAMP"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        return kinds.stored_moment if self.fraction else kinds.stored_second


class JsonText(UserDefinedType[Any]):
    """See `kinds.stored_json`."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        return kinds.stored_json


class Flag(Boolean):
    """Whether the value counts as true; None is NULL. 0 and 1 in SQLite."""

    cache_ok = True

    def bind_processor(self, dialect: Any) -> Callable[[Any], bool | int | None] | None:
        return kinds.FLAG.to_postgresql if dialect.supports_native_boolean else kinds.FLAG.to_sqlite


ArticleId: TypeEngine[Any] = PlainText().with_variant(Integer(), "sqlite")

TYPES: dict[kinds.Kind, TypeEngine[Any]] = {
    kinds.TEXT: PlainText(),
    kinds.INTEGER: Integer(),
    kinds.BIG_INTEGER: Int64,
    kinds.REAL: Real,
    kinds.MOMENT: UtcTimestamp(),
    kinds.SECOND: UtcTimestamp(fraction=False),
    kinds.JSON: JsonText(),
    kinds.FLAG: Flag(),
    kinds.NUMBER_OR_TEXT: ArticleId,
}


def added(column: Column[Any]) -> Column[Any]:
    """A column that older databases lack: they get it at the first write."""
    column.info["added"] = True
    return column


class Moment(FunctionElement[datetime]):
    """`Moment(column)`: see `moments.comparable`."""

    type = UtcTimestamp()
    inherit_cache = True


@compiles(Moment)
def _compile_moment(element: Any, compiler: Any, **options: Any) -> str:
    (column,) = element.clauses
    return moments.comparable(compiler.process(column, **options), compiler.dialect.name)


class Hour(FunctionElement[datetime]):
    """`Hour(column)`: see `moments.hour`."""

    type = UtcTimestamp()
    inherit_cache = True


@compiles(Hour)
def _compile_hour(element: Any, compiler: Any, **options: Any) -> str:
    (column,) = element.clauses
    return moments.hour(compiler.process(column, **options), compiler.dialect.name)


def count_if(condition: Any) -> ColumnElement[int]:
    """How many rows are so; 0 of none."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def from_moment(column: ColumnElement[Any], since: str) -> ColumnElement[bool]:
    """The rows from a moment on, which is a text in our form. An index on the column finds those that come into
    question, unless some moments are numbers, which SQLite sorts before all texts."""
    earliest = literal(moments.earliest_text(since), column.type)
    return and_(column >= _Earliest(column, earliest), Moment(column) >= since)


class _Earliest(FunctionElement[Any]):
    """What no moment from a text on sorts before, in a column: that text, or less than all where there are numbers."""

    inherit_cache = True


@compiles(_Earliest)
def _compile_earliest(element: Any, compiler: Any, **options: Any) -> str:
    column, earliest = element.clauses
    text: str = compiler.process(earliest, **options)
    if compiler.dialect.name == "postgresql":
        return text
    table, name = compiler.preparer.format_table(column.table), compiler.preparer.quote(column.name)
    numbers = f"SELECT 1 FROM {table} AS numbered WHERE numbered.{name} < ''"
    return f"(SELECT CASE WHEN EXISTS ({numbers}) THEN -9e999 ELSE {text} END)"
