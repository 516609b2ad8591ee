"""The reports on crawling: discovery per source, operations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, null, select

from ..columns import Moment, count_if, from_moment
from ..destination import Destination
from ..operations import schema
from ..operations.tables import METADATA
from ..operations.timeline import document
from ..values import parse_moment, utc_now
from .report import Column, Report, share

OUTCOMES = METADATA.tables["discovery_outcomes"]
OPERATIONS = METADATA.tables["operations"]
STATUSES = METADATA.tables["http_status_tracking"]
EFFECTIVENESS = METADATA.tables["discovery_method_effectiveness"]

#: So many operations are shown unless more are asked for.
MOST_OPERATIONS = 50


def discovery(
    destination: Destination, *, since: str | None = None, source: str | None = None, operation: str | None = None
) -> Report:
    """Per source, worst first: how often new articles were found, and how many. What failed gave nothing, whether
    something broke on the way or there was nothing to be had."""
    row, count = OUTCOMES.c, func.count()
    query = select(
        row.source_name.label("source_name"),
        count.label("attempts"),
        count_if(row.is_content_success).label("content_successes"),
        count_if(~row.is_success).label("failures"),
        count_if(row.is_technical_failure).label("technical_failures"),
        func.sum(row.articles_found).label("articles_found"),
        func.sum(row.articles_new).label("articles_new"),
        func.avg(row.discovery_time_ms).label("avg_time_ms"),
        func.max(Moment(row.timestamp)).label("last_attempt"),
    ).group_by(row.source_name)
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    if source is not None:
        query = query.where(row.source_name == source)
    if operation is not None:
        query = query.where(row.operation_id == operation)
    rows = [
        {**found, "success_rate": share(found["content_successes"], found["attempts"])}
        for found in destination.read_dicts(query)
    ]
    return Report(
        title="Discovery, worst sources first",
        columns=(
            Column("source_name", "source", width=32),
            Column("attempts", "tries", "count"),
            Column("content_successes", "ok", "count"),
            Column("success_rate", "success", "rate"),
            Column("failures", "failed", "count"),
            Column("technical_failures", "broken", "count", optional=True),
            Column("articles_found", "articles", "count", optional=True),
            Column("articles_new", "new", "count"),
            Column("avg_time_ms", "time", "duration", optional=True),
            Column("last_attempt", "last", "moment"),
        ),
        rows=sorted(rows, key=lambda found: (found["success_rate"], -found["attempts"], found["source_name"])),
        counted="source",
        nothing="No discovery has been recorded.",
    )


def statuses(
    destination: Destination,
    *,
    since: str | None = None,
    source: str | None = None,
    method: str | None = None,
    operation: str | None = None,
) -> Report:
    """Per source and method of discovery, worst first: what its requests were answered. Those without an answer, which
    have no status, count as errors."""
    row, code = STATUSES.c, STATUSES.c.status_code
    query = select(
        row.source_id.label("source_id"),
        func.max(row.source_url).label("source_url"),
        row.discovery_method.label("discovery_method"),
        func.count().label("requests"),
        count_if(code.between(200, 299)).label("ok"),
        count_if(code.between(300, 399)).label("redirects"),
        count_if(code.between(400, 499)).label("client_errors"),
        count_if(code >= 500).label("server_errors"),
        count_if(code < 100).label("no_response"),
        func.avg(row.response_time_ms).label("avg_time_ms"),
        func.max(Moment(row.timestamp)).label("last_request"),
    ).group_by(row.source_id, row.discovery_method)
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    for column, value in ((row.source_id, source), (row.discovery_method, method), (row.operation_id, operation)):
        if value is not None:
            query = query.where(column == value)
    rows = [
        {
            **found,
            "error_rate": share(
                found["client_errors"] + found["server_errors"] + found["no_response"], found["requests"]
            ),
        }
        for found in destination.read_dicts(query)
    ]
    return Report(
        title="HTTP statuses of discovery, worst first",
        columns=(
            Column("source_id", "source", width=24),
            Column("source_url", "URL", width=40, optional=True),
            Column("discovery_method", "method"),
            Column("requests", "requests", "count"),
            Column("ok", "2xx", "count"),
            Column("redirects", "3xx", "count", optional=True),
            Column("client_errors", "4xx", "count"),
            Column("server_errors", "5xx", "count"),
            Column("no_response", "none", "count"),
            Column("error_rate", "failed", "rate", good="low"),
            Column("avg_time_ms", "time", "duration", optional=True),
            Column("last_request", "last", "moment", optional=True),
        ),
        rows=sorted(
            rows,
            key=lambda found: (-found["error_rate"], -found["requests"], found["source_id"], found["discovery_method"]),
        ),
        counted="combination",
        nothing="No requests of discovery have been recorded.",
    )


def discovery_methods(
    destination: Destination, *, since: str | None = None, source: str | None = None, method: str | None = None
) -> Report:
    """Per source and method, worst first: how often the method found articles there."""
    row = EFFECTIVENESS.c
    query = select(
        row.source_id,
        row.source_url,
        row.discovery_method,
        row.status,
        row.attempt_count.label("attempts"),
        (row.success_rate / 100).label("success_rate"),
        row.articles_found,
        row.avg_response_time_ms.label("avg_time_ms"),
        row.last_status_codes,
        Moment(row.last_attempt).label("last_attempt"),
    ).order_by(row.success_rate, row.attempt_count.desc(), row.source_id, row.discovery_method)
    if since is not None:
        query = query.where(from_moment(row.last_attempt, since))
    for column, value in ((row.source_id, source), (row.discovery_method, method)):
        if value is not None:
            query = query.where(column == value)
    return Report(
        title="Methods of discovery, worst first",
        columns=(
            Column("source_id", "source", width=24),
            Column("source_url", "URL", width=40, optional=True),
            Column("discovery_method", "method"),
            Column("status", "last outcome", optional=True),
            Column("attempts", "tries", "count"),
            Column("success_rate", "success", "rate"),
            Column("articles_found", "articles", "count"),
            Column("avg_time_ms", "time", "duration"),
            Column("last_status_codes", "codes", width=24, optional=True),
            Column("last_attempt", "last", "moment", optional=True),
        ),
        rows=destination.read_dicts(query),
        counted="combination",
        nothing="No methods of discovery have been recorded.",
    )


def operations(
    destination: Destination,
    *,
    since: str | None = None,
    operation_type: str | None = None,
    limit: int = MOST_OPERATIONS,
) -> Report:
    """The last operations, newest first: how they stand, how far they came, what went wrong."""
    row = OPERATIONS.c
    query = (
        select(
            row.id,
            row.operation_type,
            row.status,
            row.created_at,
            row.completed_at,
            row.duration_ms
            if destination.has_columns(schema.OPERATIONS, "duration_ms")
            else null().label("duration_ms"),
            row.metrics,
            row.error_details,
        )
        .order_by(Moment(row.created_at).desc(), row.id)
        .limit(limit)
    )
    if since is not None:
        query = query.where(from_moment(row.created_at, since))
    if operation_type is not None:
        query = query.where(row.operation_type == operation_type)
    return Report(
        title="Operations, newest first",
        columns=(
            Column("id", "operation", width=9, optional=True),
            Column("operation_type", "type"),
            Column("status", "status"),
            Column("created_at", "started", "moment"),
            Column("duration_ms", "time", "duration"),
            Column("processed_items", "done", "count", optional=True),
            Column("failed_items", "failed", "count", optional=True),
            Column("success_rate", "success", "rate", optional=True),
            Column("error", "error", width=60),
        ),
        rows=[_operation(found) for found in destination.read_dicts(query)],
        counted="operation",
        nothing="No operations have been recorded.",
    )


def _operation(found: dict[str, Any]) -> dict[str, Any]:
    metrics, error = document(found.pop("metrics")), document(found.pop("error_details"))
    began, ended = parse_moment(found["created_at"]), parse_moment(found.pop("completed_at")) or utc_now()
    if found["duration_ms"] is None and began:  # it runs, or is of an older program: to the second
        found["duration_ms"] = (ended - began).total_seconds() * 1000
    processed, failed = metrics.get("processed_items"), metrics.get("failed_items")
    return {
        **found,
        "processed_items": processed,
        "failed_items": failed,
        "success_rate": success_rate(processed, failed),
        "error": error.get("message"),
    }


def success_rate(processed: Any, failed: Any) -> float | None:
    """The share of what was processed that did not fail; None of nothing, or where these are no numbers."""
    if not isinstance(processed, int | float) or not isinstance(failed or 0, int | float):
        return None
    return share(max(processed - (failed or 0), 0), processed)
