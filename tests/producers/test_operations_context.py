"""What a context makes of progress: figures that follow from others, and words in the log."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producers.operations import OperationContext, OperationMetrics, OperationTracker, OperationType
from producers.operations.context import completed_metrics

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A tracker that only notes what it is told."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("producers.test")
        self.progress: list[tuple[str, OperationMetrics]] = []

    def update_progress(self, operation_id: str, metrics: OperationMetrics) -> None:
        self.progress.append((operation_id, metrics))


@pytest.fixture
def told() -> Any:
    return Told()


@pytest.mark.parametrize(
    ("given", "total", "expected"),
    [
        (OperationMetrics(processed_items=5), 20, (20, 25.0, 0.5, NOW + timedelta(seconds=30))),
        (OperationMetrics(processed_items=20), 20, (20, 100.0, 2.0, None)),
        (OperationMetrics(processed_items=0), 20, (20, 0.0, 0.0, None)),
        (OperationMetrics(processed_items=5), 0, (0, 0.0, 0.5, None)),
        (OperationMetrics(processed_items=5), None, (0, 0.0, 0.5, None)),
        (OperationMetrics(total_items=10, processed_items=5), None, (10, 50.0, 0.5, NOW + timedelta(seconds=10))),
        (OperationMetrics(total_items=10, processed_items=5), 99, (10, 50.0, 0.5, NOW + timedelta(seconds=10))),
        (OperationMetrics(10, 5, 0, 7.0, 3.0, NOW), None, (10, 7.0, 3.0, NOW)),
        (OperationMetrics(processed_items=1), 10**15, (10**15, 1e-13, 0.1, None)),
    ],
)
def test_missing_figures_follow_from_the_others(
    given: OperationMetrics, total: int | None, expected: tuple[Any, ...]
) -> None:
    """Total, rate in percent, items per second and the estimate of the end (none when nothing moves, nothing is left
    or the calendar ends) are filled in where they are missing; the given metrics stay as they are."""
    before = OperationMetrics(**vars(given))
    found = completed_metrics(given, total, 10.0, NOW)
    assert expected == (found.total_items, found.success_rate, found.items_per_second, found.estimated_completion)
    assert before == given


def test_progress_in_numbers(told: Any) -> None:
    """So many of so many: the speed is that since the start of the context."""
    context = OperationContext(told, "a")
    context.start_time -= 10
    before = context.last_update
    context.update_progress(50, 100)
    ((operation_id, metrics),) = told.progress
    assert ("a", 50, 100, 50.0) == (operation_id, metrics.processed_items, metrics.total_items, metrics.success_rate)
    assert 0 < metrics.items_per_second <= 5
    assert datetime.now(UTC) < metrics.estimated_completion
    assert before <= context.last_update <= time.time()


def test_progress_in_metrics(told: Any) -> None:
    """Metrics of the caller's own keep every figure that they have."""
    OperationContext(told, "a").update_progress(OperationMetrics(total_items=4, processed_items=1, memory_usage_mb=9.5))
    ((_, metrics),) = told.progress
    assert (4, 1, 25.0, 9.5) == (
        metrics.total_items,
        metrics.processed_items,
        metrics.success_rate,
        metrics.memory_usage_mb,
    )


def test_messages_name_their_operation(told: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A message is logged with the id in front, at the level that is named, at INFO by default."""
    caplog.set_level(logging.DEBUG, logger="producers.test")
    context = OperationContext(told, "a")
    context.update_progress(1, 2, "one done")
    context.log_message("careful", level="warning")
    context.log_message("what?", level="nonsense")
    assert [("[a] one done", logging.INFO), ("[a] careful", logging.WARNING), ("[a] what?", logging.INFO)] == [
        (record.getMessage(), record.levelno) for record in caplog.records
    ]


def test_progress_keeps_the_failures_of_sites(database: Path) -> None:
    """New metrics that say nothing of failed sites do not make those forgotten that are known."""
    tracker = OperationTracker(database_url=f"sqlite:///{database}")
    tracker._memory.start("a", OperationType.CRAWL_DISCOVERY, {})  # nothing is written here
    tracker.record_site_failure("a", "http://a/", "timeout")
    kept = tracker._memory.progress("a", OperationMetrics(processed_items=3))
    assert kept is not None
    assert (3, 1, 1) == (kept["metrics"].processed_items, kept["metrics"].failed_sites, kept["metrics"].failed_items)
    assert ["http://a/"] == [failure.site_url for failure in tracker.get_site_failures("a")]
    assert not database.exists()
