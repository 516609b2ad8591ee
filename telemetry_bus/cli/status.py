"""`telemetry-bus status`: how the writer is, what waits, what failed."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timedelta
from typing import Any

from ..config import Database
from ..control import ANSWER_S, ask
from ..errors import DatabaseFault, TelemetryError, WriterAbsent
from . import exit_codes
from .arguments import Parser
from .deadletters.letters import reading
from .output import STREAM_DIGITS, Output, size
from .survey import Bus, Journals
from .top.rates import most_urgent_first

#: What only a writer knows; a null in the JSON form when none answers.
_OF_THE_WRITER = (
    "pid",
    "version",
    "epoch",
    "uptime_s",
    "jobs_committed",
    "rows_committed",
    "batches",
    "jobs_failed",
    "duplicates_dropped",
    "resends_requested",
    "ddl_cached",
    "malformed",
    "jobs_gone",
    "journals_adopted",
    "journals_quarantined",
    "journals_unread",
    "leaving",
    "inherited",
)
_CODES = {
    "running": exit_codes.DONE,
    "degraded": exit_codes.DEGRADED,
    "absent": exit_codes.ABSENT,
    "missing": exit_codes.MISSING,
}


def add_to(whole: Parser) -> None:
    whole.command(
        "status",
        run,
        "show the writer, pending jobs and dead letters",
        "Show the writer, pending jobs and dead letters. The state is running, degraded, absent (no writer runs) or\n"
        "missing (there is no such database). Jobs that have failed, and are dead letters, change the exit code alone.",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    report = status(Bus.of(arguments.database))
    if output.as_json:
        output.document(report)
    else:
        _show(report, output)
    failed = report["state"] == "running" and report["dead_letters"]
    return exit_codes.FAILED if failed else _CODES[report["state"]]


def status(bus: Bus, most_bytes: int = sys.maxsize) -> dict[str, Any]:
    """The keys of `status --json`: the writer's answer, or what can be seen without one; and the journals.

    Of more than `most_bytes` in a journal the number of its pending jobs is reckoned, see `inspect`.
    """
    journals = bus.journals(most_bytes)
    report = _asked(bus, journals) if bus.held else None
    if report is None:
        report = _unasked(bus)
    report["pending_jobs"] = journals.pending_jobs
    report["jobs_dropped"] = journals.dropped_jobs
    report["streams"] = [
        {
            "stream": journal.stream.hex(),
            "pid": journal.pid,
            "alive": journal.alive,
            "pending_jobs": journal.pending_jobs,
            "pending_bytes": journal.pending_bytes,
            "acknowledged_jobs": journal.trimmed,
        }
        for journal in journals.readable
    ]
    _add_damage(report, journals)
    return report


def _asked(bus: Bus, journals: Journals) -> dict[str, Any] | None:
    """The answer of the one who owns the database; None when it has gone."""
    owner = bus.owner(journals)
    problem = owner.silence()
    if not owner.is_program:
        try:
            report = ask(bus.folder, "status", ANSWER_S)  # of one that is older, perhaps
            return {"state": report["state"], **dict.fromkeys(_OF_THE_WRITER), **report}
        except WriterAbsent:
            if not bus.held:
                return None
        except TelemetryError as error:  # of another version, perhaps
            problem = str(error)
    return {**_unasked(bus), "state": "degraded", "pid": owner.pid, "last_error": problem}


def _unasked(bus: Bus) -> dict[str, Any]:
    """What can be said when no writer answers."""
    report: dict[str, Any] = {
        "state": "missing" if bus.missing else "absent",
        **dict.fromkeys(_OF_THE_WRITER),
        "database": bus.database.masked,
        "dead_letters": 0,
        "commit_ms": {"p50": None, "p99": None},
        "drift": [],
        "wal_bytes": _log_bytes(bus.database),
        "last_error": None,
    }
    if report["state"] == "missing":
        report["last_error"] = "there is no such database"
    elif bus.database.path is None or bus.database.path.exists():
        try:
            with reading(bus.database) as letters:
                report["dead_letters"] = letters.count()
        except DatabaseFault as fault:
            report.update(dead_letters=None, last_error=str(fault))
        if (refusal := bus.other_name()) is not None:
            report["last_error"] = str(refusal)
    return report


def _log_bytes(database: Database) -> int:
    try:
        return os.stat(f"{database.path}-wal").st_size
    except FileNotFoundError:
        return 0


def _add_damage(report: dict[str, Any], journals: Journals) -> None:
    report["damaged_journals"] = list(journals.damaged)
    if journals.damaged:
        name, problem = next(iter(journals.damaged.items()))
        report["last_error"] = report["last_error"] or f"journal {name} cannot be read: {problem}"
        if report["state"] == "running":
            report["state"] = "degraded"


def fields(report: dict[str, Any], output: Output) -> dict[str, str]:
    """What is known of the writer and of what waits, for people."""
    fields = {"state": report["state"], "database": report["database"]}
    if report["epoch"] is not None:
        uptime = timedelta(seconds=round(report["uptime_s"]))
        fields["writer"] = f"process {report['pid']}, version {report['version']}, up {uptime}, epoch {report['epoch']}"
    elif report["pid"] is not None:
        fields["writer"] = f"process {report['pid']}"
    fields["pending jobs"] = output.number(report["pending_jobs"])
    if report["jobs_committed"] is not None:
        fields["committed"] = (
            f"{output.counted(report['jobs_committed'], 'job')}, {output.counted(report['rows_committed'], 'row')} in "
            f"{output.counted(report['batches'], 'transaction')}"
        )
        if report["batches"]:
            latency = report["commit_ms"]
            fields["commit"] = f"{latency['p50']:.1f} ms (p50), {latency['p99']:.1f} ms (p99)"
        fields["messages"] = (
            f"{output.number(report['duplicates_dropped'])} duplicates dropped, "
            f"{output.number(report['resends_requested'])} resends requested"
        )
        fields["definitions"] = f"{report['ddl_cached']} seen to"
    fields["dead letters"] = "unknown" if report["dead_letters"] is None else output.number(report["dead_letters"])
    if report["jobs_failed"]:
        fields["dead letters"] += f"; {output.counted(report['jobs_failed'], 'job')} failed since the writer began"
    if report["jobs_dropped"]:
        fields["dropped"] = f"{output.counted(report['jobs_dropped'], 'job')} that found a full journal"
    fields["log"] = f"{size(report['wal_bytes'])} (WAL)"
    if report.get("inherited"):  # only a writer tells
        fields["inherited"] = ", ".join(report["inherited"])
    for drift in report["drift"]:
        fields["drift"] = f"{fields['drift']}; {drift}" if "drift" in fields else drift
    if loss := gone(report):
        fields["jobs gone"] = loss
    if report["last_error"]:
        fields["last error"] = report["last_error"]
    return fields


def gone(report: dict[str, Any]) -> str:
    """What keeps a writer degraded although its database works; empty when no job is gone."""
    number = report.get("jobs_gone")  # none when no writer answers
    return f"{number} that were committed, for the database was deleted, replaced or restored" if number else ""


#: The names of what `stream_cells` returns.
STREAM_COLUMNS = ("stream", "process", "alive", "pending jobs", "pending bytes")


def stream_cells(stream: dict[str, Any], output: Output) -> tuple[object, ...]:
    """A stream as a row of a table."""
    return (
        stream["stream"][: STREAM_DIGITS if output.on_terminal else None],
        stream["pid"],
        "yes" if stream["alive"] else "no",
        output.number(stream["pending_jobs"]),
        output.number(stream["pending_bytes"]),
    )


def _show(report: dict[str, Any], output: Output) -> None:
    output.fields(fields(report, output))
    if report["streams"]:
        output.line()
        output.table(STREAM_COLUMNS, [stream_cells(stream, output) for stream in most_urgent_first(report["streams"])])
