"""What the code inside a tracked operation holds in its hands."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..values import number, plain_text, utc_now
from .records import OperationMetrics


class Tracker(Protocol):
    """What keeps the operation: an `OperationTracker`."""

    logger: logging.Logger

    def update_progress(self, operation_id: str, metrics: OperationMetrics | None) -> None: ...


class OperationContext:
    """One operation of a tracker. `start_time` and `last_update` are seconds since the epoch."""

    def __init__(self, tracker: Tracker, operation_id: str) -> None:
        self.tracker = tracker
        self.operation_id = operation_id
        self.start_time = self.last_update = time.time()

    def update_progress(self, processed: int | OperationMetrics, total: int | None = None, message: str = "") -> None:
        """Record how far it is: so many items of so many, or metrics, of which missing figures (total, rate, speed,
        estimate) are filled in. `success_rate` is the share of items that are done, in percent."""
        now = time.time()
        given = processed if isinstance(processed, OperationMetrics) else OperationMetrics(processed_items=processed)
        metrics = completed_metrics(given, total, now - self.start_time, utc_now())
        self.last_update = now
        self.tracker.update_progress(self.operation_id, metrics)
        if message:
            self.log_message(message)

    def log_message(self, message: str, level: str = "info") -> None:
        """Log a message with the operation's id in front; `level` by its name."""
        number_of_level = logging.getLevelNamesMapping().get(plain_text(level).upper(), logging.INFO)
        self.tracker.logger.log(number_of_level, "[%s] %s", self.operation_id, plain_text(message))


def completed_metrics(given: OperationMetrics, total: Any, elapsed_s: float, now: datetime) -> OperationMetrics:
    """A copy of the metrics with the figures that follow from the others."""
    metrics = replace(given, total_items=given.total_items or total or 0)
    items, done = number(metrics.total_items) or 0.0, number(metrics.processed_items) or 0.0
    metrics.processed_items = metrics.processed_items or 0
    if not metrics.success_rate:
        metrics.success_rate = done / items * 100 if items > 0 else 0.0
    if not metrics.items_per_second:
        metrics.items_per_second = done / elapsed_s if elapsed_s > 0 else 0.0
    if metrics.estimated_completion is None:
        metrics.estimated_completion = _estimate(items - done, number(metrics.items_per_second) or 0.0, now)
    return metrics


def _estimate(remaining: float, speed: float, now: datetime) -> datetime | None:
    if not (remaining > 0 and speed > 0):
        return None
    try:
        return now + timedelta(seconds=remaining / speed)
    except (OverflowError, ValueError):  # beyond the calendar
        return None
