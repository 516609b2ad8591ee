"""SQLAlchemy tables as a source of jobs, and the engine of the read side."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Engine, Table, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from .errors import JobError, UnsupportedValue
from .jobs import Job, Statement

_DIALECT = sqlite.dialect(paramstyle="qmark")


def insert_job(table: Table, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Job:
    """The job that inserts `rows`: a mapping per row, by the columns' keys. Columns that are left out get their
    Python-side default, or the database's.

    Raises `JobError` for a column that the table does not have.
    """
    mappings = [rows] if isinstance(rows, Mapping) else list(rows)
    statements: list[tuple[str, list[tuple[Any, ...]]]] = []
    for mapping in mappings:
        if unknown := [str(name) for name in mapping if name not in table.c]:
            raise JobError(
                f"table {table.name} has no column {unknown[0]!r}", operation="insert",
                hint="it has " + ", ".join(table.c.keys()),
            )
        columns = tuple(column for column in table.columns if column.key in mapping or _has_default(column))
        sql, processors, order = _insert(table, columns)
        values = [mapping[c.key] if c.key in mapping else _default(c) for c in columns]
        row = tuple(map(_processed, columns, processors, values))
        if order is not None:
            row = tuple(constant if at is None else row[at] for at, constant in order)
        if statements and statements[-1][0] == sql:
            statements[-1][1].append(row)
        else:
            statements.append((sql, [row]))
    return Job(tuple(Statement(sql, tuple(group)) for sql, group in statements), definitions(table))


@lru_cache(maxsize=256)
def definitions(table: Table) -> tuple[str, ...]:
    """The table's DDL, and that of its indexes, each repeatable."""
    texts = [str(CreateTable(table, if_not_exists=True).compile(dialect=_DIALECT)).strip()]
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        texts.append(str(CreateIndex(index, if_not_exists=True).compile(dialect=_DIALECT)).strip())
    return tuple(texts)


def reading_engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    """An engine whose connections come from `connect`."""
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


@lru_cache(maxsize=1024)
def _insert(
    table: Table, columns: tuple[Column[Any], ...]
) -> tuple[str, tuple[Callable[[Any], Any] | None, ...], tuple[tuple[int | None, Any], ...] | None]:
    """The INSERT for some columns of a table, and what turns each column's values into storable ones.

    A default that is an SQL expression may bring constants of its own: then, thirdly, what stands at each
    placeholder, a column's index or None and the constant.
    """
    keys = [column.key for column in columns]
    compiled: Any = table.insert().compile(dialect=_DIALECT, column_keys=keys)
    order = None
    if compiled.positiontup != keys:
        constants = compiled.construct_params(dict.fromkeys(keys), escape_names=False)
        order = tuple(
            (keys.index(name) if name in keys else None, constants[name]) for name in compiled.positiontup
        )
    return str(compiled), tuple(_processor(column) for column in columns), order


def _processor(column: Column[Any]) -> Callable[[Any], Any] | None:
    process: Callable[[Any], Any] | None = column.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return process


def _processed(column: Column[Any], process: Callable[[Any], Any] | None, value: Any) -> Any:
    """A value as its column's type stores it; points in time have one form, whatever way they come."""
    if process is None or isinstance(value, date | time):
        return value
    try:
        return process(value)
    except (TypeError, ValueError, LookupError) as error:
        raise UnsupportedValue(
            f"column {column.key!r} does not take a {type(value).__name__}: {error}", operation="insert",
            hint=f"its type is {column.type!r}",
        ) from error


def _has_default(column: Column[Any]) -> bool:
    return column.default is not None and (column.default.is_scalar or column.default.is_callable)


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    return default.arg(None) if default.is_callable else default.arg
