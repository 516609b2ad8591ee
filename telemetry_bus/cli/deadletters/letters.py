"""Dead letters as they stand in the database, read without a writer."""

from __future__ import annotations

import base64
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...config import DEFAULT_TIMEOUT, Database
from ...database.deadletters import DeadLetter, DeadLetters
from ...errors import DatabaseFault
from ...journal.origin import known_origins
from ...reading import connect, errors_of
from ...runtime.folder import BusFolder
from ..survey import no_database

_IS_THERE = "SELECT to_regclass('telemetry_bus_dead_letters') IS NOT NULL"
_KIND = "SELECT type, rootpage FROM sqlite_master WHERE name = 'telemetry_bus_dead_letters'"
#: Virtual machine instructions between two looks at the clock, and how long a statement may take.
_STEPS = 100_000
_MOST_S = 30.0


def summary(letter: DeadLetter) -> dict[str, Any]:
    """For JSON: what `list` shows."""
    return {
        "id": letter.id,
        "stream": letter.stream.hex(),
        "sequence": letter.sequence,
        "failed_at": letter.failed_at,
        "error_type": letter.error_type,
        "error": letter.error,
        "statement": letter.statement,
    }


#: Host, process id and program of streams, by the stream's name.
Origins = Mapping[str, Mapping[str, Any]]


def whole(letter: DeadLetter, origins: Origins) -> dict[str, Any]:
    """For JSON: all of it. A job that cannot be read stands there as its bytes."""
    job = letter.unpacked()
    below = {"traceback": letter.traceback, "origin": origins.get(letter.stream.hex())}
    if job is None:
        return {**summary(letter), **below, "job": _json_value(letter.job)}
    statements = [
        {"sql": statement.sql, "rows": [[_json_value(value) for value in row] for row in statement.rows]}
        for statement in job.statements
    ]
    return {**summary(letter), **below, "ensure": list(job.ensure), "statements": statements}


def origins_of(database: Database) -> Origins:
    """What the bus of a database knows of the processes whose jobs have failed."""
    return known_origins(BusFolder.of(database).journals)


def letters_of(connection: sqlite3.Connection) -> DeadLetters:
    """The dead letters that a connection reads; a database that the bus has never written to has none.

    Raises `DatabaseFault` when a view or a virtual table has the name: it could run for ever. What else another program
    may have put into its columns is bounded in time.
    """
    found = connection.execute(_KIND).fetchone()
    if found is None:
        return DeadLetters(lambda sql, row: ())
    if found[0] != "table" or not found[1]:
        raise DatabaseFault(
            "telemetry_bus_dead_letters is not the table of the bus",
            operation="dead letters",
            hint="another program has made it: rename it",
        )
    deadline = time.monotonic() + _MOST_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    return DeadLetters(connection.execute)


@contextmanager
def reading(database: Database) -> Iterator[DeadLetters]:
    """The dead letters of a database, for the block. Raises `DatabaseFault`, also when there is no database."""
    if database.path is not None and not database.path.exists():
        raise no_database(database, "dead letters")
    of_a_server = database.dialect == "postgresql"
    try:
        with connect(database, DEFAULT_TIMEOUT, True, None) as connection:
            yield _letters_of_a_server(connection) if of_a_server else letters_of(connection)
    except errors_of(database) as error:
        raise DatabaseFault(f"cannot be read: {error}", operation="dead letters", subject=database.masked) from error


def _letters_of_a_server(connection: Any) -> DeadLetters:
    (is_there,) = connection.execute(_IS_THERE).fetchone()
    return DeadLetters(connection.execute if is_there else lambda sql, row: ())


def _json_value(value: Any) -> Any:
    """What JSON has no form for, as an object that names its kind."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value
