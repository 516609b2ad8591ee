"""What the demonstration shows: progress while it runs, then the ways side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from producers.extraction import ComprehensiveExtractionTelemetry
from producers.reports import extraction
from producers.reports.rendering import render
from producers.reports.report import Report

from .workers import Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """One way to record: its name, what its run did, and how many of its rows are not in the database."""

    name: str
    outcome: Outcome
    missing: int
    is_recorded: bool = True


@contextmanager
def progress(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` files are done: a bar on a terminal, four lines elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"{title:16}", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    quarters_shown = 0

    def show(done: int) -> None:
        nonlocal quarters_shown
        if done * 4 // total > quarters_shown:
            quarters_shown = done * 4 // total
            print(f"{title}: {done:,} of {total:,} files", flush=True)

    yield show


def comparison(console: Console, results: list[Result]) -> None:
    """The ways side by side, and what recording adds to the work by itself, if that was tried."""
    table = _table(console, "one record per file", "", *(result.name for result in results))
    outcomes = [result.outcome for result in results]
    tallies = [outcome.tally for outcome in outcomes]
    rates = [tally.records / outcome.seconds for tally, outcome in zip(tallies, outcomes, strict=True)]
    table.add_row("records", *(f"{tally.records:,}" for tally in tallies))
    table.add_row("seconds, until all is committed", *(f"{outcome.seconds:.1f}" for outcome in outcomes))
    table.add_row("records per second", *(f"{rate:,.0f}" for rate in rates))
    if len(rates) > 1 and not results[-1].is_recorded:
        table.add_row("of the rate without records", *(f"{rate / rates[-1]:.0%}" for rate in rates))
    table.add_row("ms for one write, mean", *(f"{tally.mean_s * 1000:.3f}" for tally in tallies))
    table.add_row("worst single write, ms", *(f"{tally.worst_s * 1000:.1f}" for tally in tallies))
    table.add_row("lock errors", *(f"{tally.lock_errors:,}" for tally in tallies))
    table.add_row("records missing", *(f"{result.missing:,}" for result in results))
    _show(console, table)


def methods(console: Console, database: Path) -> None:
    """How well each method worked, read from the database that the bus wrote."""
    _report(console, extraction.methods(ComprehensiveExtractionTelemetry(database)))


def scorecard(console: Console, database: Path) -> None:
    """The publishers, worst first."""
    _report(console, extraction.publishers(ComprehensiveExtractionTelemetry(database)))


def _report(console: Console, report: Report) -> None:
    console.print()
    render(report, "table", sys.stdout)


def _table(console: Console, title: str, *columns: str) -> Table:
    plain = not console.is_terminal
    table = Table(title=title, title_justify="left", box=None if plain else box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    return table


def _show(console: Console, table: Table) -> None:
    console.print()
    console.print(table)


def next_steps(database: Path) -> str:
    """Where the database is, and commands to look at it with."""
    programs, path = shlex.quote(relpath(Path(sys.executable).parent)), shlex.quote(relpath(database))
    return (
        f"The database: {database}\nTry next:\n"
        f"  {programs}/telemetry-report fields --database {path}\n"
        f"  {programs}/telemetry-report serve --database {path}\n"
        f"  {programs}/telemetry-bus status --database {path}"
    )
