"""The table that records go to: the columns that it has, or will have by the user's definitions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...config import Database, DialectName
from ...errors import BadDefinition, ConfigError, DatabaseFault
from ...reading import connect, errors_of
from ...sql.statements import check_definition
from ...sql.tokens import fold

_COLUMNS = "SELECT name, type FROM pragma_table_info(?)"
_SERVER_COLUMNS = """SELECT attname, CASE
    WHEN atttypid IN ('int8'::regtype, 'int4'::regtype, 'int2'::regtype) THEN 'INTEGER'
    WHEN atttypid IN ('float8'::regtype, 'float4'::regtype) THEN 'REAL'
    WHEN atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) THEN 'TEXT'
    ELSE upper(format_type(atttypid, -1)) END FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


@contextmanager
def reading(database: Database, timeout: float) -> Iterator[Any]:
    """The database, or an empty one if it is a file that is not there yet. Raises `DatabaseFault`."""
    if database.path is None or database.path.exists():
        with _told(database), connect(database, timeout, True, None) as connection:
            yield connection
    else:
        with closing(sqlite3.connect(":memory:")) as nothing:
            yield nothing


def table_name(name: str, dialect: DialectName, connection: Any) -> str:
    """What the table is called: on a server as SQL without quotes calls it, unless there is one of this very name."""
    return name if dialect == "sqlite" or columns_of(connection, name) else fold(name)


def definitions(path: Path, dialect: DialectName) -> tuple[str, ...]:
    """The definitions in a file of SQL. Raises `ConfigError`, `BadDefinition` and `OSError`."""
    found, statement = [], ""
    *parts, rest = path.read_text().split(";")
    for part in parts:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            found.append(statement.strip().removesuffix(";"))
            statement = ""
    if (statement + rest).strip():
        raise ConfigError(
            "the last statement does not end", operation="ingest", subject=str(path), hint="end it with ;"
        )
    found = [text for text in found if text.strip()]
    for text in found:
        check_definition(text, dialect)
    return tuple(found)


def columns_of(connection: Any, table: str) -> Mapping[str, str]:
    """The columns of a table with their types, as SQLite calls these; none when it is not there."""
    sql = _COLUMNS if isinstance(connection, sqlite3.Connection) else _SERVER_COLUMNS
    return dict(connection.execute(sql, (table,)).fetchall())


def columns(connection: Any, database: Database, table: str, given: Sequence[str]) -> Mapping[str, str]:
    """As `columns_of`; those that the `given` definitions make where the table is not there.

    Raises `BadDefinition` when they do not make it.
    """
    present = columns_of(connection, table)
    if present or not given:
        return present
    with _scratch(database) as scratch:
        for text in given:
            try:
                scratch.execute(text)
            except errors_of(database) as error:
                raise BadDefinition(
                    str(error), operation="ingest", subject=text, hint="correct the file of --ddl"
                ) from error
        made = columns_of(scratch, table)
    if not made:
        raise BadDefinition(f"they make no table {fold(table)}", operation="ingest", hint="correct the file of --ddl")
    return made


@contextmanager
def _scratch(database: Database) -> Iterator[Any]:
    """Where definitions are tried: an empty database, or a transaction on the server that is rolled back."""
    if database.dialect == "sqlite":
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
            yield memory
    else:
        with connect(database, 5, False, None) as session:
            session.execute("BEGIN")
            yield session
            session.rollback()


@contextmanager
def _told(database: Database) -> Iterator[None]:
    try:
        yield
    except errors_of(database) as error:
        raise DatabaseFault(f"cannot be read: {error}", operation="ingest", subject=database.masked) from error
