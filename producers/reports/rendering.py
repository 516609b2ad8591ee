"""How a report is printed: tables on a terminal, aligned text in a pipe, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, TextIO

from telemetry_bus.errors import printable

from ..values import json_text
from .report import Column, Grouping, Report, Row
from .words import NAMELESS, bar, plural, words

Format = Literal["table", "json", "csv"]

#: Between the columns of plain text.
_GAP = "  "
#: Less of a text says nothing.
_LEAST_TEXT = 4
#: A spreadsheet takes a cell that begins so for a formula.
_FORMULAS = ("=", "+", "-", "@", *"\uff1d\uff0b\uff0d\uff20")  # the wide ones where Japanese is set
_TEXTS = frozenset({"text", "name"})
_RIGHT = frozenset({"count", "number", "rate", "duration"})


def render(report: Report, form: Format, stream: TextIO, *, spreadsheet: bool = False) -> None:
    """Print the report. JSON and CSV hold all rows, with plain values: rates from 0 to 1, durations in ms.

    In CSV what would steer a terminal is an escape; with `spreadsheet` no text begins like a formula.
    """
    if form == "json":
        rows = [
            {key: str(value) if isinstance(value, datetime) else value for key, value in row.items()}
            for row in report.rows
        ]
        stream.write(json_text(rows) + "\n")
    elif form == "csv":
        keys = [column.key for column in report.columns]
        text = io.StringIO()
        writer = csv.DictWriter(text, keys, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _csv_cell(row.get(key), spreadsheet) for key in keys} for row in report.rows)
        _write(stream, text.getvalue())
    elif not report.rows:
        _write(stream, f"{report.nothing}\n")
    elif stream.isatty() and (stream.encoding or "").lower().startswith("utf"):
        _on_terminal(report, stream)
    else:
        _in_plain_text(report, stream)


def _csv_cell(value: object, spreadsheet: bool) -> object:
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.split("\n")))
    return f"'{text}" if spreadsheet and value.lstrip().startswith(_FORMULAS) else text


def _in_plain_text(report: Report, stream: TextIO) -> None:
    """Aligned columns and nothing that steers a terminal."""
    for line in _plain_lines(report):
        _write(stream, line.rstrip() + "\n")


def _write(stream: TextIO, text: str) -> None:
    """What the stream's encoding lacks is written as an escape."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _plain_lines(report: Report) -> Iterator[str]:
    yield report.title
    columns = _shown(report)
    for name, summary, rows in _groups(report):
        cells = [[column.heading for column in columns], *([_cell(column, row) for column in columns] for row in rows)]
        widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
        yield ""
        if report.grouping:
            yield _GAP.join([name, *(f"{column.heading} {words(column.kind, value)}" for column, value in summary)])
        for row in cells:
            yield _GAP.join(
                _aligned(column, text, width) for column, text, width in zip(columns, row, widths, strict=True)
            )
    yield ""
    yield _closing(report)


def _on_terminal(report: Report, stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    console.print(Text(report.title, "bold"))
    for name, summary, rows in _groups(report):
        if report.grouping:
            console.print()
            console.print(_group_line(name, summary), no_wrap=True, overflow="ellipsis")
        console.print(_table(_shown(report), rows, console.width))
    console.print(Text(_closing(report), "dim"))


def _table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Any:
    """Numbers are shown whole: what is too wide loses its optional columns, then the ends of its texts."""
    from rich import box
    from rich.table import Table

    cells = {column: [_rich_cell(column, row) for row in rows] for column in columns}
    widths = {column: max(len(column.heading), *(cell.cell_len for cell in cells[column])) for column in columns}
    _fit(widths, width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, room in widths.items():
        justify: Any = "right" if column.kind in _RIGHT else "left"
        table.add_column(column.heading, justify=justify, no_wrap=True, overflow="ellipsis", width=room)
    for row in zip(*(cells[column] for column in widths), strict=True):
        table.add_row(*row)
    return table


def _fit(widths: dict[Column, int], width: int) -> None:
    """Make the columns fit into `width`, if that can be."""

    def excess() -> int:
        return sum(widths.values()) + len(_GAP) * (len(widths) - 1) - width

    for optional in [column for column in reversed(widths) if column.optional]:
        if excess() > 0:
            del widths[optional]
    texts = [column for column in widths if column.kind in _TEXTS]
    while excess() > 0 and texts and max(widths[column] for column in texts) > _LEAST_TEXT:
        widths[max(texts, key=lambda column: widths[column])] -= 1


def _rich_cell(column: Column, row: Row) -> Any:
    from rich.text import Text

    value = row.get(column.key)
    return _rate(value, column.good) if column.kind == "rate" else Text(words(column.kind, value))


def _rate(rate: float | None, good: str = "high") -> Any:
    """The bar and the number, in a colour that says whether it is well."""
    from rich.text import Text

    if rate is None:
        return Text(words("rate", None), "dim")
    goodness = 1 - rate if good == "low" else rate
    colour = "green" if goodness >= 0.9 else "yellow" if goodness >= 0.5 else "red"
    if good == "neither":
        colour = ""
    return Text.assemble((bar(rate), colour), f" {words('rate', rate):>6}")


def _group_line(name: str, summary: Sequence[tuple[Column, Any]]) -> Any:
    from rich.text import Text

    line = Text(name, "bold")
    for column, value in summary:
        shown = _rate(value) if column.kind == "rate" else words(column.kind, value)
        line = Text.assemble(line, _GAP, (f"{column.heading} ", "dim"), shown)
    return line


def _groups(report: Report) -> Iterator[tuple[str, Sequence[tuple[Column, Any]], Sequence[Row]]]:
    """Each group's name, what is said of all its rows, and those that are shown."""
    grouping = report.grouping
    if grouping is None:
        yield "", (), report.rows
        return
    for value, found in groupby(report.rows, key=lambda row: row.get(grouping.key)):
        rows = list(found)
        yield words("text", value or NAMELESS), grouping.summary(rows), rows[: grouping.most]


def _shown(report: Report) -> list[Column]:
    """The columns of the table; a group's value stands above it."""
    grouping: Grouping | None = report.grouping
    return [column for column in report.columns if grouping is None or column.key != grouping.key]


def _cell(column: Column, row: Row) -> str:
    text = words(column.kind, row.get(column.key))
    if column.width is None or _width(text) <= column.width:
        return text
    kept = text[: column.width - 1]
    while _width(kept) > column.width - 1:
        kept = kept[:-1]
    return f"{kept}…"


def _aligned(column: Column, text: str, width: int) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if column.kind in _RIGHT else text + blanks


def _width(text: str) -> int:
    """On a screen, where a character may take two places or none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _closing(report: Report) -> str:
    return ". ".join(filter(None, [plural(len(report.rows), report.counted), report.closing]))
