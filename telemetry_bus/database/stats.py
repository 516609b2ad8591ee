"""What the writer has done, in numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

#: Latencies are those of so many last commits.
WINDOW = 1000


@dataclass(frozen=True, slots=True)
class WriterSnapshot:
    """The state of a writer. Counters since it was made; `dead_letters` is what stands in the table."""

    jobs_committed: int
    rows_committed: int
    batches: int
    dead_letters: int
    commit_ms_p50: float
    commit_ms_p99: float
    ddl_cached: int
    drift: tuple[str, ...]
    wal_bytes: int
    database_version: str


class Statistics:
    """Counters of commits, and the latencies of the last ones."""

    def __init__(self) -> None:
        self.jobs = 0
        self.rows = 0
        self.batches = 0
        self.commit_seconds = 0.0
        self._commit_s: deque[float] = deque(maxlen=WINDOW)

    def committed(self, jobs: int, rows: int, seconds: float) -> None:
        """One transaction with so many jobs and rows; its COMMIT took `seconds`."""
        self.jobs += jobs
        self.rows += rows
        self.batches += 1
        self.commit_seconds += seconds
        self._commit_s.append(seconds)

    def commit_ms(self, quantile: float) -> float:
        """A quantile (0 to 1) of the commits' latencies in milliseconds; 0.0 before the first."""
        if not self._commit_s:
            return 0.0
        ordered = sorted(self._commit_s)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """How many values were at most each bound, how many there were, and their sum."""

    bounds: tuple[float, ...]
    at_most: tuple[int, ...]
    count: int
    sum: float


class Histogram:
    """Counts values into buckets that never change: one bisection for each."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend; what is above the last one is in `count` alone."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> HistogramSnapshot:
        *at_most, count = accumulate(self._counts)
        return HistogramSnapshot(self._bounds, tuple(at_most), count, self._sum)
