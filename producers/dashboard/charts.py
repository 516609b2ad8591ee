"""Charts: numbers by the hour as stacked bars, whose places templates draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ..values import utc_now, utc_text
from .asking import BadQuestion
from .pages import text_of

#: A bar stands for as many hours, so that there are at most so many bars.
MOST_BARS = 200
#: So many series are shown, the largest; the others are one.
MOST_SERIES = 6
OTHERS = "others"
#: The colours of the style sheet by number: for what is good, for what is not, and of the others.
_GOOD, _BAD, _GREY = (4, 2, 3, 5, 1, 0), (0, 1, 5, 3, 2, 4), 6
_WIDTH, _HEIGHT = 1000, 220
#: How an hour is written, as a text of `strftime`.
HOUR = "%Y-%m-%d %H"


class Bar(NamedTuple):
    """A part of a bar: where it stands in the chart, what it is."""

    x: float
    y: float
    width: float
    height: float
    series: int
    words: str
    hour: str


def stacked(hours: Mapping[str, Mapping[str, int]], days: float, good: Collection[str] = ()) -> dict[str, Any]:
    """The chart of numbers by hour, which is a text `YYYY-MM-DD HH` in UTC, and by series, of the last days: each bar
    of as many hours as make it readable. What is `good` is below, in colours that say so."""
    step = max(1, -(-int(days * 24) // MOST_BARS))
    end = utc_now().replace(tzinfo=None, minute=0, second=0, microsecond=0) + timedelta(hours=1)
    bars_there = -(-int(days * 24 + 1) // step)
    begin = end - timedelta(hours=step * bars_there)
    total = Counter[str]()
    bars: dict[int, Counter[str]] = {}
    for hour, counts in hours.items():
        total.update(counts)
        number = int((datetime.strptime(hour, HOUR) - begin) / timedelta(hours=step))
        bars.setdefault(min(max(0, number), bars_there - 1), Counter()).update(counts)
    names = sorted((name for name, _ in total.most_common(MOST_SERIES)), key=lambda name: name not in good)
    colours = _colours(names, good)
    highest = max((counts.total() for counts in bars.values()), default=0)
    width = _WIDTH / bars_there
    parts = [
        part
        for number, counts in sorted(bars.items())
        for part in _bar(number * width, counts, colours, begin + number * timedelta(hours=step), width, highest)
    ]
    return {
        "parts": parts,
        "names": [(name, total[name], colours[name]) for name in names],
        "others": total.total() - sum(total[name] for name in names),
        "begin": begin.strftime("%Y-%m-%d %H:00"),
        "end": end.strftime("%Y-%m-%d %H:00"),
        "highest": highest,
        "step": step,
        "size": (_WIDTH, _HEIGHT),
    }


def _colours(names: list[str], good: Collection[str]) -> dict[str, int]:
    """A colour of its own for each."""
    colours: dict[str, int] = {}
    for name in names:
        free = (colour for colour in (_GOOD if name in good else _BAD) if colour not in colours.values())
        colours[name] = next(free)
    return colours


def _bar(
    x: float, counts: Counter[str], colours: Mapping[str, int], begins: datetime, width: float, highest: int
) -> Iterator[Bar]:
    """From below: the series, then what is left of the sum."""
    of_series = [(name, counts[name], colour) for name, colour in colours.items()]
    of_series.append((OTHERS, counts.total() - sum(count for _, count, _ in of_series), _GREY))
    y = float(_HEIGHT)
    for name, count, series in of_series:
        if count:
            height = count / highest * _HEIGHT
            y -= height
            words = f"{begins:%Y-%m-%d %H}:00 UTC: {count:,} {text_of('text', name)}"
            yield Bar(x, y, width * 0.9, height, series, words, begins.strftime(HOUR))


def within(hour: str | None, hours: str | None) -> dict[str, str]:
    """From the beginning of an hour on, a text `YYYY-MM-DD HH`, so many hours. Raises `BadQuestion`."""
    if not hour:
        return {}
    try:
        begin = datetime.strptime(hour, HOUR)
        end = begin + timedelta(hours=int(hours or 1))
    except (ValueError, OverflowError) as error:
        raise BadQuestion(400, f"{hour} and {hours or 1} are no hours") from error
    return {"since": utc_text(begin), "until": utc_text(end)}
