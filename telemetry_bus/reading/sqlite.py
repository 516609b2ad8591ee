"""Reading a SQLite database: connections of the driver's own kind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config import Database
from ..errors import DatabaseFault, ReadOnly
from ..runtime import sqlite
from ..runtime.files import make_private

#: What a connection that cannot write is told of a database whose last writer was killed in the middle
#: (https://www.sqlite.org/rescode.html#readonly_rollback).
_NEEDS_RECOVERY = (sqlite.READONLY_ROLLBACK, sqlite.READONLY_RECOVERY)
#: Page cache of a reading connection, in KiB.
_CACHE_KIB = 8 * 1024


@contextmanager
def connect(
    database: Database, timeout: float, readonly: bool, memory: AbstractContextManager[sqlite3.Connection] | None
) -> Iterator[sqlite3.Connection]:
    """See `reading.connect`."""
    if readonly:
        with closing(open_reader(database, timeout, memory)) as connection:
            yield connection
    elif memory is None:
        with closing(_open(database.path, timeout, sqlite3.Connection)) as connection:
            yield connection
    else:
        with memory as original, closing(_open(None, timeout, sqlite3.Connection)) as copy:
            original.backup(copy)
            yield copy
            copy.commit()
            copy.backup(original)


def open_reader(
    database: Database, timeout: float, memory: AbstractContextManager[sqlite3.Connection] | None
) -> sqlite3.Connection:
    """A fresh connection that only reads; the caller closes it."""
    connection = _open(database.path, timeout, _Reader)
    if memory is not None:
        with memory as original:
            original.backup(connection)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _open(path: Path | None, timeout: float, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    """A file is opened read-only to read from, so that closing it never checkpoints the writer's WAL. One that is not
    there is made, empty."""
    name = ":memory:" if path is None else str(path)
    uri = f"{path.as_uri()}?mode=ro" if path is not None and factory is _Reader else None
    try:
        if path is not None:
            with suppress(FileExistsError):  # private from its beginning, as the writer makes it
                os.close(make_private(path))
        connection = sqlite.connect(uri or name, uri=uri is not None, timeout=timeout, factory=factory)
        try:
            _set_up(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if uri is None or error.sqlite_errorcode not in _NEEDS_RECOVERY:
                raise
            _recover(name, timeout)
            connection = sqlite.connect(uri, uri=True, timeout=timeout, factory=factory)
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise DatabaseFault(f"cannot open the database: {error}", operation="connection", subject=name) from error
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    cursor = sqlite3.Cursor(connection)  # not a reader's: its errors are those of opening
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    cursor.execute("SELECT 1 FROM sqlite_master")  # now, not at the first statement
    cursor.close()


def _recover(name: str, timeout: float) -> None:
    """Somebody was killed while he wrote: the next one who may write sets it right as soon as he looks."""
    with closing(sqlite.connect(name, timeout=timeout)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master").close()


class _Reader(sqlite3.Connection):
    """A connection whose refusal to write says where writes go."""

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or _ReaderCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor().execute(sql, parameters)
        return cursor

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor().executemany(sql, parameters)
        return cursor

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor().executescript(sql)
        return cursor


class _ReaderCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> _ReaderCursor:
        try:
            super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            raise _explained(error, sql) from error
        return self

    def executemany(self, sql: str, parameters: Any, /) -> _ReaderCursor:
        try:
            super().executemany(sql, parameters)
        except sqlite3.OperationalError as error:
            raise _explained(error, sql) from error
        return self

    def executescript(self, sql: str, /) -> _ReaderCursor:
        try:
            super().executescript(sql)
        except sqlite3.OperationalError as error:
            raise _explained(error, sql) from error
        return self


def _explained(error: sqlite3.OperationalError, sql: str) -> Exception:
    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
        return error
    return ReadOnly(
        "this connection only reads",
        operation="connection",
        subject=sql,
        hint="write with submit(), or open it with connection(readonly=False)",
    )
