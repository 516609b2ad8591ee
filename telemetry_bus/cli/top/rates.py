"""What the samples of `status` say together: rates, and how they went. No clock, no screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

#: So many values of each rate are kept: more than fit into a line of most terminals.
KEPT = 120
#: The rates of a writer, and the counters that they come from.
COUNTERS = {"jobs_per_s": "jobs_committed", "rows_per_s": "rows_committed", "batches_per_s": "batches"}
#: From nothing to much.
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"

Rate = float | None
Report = dict[str, Any]


class Course:
    """Takes the reports of `status` one after the other. A rate that cannot be told is None, never a guess."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._before: tuple[float, dict[str, int]] | None = None
        self._answer: Report | None = None  # the last one that a writer gave
        self._totals: dict[str, deque[Rate]] = {}
        self._streams: dict[str, deque[Rate]] = {}

    def add(self, report: Report, now: float) -> Report:
        """The report with `pending_bytes`, `rates`, and `jobs_per_s` of each stream; `now` is when its journals were
        looked at, in seconds of a monotonic clock.

        The writer's counters are compared with those of its last answer, by its own uptime; with those of another
        epoch never. A stream's rate is that of its acknowledgements, which its journal tells whoever writes.
        """
        rates = self._of_the_writer(report)
        of_streams = self._of_streams(report, now)
        pending_bytes = sum(stream["pending_bytes"] for stream in report["streams"])
        for name, value in {**rates, "pending_bytes": pending_bytes}.items():
            self._totals.setdefault(name, deque(maxlen=self._kept)).append(value)
        self._streams = {
            name: self._streams.get(name) or deque(maxlen=self._kept)
            for name in of_streams  # the others have gone
        }
        for name, rate in of_streams.items():
            self._streams[name].append(rate)
        streams = [{**stream, "jobs_per_s": of_streams[stream["stream"]]} for stream in report["streams"]]
        return {**report, "pending_bytes": pending_bytes, "streams": streams, "rates": rates}

    def of(self, name: str) -> Sequence[Rate]:
        """How one of the rates, or `pending_bytes`, went."""
        return self._totals.get(name, ())

    def of_stream(self, stream: str) -> Sequence[Rate]:
        """How the rate of a stream went."""
        return self._streams.get(stream, ())

    def _of_the_writer(self, report: Report) -> dict[str, Rate]:
        if report["epoch"] is None:
            return dict.fromkeys(COUNTERS)
        before, self._answer = self._answer, report
        if before is None or before["epoch"] != report["epoch"]:
            return dict.fromkeys(COUNTERS)
        seconds = report["uptime_s"] - before["uptime_s"]
        return {name: _rate(before[counter], report[counter], seconds) for name, counter in COUNTERS.items()}

    def _of_streams(self, report: Report, now: float) -> dict[str, Rate]:
        done = {stream["stream"]: stream["acknowledged_jobs"] for stream in report["streams"]}
        at, before = self._before or (now, {})
        self._before = now, done
        return {name: _rate(before.get(name), count, now - at) for name, count in done.items()}


def most_urgent_first(streams: Iterable[Report]) -> list[Report]:
    """Jobs whose producer is dead, then much that waits, then much that is done; else always in the same order."""
    return sorted(
        streams,
        key=lambda stream: (
            stream["alive"] or not stream["pending_bytes"],
            -stream["pending_bytes"],
            -(stream.get("jobs_per_s") or 0),
            stream["stream"],
        ),
    )


def sparkline(values: Sequence[Rate], width: int, ramp: str = BLOCKS) -> str:
    """The last `width` values, the newest to the right, as parts of the largest of them. What is not known is blank;
    only nothing at all has the lowest mark."""
    shown = list(islice(values, max(0, len(values) - width), None))
    most = max((value for value in shown if value is not None), default=0.0)
    return "".join(" " if value is None else ramp[_level(value, most, len(ramp))] for value in shown).rjust(width)


def _level(value: float, most: float, levels: int) -> int:
    if value <= 0:
        return 0
    return min(levels - 1, 1 + int(value / most * (levels - 1)))


def _rate(before: int | None, after: int, seconds: float) -> Rate:
    if before is None or after < before or seconds <= 0:
        return None
    return (after - before) / seconds
