"""Checks of the database file itself: what it is, whether it is whole, how it is set up."""

from __future__ import annotations

import sqlite3

from ...database.sqlite.opening import AUTO_VACUUM, LOG_BYTES
from ..output import counted, size
from .case import Case
from .finding import Finding, ok, problem, warning

#: So many complaints of SQLite are asked for; one is shown.
_COMPLAINTS = 100
_NOTHING = ok("there is no database")
_BACKUP = "stop the writer and restore the database from a backup"


def header(case: Case) -> Finding:
    """Whether it is a database at all."""
    if not case.path.exists() or not case.header:
        return _NOTHING
    if not case.is_database:
        return problem(f"{case.path} is not a SQLite database", "name another with --database")
    return ok("a SQLite database")


def integrity(case: Case) -> Finding:
    """`quick_check`, or the `integrity_check` that looks into the indexes too."""
    if not case.is_database:
        return _NOTHING
    before = case.path.stat().st_mtime_ns
    name = "integrity_check" if case.full else "quick_check"
    try:
        with case.reading() as connection:
            complaints = [text for (text,) in connection.execute(f"PRAGMA {name}({_COMPLAINTS})")]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, not allowed: says nothing of its content
            return problem(f"cannot be read: {error}", "end who locks it, correct its rights, and look again")
        complaints = [str(error)]
    if complaints == ["ok"]:
        return ok(f"{name} is content")
    if not case.held and case.path.stat().st_mtime_ns != before:
        return warning("somebody wrote while it was read, who is not the writer or has just begun", "look again")
    first = complaints[0].removeprefix("*** in database main ***\n").partition("\n")[0]
    return problem(f"damaged, {counted(len(complaints), 'complaint')}: {first}", _BACKUP)


def journal_mode(case: Case) -> Finding:
    """The writer sets it; somebody may have set it back."""
    if not case.is_database:
        return _NOTHING
    if case.is_wal:
        return ok("WAL")
    return warning(
        "not WAL: readers and the writer would wait for each other",
        "start a writer, it sets WAL; no other program may change it",
    )


def auto_vacuum(case: Case) -> Finding:
    """Whether the space of deleted rows can be given back; it stands in the header."""
    if not case.is_database:
        return _NOTHING
    largest_root, incremental = (int.from_bytes(case.header[at : at + 4], "big") for at in (52, 64))
    mode = AUTO_VACUUM[0 if not largest_root else 2 if incremental else 1]
    if mode == "INCREMENTAL":
        return ok(mode)
    if mode == "FULL":
        return warning("FULL: each commit moves pages", f"no writer running: {convert(case)}")
    return warning("NONE: the file never shrinks", f"no writer running: {convert(case)}")


def convert(case: Case) -> str:
    """The command that turns the database to incremental_vacuum."""
    return f"sqlite3 {case.path} 'PRAGMA auto_vacuum=INCREMENTAL; VACUUM'"


def log_size(case: Case) -> Finding:
    """A log that has outgrown what the writer cuts it back to was kept from being written back."""
    count = case.size("-wal") or 0
    if count <= 2 * LOG_BYTES:
        return ok(size(count))
    if not case.held:
        return warning(f"{size(count)}, and no writer", "have a writer write it back: telemetry-bus flush")
    return warning(f"{size(count)}: a reader keeps it from being written back", "end who has a transaction open")
