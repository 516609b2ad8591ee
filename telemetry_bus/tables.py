"""SQLAlchemy tables as a source of jobs, and the engine of the read side.

A table is described once; its definition, its inserts and its upserts are compiled from it, for SQLite or for
PostgreSQL, so that columns, placeholders and types cannot drift apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Engine, Index, Table, create_engine, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, DropIndex
from sqlalchemy.sql.expression import ColumnElement

from .config import DialectName
from .errors import JobError, UnsupportedValue
from .jobs import Job, Statement

Rows = Mapping[str, Any] | Iterable[Mapping[str, Any]]
#: What a row becomes that is there already: from its columns and the given ones, a value per column's key.
Update = Callable[[Any, Any], Mapping[str, Any]]

#: In a job every placeholder is a `?`, on every database.
_MODULES: Mapping[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
_DIALECTS = {name: module.dialect(paramstyle="qmark") for name, module in _MODULES.items()}


def insert_job(table: Table, rows: Rows, *, dialect: DialectName = "sqlite") -> Job:
    """The job that inserts `rows`: a mapping per row, by the columns' keys. Columns that are left out get their
    Python-side default, or the database's.

    Raises `JobError` for a column that the table does not have, `UnsupportedValue` for a value that its type refuses.
    """
    return _job(table, rows, None, dialect)


def upsert_job(
    table: Table,
    rows: Rows,
    *,
    key: Sequence[str] | Index | None = None,
    update: Sequence[str] | Update | None = None,
    dialect: DialectName = "sqlite",
) -> Job:
    """The job that inserts `rows`, or updates those that are there (`ON CONFLICT … DO UPDATE`).

    `key`: the columns that tell rows apart, or a unique index; the primary key by default. `update`: the columns
    that take the given values, all but the key by default; or a function of the stored and of the given columns
    that returns an expression for each column to change::

        def count(stored, given):
            return {"visits": stored.visits + given.visits, "last_seen": given.last_seen}

    Give the function a name and pass the same one each time: the statement is compiled once for it. Expressions see
    the row as it was before. With nothing to change the row is left alone.

    Raises `JobError` for a column that the table does not have or a table without a key, and `UnsupportedValue`.
    """
    if key is None:
        key = tuple(column.key for column in table.primary_key)
    if not isinstance(key, Index):
        key = tuple(key)
        _check_columns(table, key, "upsert")
        if not key:
            raise JobError(f"table {table.name} has no primary key", operation="upsert", hint="say key=[…]")
    if update is not None and not callable(update):
        update = tuple(update)
        _check_columns(table, update, "upsert")
    return _job(table, rows, _Conflict(key, update), dialect)


@lru_cache(maxsize=256)
def definitions(table: Table, dialect: DialectName = "sqlite") -> tuple[str, ...]:
    """The table's DDL, and that of its indexes, each repeatable.

    A column with `info={"added": True}` came later: tables that exist without it get it. An index with
    `info={"replaced": True}` once had another definition: it is made anew, once per writer.
    """
    ddl = _DIALECTS[dialect]
    texts: list[Any] = [CreateTable(table, if_not_exists=True).compile(dialect=ddl)]
    name = ddl.identifier_preparer.format_table(table)
    for column in table.columns:
        if column.info.get("added"):
            exists = "" if dialect == "sqlite" else "IF NOT EXISTS "
            texts.append(f"ALTER TABLE {name} ADD COLUMN {exists}{CreateColumn(column).compile(dialect=ddl)}")
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.info.get("replaced"):
            texts.append(DropIndex(index, if_exists=True).compile(dialect=ddl))
        texts.append(CreateIndex(index, if_not_exists=True).compile(dialect=ddl))
    return tuple(str(text).strip() for text in texts)


def reading_engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    """An engine whose connections come from `connect`."""
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


@dataclass(frozen=True, slots=True)
class _Conflict:
    """What to do with a row that is there: see `upsert_job`."""

    key: tuple[str, ...] | Index
    update: tuple[str, ...] | Update | None


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement, and how the values of its `columns` become the values of its placeholders.

    A default that is an SQL expression may bring constants of its own. Then `order` says what stands at each
    placeholder: a column's position, or None and the constant.
    """

    sql: str
    columns: tuple[Column[Any], ...]
    processors: tuple[Callable[[Any], Any] | None, ...]
    order: tuple[tuple[int | None, Any], ...] | None

    def row(self, mapping: Mapping[str, Any]) -> tuple[Any, ...]:
        values = [mapping[c.key] if c.key in mapping else _default(c) for c in self.columns]
        row = tuple(map(_processed, self.columns, self.processors, values))
        return row if self.order is None else tuple(value if at is None else row[at] for at, value in self.order)


def _job(table: Table, rows: Rows, conflict: _Conflict | None, dialect: DialectName) -> Job:
    statements: list[tuple[str, list[tuple[Any, ...]]]] = []
    for mapping in [rows] if isinstance(rows, Mapping) else rows:
        _check_columns(table, mapping, "upsert" if conflict else "insert")
        columns = tuple(column for column in table.columns if column.key in mapping or _has_default(column))
        given = tuple(column.key for column in columns if column.key in mapping)
        compiled = _compile(table, columns, given, conflict, dialect)
        if statements and statements[-1][0] == compiled.sql:
            statements[-1][1].append(compiled.row(mapping))
        else:
            statements.append((compiled.sql, [compiled.row(mapping)]))
    return Job(tuple(Statement(sql, tuple(group)) for sql, group in statements), definitions(table, dialect))


def _check_columns(table: Table, names: Iterable[str], operation: str) -> None:
    if unknown := [str(name) for name in names if name not in table.c]:
        raise JobError(
            f"table {table.name} has no column {unknown[0]!r}",
            operation=operation,
            hint="it has " + ", ".join(table.c.keys()),
        )


@lru_cache(maxsize=1024)
def _compile(
    table: Table,
    columns: tuple[Column[Any], ...],
    given: tuple[str, ...],
    conflict: _Conflict | None,
    dialect: DialectName,
) -> _Compiled:
    ddl, keys = _DIALECTS[dialect], [column.key for column in columns]
    insert = _MODULES[dialect].insert(table).inline()  # without RETURNING for the key
    if conflict:
        insert = _with_conflict(insert, given, conflict, dialect)
    compiled: Any = insert.compile(dialect=ddl, column_keys=keys)
    order = None
    if compiled.positiontup != keys:
        constants = compiled.construct_params(dict.fromkeys(keys), escape_names=False)
        order = tuple((keys.index(name) if name in keys else None, constants[name]) for name in compiled.positiontup)
    processors = tuple(column.type.dialect_impl(ddl).bind_processor(ddl) for column in columns)
    return _Compiled(str(compiled), columns, processors, order)


def _with_conflict(insert: Any, given: Sequence[str], conflict: _Conflict, dialect: DialectName) -> Any:
    if isinstance(conflict.key, Index):
        key = [column.key for column in conflict.key.columns]
        target = {"index_elements": key, "index_where": conflict.key.dialect_options[dialect]["where"]}
    else:
        key = list(conflict.key)
        target = {"index_elements": key}
    if conflict.update is not None and callable(conflict.update):
        changes = _changes(conflict.update, insert)
        _check_columns(insert.table, changes, "upsert")
    else:
        names = [name for name in given if name not in key] if conflict.update is None else conflict.update
        changes = {name: insert.excluded[name] for name in names}
    if not changes:
        return insert.on_conflict_do_nothing(**target)
    return insert.on_conflict_do_update(**target, set_={name: _literal(v, dialect) for name, v in changes.items()})


def _changes(update: Update, insert: Any) -> dict[str, Any]:
    try:
        return dict(update(insert.table.c, insert.excluded))
    except (TypeError, AttributeError, ValueError) as error:
        raise JobError(
            f"update= raises {type(error).__name__}: {error}",
            operation="upsert",
            hint="it makes SQL of columns: func.max(a, b) and case(…), not max(a, b) and if",
        ) from error


def _literal(expression: Any, dialect: DialectName) -> Any:
    """An expression with its constants written out, so that a row's values are all that is bound."""
    if not isinstance(expression, ColumnElement):
        return expression
    text = str(expression.compile(dialect=_DIALECTS[dialect], compile_kwargs={"literal_binds": True}))
    return literal_column(text)


def _processed(column: Column[Any], process: Callable[[Any], Any] | None, value: Any) -> Any:
    """A value as its column's type stores it; the types of the database's own take points in time as they are."""
    if process is None or (isinstance(value, date | time) and column.type.__module__.startswith("sqlalchemy.")):
        return value
    try:
        return process(value)
    except (TypeError, ValueError, LookupError) as error:
        raise UnsupportedValue(
            f"column {column.key!r} does not take a {type(value).__name__}: {error}",
            operation="insert",
            hint=f"its type is {column.type!r}",
        ) from error


def _has_default(column: Column[Any]) -> bool:
    return column.default is not None and (column.default.is_scalar or column.default.is_callable)


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    return default.arg(None) if default.is_callable else default.arg
