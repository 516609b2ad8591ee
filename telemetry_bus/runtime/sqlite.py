"""Python's SQLite module as this process has it, which need not be Python's own.

Tracing tools put a wrapper in the place of `sqlite3.connect`, and some programs another build (pysqlite3, sqlean) in
the place of the whole module. What the program imports as `sqlite3` is used all the same: two SQLite libraries in one
process drop each other's locks when they close a file (https://www.sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

#: Extended result codes that other builds do not name (https://www.sqlite.org/rescode.html).
CORRUPT_VTAB = 267
READONLY_RECOVERY = 264
READONLY_ROLLBACK = 776
#: What a library has been built to take at least since SQLite 3.32, https://www.sqlite.org/limits.html
_PARAMETERS = 32766


def connect(
    name: str | os.PathLike[str], *, factory: type[sqlite3.Connection] | None = None, **options: Any
) -> sqlite3.Connection:
    """As `sqlite3.connect`, without what tracers have put in its place: a connection of the module's own kind."""
    return (factory or sqlite3.Connection)(name, **options)


def max_parameters(connection: sqlite3.Connection) -> int:
    """How many placeholders a statement may have."""
    if not hasattr(connection, "getlimit"):
        return _PARAMETERS
    return connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)


def limit_values(connection: sqlite3.Connection, most: int) -> None:
    """Let no text or blob grow beyond `most` bytes, where this module can."""
    if hasattr(connection, "setlimit"):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)


#: Whether this Python can set the switches of a connection (since 3.12).
HAS_SWITCHES = hasattr(sqlite3.Connection, "setconfig")


def switch(connection: sqlite3.Connection, name: str, on: bool) -> None:
    """Set a switch of the connection, one of `SQLITE_DBCONFIG_…`, where this Python can."""
    if hasattr(connection, "setconfig") and (number := getattr(sqlite3, f"SQLITE_DBCONFIG_{name}", None)) is not None:
        connection.setconfig(number, on)
