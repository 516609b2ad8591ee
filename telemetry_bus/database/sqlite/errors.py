"""What SQLite's errors mean: whose fault they are, and what to do."""

from __future__ import annotations

import re
import sqlite3

from ...errors import DatabaseFault
from ...runtime import sqlite

#: What the driver raises about a statement, its values or the connection.
ERRORS: tuple[type[BaseException], ...] = (
    sqlite3.Error,
    sqlite3.Warning,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)

#: Primary result codes that say nothing about the job (https://www.sqlite.org/rescode.html), each with a hint.
_FAULTS = {
    sqlite3.SQLITE_BUSY: "another process holds the write lock",
    sqlite3.SQLITE_LOCKED: "another connection holds a lock",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_READONLY: "check owner and rights of the database file and its folder",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_CORRUPT: "stop the writer and restore the database from a backup",
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and may be written",
    sqlite3.SQLITE_PROTOCOL: "another process is recovering the database",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database, name another one",
}
#: What a limit of the process looks like, for SQLite does not tell EFBIG from other errors of a write.
_LIMITS = {
    "RLIMIT_FSIZE": (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
    "RLIMIT_AS": (sqlite3.SQLITE_NOMEM,),
    "RLIMIT_DATA": (sqlite3.SQLITE_NOMEM,),
}
#: After these the connection is as good as before.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
    }
)
_MISSING = re.compile(r"no such (table|column|index|view)|has no column named|ON CONFLICT clause does not match", re.I)


def blames_database(error: BaseException) -> bool:
    """Whether the database is at fault and not the job."""
    # A virtual table's own structures: a job can break them, and only its jobs would suffer.
    own_structures = getattr(error, "sqlite_errorcode", None) == sqlite.CORRUPT_VTAB
    return primary_code(error) in _FAULTS and not own_structures


def breaks_connection(error: BaseException | None) -> bool:
    """Whether to go on with a fresh connection."""
    return error is None or primary_code(error) not in _PASSING


def proves_fault(error: BaseException) -> bool:
    """Whether the file itself is broken: no job causes that, and more writing may make it worse."""
    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory for a statement."""
    return primary_code(error) == sqlite3.SQLITE_NOMEM


def is_missing(error: BaseException) -> bool:
    """Whether a table, a column or the index of a conflict clause is not there."""
    return isinstance(error, sqlite3.OperationalError) and _MISSING.search(str(error)) is not None


def is_interrupt(error: BaseException) -> bool:
    """Whether the statement was stopped from outside."""
    return primary_code(error) == sqlite3.SQLITE_INTERRUPT


def fault(error: BaseException, operation: str, subject: str) -> DatabaseFault:
    """The error to raise for a fault of the database."""
    code = sqlite3.SQLITE_CANTOPEN if isinstance(error, OSError) else primary_code(error)
    message = str(error) or type(error).__name__
    return DatabaseFault(message, operation=operation, subject=subject, hint=_limit(code) or _FAULTS.get(code, ""))


def _limit(code: int) -> str:
    """The limit of this process that may be behind an error, if it has one."""
    import resource

    for name, codes in _LIMITS.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if code in codes and soft != resource.RLIM_INFINITY:
            return f"{_FAULTS[code]}; this process has {name} {soft}: raise it where the writer is started"
    return ""


def primary_code(error: BaseException) -> int:
    """SQLite's result code without what extends it; 0 when the error is not SQLite's."""
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF
