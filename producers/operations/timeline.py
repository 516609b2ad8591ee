"""What crawling did over time: outcomes of discovery by the hour, runs, single attempts, and operations that run."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func, literal_column, select

from ..columns import Hour, Moment, count_if, from_moment
from ..destination import Destination
from ..values import parse_moment, utc_now
from .enums import FINAL
from .figures import real
from .outcomes import SUCCESSES
from .tables import DISCOVERY_OUTCOMES, OPERATIONS

#: So many runs, attempts and running operations are told, the newest.
MOST_RUNS, MOST_ATTEMPTS, MOST_RUNNING = 50, 200, 50
#: The outcomes of sources that answered, as they are stored.
GOOD_OUTCOMES = frozenset(outcome.value for outcome in SUCCESSES)
_HOUR_LETTERS = len("2026-01-01 00")
_ATTEMPT = (
    *("operation_id", "source_name", "source_url", "outcome", "http_status", "method_used", "articles_found"),
    *("articles_new", "discovery_time_ms", "error_details"),
)
_ROW = DISCOVERY_OUTCOMES.c


def outcomes_by_hour(destination: Destination, since: str, source: str | None = None) -> dict[str, dict[str, int]]:
    """Attempts by hour, a text without minutes, and by outcome."""
    query = (
        select(Hour(_ROW.timestamp), _ROW.outcome, func.count())
        .where(from_moment(_ROW.timestamp, since))
        .group_by(literal_column("1"), literal_column("2"))
    )
    if source is not None:
        query = query.where(_ROW.source_name == source)
    hours: dict[str, dict[str, int]] = {}
    for hour, outcome, attempts in destination.read(query):
        hours.setdefault(str(hour)[:_HOUR_LETTERS], {})[str(outcome)] = attempts
    return hours


def runs(destination: Destination, since: str, source: str | None = None) -> list[dict[str, Any]]:
    """The newest runs: what the attempts of an operation brought together."""
    last = func.max(Moment(_ROW.timestamp)).label("last_attempt")
    # not the bare column: its index gives the order of the groups, and takes a jump to each row for it
    operation = func.coalesce(_ROW.operation_id, "").label("operation_id")
    columns: list[Any] = [
        operation,
        func.min(Moment(_ROW.timestamp)).label("first_attempt"),
        last,
        func.count().label("attempts"),
        count_if(_ROW.is_content_success).label("content_successes"),
        count_if(~_ROW.is_success).label("failures"),
        func.sum(_ROW.articles_new).label("articles_new"),
    ]
    query = (
        select(*columns)
        .where(from_moment(_ROW.timestamp, since))
        .group_by(literal_column("1"))
        .order_by(last.desc(), literal_column("1"))
        .limit(MOST_RUNS)
    )
    if source is not None:
        query = query.where(_ROW.source_name == source)
    return destination.read_dicts(query)


def attempts(
    destination: Destination,
    *,
    operation: str | None = None,
    source: str | None = None,
    outcome: str | None = None,
    since: str | None = None,
    until: str | None = None,
    failed: bool = False,
) -> list[dict[str, Any]]:
    """The newest attempts that are so, from the moment `since` to before `until`; `failed` leaves out the others."""
    query = select(Moment(_ROW.timestamp).label("timestamp"), *(_ROW[name] for name in _ATTEMPT))
    for column, value in ((_ROW.operation_id, operation), (_ROW.source_name, source), (_ROW.outcome, outcome)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(from_moment(_ROW.timestamp, since))
    if until is not None:
        query = query.where(Moment(_ROW.timestamp) < until)
    if failed:
        query = query.where(~_ROW.is_success)
    return destination.read_dicts(query.order_by(_ROW.id.desc()).limit(MOST_ATTEMPTS))


def running(destination: Destination) -> list[dict[str, Any]]:
    """The newest operations that have not come to their end: items `done` and `total`, None where it is not known,
    `per_minute` since the beginning, `left_ms` at that rate, and when they were last heard of."""
    row = OPERATIONS.c
    query = (
        select(row.id, row.operation_type, row.status, row.created_at, row.updated_at, row.metrics)
        .where(row.status.not_in([str(status) for status in FINAL]))
        .order_by(Moment(row.created_at).desc(), row.id)
        .limit(MOST_RUNNING)
    )
    return [_progress(found) for found in destination.read_dicts(query)]


def _progress(found: dict[str, Any]) -> dict[str, Any]:
    metrics = document(found.pop("metrics"))
    done, total = real(metrics.get("processed_items")), real(metrics.get("total_items"))
    began, heard = parse_moment(found["created_at"]), parse_moment(found["updated_at"])
    minutes = ((heard or utc_now()) - began).total_seconds() / 60 if began else 0.0
    per_minute = done / minutes if minutes > 0 and done > 0 else None
    left_ms = (total - done) / per_minute * 60_000 if per_minute and total >= done else None
    return {
        **found,
        "done": int(done),
        "total": int(total) or None,
        "failed": int(real(metrics.get("failed_items"))),
        "per_minute": per_minute,
        "left_ms": left_ms,
    }


def document(text: Any) -> dict[str, Any]:
    """A JSON object of a column; empty when there is none, or none that can be read."""
    try:
        document = json.loads(text) if text else None
    except (ValueError, TypeError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}
