"""What an operator may ask the writer, and the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from telemetry_bus import __version__
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.errors import DatabaseFault, TelemetryError, shorten
from telemetry_bus.protocol.messages import Answer, Command
from telemetry_bus.writer.intake import Intake

from .permission import Permission
from .redaction import Discretion
from .status import WriterStatus

#: Producers wait while pages are given back: 500 take 12 to 30 ms.
_MOST_PAGES = 1000


class Operated(Protocol):
    """What is operated: the writer's loop."""

    intake: Intake[Any]
    redaction: Discretion
    permission: Permission

    def status(self) -> WriterStatus: ...
    def leave(self) -> None: ...
    def note_activity(self) -> None: ...


def answer(writer: Operated, command: Command) -> Answer:
    """Carry out a command. Every failure becomes an answer."""
    handler = _COMMANDS.get(command.name)
    if handler is None:
        return Answer(False, f"unknown command {command.name[:40]!r}; this writer is version {__version__}")
    try:
        arguments = json.loads(command.arguments)
        if not writer.permission.allows(arguments) and command.name in _ORDERS:
            return Answer(False, "only a user who may write the database may do that: run it as its owner")
        return Answer(True, json.dumps(handler(writer, **arguments)))
    except TelemetryError as error:
        if isinstance(error, DatabaseFault):
            writer.intake.degrade(error)
        return Answer(False, str(error))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        text = str(error).encode(errors="backslashreplace").decode()  # JSON may name half a character
        return Answer(False, f"bad arguments: {text}")


def _status(writer: Operated) -> dict[str, Any]:
    """A process looks: what producers gather is sent now, and acknowledged."""
    writer.intake.protocol.call()
    report = writer.status().report()
    return {**report, "last_error": writer.redaction.text(report["last_error"])}


def _stop(writer: Operated) -> dict[str, Any]:
    writer.leave()
    return {"pid": writer.status().pid}


def _retry(writer: Operated, ids: list[int] | None) -> list[dict[str, Any]]:
    """The first line of an error only: the answer to many must fit into one message, and the letter has it all."""
    writer.note_activity()
    results = writer.intake.writer.retry(_checked(ids))
    told = writer.redaction.text
    return [{"id": id, "ok": not error, "error": error and told(_first_line(error))} for id, error in results]


def _first_line(error: str) -> str:
    return shorten(error.partition("\n")[0])


def _purge(writer: Operated, ids: list[int] | None) -> int:
    writer.note_activity()
    return writer.intake.writer.purge(_checked(ids))


def _vacuum(writer: Operated, pages: int) -> dict[str, Any]:
    if type(pages) is not int or not 0 < pages <= _MOST_PAGES:
        raise ValueError(f"pages are 1 to {_MOST_PAGES}")
    writer.note_activity()
    space, freed = writer.intake.writer.give_back(pages)
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
#: They change something.
_ORDERS = frozenset(_COMMANDS) - {"status"}
