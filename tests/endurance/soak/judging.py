"""Whether a series of measurements grows.

A life (of a process, or of the bus while no writer is ended) is cut into four quarters with equally many samples. The
series grows when the median of its last quarter is above::

    max(harmless, 1.05 * median of the second quarter + allowance)

The first quarter is for caches to fill. `allowance` and `harmless` belong to the kind of the series, see `KINDS`. A
life of fewer than `LEAST_SAMPLES` samples, or shorter than `LEAST_S`, is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

FACTOR = 1.05
LEAST_SAMPLES, LEAST_S = 32, 60.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """What is measured, in which unit; how much the last quarter may be above, and what is harmless anyway."""

    name: str
    unit: str
    allowance: float
    harmless: float = 0.0


KINDS = {
    kind.name: kind
    for kind in (
        Kind("memory", "MiB", allowance=2),
        # A writer has two for each producer, and those come and go.
        Kind("descriptors", "", allowance=5),
        Kind("threads", "", allowance=1),
        # The log swings: it is moved into the database when it is 64 MiB long, or when nobody writes for a moment, and
        # begins anew when nobody holds a snapshot then.
        Kind("log (WAL)", "MiB", allowance=4, harmless=128),
        # As large as it once had to be: rows are deleted later when the machine is busy. And the ledger has a row for
        # each stream of the last seven days.
        Kind("database", "MiB", allowance=4),
        # A journal takes more than a megabyte as long as its producer lives.
        Kind("bus folder", "MiB", allowance=6),
        Kind("journals", "", allowance=4),
        Kind("pending jobs", "", allowance=500),
    )
}


@dataclass
class Series:
    """One kind of measurement of one life; `of` says whose. Points are seconds since the beginning, and values."""

    kind: Kind
    of: str
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """The figures of a series; `grows` is None when it was too short to tell."""

    start: float
    second: float
    last: float
    most: float
    limit: float
    grows: bool | None


def judge(series: Series) -> Verdict:
    """Apply the rule. The series has a point at least."""
    times, values = zip(*series.points, strict=True)
    quarter = len(values) // 4
    second, last = _median(values[quarter : 2 * quarter]), _median(values[len(values) - quarter :])
    limit = max(series.kind.harmless, FACTOR * second + series.kind.allowance)
    long_enough = len(values) >= LEAST_SAMPLES and times[-1] - times[0] >= LEAST_S
    return Verdict(values[0], second, last, max(values), limit, last > limit if long_enough else None)


HEADING = f"{'series':<14}{'of':<22}{'start':>9}{'2nd quarter':>13}{'last quarter':>14}{'max':>9}{'limit':>9}  verdict"


def line(series: Series, verdict: Verdict) -> str:
    """A line of the table below `HEADING`."""
    named = f"{series.kind.name}, {series.kind.unit}" if series.kind.unit else series.kind.name
    figures = (verdict.start, verdict.second, verdict.last, verdict.most, verdict.limit)
    said = {None: "too short to tell", True: "GROWS", False: "steady"}[verdict.grows]
    return (
        f"{named:<16}{series.of:<20}"
        + "".join(f"{figure:>{width},.1f}" for figure, width in zip(figures, (9, 13, 14, 9, 9), strict=True))
        + f"  {said}"
    )


def _median(values: Sequence[float]) -> float:
    return median(values) if values else 0.0
