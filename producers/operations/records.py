"""What is known of operations, of their failures, and of the methods by which articles are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from datetime import datetime
from typing import Any

from ..values import plain, utc_now
from .enums import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    FailureType,
    HTTPStatusCategory,
    OperationStatus,
    OperationType,
)


@dataclass
class SiteFailure:
    """A site that an operation could not work on. `failure_time` None is now."""

    site_url: str
    site_name: str | None
    failure_type: FailureType
    error_message: str
    failure_time: datetime
    retry_count: int = 0
    http_status: int | None = None
    response_time_ms: float | None = None
    discovery_method: str | None = None
    error_details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        replace_none(self, failure_time=utc_now, error_details=dict)


@dataclass
class OperationMetrics:
    """How far an operation is. Rates in percent and in items per second."""

    total_items: int = 0
    processed_items: int = 0
    failed_items: int = 0
    success_rate: float = 0.0
    items_per_second: float = 0.0
    estimated_completion: datetime | None = None
    memory_usage_mb: float = 0.0
    cpu_usage_percent: float = 0.0
    failed_sites: int = 0
    site_failures: list[SiteFailure] = field(default_factory=list)

    def __post_init__(self) -> None:
        replace_none(self, site_failures=list)


@dataclass
class OperationEvent:
    """Something that happened to an operation. `timestamp` None is now."""

    event_id: str
    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    timestamp: datetime
    user_id: str | None = None
    session_id: str | None = None
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    metrics: OperationMetrics | None = None
    error_details: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        replace_none(self, timestamp=utc_now, details=dict)


@dataclass
class HTTPStatusTracking:
    """One request and its answer. `timestamp` None is now."""

    source_id: str
    source_url: str
    discovery_method: DiscoveryMethod
    attempted_url: str
    status_code: int
    status_category: HTTPStatusCategory
    response_time_ms: float
    timestamp: datetime
    operation_id: str
    error_message: str | None = None
    content_length: int | None = None

    def __post_init__(self) -> None:
        replace_none(self, timestamp=utc_now)


@dataclass
class DiscoveryMethodEffectiveness:
    """How well a method finds articles at a source; rate in percent. `last_attempt` None is now."""

    source_id: str
    source_url: str
    discovery_method: DiscoveryMethod
    status: DiscoveryMethodStatus
    articles_found: int
    success_rate: float
    last_attempt: datetime
    attempt_count: int
    avg_response_time_ms: float
    last_status_codes: list[int]
    notes: str | None = None

    def __post_init__(self) -> None:
        replace_none(self, last_attempt=utc_now, last_status_codes=list)


def snapshot(metrics: OperationMetrics) -> OperationMetrics:
    """A copy that stays as it is when the operation goes on."""
    return replace(metrics, site_failures=list(metrics.site_failures))


def plain_record(record: Any) -> Any:
    """A record by its fields, and the records inside it, made of nothing but what JSON knows."""
    if is_dataclass(record):
        return {name: plain_record(value) for name, value in vars(record).items()}
    if isinstance(record, list):
        return [plain_record(each) for each in record]
    return plain(record)


def replace_none(record: object, **makers: Callable[[], object]) -> None:
    """Replace each None by what its maker makes."""
    for name, make in makers.items():
        if getattr(record, name) is None:
            setattr(record, name, make())
