"""What `telemetry-bus doctor` looks at: each check is a function from a case to what it found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from ...errors import TelemetryError
from . import content, environment, folder, place, server, writer
from .case import Case
from .finding import Finding, problem

Check = Callable[[Case], Finding]

#: In the order in which they are told. The first ones need no database.
_GENERAL: tuple[tuple[str, Check], ...] = (
    ("environment", environment.variables),
    ("open files", environment.open_files),
)
_SQLITE: tuple[tuple[str, Check], ...] = (("SQLite version", environment.sqlite_version),)
_OF_A_FILE: tuple[tuple[str, Check], ...] = (
    ("database file", place.file),
    ("database links", place.links),
    ("file system", place.file_systems),
    ("disk space", place.space),
    ("content", content.header),
    ("integrity", content.integrity),
    ("journal mode", content.journal_mode),
    ("auto_vacuum", content.auto_vacuum),
    ("log size", content.log_size),
)
_OF_A_SERVER: tuple[tuple[str, Check], ...] = (
    ("server version", server.version),
    ("primary", server.primary),
    ("rights", server.rights),
    ("durability", server.durability),
    ("old transactions", server.idle_transactions),
)
_OF_A_BUS: tuple[tuple[str, Check], ...] = (
    ("bus folder", folder.rights),
    ("foreign files", folder.foreign_files),
    ("socket path", folder.socket_path),
    ("sockets", folder.sockets),
    ("damaged journals", folder.damaged),
    ("quarantine", folder.quarantine),
    ("orphans", folder.orphans),
    ("writer", writer.owner),
    ("spawning", writer.spawning),
    ("writer state", writer.state),
    ("inherited", writer.inherited),
    ("drift", writer.drift),
    ("dead letters", writer.dead_letters),
)

#: Of all checks of a SQLite database.
NAMES = tuple(name for name, _ in _GENERAL + _SQLITE + _OF_A_FILE + _OF_A_BUS)


def examine(case: Case) -> Iterator[tuple[str, Finding]]:
    """Every check's name and finding. A check that cannot be done is a problem too."""
    if case.maybe_bus is None:
        checks = _GENERAL + _SQLITE
    elif case.bus.database.dialect == "postgresql":
        checks = _GENERAL + _OF_A_SERVER + _OF_A_BUS
    else:
        checks = _GENERAL + _SQLITE + _OF_A_FILE + _OF_A_BUS
    for name, check in checks:
        try:
            yield name, check(case)
        except TelemetryError as error:
            yield name, problem(f"cannot be checked: {error.message}", error.hint or "mend that, and look again")
        except OSError as error:
            subject = f": {error.filename}" if error.filename else ""
            yield (
                name,
                problem(f"cannot be checked: {error.strerror or error}{subject}", "run it as the user whose bus it is"),
            )
        except sqlite3.Error as error:
            yield name, problem(f"cannot be checked: {error}", "mend what is said of the content, and look again")
        except Exception as error:  # whatever it is, the other checks are wanted all the more
            yield name, problem(f"cannot be checked: {type(error).__name__}: {error}", "mend that, and look again")


__all__ = ["NAMES", "Case", "Check", "Finding", "examine"]
