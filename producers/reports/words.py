"""Values as people read them: rates with a small bar, durations in units that fit, moments, counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from telemetry_bus.errors import printable

#: What is not known.
UNKNOWN = "-"
#: For a name that nobody gave.
NAMELESS = "Unknown"

_BAR_WIDTH = 6
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
_OF_NUMBERS = frozenset({"count", "number", "rate", "duration"})
_MOMENT = "%Y-%m-%d %H:%M:%S"


def words(kind: str, value: Any) -> str:
    """A value of a column's kind, without the bar of a rate."""
    if value is None:
        return NAMELESS if kind == "name" else UNKNOWN
    if kind in _OF_NUMBERS:
        if not isinstance(value, int | float | Decimal):  # a column may hold anything in SQLite
            return printable(str(value))
        if not math.isfinite(value):
            return UNKNOWN
    return printable(_WORDS[kind](value))


def bar(rate: float | None) -> str:
    """A rate from 0 to 1 as a bar of blocks, `_BAR_WIDTH` characters."""
    eighths = round(min(max(rate or 0.0, 0.0), 1.0) * _BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_WIDTH)


def duration(ms: float) -> str:
    """Milliseconds in the unit that fits: `350 ms`, `1.5 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms < _SECOND:
        return f"{ms:.0f} ms" if ms >= 10 or ms == 0 else f"{ms:.1f} ms"
    if ms < _MINUTE:
        return f"{ms / _SECOND:.1f} s"
    if ms < _HOUR:
        return f"{ms // _MINUTE:.0f} min {ms % _MINUTE // _SECOND:.0f} s"
    if ms < _DAY:
        return f"{ms // _HOUR:.0f} h {ms % _HOUR // _MINUTE:.0f} min"
    return f"{ms // _DAY:.0f} d {ms % _DAY // _HOUR:.0f} h"


def percent(rate: float) -> str:
    """A rate from 0 to 1 in percent, with one decimal."""
    return f"{rate * 100:.1f}%"


def plural(count: int, noun: str) -> str:
    """`1 host`, `2,000 hosts`, `2 entries`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"


def _moment(value: object) -> str:
    """To the second, as it stands in the database."""
    return value.strftime(_MOMENT) if isinstance(value, datetime) else str(value).replace("T", " ")[:19]


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "text": str,
    "name": str,
    "count": lambda value: f"{value:,}",
    "number": lambda value: f"{value:,.2f}",
    "rate": percent,
    "duration": duration,
    "moment": _moment,
    "flag": lambda value: "yes" if value else "no",
}
