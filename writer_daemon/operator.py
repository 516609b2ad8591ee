"""What an operator may ask the writer, and the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from telemetry_bus import __version__
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.errors import DatabaseFault, TelemetryError, shorten
from telemetry_bus.protocol.messages import Answer, Command

if TYPE_CHECKING:
    from .daemon import Daemon

#: Producers wait while pages are given back: 500 take 12 to 30 ms.
_MOST_PAGES = 1000


def answer(daemon: Daemon, command: Command) -> Answer:
    """Carry out a command. Every failure becomes an answer."""
    handler = _COMMANDS.get(command.name)
    if handler is None:
        return Answer(False, f"unknown command {command.name[:40]!r}; this writer is version {__version__}")
    try:
        arguments = json.loads(command.arguments)
        return Answer(True, json.dumps(handler(daemon, **arguments)))
    except TelemetryError as error:
        if isinstance(error, DatabaseFault):
            daemon.intake.degrade(error)
        return Answer(False, str(error))
    except (TypeError, ValueError, RecursionError) as error:
        text = str(error).encode(errors="backslashreplace").decode()  # JSON may name half a character
        return Answer(False, f"bad arguments: {text}")


def _status(daemon: Daemon) -> dict[str, Any]:
    """The writer's part of `telemetry-bus status --json`."""
    intake = daemon.intake
    snapshot = intake.writer.snapshot()
    return {
        "state": "degraded" if intake.fault or intake.protocol.jobs_gone else "running",
        "pid": intake.protocol.pid,
        "version": __version__,
        "epoch": intake.protocol.epoch.hex(),
        "uptime_s": round(daemon.uptime, 3),
        "database": daemon.database.masked,
        "jobs_committed": snapshot.jobs_committed,
        "rows_committed": snapshot.rows_committed,
        "batches": snapshot.batches,
        "dead_letters": snapshot.dead_letters,
        "duplicates_dropped": intake.protocol.duplicates,
        "resends_requested": intake.protocol.resends,
        "malformed": intake.malformed,
        "jobs_gone": intake.protocol.jobs_gone,
        "journals_adopted": daemon.adopter.adopted,
        "journals_quarantined": daemon.adopter.quarantined,
        "commit_ms": {"p50": snapshot.commit_ms_p50, "p99": snapshot.commit_ms_p99},
        "journals_unread": len(daemon.adopter.unread),
        "ddl_cached": snapshot.ddl_cached,
        "drift": list(snapshot.drift),
        "wal_bytes": snapshot.wal_bytes,
        "last_error": daemon.last_error(),
        "leaving": daemon.leaving,
    }


def _stop(daemon: Daemon) -> dict[str, Any]:
    daemon.leaving = True
    return {"pid": daemon.intake.protocol.pid}


def _retry(daemon: Daemon, ids: list[int] | None) -> list[dict[str, Any]]:
    """The first line of an error only: the answer to many must fit into one message, and the letter has it all."""
    daemon.company()
    results = daemon.intake.writer.retry(_checked(ids))
    return [{"id": id, "ok": not error, "error": shorten(error.partition("\n")[0])} for id, error in results]


def _purge(daemon: Daemon, ids: list[int] | None) -> int:
    daemon.company()
    return daemon.intake.writer.purge(_checked(ids))


def _vacuum(daemon: Daemon, pages: int) -> dict[str, Any]:
    if type(pages) is not int or not 0 < pages <= _MOST_PAGES:
        raise ValueError(f"pages are 1 to {_MOST_PAGES}")
    daemon.company()
    space, freed = daemon.intake.writer.give_back(pages)
    return {**asdict(space), "freed_bytes": freed}


def _checked(ids: list[int] | None) -> list[int] | None:
    """`ids`, when the database can take them as such."""
    if ids is not None and not all(type(id) is int and 0 < id <= INT64_MAX for id in ids):
        raise ValueError("ids are positive 64-bit integers")
    return ids


_COMMANDS: dict[str, Callable[..., Any]] = {
    "status": _status,
    "stop": _stop,
    "dead-letters retry": _retry,
    "dead-letters purge": _purge,
    "vacuum": _vacuum,
}
