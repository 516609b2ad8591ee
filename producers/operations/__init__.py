"""Telemetry of operations: their progress, the failures of sites, what discovery finds, and by which methods."""

from __future__ import annotations

from typing import Any

from .context import OperationContext
from .enums import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    FailureType,
    HTTPStatusCategory,
    OperationStatus,
    OperationType,
)
from .outcomes import DiscoveryOutcome, DiscoveryResult
from .records import (
    DiscoveryMethodEffectiveness,
    HTTPStatusTracking,
    OperationEvent,
    OperationMetrics,
    SiteFailure,
)
from .reporter import TelemetryReporter
from .tracker import OperationTracker

__all__ = [
    "DiscoveryMethod",
    "DiscoveryMethodEffectiveness",
    "DiscoveryMethodStatus",
    "DiscoveryOutcome",
    "DiscoveryResult",
    "FailureType",
    "HTTPStatusCategory",
    "HTTPStatusTracking",
    "OperationContext",
    "OperationEvent",
    "OperationMetrics",
    "OperationStatus",
    "OperationTracker",
    "OperationType",
    "SiteFailure",
    "TelemetryReporter",
    "create_telemetry_system",
]


def create_telemetry_system(
    database_url: str | None = None,
    *,
    api_base_url: str | None = None,
    api_key: str | None = None,
    store: Any = None,
) -> OperationTracker:
    """A tracker, with a reporter when there is an API to report to. Raises `ImportError`, naming the extra, when the
    reporter's library is not installed."""
    reporter = TelemetryReporter(api_base_url, api_key) if api_base_url else None
    return OperationTracker(store, telemetry_reporter=reporter, database_url=database_url)
