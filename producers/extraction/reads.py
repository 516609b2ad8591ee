"""What the stored extractions say: errors, methods, publishers, fields, content types."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import case, func, null, select

from producers.columns import Moment, from_moment
from producers.destination import Destination
from producers.values import utc_now, utc_text

from .metrics import FIELDS
from .tables import DETECTIONS, EXTRACTIONS, HTTP_ERRORS

#: Older rows hold the clock of its start, in seconds, for a method without end. No duration in ms is as long.
_LEAST_CLOCK = 1e9

_UNREADABLE = (ValueError, TypeError, RecursionError)

#: Half the time of `json.loads` for a small document.
_raw_decode = json.JSONDecoder().raw_decode

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
        .where(from_moment(row["last_seen"], _ago(days)))
        .order_by(row["count"].desc(), Moment(row["last_seen"]).desc())
    )


def method_effectiveness(destination: Destination, publisher: str | None, days: float | None) -> list[dict[str, Any]]:
    methods: defaultdict[str, _Method] = defaultdict(_Method)
    for row in chain.from_iterable(_texts(destination, publisher, days, "method_timings", "method_success")):
        try:
            timings, success = _decoded(row[0], dict), _remembered(row[1], dict)
        except _UNREADABLE:
            continue
        for name, duration in timings.items():
            methods[name].add(duration, bool(success.get(name)))
    return [
        {
            "method_type": name,
            "successful_method": name,
            "count": method.count,
            "avg_duration": method.duration_ms / method.timed if method.timed else 0.0,
            "success_rate": method.successes / method.count,
        }
        for name, method in sorted(methods.items(), key=lambda item: (-item[1].count, item[0]))
    ]


def publisher_stats(destination: Destination, days: float | None) -> list[dict[str, Any]]:
    row = EXTRACTIONS.c
    # not the bare column: its index gives the order of the groups, and takes a jump to each row for it
    publisher_of = func.coalesce(row.publisher, null())
    query = select(
        publisher_of,
        row.host,
        row.successful_method,
        func.count(),
        func.sum(case((row.is_success, 1), else_=0)),
        func.sum(row.total_duration_ms),
        func.count(row.total_duration_ms),
    ).group_by(publisher_of, row.host, row.successful_method)
    if days is not None:
        query = query.where(from_moment(row.created_at, _ago(days)))
    hosts: defaultdict[tuple[str | None, str | None], _Host] = defaultdict(_Host)
    for publisher, host, method, *figures in destination.read(query):
        hosts[publisher, host].add(method, *figures)
    stats = [
        {
            "publisher": publisher,
            "host": host,
            "total_attempts": found.attempts,
            "successful": found.successes,
            "avg_duration_ms": found.duration_ms / found.timed if found.timed else None,
            "most_common_method": min(found.methods, key=lambda name: (-found.methods[name], name), default=None),
        }
        for (publisher, host), found in hosts.items()
    ]
    return sorted(stats, key=lambda s: (-s["total_attempts"], s["publisher"] or "", s["host"] or ""))


def field_extraction_stats(
    destination: Destination, publisher: str | None, method: str | None, days: float | None
) -> list[dict[str, Any]]:
    counts: defaultdict[str, int] = defaultdict(int)
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    chunks = _texts(destination, publisher, days, "field_extraction", "methods_attempted")
    for row, times in chain.from_iterable(Counter(chunk).items() for chunk in chunks):
        try:
            fields, attempted = _remembered(row[0], dict), _remembered(row[1], list)
        except _UNREADABLE:
            continue
        for name in dict.fromkeys(map(str, attempted)):  # older rows list a method as often as it was started
            if method is not None and name != method:
                continue
            counts[name] += times
            of_method = fields.get(name)
            for key in FIELDS:
                found[name, key] += times * bool(isinstance(of_method, dict) and of_method.get(key))
    return [
        {
            "method": name,
            "count": count,
            "title_success_rate": found[name, "title"] / count,
            "author_success_rate": found[name, "author"] / count,
            "content_success_rate": found[name, "content"] / count,
            "date_success_rate": found[name, "publish_date"] / count,
        }
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def content_type_detections(
    destination: Destination, limit: int, statuses: Iterable[str] | None, days: float | None
) -> list[dict[str, Any]]:
    row = DETECTIONS.c
    query = select(*(row[name] for name in _DETECTION_COLUMNS))
    if statuses:
        query = query.where(row.status.in_([statuses] if isinstance(statuses, str) else list(statuses)))
    if days is not None:
        query = query.where(from_moment(row.created_at, _ago(days)))
    query = query.order_by(Moment(func.coalesce(row.detected_at, row.created_at)).desc(), row.id.desc()).limit(limit)
    return [{**found, "evidence": _evidence(found["evidence"])} for found in destination.read_dicts(query)]


@dataclass
class _Method:
    """The sums of a method."""

    count: int = 0
    successes: int = 0
    duration_ms: float = 0.0
    timed: int = 0

    def add(self, duration_ms: Any, success: bool) -> None:
        self.count += 1
        self.successes += success
        if isinstance(duration_ms, int | float) and duration_ms < _LEAST_CLOCK:
            self.duration_ms += duration_ms
            self.timed += 1


@dataclass
class _Host:
    """The sums of a publisher's host, and how often each method succeeded there."""

    attempts: int = 0
    successes: int = 0
    duration_ms: float = 0.0
    timed: int = 0
    methods: dict[str, int] = field(default_factory=dict)

    def add(self, method: str | None, attempts: int, successes: int, duration_ms: float | None, timed: int) -> None:
        self.attempts += attempts
        self.successes += successes
        self.duration_ms += duration_ms or 0.0
        self.timed += timed
        if method:
            self.methods[method] = attempts


def _texts(
    destination: Destination, publisher: str | None, days: float | None, *names: str
) -> Iterator[list[tuple[Any, ...]]]:
    """JSON columns of every row, or of a publisher's, or of the last days; some thousand rows at a time."""
    query = select(*(EXTRACTIONS.c[name] for name in names))
    if publisher is not None:
        query = query.where(EXTRACTIONS.c.publisher == publisher)
    if days is not None:
        query = query.where(from_moment(EXTRACTIONS.c.created_at, _ago(days)))
    return destination.chunks(query)


def _decoded(text: str | None, kind: type) -> Any:
    document, end = _raw_decode(text) if text else (kind(), 0)
    if text and end < len(text):  # blanks, or more than one document
        document = json.loads(text)
    if not isinstance(document, kind):
        raise ValueError(f"not a {kind.__name__}")
    return document


#: Of columns that hold the same few documents in many rows.
_remembered = lru_cache(maxsize=4096)(_decoded)


def _evidence(text: Any) -> Any:
    try:
        return None if text is None else json.loads(text)
    except _UNREADABLE:
        return text


def _ago(days: float) -> str:
    """The moment so many days ago, as text like in the columns."""
    try:
        return utc_text(utc_now() - timedelta(days=days))
    except OverflowError:
        return utc_text(datetime.min.replace(tzinfo=UTC) if days > 0 else datetime.max.replace(tzinfo=UTC))
