"""The operations that this process knows: those that run, and the latest that have ended."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import Any

from ..values import utc_now
from .enums import FINAL, OperationStatus
from .forks import renew_in_child
from .records import OperationMetrics, SiteFailure

#: So many operations that have ended are remembered.
FINISHED_KEPT = 1000

Entry = dict[str, Any]


class OperationMemory:
    """An entry per operation: `operation_type`, `status`, `start_time`, `metrics`, later `end_time`, and whatever
    else it was started with. From any thread, and in a forked child.

    `entries` holds the live ones. What changes an entry returns a copy of it, None for one that is not known.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._finished: dict[str, None] = {}  # in the order of their ends
        self._unwritten: set[str] = set()
        self._lock = RLock()
        renew_in_child(self)

    def after_fork(self) -> None:
        self._lock = RLock()

    def start(self, operation_id: str, operation_type: object, known: dict[str, Any]) -> Entry:
        entry = {
            **known,
            "operation_type": operation_type,
            "status": OperationStatus.STARTED,
            "start_time": utc_now(),
            "metrics": OperationMetrics(),
        }
        with self._lock:
            self.entries[operation_id] = entry
            self._finished.pop(operation_id, None)
            return dict(entry)

    def progress(self, operation_id: str, metrics: OperationMetrics | None) -> Entry | None:
        """Take over the metrics. An operation that has ended stays so."""
        with self._lock:
            entry = self.entries.get(operation_id)
            if entry is None:
                return None
            if metrics is not None:
                self._unwritten.discard(operation_id)
                entry["metrics"] = _with_failures(metrics, entry["metrics"].site_failures)
            if entry["status"] not in FINAL:
                entry["status"] = OperationStatus.IN_PROGRESS
            return dict(entry)

    def finish(self, operation_id: str, status: OperationStatus) -> Entry | None:
        """Note the end; the operations that ended longest ago are forgotten beyond `FINISHED_KEPT`."""
        with self._lock:
            entry = self.entries.get(operation_id)
            if entry is None:
                return None
            entry.update(status=status, end_time=utc_now())
            self._finished.pop(operation_id, None)
            self._finished[operation_id] = None
            while len(self._finished) > FINISHED_KEPT:
                oldest = next(iter(self._finished))
                del self._finished[oldest]
                self.entries.pop(oldest, None)
                self._unwritten.discard(oldest)
            return dict(entry)

    def add_failure(self, operation_id: str, failure: SiteFailure) -> bool:
        """Append to the operation's metrics; whether it is known."""
        with self._lock:
            entry = self.entries.get(operation_id)
            if entry is None:
                return False
            metrics = entry["metrics"]
            metrics.site_failures.append(failure)
            metrics.failed_sites += 1
            metrics.failed_items += 1
            self._unwritten.add(operation_id)
            return True

    def take_unwritten(self, operation_id: str) -> OperationMetrics | None:
        """Metrics with failures that came after the last progress; they count as written then."""
        with self._lock:
            if operation_id not in self._unwritten or operation_id not in self.entries:
                return None
            self._unwritten.discard(operation_id)
            metrics: OperationMetrics = self.entries[operation_id]["metrics"]
            return metrics

    def failures(self, operation_id: str) -> list[SiteFailure]:
        """A copy, empty for an operation that is not known."""
        with self._lock:
            entry = self._known(operation_id)
            return [] if entry is None else list(entry["metrics"].site_failures)

    def get(self, operation_id: str) -> Entry | None:
        """The live entry."""
        with self._lock:
            return self._known(operation_id)

    def active(self) -> list[Entry]:
        """Copies of those that have not ended, each with its `operation_id`."""
        with self._lock:
            return [
                {**entry, "operation_id": operation_id}
                for operation_id, entry in self.entries.items()
                if entry["status"] not in FINAL
            ]

    def _known(self, operation_id: object) -> Entry | None:
        try:
            return self.entries.get(operation_id)  # type: ignore[call-overload, no-any-return]
        except TypeError:  # a list for example, which names nothing
            return None


def _with_failures(metrics: OperationMetrics, failures: list[SiteFailure]) -> OperationMetrics:
    """New metrics that say nothing of failures do not make those unhappened that are known."""
    if metrics.site_failures or not failures:
        return metrics
    return replace(
        metrics,
        site_failures=failures,
        failed_sites=max(metrics.failed_sites, len(failures)),
        failed_items=max(metrics.failed_items, len(failures)),
    )
