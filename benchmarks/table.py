"""The figures on a terminal of a hundred columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from .catalogue import Goal, Result

WIDTH = 100


def head(about: Mapping[str, str], console: Console) -> None:
    """What the figures depend on; the versions in one line."""
    said = {name: about[name] for name in ("run", "processor", "system", "disk")}
    versions = {name: value for name, value in about.items() if name not in (*said, "load before")}
    said["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    grid = Table.grid(padding=(0, 2))
    for name, value in said.items():
        grid.add_row(name, value)
    console.print(grid, highlight=False)


def show(results: Sequence[Result], console: Console) -> None:
    """A line for each figure, with its goal and whether it was met."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for heading in ("median", "lowest", "highest", "goal", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for result in results:
        figure = result.figure
        if figure.group != group:
            if group:
                table.add_row()
            table.add_row(f"[bold]{figure.group}[/]")
            group = figure.group
        table.add_row(
            figure.label,
            number(result.median),
            number(min(result.values)),
            number(max(result.values)),
            _goal(figure.goal),
            _VERDICTS[result.met],
        )
    console.print(table)


_VERDICTS = {None: "", True: "[green]met[/]", False: "[red]not met[/]"}


def _goal(goal: Goal | None) -> str:
    return "" if goal is None else f"{'≥' if goal.at_least else '≤'} {goal.value:,g}"


def number(value: float) -> str:
    """Three digits that matter."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
