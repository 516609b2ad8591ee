"""Checks of what a process finds around it: variables, limits, the SQLite library."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator, Mapping

from ...config import (
    DEFAULT_IDLE_TIMEOUT,
    VARIABLES,
    env_flag,
    env_seconds,
    is_default,
    parse_database,
    store_options,
    unknown_variables,
)
from ...errors import ConfigError
from .case import Case
from .finding import Finding, ok, problem, warning

#: A writer has a descriptor for each producer, and some twenty of its own.
FEW_OPEN_FILES = 256


def variables(case: Case) -> Finding:
    """Each variable by itself, then what they say together."""
    if errors := list(_errors(case.environ)):
        return problem(
            "; ".join(f"{name}: {error.message}" for name, error in errors),
            "; ".join(dict.fromkeys(f"correct or unset {name}" for name, _ in errors)),
        )
    mode = case.environ.get("TELEMETRY_BUS_MODE")
    named = parse_database(None, case.environ)
    if named.is_memory and mode not in ("thread", "sync"):
        return problem(
            "TELEMETRY_DATABASE_URL is :memory:, which a writer process cannot reach",
            "name a file, or set TELEMETRY_BUS_MODE to thread or sync",
        )
    parent = case.environ.get("TELEMETRY_BUS_DIR")
    if parent and not os.path.isabs(parent):
        return warning(
            f"TELEMETRY_BUS_DIR is {parent}, another folder for each current directory",
            "set TELEMETRY_BUS_DIR to an absolute path",
        )
    if mode == "thread" and case.maybe_bus is not None and case.held and not case.owner.is_program:
        return warning(
            "TELEMETRY_BUS_MODE is thread, and a writer process owns the database: such a program cannot have it",
            "unset TELEMETRY_BUS_MODE, or end the writer with telemetry-bus stop",
        )
    if unknown := unknown_variables(case.environ):
        return warning(
            f"nothing reads {', '.join(unknown)}", "correct or unset them; docs/operations.md has those that there are"
        )
    names = ", ".join(sorted(name for name in case.environ if name in VARIABLES)) or "nothing is set"
    if is_default(None, case.environ):
        names += f"; the default database is {named.masked}, below the current folder"
    return ok(names)


def open_files(case: Case) -> Finding:
    """The soft limit of this process, which a writer that it started would have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return ok("no limit")
    if limit >= FEW_OPEN_FILES:
        return ok(f"at most {limit}")
    return warning(
        f"at most {limit}, and a writer needs one for each producer",
        "ulimit -n 1024, or LimitNOFILE= in the unit of the writer",
    )


def sqlite_version(case: Case) -> Finding:
    """A race of two that write or checkpoint at once may lose what is in the log (https://www.sqlite.org/wal.html).
    Alone, the writer does not meet it."""
    if _has_race(sqlite3.sqlite_version_info):
        return warning(
            f"{sqlite3.sqlite_version} may damage a database that two connections write to at the same moment",
            "update SQLite to 3.51.3, 3.50.7 or 3.44.6; until then let nobody but the writer write",
        )
    return ok(sqlite3.sqlite_version)


def _has_race(version: tuple[int, ...]) -> bool:
    """From 3.7.0 on; mended in 3.51.3, and in these two branches earlier."""
    mended = any(version[:2] == since[:2] and version >= since for since in ((3, 44, 6), (3, 50, 7)))
    return (3, 7, 0) <= version < (3, 51, 3) and not mended


def _errors(environ: Mapping[str, str]) -> Iterator[tuple[str, ConfigError]]:
    """What is wrong with variables, each by itself."""
    alone = {"TELEMETRY_BUS_MODE": environ.get("TELEMETRY_BUS_MODE") or "daemon"}
    readers: dict[str, Callable[[], object]] = {
        "TELEMETRY_DATABASE_URL": lambda: parse_database(None, environ),
        "TELEMETRY_BUS_MODE": lambda: store_options("any.db", alone),
        "TELEMETRY_BUS_SPAWN": lambda: env_flag("TELEMETRY_BUS_SPAWN", True, environ),
        "TELEMETRY_DEBUG": lambda: env_flag("TELEMETRY_DEBUG", False, environ),
        "TELEMETRY_BUS_IDLE_TIMEOUT": lambda: env_seconds("TELEMETRY_BUS_IDLE_TIMEOUT", DEFAULT_IDLE_TIMEOUT, environ),
    }
    for name, read in readers.items():
        try:
            read()
        except ConfigError as error:
            yield name, error
