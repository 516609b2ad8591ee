"""Checks of a PostgreSQL server: whether it answers, may be written to, and keeps what it has acknowledged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ...reading import connect
from ..output import counted
from .case import Case
from .finding import Finding, ok, problem, warning

#: The lowest version that the bus is tried with.
LOWEST = 150000
_ANSWER_S = 5.0
#: A transaction that has been idle for so long is in the way of definitions, and of the server's own cleaning.
_IDLE_MINUTES = 5

_RIGHTS = """SELECT current_schema(),
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    to_regclass('telemetry_bus_ledger') IS NOT NULL
    AND has_table_privilege('telemetry_bus_ledger', 'SELECT, INSERT, UPDATE, DELETE')"""
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
_IDLE = f"""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND state LIKE 'idle in transaction%' AND state_change < now() - interval '{_IDLE_MINUTES} minutes'"""


def version(case: Case) -> Finding:
    """It answers, and is new enough."""
    with _session(case) as session:
        number, text = (
            session.execute(f"SHOW {name}").fetchone()[0] for name in ("server_version_num", "server_version")
        )
    if int(number) < LOWEST:
        return warning(f"PostgreSQL {text}: the bus is tried with {LOWEST // 10000} and later", "update the server")
    return ok(f"PostgreSQL {text}")


def primary(case: Case) -> Finding:
    """A standby takes no jobs."""
    with _session(case) as session:
        (standby,) = session.execute("SELECT pg_is_in_recovery()").fetchone()
    if standby:
        return problem(
            "a standby, which takes no jobs", "name all servers in the URL, with target_session_attrs=read-write"
        )
    return ok("takes jobs")


def rights(case: Case) -> Finding:
    """What the writer needs before the first job: its own two tables, or the right to make them."""
    with _session(case) as session:
        schema, may_create, has_tables = session.execute(_RIGHTS).fetchone()
    if may_create:
        return ok(f"may make tables in {schema}")
    if has_tables:
        return warning(
            f"may not make tables in {schema or 'any schema'}: definitions of jobs become dead letters",
            "GRANT CREATE ON SCHEMA … TO the role of the URL, or make all tables beforehand",
        )
    return problem(
        f"may not make the tables of the bus in {schema or 'any schema'}",
        "GRANT CREATE ON SCHEMA … TO the role of the URL",
    )


def durability(case: Case) -> Finding:
    """Without these an acknowledged job does not survive a power cut."""
    with _session(case) as session:
        settings = dict(session.execute(_SETTINGS).fetchall())
    if off := sorted(name for name in ("fsync", "full_page_writes") if settings.get(name) == "off"):
        return warning(
            f"{' and '.join(off)} off: a power cut may damage the database", "switch it on in postgresql.conf"
        )
    return ok("fsync on")


def idle_transactions(case: Case) -> Finding:
    """They hold locks that definitions wait for."""
    with _session(case) as session:
        (count,) = session.execute(_IDLE).fetchone()
    if count:
        return warning(
            f"{counted(count, 'transaction')} idle for more than {_IDLE_MINUTES} minutes",
            "look into pg_stat_activity, and end it: SELECT pg_terminate_backend(pid)",
        )
    return ok("none")


def _session(case: Case) -> AbstractContextManager[Any]:
    return connect(case.bus.database, _ANSWER_S, True, None)
