"""The read side: fresh connections that cannot write by mistake, with one face on every kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, Any

from ..config import Database

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["connect", "driver_reader", "errors_of", "open_reader"]


@contextmanager
def connect(
    database: Database, timeout: float, readonly: bool, memory: AbstractContextManager[Connection] | None
) -> Iterator[Any]:
    """A fresh connection, closed at the end. Foreign keys are enforced; rows are tuples.

    A `sqlite3.Connection`, or one of a PostgreSQL database that answers the same statements with the same values.
    `:memory:` lives in one connection, `memory`: reading gets a copy of it, writing a copy that replaces it at the end
    if nothing was raised. Raises `DatabaseFault` when the database cannot be opened, `ConfigError` without its driver.
    """
    if database.dialect == "postgresql":
        from . import postgresql

        with closing(postgresql.Connection(database, timeout, readonly)) as connection:
            yield connection
    else:
        from . import sqlite

        with sqlite.connect(database, timeout, readonly, memory) as connection:
            yield connection


def open_reader(database: Database, timeout: float, memory: AbstractContextManager[Connection] | None) -> Any:
    """A fresh connection that only reads; the caller closes it."""
    if database.dialect == "postgresql":
        from . import postgresql

        return postgresql.Connection(database, timeout, readonly=True)
    from . import sqlite

    return sqlite.open_reader(database, timeout, memory)


def driver_reader(database: Database, timeout: float, memory: AbstractContextManager[Connection] | None) -> Any:
    """As `open_reader`, of the driver's own kind."""
    if database.dialect == "postgresql":
        from ..runtime import postgresql

        return postgresql.connect(database, timeout, readonly=True)
    return open_reader(database, timeout, memory)


def errors_of(database: Database) -> type[Exception]:
    """What a connection of this database raises for what the database says."""
    if database.dialect == "postgresql":
        from ..runtime import postgresql

        errors: type[Exception] = postgresql.driver().Error
        return errors
    from sqlite3 import Error

    return Error
