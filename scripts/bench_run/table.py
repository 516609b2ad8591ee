"""The figures on a terminal of a hundred columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from .catalogue import Goal, Result

WIDTH = 100


def show(about: Mapping[str, str], results: Sequence[Result], console: Console) -> None:
    for name, value in about.items():
        console.print(f"{name:>16}  {value}", highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for heading in ("median", "lowest", "highest", "goal", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for result in results:
        figure = result.figure
        if figure.group != group:
            if group:
                table.add_section()
            table.add_row(f"[bold]{figure.group}[/]")
            group = figure.group
        table.add_row(
            figure.label, _number(result.median), _number(min(result.values)), _number(max(result.values)),
            _goal(figure.goal), _VERDICTS[result.met],
        )
    console.print(table)


_VERDICTS = {None: "", True: "[green]met[/]", False: "[red]not met[/]"}


def _goal(goal: Goal | None) -> str:
    return "" if goal is None else f"{'≥' if goal.at_least else '≤'} {goal.value:,g}"


def _number(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
