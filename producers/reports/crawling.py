"""The reports on crawling: discovery per source, operations."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import case, func, select

from ..columns import Moment, from_moment
from ..destination import Destination
from ..operations.tables import METADATA
from ..values import parse_moment, utc_now
from .report import Column, Report, share

OUTCOMES = METADATA.tables["discovery_outcomes"]
OPERATIONS = METADATA.tables["operations"]

#: So many operations are shown unless more are asked for.
MOST_OPERATIONS = 50


def discovery(
    destination: Destination, *, since: str | None = None, source: str | None = None, operation: str | None = None
) -> Report:
    """Per source, worst first: how often new articles were found, and how many."""
    row, count = OUTCOMES.c, func.count()
    query = select(
        row.source_name.label("source_name"),
        count.label("attempts"),
        func.sum(case((row.is_content_success, 1), else_=0)).label("content_successes"),
        func.sum(case((row.is_technical_failure, 1), else_=0)).label("technical_failures"),
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
            Column("technical_failures", "failed", "count", optional=True),
            Column("articles_found", "articles", "count", optional=True),
            Column("articles_new", "new", "count"),
            Column("avg_time_ms", "time", "duration", optional=True),
            Column("last_attempt", "last", "moment"),
        ),
        rows=sorted(rows, key=lambda found: (found["success_rate"], -found["attempts"], found["source_name"])),
        counted="source",
        nothing="No discovery has been recorded.",
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
        select(row.id, row.operation_type, row.status, row.created_at, row.completed_at, row.metrics, row.error_details)
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
            Column("error", "error", width=60),
        ),
        rows=[_operation(found) for found in destination.read_dicts(query)],
        counted="operation",
        nothing="No operations have been recorded.",
    )


def _operation(found: dict[str, Any]) -> dict[str, Any]:
    metrics, error = _document(found.pop("metrics")), _document(found.pop("error_details"))
    began, ended = parse_moment(found["created_at"]), parse_moment(found.pop("completed_at")) or utc_now()
    return {
        **found,
        "duration_ms": (ended - began).total_seconds() * 1000 if began else None,
        "processed_items": metrics.get("processed_items"),
        "failed_items": metrics.get("failed_items"),
        "error": error.get("message"),
    }


def _document(text: Any) -> dict[str, Any]:
    """A JSON object of a column; empty when there is none, or none that can be read."""
    try:
        document = json.loads(text) if text else None
    except (ValueError, TypeError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}
