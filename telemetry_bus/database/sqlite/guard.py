"""What a job may do on a SQLite connection: touch data and schema, and nothing else."""

from __future__ import annotations

import sqlite3

from ...errors import NotRecordable
from ...sql.shapes import names_bus_table
from ...sql.tokens import BUS_PREFIX

#: A job neither steers the transaction it stands in nor reaches for another file or the connection's settings.
_DENIED_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_DROP_TEMP_INDEX,
        sqlite3.SQLITE_DROP_TEMP_TABLE,
        sqlite3.SQLITE_DROP_TEMP_TRIGGER,
        sqlite3.SQLITE_DROP_TEMP_VIEW,
    }
)
#: Denied in the schema `temp`, where a table would hide one of its name from all later jobs. (`CREATE TABLE temp.t`
#: does not count as the creation of a temporary table.)
_CREATING_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_VTABLE,
    }
)
#: Full-text and R-tree tables ask for these when they are used.
_PRAGMAS_READ_BY_TABLES = frozenset({"data_version", "page_size"})
_DENIED_FUNCTIONS = frozenset({"load_extension"})


class Guard:
    """The authorizer of a connection, and the list of the bus's own statements.

    SQLite asks the authorizer while it prepares a statement (https://www.sqlite.org/c3ref/set_authorizer.html).
    `trusted` is a flag and not a change of the authorizer, because that would expire every prepared statement.
    The driver keeps prepared statements by their text. So that no job can reach one that was prepared with
    trust, a text that the bus has used itself is refused to jobs.
    """

    def __init__(self) -> None:
        self.trusted = False
        #: The texts that have been prepared as statements of the bus.
        self.own: set[str] = set()

    def check(self, sql: str) -> None:
        """Raises `NotRecordable` for the text of a statement that jobs must not even prepare."""
        if sql in self.own or names_bus_table(sql):
            raise NotRecordable(
                "a job can neither steer its transaction nor touch the tables of the bus",
                operation="apply",
                subject=sql,
            )

    def authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        """The callback for `Connection.set_authorizer`."""
        if self.trusted:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS_READ_BY_TABLES and second is None:
            return sqlite3.SQLITE_OK
        if action in _DENIED_ACTIONS or (database == "temp" and action in _CREATING_ACTIONS):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_DENY if (second or "").lower() in _DENIED_FUNCTIONS else sqlite3.SQLITE_OK
        if any(name is not None and name.lower().startswith(BUS_PREFIX) for name in (first, second)):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
