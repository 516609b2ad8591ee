"""SQLAlchemy tables as a source of jobs, and the engine of the read side.

A table is described once; its definition, its inserts and its upserts are compiled from it, for SQLite or for
PostgreSQL, so that columns, placeholders and types cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from math import isfinite
from typing import Any

from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Engine,
    Index,
    LargeBinary,
    Table,
    Time,
    create_engine,
    event,
    literal_column,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import BindTyping
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, DropIndex
from sqlalchemy.sql import sqltypes, visitors
from sqlalchemy.sql.expression import BindParameter, ColumnElement

from .config import DialectName
from .encoding.values import from_numpy, is_no_value
from .errors import JobError, ReadOnly, UnsupportedValue
from .jobs import Job, Statement
from .sql.memory import remember

Rows = Mapping[str, Any] | Iterable[Mapping[str, Any]]
#: What a row becomes that is there already: from its columns and the given ones, a value per column's key.
Update = Callable[[Any, Any], Mapping[str, Any]]

#: In a job every placeholder is a `?`, on every database.
_MODULES: Mapping[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
_DIALECTS = {name: module.dialect(paramstyle="qmark") for name, module in _MODULES.items()}
for _dialect in _DIALECTS.values():
    _dialect.bind_typing = BindTyping.NONE  # `?` and not `?::INTEGER`: so rows can be joined to one statement
    _dialect.supports_native_enum = False  # a type of its own would have to be made before the table

#: The SQLSTATE of a write in a transaction that only reads.
_READ_ONLY = "25006"

_GENERIC = sqltypes.__name__
#: Constants of these types say the same when they are written out.
_PLAIN_TYPES = (sqltypes.Integer, sqltypes.Numeric, sqltypes.String, sqltypes.Boolean, sqltypes.NullType)
_ROW_HINT = "a row is a mapping of the columns' keys to values; several are an iterable of them"
#: Stored in the form that the bus gives them everywhere, which SQLAlchemy reads too; a datetime is a date as well.
_AS_THEY_ARE: dict[type, type] = {datetime: DateTime, date: Date, time: Time}


def insert_job(table: Table, rows: Rows, *, dialect: DialectName = "sqlite") -> Job:
    """The job that inserts `rows`: a mapping per row, by the columns' keys. Columns that are left out get their
    Python-side default, or the database's.

    Raises `JobError` for a column that the table does not have, `UnsupportedValue` for a value that its type refuses.
    """
    _check_table(table, "insert")
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
    _check_table(table, "upsert")
    if key is None:
        key = tuple(column.key for column in table.primary_key)
        if not key:
            raise JobError(f"table {table.name} has no primary key", operation="upsert", hint="say key=[…]")
    if isinstance(key, Index):
        _check_index(table, key)
    else:
        key = _names(table, "key", key)
        if not key:
            raise JobError("key= names no column", operation="upsert", subject=table.name)
    if update is not None and not callable(update):
        update = _names(table, "update", update)
    return _job(table, rows, _Conflict(key, update), dialect)


@lru_cache(maxsize=256)
def definitions(table: Table, dialect: DialectName = "sqlite") -> tuple[str, ...]:
    """The table's DDL, and that of its indexes, each repeatable.

    A column with `info={"added": True}` came later: tables that exist without it get it. An index with
    `info={"replaced": True}` once had another definition: it is made anew, once per writer. Raises `JobError` for a
    table of which SQLAlchemy makes none.
    """
    try:
        return tuple(str(text).strip() for text in _definitions(table, dialect))
    except SQLAlchemyError as error:
        raise JobError(
            f"table {table.name} cannot be defined: {error}", operation="definitions", subject=table.name
        ) from error


def _definitions(table: Table, dialect: DialectName) -> Iterator[Any]:
    ddl = _DIALECTS[dialect]
    yield CreateTable(table, if_not_exists=True).compile(dialect=ddl)
    name = ddl.identifier_preparer.format_table(table)
    for column in table.columns:
        if column.info.get("added"):
            exists = "" if dialect == "sqlite" else "IF NOT EXISTS "
            yield f"ALTER TABLE {name} ADD COLUMN {exists}{CreateColumn(column).compile(dialect=ddl)}"
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if index.info.get("replaced"):
            yield DropIndex(index, if_exists=True).compile(dialect=ddl)
        yield CreateIndex(index, if_not_exists=True).compile(dialect=ddl)


def reading_engine(connect: Callable[[], Any], dialect: str = "sqlite") -> Engine:
    """An engine whose connections come from `connect`, which are of the driver's own kind and only read."""
    url = "postgresql+psycopg://" if dialect == "postgresql" else "sqlite://"
    engine = create_engine(url, creator=connect, poolclass=NullPool)
    event.listen(engine, "handle_error", _say_where_writes_go)
    return engine


def _say_where_writes_go(context: ExceptionContext) -> None:
    """PostgreSQL's refusal of a write, as that of a reading connection; SQLite's says so by itself."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        raise ReadOnly(
            "this engine only reads", operation="engine", subject=context.statement or "", hint="write with submit()"
        ) from context.original_exception


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

    def __len__(self) -> int:
        """The characters that it holds, for those who remember it."""
        constants = [value for _, value in self.order or () if isinstance(value, str | bytes)]
        return len(self.sql) + sum(map(len, constants))

    def row(self, mapping: Mapping[str, Any]) -> tuple[Any, ...]:
        values = [mapping[c.key] if c.key in mapping else _default(c) for c in self.columns]
        row = tuple(map(_processed, self.columns, self.processors, values))
        return row if self.order is None else tuple(value if at is None else row[at] for at, value in self.order)


def _job(table: Table, rows: Rows, conflict: _Conflict | None, dialect: DialectName) -> Job:
    statements: list[tuple[str, list[tuple[Any, ...]]]] = []
    operation = "upsert" if conflict else "insert"
    for mapping in _each(rows, operation):
        _check_columns(table, mapping, operation)
        columns = tuple(column for column in table.columns if column.key in mapping or _has_default(column))
        given = tuple(column.key for column in columns if column.key in mapping)
        compiled = _compile(table, columns, given, conflict, dialect)
        if statements and statements[-1][0] == compiled.sql:
            statements[-1][1].append(compiled.row(mapping))
        else:
            statements.append((compiled.sql, [compiled.row(mapping)]))
    return Job(tuple(Statement(sql, tuple(group)) for sql, group in statements), definitions(table, dialect))


def _each(rows: Any, operation: str) -> Iterable[Mapping[str, Any]]:
    if isinstance(rows, Mapping):
        rows = [rows]
    elif isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise JobError(f"rows are of type {type(rows).__name__}", operation=operation, hint=_ROW_HINT)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise JobError(f"row {number} is of type {type(row).__name__}", operation=operation, hint=_ROW_HINT)
        yield row


def _check_table(table: object, operation: str) -> None:
    if not isinstance(table, Table):
        hint = "a class of the ORM has it as __table__" if hasattr(table, "__table__") else "say a SQLAlchemy Table"
        raise JobError(f"the table is of type {type(table).__name__}", operation=operation, hint=hint)


def _check_index(table: Table, index: Index) -> None:
    if index.table is not table:
        raise JobError(f"index {index.name} is not one of table {table.name}", operation="upsert")
    if not index.unique:
        raise JobError(f"index {index.name} is not unique", operation="upsert", hint="Index(…, unique=True)")


def _names(table: Table, option: str, names: Any) -> tuple[str, ...]:
    """The columns that an option names."""
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        hint = "say a list of the columns' keys" + (", or a function that returns values" if option == "update" else "")
        raise JobError(f"{option}= is of type {type(names).__name__}", operation="upsert", hint=hint)
    columns = tuple(names)
    _check_columns(table, columns, "upsert")
    return columns


def _check_columns(table: Table, names: Iterable[object], operation: str) -> None:
    for name in names:
        if not isinstance(name, str) or name not in table.c:
            raise JobError(
                f"table {table.name} has no column {str(name) if isinstance(name, str) else name!r}",
                operation=operation,
                hint="it has " + ", ".join(table.c.keys()),
            )


@remember
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
    try:
        compiled: Any = insert.compile(
            dialect=ddl, column_keys=keys, compile_kwargs={"render_postcompile": True} if conflict else {}
        )
    except SQLAlchemyError as error:
        raise JobError(
            f"table {table.name}: {error}", operation="upsert" if conflict else "insert", subject=table.name
        ) from error
    order = None
    if compiled.positiontup != keys:
        constants = compiled.construct_params(dict.fromkeys(keys), escape_names=False)
        order = tuple(
            (keys.index(name), None) if name in keys else (None, _constant(compiled.binds[name], constants[name], ddl))
            for name in compiled.positiontup
        )
    processors = tuple(_processor(column.type, ddl) for column in columns)
    return _Compiled(str(compiled), columns, processors, order)


def _constant(bind: Any, value: Any, ddl: Any) -> Any:
    """A constant of an expression, as the same value would be in a row."""
    return _processed(bind, _processor(bind.type, ddl), value)


def _processor(kind: Any, ddl: Any) -> Callable[[Any], Any] | None:
    """What makes values of a type storable. That of bytes is the driver's, which is not asked here."""
    process: Callable[[Any], Any] | None = kind.dialect_impl(ddl).bind_processor(ddl)
    return _as_bytes if process is None and isinstance(kind, LargeBinary) else process


def _as_bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(memoryview(value))


def _with_conflict(insert: Any, given: Sequence[str], conflict: _Conflict, dialect: DialectName) -> Any:
    if isinstance(conflict.key, Index):
        key = [column.key for column in conflict.key.columns]
        where = conflict.key.dialect_options[dialect]["where"]
        target = {
            "index_elements": [_as_in_the_index(one, dialect) for one in conflict.key.expressions],
            "index_where": where if where is None else _as_in_the_index(where, dialect),
        }
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
    except Exception as error:
        raise JobError(
            f"update= raises {type(error).__name__}: {error}",
            operation="upsert",
            hint="it makes SQL of columns: func.max(a, b) and case(…), not max(a, b) and if",
        ) from error


def _as_in_the_index(expression: Any, dialect: DialectName) -> Any:
    """What an index is made of, as its definition says it: a database compares the texts."""
    if isinstance(expression, Column):
        return expression
    return _written(expression, dialect, include_table=False)


def _literal(expression: Any, dialect: DialectName) -> Any:
    """An expression with its constants written out where that says the same, so that a row's values are all that is
    bound, and rows can be joined to one statement."""
    if not isinstance(expression, ColumnElement):
        return expression
    binds = [one for one in visitors.iterate(expression) if isinstance(one, BindParameter)]
    return _written(expression, dialect) if all(map(_is_plain, binds)) else expression


def _is_plain(bind: BindParameter[Any]) -> bool:
    value = bind.value
    if (isinstance(value, float) and not isfinite(value)) or (isinstance(value, str) and "\0" in value):
        return False
    plain = type(value) in (int, float, str, bool, type(None), list) and not bind.callable
    return plain and isinstance(bind.type, _PLAIN_TYPES) and not isinstance(bind.type, sqltypes.Enum)


def _written(expression: Any, dialect: DialectName, **how: Any) -> Any:
    try:
        compiled = expression.compile(dialect=_DIALECTS[dialect], compile_kwargs={"literal_binds": True, **how})
    except SQLAlchemyError as error:
        raise JobError(f"this cannot be written as SQL: {error}", operation="upsert") from error
    return literal_column(str(compiled))


def _processed(place: Any, process: Callable[[Any], Any] | None, value: Any) -> Any:
    """A value as the type of its column, or of a constant, stores it; points in time stay as they are in a column of
    their own kind."""
    if process is None:
        return value
    if is_no_value(value):
        return None
    value, kind = from_numpy(value), place.type
    if kind.__module__ == _GENERIC and isinstance(kind, _kind_of_its_own(value)):
        return value
    try:
        return process(value)
    except Exception as error:
        name = "a constant" if isinstance(place, BindParameter) else f"column {place.key!r}"
        raise UnsupportedValue(
            f"{name} does not take a {type(value).__name__}: {error}",
            operation="insert",
            hint=f"its type is {kind!r}",
        ) from error


def _kind_of_its_own(value: object) -> Any:
    """The type of column that a point in time, or one of a subclass, belongs into; none for other values."""
    return next((kind for base, kind in _AS_THEY_ARE.items() if isinstance(value, base)), ())


def _has_default(column: Column[Any]) -> bool:
    return column.default is not None and (column.default.is_scalar or column.default.is_callable)


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    return default.arg(None) if default.is_callable else default.arg
