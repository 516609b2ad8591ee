"""Dead letters through the writer: retry and purge."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ...database.deadletters import UNKNOWN
from ...errors import ConfigError, TelemetryError, WriterAbsent
from .. import exit_codes
from ..calling import Caller
from ..output import Output, counted
from ..survey import Bus
from .choice import Choice
from .letters import reading
from .views import LISTED

#: Letters in one question. While it runs them again the writer does nothing else, and its answer is one message.
RETRY_PORTION = 20
#: Deleting is quick; ten bytes for each id are far below the limit of a message.
PURGE_PORTION = 10_000


def retry(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    if not arguments.ids and not arguments.all and Choice.of(arguments).is_all:
        raise ConfigError(
            "one of the arguments ID --all, or a filter, is required", hint="telemetry-bus dead-letters retry --help"
        )
    known, unknown = _chosen(bus, arguments)
    results = _retried(bus, known, unknown, arguments.timeout)
    if output.as_json:
        decided = list(results)
        failed = sum(not result["ok"] for result in decided)
        output.array(decided)
    else:
        few = len(known) + len(unknown) <= LISTED
        failed = _tell_each(results, output) if few else _tell_errors(results, output)
        output.line(f"{len(known) + len(unknown) - failed} applied, {failed} failed")
    return exit_codes.FAILED if failed else exit_codes.DONE


def _tell_each(results: Iterator[dict[str, Any]], output: Output) -> int:
    """A line for each as it is decided; how many have failed."""
    failed = 0
    for result in results:
        failed += not result["ok"]
        output.line(f"{result['id']}: {'applied' if result['ok'] else result['error']}")
    return failed


def _tell_errors(results: Iterator[dict[str, Any]], output: Output) -> int:
    """A line for each error, with the first letter that has met it; how many have failed."""
    met: dict[str, list[int]] = {}
    for result in results:
        if not result["ok"]:
            met.setdefault(result["error"], []).append(result["id"])
    for error, ids in met.items():
        output.line(f"{error} ({counted(len(ids), 'dead letter')}, the first is {ids[0]})")
    return sum(map(len, met.values()))


def purge(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    known, unknown = _chosen(bus, arguments)
    if known and not arguments.yes and sys.stdin.isatty():
        _confirm(f"delete {counted(len(known), 'dead letter')} of {bus.database.masked} for good?")
    purged = _purged(bus, known, arguments.timeout) if known else 0
    if output.as_json:
        output.document({"purged": purged, "unknown": unknown})
    else:
        for id in unknown:
            output.line(f"{id}: {UNKNOWN}")
        output.line(f"{counted(purged, 'dead letter')} deleted")
    return exit_codes.FAILED if unknown else exit_codes.DONE


def _chosen(bus: Bus, arguments: argparse.Namespace) -> tuple[list[int], list[int]]:
    """The ids that were asked for: those that the database has, and those that it does not have."""
    choice = Choice.of(arguments)
    with reading(bus.database) as letters:
        present = letters.ids()
        meant = present if choice.is_all else [letter.id for letter in choice.of_letters(letters)]
    if arguments.all or not arguments.ids:
        return meant, []
    asked, there, wanted = dict.fromkeys(arguments.ids), set(present), set(meant)
    return [id for id in asked if id in wanted], [id for id in asked if id not in there]


def _retried(bus: Bus, known: Sequence[int], unknown: Sequence[int], timeout: float) -> Iterator[dict[str, Any]]:
    """A result for each letter, as they are decided."""
    yield from ({"id": id, "ok": False, "error": UNKNOWN} for id in unknown)
    if not known:
        return
    with Caller(bus, timeout) as caller:
        for portion in _portions(known, RETRY_PORTION):
            yield from _retry_portion(bus, caller, portion)


def _retry_portion(bus: Bus, caller: Caller, portion: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Without an answer the database says what was done: the writer left, was killed, or took too long."""
    caller.reach()
    try:
        yield from caller.ask("dead-letters retry", ids=portion)
        return
    except WriterAbsent:
        caller.reach()
    with reading(bus.database) as letters:
        left = set(letters.ids()).intersection(portion)
    yield from ({"id": id, "ok": True, "error": ""} for id in portion if id not in left)
    if left:
        yield from caller.ask("dead-letters retry", ids=sorted(left))


def _purged(bus: Bus, known: Sequence[int], timeout: float) -> int:
    with Caller(bus, timeout) as caller:
        purged = 0
        for portion in _portions(known, PURGE_PORTION):
            caller.reach()
            purged += caller.ask("dead-letters purge", ids=portion)
        return purged


def _portions(ids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    return (ids[start : start + length] for start in range(0, len(ids), length))


def _confirm(question: str) -> None:
    """Raises `TelemetryError` unless somebody says yes."""
    print(question, "[y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise TelemetryError("nothing is deleted", operation="purge")
