"""What PostgreSQL's errors mean, by their SQLSTATE: whose fault they are, and what to do.

The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. An error without one comes from a connection
that could not be made, or that has ended: what became of the transaction is then unknown.
"""

from __future__ import annotations

from psycopg import Error, Warning

from ...errors import DatabaseFault

#: What the driver raises about a statement, its values or the connection; and what this package does.
ERRORS: tuple[type[BaseException], ...] = (Error, Warning, MemoryError, OverflowError, TypeError, ValueError)

#: Another transaction came first: the same once more, on the same connection.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
#: Another program has made the same thing at the same time.
_MADE_MEANWHILE = frozenset({"42P07", "42701", "42710", "42P06"})
#: Classes and codes that speak of the server or the connection, each with a hint. The longest that fits counts.
_FAULTS = {
    "08": "check the network between here and the server",
    "25006": "the server is a standby: name all servers in the URL, and target_session_attrs=read-write",
    "25P03": "the session was idle in a transaction for too long",
    "25P04": "the transaction took too long",
    "26000": "prepared statements do not pass through a pooler",
    "28": "check user and password",
    "3D000": "create the database",
    "40": "other writers write the same rows",
    "42P05": "prepared statements do not pass through a pooler",
    "53": "the server has no room: disk, memory or connections",
    "55P03": "another session holds a lock: look into pg_stat_activity",
    "57014": "another session cancelled the statement",
    "57P": "the server was shut down, or the session was ended",
    "58": "the server has trouble with its files",
    "F0": "the server's configuration is broken",
    "XX": "the server is broken: look into its log",
}
#: After these the connection is as good as before.
_PASSING = ("40", "55P03", "57014", "53")
_NO_RIGHT = "GRANT its role what it lacks: CREATE on the first schema of its search_path, or the use of the tables"
_CONNECTION = "the journals keep all jobs meanwhile"


def sqlstate(error: BaseException | None) -> str:
    """The five characters; empty when the server did not say any."""
    return str(getattr(error, "sqlstate", None) or "")


def blames_database(error: BaseException) -> bool:
    """Whether the server or the connection is at fault and not the job."""
    if not isinstance(error, Error):
        return isinstance(error, MemoryError)
    code = sqlstate(error)
    if code:
        return _hint(code) is not None and not is_late(error)
    return _is_of_connection(error)


def breaks_connection(error: BaseException | None) -> bool:
    """Whether to go on with a fresh connection."""
    return error is None or not sqlstate(error).startswith(_PASSING)


def proves_fault(error: BaseException) -> bool:
    """Whether no job can be the reason: the server is full, shut down, broken, or a standby."""
    code = sqlstate(error)
    return blames_database(error) and not code.startswith("57014") and code[:2] not in ("40", "55", "")


def is_conflict(error: BaseException | None) -> bool:
    """Whether the transaction has lost to another one, so that the very same may succeed."""
    return sqlstate(error) in _CONFLICTS


def is_made_meanwhile(error: BaseException) -> bool:
    """Whether a definition met what another session has made since it was looked for."""
    catalog = getattr(getattr(error, "diag", None), "schema_name", None) == "pg_catalog"
    return sqlstate(error) in _MADE_MEANWHILE or (sqlstate(error) == "23505" and catalog)


def is_missing(error: BaseException) -> bool:
    """Whether a table, a column or the index of a conflict clause is not there."""
    return sqlstate(error) in ("42P01", "42703", "42P10")


def is_late(error: BaseException) -> bool:
    """Whether the statement was ended because its time was over. The words are the server's, in its language."""
    return sqlstate(error) == "57014" and getattr(error, "is_late", False)


def is_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory for a statement."""
    return isinstance(error, MemoryError) or sqlstate(error) == "53200"


def fault(error: BaseException, operation: str, subject: str) -> DatabaseFault:
    """The error to raise for a fault of the database, in the server's own words."""
    message = " ".join(str(error).split()) or type(error).__name__
    code = sqlstate(error)
    hint = _NO_RIGHT if code == "42501" else _hint(code) or _CONNECTION
    return DatabaseFault(message, operation=operation, subject=subject, hint=hint)


def _hint(code: str) -> str | None:
    return next((_FAULTS[code[:n]] for n in (5, 3, 2) if code[:n] in _FAULTS), None)


def _is_of_connection(error: Error) -> bool:
    """Errors without a code: of the connection, except those that the driver raises about a value or a text."""
    from psycopg import DataError, InterfaceError, NotSupportedError, OperationalError, ProgrammingError

    if isinstance(error, DataError | NotSupportedError | ProgrammingError):
        return False
    return isinstance(error, OperationalError | InterfaceError)
