"""A report: rows of plain values, and how people like to read them. Pure data, printed by `rendering`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
#: A `name` is a text that should have been given; `rate` is from 0 to 1, `duration` in milliseconds, `moment` a time in
#: UTC.
Kind = Literal["text", "name", "count", "number", "rate", "duration", "moment", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """A value of every row: its key, what people call it, and what kind of value it is.

    In plain text it is cut to `width` characters. A terminal shows as much of the texts as it has room for, and does
    without the `optional` columns, the last ones first, where it is too narrow. JSON and CSV have everything.
    A terminal's colours say of a rate how `good` it is.
    """

    key: str
    heading: str
    kind: Kind = "text"
    width: int | None = None
    optional: bool = False
    good: Literal["high", "low", "neither"] = "high"


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows that share the value of `key` stand under a line of their own: the value, then what `summary` says of them.

    At most `most` of them are shown in a table.
    """

    key: str
    summary: Callable[[Sequence[Row]], Sequence[tuple[Column, Any]]]
    most: int


@dataclass(frozen=True, slots=True)
class Report:
    """`rows` in the order in which they are shown; those of a group stand together. `columns` has every key of theirs.

    `counted` is what the rows are, in the singular; `nothing` what to say when there are none.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    counted: str
    nothing: str
    grouping: Grouping | None = None
    closing: str = ""


def share(part: float | None, whole: float | None) -> float | None:
    """A rate from 0 to 1; None of nothing."""
    return (part or 0) / whole if whole else None
