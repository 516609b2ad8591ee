"""Requests and their answers, and how well each method finds articles at a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telemetry_bus import Job
from telemetry_bus.config import DialectName

from ..destination import Destination, Query
from ..schema import insert_job, upsert_job
from ..values import plain_text, utc_now
from .enums import DiscoveryMethod, DiscoveryMethodStatus, HTTPStatusCategory
from .figures import real, text, whole
from .records import DiscoveryMethodEffectiveness, HTTPStatusTracking
from .schema import EFFECTIVENESS, HTTP_STATUSES
from .status_codes import KEPT
from .upserts import EFFECTIVENESS as ATTEMPT

#: A method is effective above this rate, in percent, and from so many attempts on.
_EFFECTIVE_RATE = 50
_ENOUGH_ATTEMPTS = 2

_EFFECTIVE_METHODS = f"""SELECT discovery_method FROM {EFFECTIVENESS.name}
WHERE source_id = ? AND success_rate > ? AND articles_found > 0 AND attempt_count >= ?
ORDER BY success_rate DESC, articles_found DESC, id"""
_TRIED = f"SELECT 1 FROM {EFFECTIVENESS.name} WHERE source_id = ? LIMIT 1"

_CATEGORIES = {
    2: HTTPStatusCategory.SUCCESS,
    3: HTTPStatusCategory.REDIRECT,
    4: HTTPStatusCategory.CLIENT_ERROR,
    5: HTTPStatusCategory.SERVER_ERROR,
}


def category_of(status_code: int) -> HTTPStatusCategory:
    """The class of a status code; what has none counts as the client's error."""
    return _CATEGORIES.get(status_code // 100, HTTPStatusCategory.CLIENT_ERROR)


def http_status_job(tracked: HTTPStatusTracking, dialect: DialectName) -> Job:
    """The job that writes one request."""
    row = {**vars(tracked), "discovery_method": text(tracked.discovery_method)}
    return insert_job(HTTP_STATUSES, row, dialect=dialect)


def attempt(
    source_id: object,
    source_url: object,
    discovery_method: Any,
    status: Any,
    articles_found: object,
    response_time_ms: object,
    status_codes: Iterable[Any] | None,
    notes: object,
) -> DiscoveryMethodEffectiveness:
    """One attempt on its own."""
    articles = whole(articles_found)
    succeeded = plain_text(status) == DiscoveryMethodStatus.SUCCESS.value and articles > 0
    return DiscoveryMethodEffectiveness(
        source_id=text(source_id),
        source_url=text(source_url),
        discovery_method=discovery_method,
        status=status,
        articles_found=articles,
        success_rate=100.0 if succeeded else 0.0,
        last_attempt=utc_now(),
        attempt_count=1,
        avg_response_time_ms=real(response_time_ms),
        last_status_codes=list(status_codes or ())[-KEPT:],
        notes=plain_text(notes) if notes else None,
    )


def effectiveness_job(attempt: DiscoveryMethodEffectiveness, dialect: DialectName) -> Job:
    """The job that adds an attempt to what is known of its source and method."""
    row = {
        **vars(attempt),
        "discovery_method": text(attempt.discovery_method),
        "status": text(attempt.status),
        "success_count": int(attempt.success_rate > 0),
        "created_at": attempt.last_attempt,
        "updated_at": attempt.last_attempt,
    }
    return upsert_job(EFFECTIVENESS, row, upsert=ATTEMPT, dialect=dialect)


def effective_methods(destination: Destination, source_id: object) -> list[DiscoveryMethod]:
    """The methods that mostly work for a source, the best first."""
    query = Query(_EFFECTIVE_METHODS, (text(source_id), _EFFECTIVE_RATE, _ENOUGH_ATTEMPTS))
    known = {method.value: method for method in DiscoveryMethod}
    return [known[name] for (name,) in destination.read(query) if name in known]


def has_history(destination: Destination, source_id: object) -> bool:
    """Whether any method was ever tried at a source."""
    return bool(destination.read(Query(_TRIED, (text(source_id),))))
