"""`telemetry-bus prune`: old rows go through the writer, and their space is given back."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from ...config import DEFAULT_TIMEOUT, env_flag
from ...errors import DatabaseFault, JobFailed, TelemetryError
from ...reading import connect, errors_of
from ...store import TelemetryStore
from .. import exit_codes
from ..arguments import Parser, positive, seconds
from ..calling import Caller
from ..output import Output, counted, size, unlogged
from ..progress import counting
from ..survey import Bus, no_database
from ..termination import noted
from .retention import Old, age
from .server import OldOnServer

#: With two indexes so many keep the writer for 30 to 60 ms; then it is the producers' turn.
BATCH_ROWS = 2000
_MOST_BATCH_ROWS = 100_000
#: So many batches are looked for at once: without an index on the column each look reads the whole table.
_BATCHES_PER_LOOK = 50
#: Pages that the writer gives back in one transaction: 2 MiB.
_PAGES = 500


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "prune",
        run,
        "delete old rows, and give their space back",
        "Delete the rows of a table that are older than an age, in small batches through the writer, and shrink the\n"
        "file. Rows without a time stay. Starts a writer if none runs, unless TELEMETRY_BUS_SPAWN is 0.",
    )
    parser.add_argument("--table", required=True, metavar="NAME")
    parser.add_argument("--older-than", required=True, type=_age, metavar="AGE", help="90d, 12h, 30m, 8w")
    parser.add_argument(
        "--column", default="created_at", metavar="NAME", help="the time of a row, as UTC text (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count them")
    parser.add_argument(
        "--batch-rows", type=_batch, default=BATCH_ROWS, metavar="N", help="delete N rows at once (%(default)d)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="wait for the writer, and for each batch, S seconds at most (%(default)g)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    with _reading(bus) as connection:
        old = _kind(bus).find(connection, arguments.table, arguments.column, datetime.now(UTC) - arguments.older_than)
        extent = old.extent(connection)
        if extent.old:
            old.refuse_children(connection)
    report: dict[str, Any] = {
        "table": old.table,
        "column": old.column,
        "cutoff": old.cutoff,
        **asdict(extent),
        "dry_run": arguments.dry_run,
        "deleted": 0,
        "left": extent.old,
        "interrupted": False,
        "auto_vacuum": None,
        "freed_bytes": 0,
    }
    if not arguments.dry_run:
        with noted(signal.SIGINT) as stopped, Caller(bus, arguments.timeout) as caller:
            caller.reach()
            with unlogged(), counting(output, extent.old, "deleting") as advance:
                _delete(bus, old, arguments, report, stopped, advance)
            with _reading(bus) as connection:
                report["left"] = old.extent(connection).old
            if bus.database.dialect == "sqlite":
                _give_back(caller, report, stopped)
            report["interrupted"] = stopped()
    if output.as_json:
        output.document(report)
    else:
        _show(report, bus, output)
    return exit_codes.INTERRUPTED if report["interrupted"] else exit_codes.DONE


def _delete(
    bus: Bus,
    old: Old,
    arguments: argparse.Namespace,
    report: dict[str, Any],
    stopped: Callable[[], bool],
    advance: Callable[[int], None],
) -> None:
    """As many rows as were counted, so that it ends however many come meanwhile."""
    rows: int = arguments.batch_rows
    spawn = env_flag("TELEMETRY_BUS_SPAWN", True)
    with TelemetryStore(bus.database.url, mode="daemon", spawn=spawn, timeout=arguments.timeout) as store:
        while report["deleted"] < report["old"] and not stopped():
            with _reading(bus) as connection:
                keys = old.keys(connection, min(rows * _BATCHES_PER_LOOK, report["old"] - report["deleted"]))
            if not keys:
                return
            for start in range(0, len(keys), rows):
                if stopped():
                    return
                batch = keys[start : start + rows]
                try:
                    store.executemany(old.delete, batch)
                    store.flush()
                    if store.stats().failed:
                        raise JobFailed(str(store.stats().last_error))
                except TelemetryError as error:
                    raise DatabaseFault(
                        f"{counted(report['deleted'], 'row')} deleted, then: {error.message}",
                        operation="prune",
                        subject=old.table,
                        hint=error.hint or "telemetry-bus dead-letters list has what failed",
                    ) from error
                report["deleted"] += len(batch)
                advance(len(batch))


def _give_back(caller: Caller, report: dict[str, Any], stopped: Callable[[], bool]) -> None:
    """By the writer's own connection, a little at a time; the file is cut when the log is written back."""
    while True:
        answer = caller.ask("vacuum", pages=_PAGES)
        report["auto_vacuum"] = answer["auto_vacuum"]
        report["freed_bytes"] += answer["freed_bytes"]
        if not answer["freed_bytes"] or not answer["free_bytes"] or stopped():
            return


def _show(report: dict[str, Any], bus: Bus, output: Output) -> None:
    what = f"of {output.counted(report['rows'], 'row')} in {report['table']}"
    when = f"{report['column']} before {report['cutoff']} UTC"
    if report["dry_run"]:
        span = f", from {report['oldest']} to {report['newest']}" if report["old"] else ""
        output.sentence(f"{output.number(report['old'])} {what} would be deleted: {when}{span}")
    else:
        space = f"; {size(report['freed_bytes'])} given back" if bus.database.path else ""
        output.sentence(
            f"{'interrupted: ' if report['interrupted'] else ''}{output.number(report['deleted'])} {what} deleted: "
            f"{when}{space}"
        )
        if report["left"]:
            output.sentence(f"{output.counted(report['left'], 'old row')} left: not come to, new, or kept by a trigger")
    if report["timeless"]:
        output.sentence(f"{output.counted(report['timeless'], 'row')} without a time in {report['column']} stay")
    if report["auto_vacuum"] == "NONE":
        output.line(
            f"auto_vacuum is NONE: the space is used again, the file does not shrink. To convert it, while no writer "
            f"runs: sqlite3 {bus.database.path} 'PRAGMA auto_vacuum=INCREMENTAL; VACUUM'"
        )


def _kind(bus: Bus) -> type[Old]:
    return OldOnServer if bus.database.dialect == "postgresql" else Old


@contextmanager
def _reading(bus: Bus) -> Iterator[Any]:
    """For a moment: who reads keeps the log from being written back."""
    if bus.database.path is not None and not bus.database.path.exists():
        raise no_database(bus.database, "prune")
    try:
        with connect(bus.database, DEFAULT_TIMEOUT, True, None) as connection:
            yield connection
    except errors_of(bus.database) as error:
        raise DatabaseFault(f"cannot be read: {error}", operation="prune", subject=bus.database.masked) from error


def _age(text: str) -> timedelta:
    try:
        return age(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _batch(text: str) -> int:
    if (count := positive(text)) > _MOST_BATCH_ROWS:
        raise argparse.ArgumentTypeError(f"{text} is more than {_MOST_BATCH_ROWS}")
    return count
