"""The table that records go to: the columns that it has, or will have by the user's definitions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ...config import Database
from ...errors import BadDefinition, ConfigError
from ...reading import connect
from ...sql.statements import check_definition
from ...sql.tokens import fold

_COLUMNS = "SELECT name, type FROM pragma_table_info(?)"


@contextmanager
def reading(database: Database, timeout: float) -> Iterator[sqlite3.Connection]:
    """The database, or an empty one if it is not there yet."""
    if database.path is not None and database.path.exists():
        with connect(database, timeout, True, None) as connection:
            yield connection
    else:
        with closing(sqlite3.connect(":memory:")) as nothing:
            yield nothing


def definitions(path: Path) -> tuple[str, ...]:
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
        check_definition(text)
    return tuple(found)


def columns(connection: sqlite3.Connection, table: str, given: tuple[str, ...]) -> Mapping[str, str]:
    """The declared types of the table's columns by name; those that the `given` definitions make where it is not there.

    Raises `BadDefinition` when they do not make it.
    """
    present = dict(connection.execute(_COLUMNS, (table,)).fetchall())
    if present or not given:
        return present
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        for text in given:
            try:
                scratch.execute(text)
            except sqlite3.Error as error:
                raise BadDefinition(
                    str(error), operation="ingest", subject=text, hint="correct the file of --ddl"
                ) from error
        made = dict(scratch.execute(_COLUMNS, (table,)).fetchall())
    if not made:
        raise BadDefinition(f"they make no table {fold(table)}", operation="ingest", hint="correct the file of --ddl")
    return made
