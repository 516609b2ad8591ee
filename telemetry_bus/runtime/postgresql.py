"""psycopg, which speaks to PostgreSQL: an extra, loaded where a database of that kind is opened."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..config import Database
from ..errors import ConfigError, DatabaseFault
from ..postgresql_url import parse

if TYPE_CHECKING:
    import psycopg

EXTRA = "pip install 'telemetry-bus[postgres]'"
#: libpq takes less for no limit at all, or for a second more (https://www.postgresql.org/docs/current/libpq-connect.html).
_SHORTEST_CONNECT_S = 2
#: What a server or libpq says of a connection that was not made, and what helps. Only the text tells: there is no code.
_HINTS = {
    "password authentication failed|no password supplied": "check the password: in the URL, PGPASSWORD, or PGPASSFILE",
    r"role \S+ does not exist|role .* is not permitted": "check the user in the URL, or create it: CREATE ROLE … LOGIN",
    r"database \S+ does not exist": "create it: CREATE DATABASE …, or check the name in the URL",
    r"no pg_hba\.conf entry|authentication failed": "the server's pg_hba.conf does not let this user in from here",
    "permission denied for database": "let the user in: GRANT CONNECT ON DATABASE … TO …",
    "SSL|certificate|TLS": "check sslmode= and sslrootcert= in the URL: they do not fit the server",
    "could not translate host name|name or service not known": "check the host in the URL",
    "too many clients|remaining connection slots|too many connections": "the server has no connection left",
    "starting up|shutting down|recovery": "wait for the server: the journals keep all jobs meanwhile",
    "read-only|hot standby": "target_session_attrs= in the URL asks for another kind of server: name all of them",
    "timeout expired": "a server is there, and does not answer: is it one of PostgreSQL?",
    "refused|No such file|unreachable|Is the server running": "start the server, or check host and port in the URL",
}


def driver() -> ModuleType:
    """psycopg. Raises `ConfigError` where it is not installed, or has no libpq to work with."""
    try:
        import psycopg
    except ImportError as error:
        raise _not_there(str(error)) from error
    return psycopg


def check_installed() -> None:
    """As `driver`, and loads nothing."""
    if find_spec("psycopg") is None:
        raise _not_there("No module named 'psycopg'")


def parameters(database: Database) -> dict[str, str]:
    """What psycopg is to be called with for a database: parameters of libpq by their names."""
    return parse(database.url, {})


def connect(database: Database, timeout: float, *, readonly: bool, **how: Any) -> psycopg.Connection[Any]:
    """A session to read in: in UTC, a transaction sees what was there when it began, and a lock is waited for `timeout`
    seconds. `how` goes to `psycopg.connect`. Raises `DatabaseFault`, `ConfigError`.

    Nothing is ever prepared: a pooler gives the next statement to another session.
    """
    module = driver()
    given = parameters(database)
    settings = {
        "default_transaction_read_only": "on" if readonly else "off",
        "default_transaction_isolation": r"repeatable\ read",
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "lock_timeout": str(max(1, round(timeout * 1000))),
    }
    options = [given.get("options", ""), *(f"-c {name}={value}" for name, value in settings.items())]
    wanted = {
        "connect_timeout": str(max(_SHORTEST_CONNECT_S, math.ceil(timeout))),
        **given,
        "options": " ".join(options).strip(),
        "application_name": "telemetry-bus reader",
    }
    try:
        connection: psycopg.Connection[Any] = module.connect(**wanted, prepare_threshold=None, **how)
    except module.Error as error:
        raise fault(error, "connection", database) from error
    return connection


def fault(error: BaseException, operation: str, database: Database) -> DatabaseFault:
    """The error to raise when a connection could not be made."""
    text = " ".join(str(error).split())
    hint = next((hint for said, hint in _HINTS.items() if re.search(said, text, re.IGNORECASE)), "")
    return DatabaseFault(f"cannot open the database: {text}", operation=operation, subject=database.masked, hint=hint)


def _not_there(why: str) -> ConfigError:
    return ConfigError(f"PostgreSQL needs psycopg: {why}", operation="database", hint=EXTRA)
