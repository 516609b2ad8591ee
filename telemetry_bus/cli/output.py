"""What a command prints: JSON for machines, tables on a terminal, aligned text without colour in a pipe."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, TextIO

from ..errors import printable

#: No text is wrapped into less, however narrow the terminal is.
_LEAST_WIDTH = 20
#: Between the columns of plain text.
_GAP = "  "
#: A stream's id is cut to so many digits for people; they tell streams apart as they tell commits apart.
STREAM_DIGITS = 8
#: How the states of `status` and `doctor` look on a terminal.
STATE_STYLES = {
    "running": "green",
    "degraded": "bold red",
    "absent": "yellow",
    "missing": "bold red",
    "ok": "green",
    "warning": "yellow",
    "problem": "bold red",
}


class Output:
    """Standard output, or another stream."""

    def __init__(self, *, as_json: bool, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stream = stream or sys.stdout
        self.on_terminal = self._stream.isatty()

    def document(self, value: Any) -> None:
        """One JSON value on one line."""
        self._write(json.dumps(value))

    def array(self, values: Iterable[Any]) -> None:
        """One JSON array, a line for each value as it comes: together they may be large."""
        text = "["
        for position, value in enumerate(values):
            if position:
                self._write(f"{text},")
                text = ""
            text += json.dumps(value)
        self._write(f"{text}]")

    def line(self, text: str = "", *, state: str = "") -> None:
        """One line. A `state` at its beginning has its colour on a terminal."""
        if not (state and self.on_terminal):
            self._write(printable(text))
            return
        from rich.text import Text

        line = Text(printable(text))
        line.stylize(STATE_STYLES[state], 0, len(state))
        self._print(line, soft_wrap=True)

    def sentence(self, text: str, *, begin: str = "", state: str = "") -> None:
        """As `line`, behind `begin`, below whose end a terminal wraps the text between words."""
        lines = [text]
        if self.on_terminal:
            room = max(get_terminal_size().columns - len(begin), _LEAST_WIDTH)
            lines = wrap(printable(text), room, break_on_hyphens=False) or [""]
        self.line(f"{begin}{lines[0]}", state=state)
        for line in lines[1:]:
            self.line(f"{' ' * len(begin)}{line}")

    def number(self, count: int) -> str:
        """With separators on a terminal; in a pipe a program may want to read it."""
        return f"{count:,}" if self.on_terminal else str(count)

    def counted(self, count: int, noun: str) -> str:
        return f"{self.number(count)} {nouns(count, noun)}"

    def flush(self) -> None:
        """What was written is there to be read, in a pipe too."""
        self._stream.flush()

    def fields(self, values: Mapping[str, str]) -> None:
        """Names with their values, one per line."""
        width = max(map(len, values))
        if not self.on_terminal:
            for name, value in values.items():
                self.line(f"{name.ljust(width)}{_GAP}{value}")
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, len(_GAP)))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in values.items():
            grid.add_row(name, Text(printable(value), style=STATE_STYLES.get(value, "")))
        self._print(grid)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, wrapped: int = 0) -> None:
        """Rows under the names of their columns; numbers stand to the right. A terminal that is too narrow wraps the
        last `wrapped` columns."""
        cells = [[printable(str(value)) for value in row] for row in rows]
        right = [all(map(_is_number, (row[i] for row in cells))) for i in range(len(columns))]
        if not self.on_terminal:
            widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
            for row in [columns, *cells]:
                padded = zip(row, widths, right, strict=True)
                self._write(_GAP.join(c.rjust(w) if r else c.ljust(w) for c, w, r in padded).rstrip())
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for i, name in enumerate(columns):
            whole = i < len(columns) - wrapped
            table.add_column(name, justify="right" if right[i] else "left", overflow="fold", no_wrap=whole)
        for row in cells:
            table.add_row(*map(Text, row))
        self._print(table)

    def _print(self, renderable: Any, *, soft_wrap: bool = False) -> None:
        from rich.console import Console

        Console(file=self._stream, highlight=False).print(renderable, soft_wrap=soft_wrap)

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=self._stream)


@contextmanager
def unlogged() -> Iterator[None]:
    """A job that fails is told in one line, as all errors of commands are, and not by the log of the store, or of the
    driver, as well."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("telemetry_bus", "psycopg")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _is_number(cell: str) -> bool:
    """A lone dash is a number that is not known."""
    return cell == "-" or cell.removeprefix("-").replace(".", "", 1).replace(",", "").isdigit()


def counted(count: int, noun: str) -> str:
    return f"{count} {nouns(count, noun)}"


def nouns(count: int, noun: str) -> str:
    """The noun for so many."""
    return noun if count == 1 else f"{noun}s"


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= 10 * unit:
            return f"{count // unit} {name}"
    return f"{count} bytes"
