"""What the stored extractions say: errors, methods, publishers, fields, content types."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import CompoundSelect, Select, func, or_, select

from producers.columns import Moment, from_moment
from producers.destination import Destination
from producers.histogram import quantile

from .counting import UNREADABLE, Part, ago, ended_of, tried_of
from .metrics import NO_RESPONSE_TYPE, error_class
from .schema import LEAST_ERROR_STATUS, NO_RESPONSE
from .tables import DETECTIONS, HTTP_ERRORS

_DETECTION_COLUMNS = (
    "article_id",
    "operation_id",
    "url",
    "publisher",
    "host",
    "status",
    "confidence",
    "confidence_score",
    "reason",
    "evidence",
    "version",
    "detected_at",
    "created_at",
)


def error_summary(destination: Destination, days: float) -> list[dict[str, Any]]:
    row = HTTP_ERRORS.c
    return destination.read_dicts(
        select(row["host"], row["status_code"], row["error_type"], row["count"], row["last_seen"])
        .where(from_moment(row["last_seen"], ago(days)))
        .order_by(row["count"].desc(), Moment(row["last_seen"]).desc())
    )


def error_counts(destination: Destination, days: float | None) -> list[dict[str, Any]]:
    part = Part.of(destination, days)
    found = part.sums("host", "status").subquery()
    count, status = func.sum(found.c.extractions).label("count"), found.c.status
    query = (
        select(found.c.host, status.label("status_code"), count, func.max(found.c.last_seen).label("last_seen"))
        .where(or_(status >= LEAST_ERROR_STATUS, status == NO_RESPONSE))
        .group_by(found.c.host, status)
    )
    rows = [
        {
            "host": error["host"],
            "status_code": error["status_code"] or None,
            "error_type": error_class(error["status_code"]) or NO_RESPONSE_TYPE,
            "count": error["count"],
            "last_seen": error["last_seen"],
        }
        for error in destination.read_dicts(query)
    ]
    return sorted(rows, key=lambda error: (-error["count"], error["host"], error["status_code"] or 0))


def method_effectiveness(destination: Destination, publisher: str | None, days: float | None) -> list[dict[str, Any]]:
    part = Part.of(destination, days, publisher)
    with destination.snapshot() as reading:
        methods = part.methods(reading)
        for row in chain.from_iterable(reading.chunks(part.rows("method_timings", "method_success"))):
            for name, did in ended_of(*row):
                methods[name].add(did)
    found = [(name, did) for name, did in methods.items() if did.ended]
    return [
        {
            "method_type": name,
            "successful_method": name,
            "count": did.ended,
            "avg_duration": did.duration_ms / did.timed if did.timed else 0.0,
            "success_rate": did.successes / did.ended,
        }
        for name, did in sorted(found, key=lambda item: (-item[1].ended, item[0]))
    ]


def publisher_stats(destination: Destination, days: float | None) -> list[dict[str, Any]]:
    part = Part.of(destination, days)
    hosts: defaultdict[tuple[str, str], _Host] = defaultdict(_Host)
    with destination.snapshot() as reading:
        for publisher, host, method, *figures in reading.read(_by(part.sums("publisher", "host", "method"), 3)):
            hosts[publisher, host].add(method, *figures)
        for publisher, host, bucket, extractions in reading.read(_by(part.durations("publisher", "host"), 3)):
            if extractions:  # none in these hours of the day
                hosts[publisher, host].durations[bucket] = extractions
    stats = [
        {
            "publisher": publisher or None,
            "host": host,
            "total_attempts": found.attempts,
            "successful": found.successes,
            "avg_duration_ms": found.duration_ms / found.timed if found.timed else None,
            "most_common_method": min(found.methods, key=lambda name: (-found.methods[name], name), default=None),
            "p95_duration_ms": quantile(found.durations, 0.95),
        }
        for (publisher, host), found in hosts.items()
    ]
    return sorted(stats, key=lambda s: (-s["total_attempts"], s["publisher"] or "", s["host"]))


def field_extraction_stats(
    destination: Destination, publisher: str | None, method: str | None, days: float | None
) -> list[dict[str, Any]]:
    part = Part.of(destination, days, publisher)
    with destination.snapshot() as reading:
        methods = part.methods(reading)
        chunks = reading.chunks(part.rows("methods_attempted", "field_extraction"))
        for row, times in chain.from_iterable(Counter(chunk).items() for chunk in chunks):
            for name, did in tried_of(*row):
                methods[name].add(did, times)
    found = [(name, did) for name, did in methods.items() if did.tried and method in (None, name)]
    return [
        {
            "method": name,
            "count": did.tried,
            "title_success_rate": did.found_title / did.tried,
            "author_success_rate": did.found_author / did.tried,
            "content_success_rate": did.found_content / did.tried,
            "date_success_rate": did.found_publish_date / did.tried,
        }
        for name, did in sorted(found, key=lambda item: (-item[1].tried, item[0]))
    ]


def content_type_detections(
    destination: Destination, limit: int, statuses: Iterable[str] | None, days: float | None
) -> list[dict[str, Any]]:
    row = DETECTIONS.c
    query = select(*(row[name] for name in _DETECTION_COLUMNS))
    if statuses:
        query = query.where(row.status.in_([statuses] if isinstance(statuses, str) else list(statuses)))
    if days is not None:
        query = query.where(from_moment(row.created_at, ago(days)))
    query = query.order_by(Moment(func.coalesce(row.detected_at, row.created_at)).desc(), row.id.desc()).limit(limit)
    return [{**found, "evidence": _evidence(found["evidence"])} for found in destination.read_dicts(query)]


@dataclass
class _Host:
    """The sums of a publisher's host, how often each method succeeded there, and its durations by bucket."""

    attempts: int = 0
    successes: int = 0
    duration_ms: float = 0.0
    timed: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    durations: dict[int, int] = field(default_factory=dict)

    def add(self, method: str, attempts: int, successes: int, timed: int, duration_ms: float) -> None:
        self.attempts += attempts
        self.successes += successes
        self.timed += timed
        self.duration_ms += duration_ms
        if method:
            self.methods[method] = attempts


def _by(parts: CompoundSelect[Any] | Select[Any], names: int) -> Select[Any]:
    """One row for equal first columns; the other columns are summed up."""
    columns = list(parts.subquery().c)
    sums = [func.sum(column) for column in columns[names:] if column.name != "last_seen"]
    return select(*columns[:names], *sums).group_by(*columns[:names])


def _evidence(text: Any) -> Any:
    try:
        return None if text is None else json.loads(text)
    except UNREADABLE:
        return text
