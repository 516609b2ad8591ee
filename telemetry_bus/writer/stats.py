"""What the writer has done, in numbers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

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
        self._commit_s: deque[float] = deque(maxlen=WINDOW)

    def committed(self, jobs: int, rows: int, seconds: float) -> None:
        """One transaction with so many jobs and rows; its COMMIT took `seconds`."""
        self.jobs += jobs
        self.rows += rows
        self.batches += 1
        self._commit_s.append(seconds)

    def commit_ms(self, quantile: float) -> float:
        """A quantile (0 to 1) of the commits' latencies in milliseconds; 0.0 before the first."""
        if not self._commit_s:
            return 0.0
        ordered = sorted(self._commit_s)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
