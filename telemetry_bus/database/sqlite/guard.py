"""What a job may do on a SQLite connection: touch data and schema, and nothing else."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable

from ...errors import NotRecordable
from ...sql.memory import remember
from ...sql.shapes import names, names_bus_table
from ...sql.targets import table_of
from ...sql.tokens import BUS_PREFIX, significant

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
#: For these actions the second name is a column's, which may be called as it likes.
_ACTIONS_ON_COLUMNS = frozenset({sqlite3.SQLITE_READ, sqlite3.SQLITE_UPDATE})
#: Reading them shows other jobs' statements, and the file's pages.
_DENIED_TABLES = frozenset({"sqlite_stmt", "sqlite_dbpage"})
#: Virtual tables that reach for nothing outside the database.
_MODULES = frozenset({"fts3", "fts4", "fts4aux", "fts5", "fts5vocab", "rtree", "rtree_i32", "geopoly"})

#: A function that SQLite itself keeps from triggers and views has effects beside its result: `load_extension`, and
#: `fts3_tokenizer`, which calls what its caller gives it (https://www.sqlite.org/c3ref/c_deterministic.html).
_DIRECT_ONLY = 0x80000
#: What the library brings beyond the functions that are built in, and jobs may use: FTS3 to FTS5, R-Tree, Geopoly.
_BROUGHT_ALONG = re.compile(
    r"bm25|highlight|match|matchinfo|offsets|optimize|snippet|rtreecheck|rtreedepth|rtreenode|geopoly_\w+|json\w*|regexp"
)
#: What the tables are called in which full-text and R-tree tables keep what they hold: jobs write to these through the
#: virtual table alone, or the next one that uses it may end the writer.
_PART_OF_A_TABLE = re.compile(r"_(content|data|idx|docsize|config|segments|segdir|stat|node|rowid|parent)\b", re.I)
_DENIED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log"})
_FUNCTIONS = "SELECT lower(name), builtin, flags FROM pragma_function_list"


def allowed_functions(connection: sqlite3.Connection) -> frozenset[str]:
    """The functions of a fresh connection that jobs may call."""
    return frozenset(
        name
        for name, builtin, flags in connection.execute(_FUNCTIONS)
        if not flags & _DIRECT_ONLY and name not in _DENIED_FUNCTIONS and (builtin or _BROUGHT_ALONG.fullmatch(name))
    )


class Guard:
    """The authorizer of a connection, and the list of the bus's own statements.

    SQLite asks the authorizer while it prepares a statement (https://www.sqlite.org/c3ref/set_authorizer.html).
    `trusted` is a flag and not a change of the authorizer, because that would expire every prepared statement.
    The driver keeps prepared statements by their text. So that no job can reach one that was prepared with
    trust, a text that the bus has used itself is refused to jobs.
    """

    def __init__(self, functions: frozenset[str], shadow_tables: Callable[[], frozenset[str]] = frozenset) -> None:
        """`functions`: those that jobs may call, in lower case. `shadow_tables`: those that virtual tables have now,
        where SQLite's own switch (DEFENSIVE) cannot be set."""
        self.trusted = False
        self._functions = functions
        self._shadow_tables = shadow_tables
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
        if (written := _may_write_to_part(sql)) and not written.isdisjoint(self._shadow_tables()):
            raise NotRecordable("a job cannot write to the parts of a virtual table", operation="apply", subject=sql)

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
        if action == sqlite3.SQLITE_ANALYZE:  # of the whole database too: it only counts
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if self._may_call((second or "").lower()) else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_CREATE_VTABLE and (second or "").lower() not in _MODULES:
            return sqlite3.SQLITE_DENY
        names = (first,) if action in _ACTIONS_ON_COLUMNS else (first, second)
        return sqlite3.SQLITE_DENY if any(name and _is_out_of_reach(name) for name in names) else sqlite3.SQLITE_OK

    def _may_call(self, function: str) -> bool:
        """ALTER TABLE calls functions that no statement can, and that are in no list."""
        internal = function.startswith("sqlite_") and function not in _DENIED_FUNCTIONS
        return internal or function in self._functions


@remember
def _may_write_to_part(sql: str) -> frozenset[str]:
    """The tables that a statement may write to, in lower case, if one is called like a part of a virtual table."""
    if _PART_OF_A_TABLE.search(sql) is None:
        return frozenset()
    is_trigger = any(token.symbol == "TRIGGER" for token in significant(sql)[:3])  # it writes when it is used
    found = names(sql) if is_trigger else {table_of(sql) or ""}
    return frozenset(map(str.lower, found))


def _is_out_of_reach(table: str) -> bool:
    name = table.lower()
    return name.startswith(BUS_PREFIX) or name in _DENIED_TABLES
