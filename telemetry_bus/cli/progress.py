"""How far a command has come, on a terminal: rows, of a number that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .output import Output


@contextmanager
def counting(output: Output, rows: int, doing: str) -> Iterator[Callable[[int], None]]:
    """Tells how many rows more are done; nobody, unless at a terminal."""
    if not output.on_terminal or output.as_json:
        yield lambda count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=rows)
        yield lambda count: progress.advance(task, count)
