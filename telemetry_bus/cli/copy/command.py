"""`telemetry-bus copy`: a SQLite database with its ledger into PostgreSQL, while producers go on."""

from __future__ import annotations

import argparse
import signal
import sqlite3
import time
from typing import Any

from ...config import DEFAULT_TIMEOUT, Database, env_flag, parse_database
from ...errors import ConfigError
from .. import exit_codes
from ..arguments import Parser, seconds
from ..calling import POLL_S
from ..flush import wait_for_journals
from ..output import Output, counted
from ..progress import counting
from ..survey import Bus
from ..termination import noted
from . import mark
from .definitions import fits, type_of
from .journals import Brought, bring
from .moving import Copied, Plan, abandon, copy, plan_of, reading, refuse_elsewhere
from .source import Table, quoted
from .target import opened


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "copy",
        run,
        "move a SQLite database into PostgreSQL, with its ledger",
        "Copy all tables, indexes and rows of a SQLite database into an empty PostgreSQL database, each row once,\n"
        "with the ledger and the dead letters. Meanwhile the jobs of producers wait in their journals. Run again, it\n"
        "goes on where it was, and brings along the journals of producers that have ended since.",
    )
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="the SQLite database")
    parser.add_argument("--to", metavar="URL", help="the PostgreSQL database; else TELEMETRY_DATABASE_URL")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be copied, and what would not fit")
    parser.add_argument("--follow", action="store_true", help="stay until the last producer has let go of the old one")
    parser.add_argument("--abandon", action="store_true", help="give up a copy that is not done: the old one goes on")
    parser.add_argument("--replace-nul", action="store_true", help="store U+FFFD for a NUL in a text")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="wait for locks, the writer, and the jobs that are brought along, S seconds at most (%(default)g)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    source, target = _buses(arguments)
    if arguments.abandon:
        with reading(source, readonly=False, timeout=arguments.timeout) as connection:
            abandon(source, connection)
        if output.as_json:
            output.document({"abandoned": True})
        else:
            output.sentence(f"{source.database.masked} is written into again; drop what was copied by hand")
        return exit_codes.DONE
    if arguments.dry_run:
        return _dry_run(source, target, arguments.timeout, output)
    started = time.monotonic()
    with (
        reading(source, readonly=False, timeout=arguments.timeout) as connection,
        opened(target.database) as there,
    ):
        move = mark.find(connection)
        refuse_elsewhere(move, target)
        copied = None
        if move is None or not move.finished:
            copied = copy(
                source,
                target,
                connection,
                there,
                lambda rows: counting(output, rows, "copying"),
                replace_nul=arguments.replace_nul,
                timeout=arguments.timeout,
            )
    brought = _bring(source, target, arguments, output)
    _report(copied, brought, source, target, time.monotonic() - started, output)
    return exit_codes.FAILED if copied is not None and copied.refused else exit_codes.DONE


def _buses(arguments: argparse.Namespace) -> tuple[Bus, Bus]:
    source, target = parse_database(arguments.source), parse_database(arguments.to)
    _demand(source, "sqlite", "--from", "sqlite:///PATH")
    _demand(target, "postgresql", "--to", "postgresql://USER@HOST/NAME")
    return Bus.of(arguments.source), Bus.of(arguments.to)


def _demand(database: Database, dialect: str, option: str, example: str) -> None:
    if database.dialect != dialect or database.is_memory:
        raise ConfigError(
            f"{option} must name a database of {'SQLite, in a file' if dialect == 'sqlite' else 'PostgreSQL'}",
            operation="copy",
            subject=database.masked,
            hint=example,
        )


def _dry_run(source: Bus, target: Bus, timeout: float, output: Output) -> int:
    with reading(source, readonly=True, timeout=timeout) as connection, opened(target.database) as there:
        move = mark.find(connection)
        refuse_elsewhere(move, target)
        plan = plan_of(connection, there)
        if move is None or not there.begun(move.id):
            there.check(plan.definitions)
        misfits = {table.name: _misfits(connection, table) for table, _ in plan.tables}
    if output.as_json:
        output.document(
            {
                "from": source.database.masked,
                "to": target.database.masked,
                "dry_run": True,
                "tables": [
                    {"name": table.name, "rows": table.rows, "misfits": misfits[table.name], "definition": one.create}
                    for table, one in plan.tables
                ],
                "left_out": list(plan.notes),
            }
        )
        return exit_codes.DONE
    _table(plan, {name: sum(columns.values()) for name, columns in misfits.items()}, "would not fit", output)
    for name, columns in misfits.items():
        for column, number in columns.items():
            output.sentence(f"{name}.{column}: {output.counted(number, 'value')} would not fit its type")
    for note in plan.notes:
        output.sentence(note)
    output.sentence(f"{output.counted(plan.total, 'row')} would be copied")
    return exit_codes.DONE


def _misfits(connection: sqlite3.Connection, table: Table) -> dict[str, int]:
    """How many values of each column would not fit, of those that have any."""
    counts = ", ".join(f"count(*) FILTER (WHERE NOT {fits(one, type_of(one.type))})" for one in table.columns)
    (found,) = connection.execute(f"SELECT {counts} FROM {quoted(table.name)}").fetchall()
    return {column.name: number for column, number in zip(table.columns, found, strict=True) if number}


def _bring(source: Bus, target: Bus, arguments: argparse.Namespace, output: Output) -> Brought:
    """Once, or with `--follow` until none is left. What has come is then applied, where a writer may be started."""
    brought = bring(source, target)
    if arguments.follow and brought.left:
        with noted(signal.SIGINT, signal.SIGTERM) as stopped:
            if not output.as_json:
                output.sentence(f"waiting for {_producers(brought)}: give them the new URL")
                output.flush()
            while brought.left and not stopped():
                time.sleep(POLL_S)
                more = bring(source, target)
                brought = Brought(brought.journals + more.journals, brought.jobs + more.jobs, more.left)
    if brought.journals and env_flag("TELEMETRY_BUS_SPAWN", True):
        wait_for_journals(target, arguments.timeout)
    return brought


def _producers(brought: Brought) -> str:
    return ", ".join(f"process {journal.pid}" for journal in brought.left)


def _report(copied: Copied | None, brought: Brought, source: Bus, target: Bus, took: float, output: Output) -> None:
    if output.as_json:
        output.document(
            {
                "from": source.database.masked,
                "to": target.database.masked,
                "dry_run": False,
                **_of_copy(copied),
                "journals": brought.journals,
                "jobs": brought.jobs,
                "waiting": [{"pid": one.pid, "pending_jobs": one.pending_jobs} for one in brought.left],
                "seconds": round(took, 3),
            }
        )
        return
    if copied is None:
        output.line("the copy was done before")
    else:
        _table(copied.plan, copied.refused, "refused", output)
        for note in (*copied.plan.notes, *copied.left_out):
            output.sentence(note)
        for name, error in copied.errors.items():
            output.sentence(f"{name}: {output.counted(copied.refused[name], 'row')} refused: {error}")
        if copied.refused:
            output.sentence("what was refused is kept: telemetry-bus dead-letters list, with the new URL")
        number = copied.plan.total - copied.refused.total()
        output.line(f"{output.counted(number, 'row')} copied in {took:.1f} s")
    if brought.journals:
        output.line(f"{counted(brought.jobs, 'job')} of {counted(brought.journals, 'journal')} brought along")
    if brought.left:
        jobs = counted(sum(journal.pending_jobs for journal in brought.left), "job")
        output.sentence(f"{jobs} wait in the journals of {_producers(brought)}: give them the new URL, run this again")


def _of_copy(copied: Copied | None) -> dict[str, Any]:
    if copied is None:
        return {"tables": [], "left_out": []}
    return {
        "tables": [
            {
                "name": table.name,
                "rows": table.rows,
                "refused": copied.refused[table.name],
                "error": copied.errors.get(table.name),
            }
            for table, _ in copied.plan.tables
        ],
        "left_out": [*copied.plan.notes, *copied.left_out],
    }


def _table(plan: Plan, refused: dict[str, int], name: str, output: Output) -> None:
    rows = [
        (table.name, output.number(table.rows), output.number(refused.get(table.name, 0))) for table, _ in plan.tables
    ]
    if rows:
        output.table(("table", "rows", name), rows)
