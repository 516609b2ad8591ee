"""What came of looking for articles: one row per source and time, and the report over them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, case, func, select

from telemetry_bus import Job
from telemetry_bus.tables import insert_job

from ..destination import Destination, DialectName
from ..values import plain_text, text_or_none, utc_now, utc_text
from .figures import percent, real, text, whole, whole_or_none
from .outcomes import DiscoveryResult
from .tables import DISCOVERY_OUTCOMES

#: So many sources stand in the report.
_TOP_SOURCES = 10

_COLUMNS = DISCOVERY_OUTCOMES.c


def outcome_job(
    operation_id: object,
    source_id: object,
    source_name: object,
    source_url: object,
    result: DiscoveryResult,
    dialect: DialectName,
) -> Job:
    """The job that writes one outcome."""
    metadata = result.metadata if isinstance(result.metadata, dict) else {}
    methods = metadata.get("methods_attempted") or ()
    row = {
        "operation_id": text(operation_id),
        "source_id": text(source_id),
        "source_name": text(source_name),
        "source_url": text(source_url),
        "outcome": text(result.outcome),
        "articles_found": whole(result.articles_found),
        "articles_new": whole(result.articles_new),
        "articles_duplicate": whole(result.articles_duplicate),
        "articles_expired": whole(result.articles_expired),
        "methods_attempted": methods if isinstance(methods, str) else ",".join(map(plain_text, methods)),
        "method_used": text_or_none(result.method_used),
        "error_details": text_or_none(result.error_details),
        "http_status": whole_or_none(result.http_status),
        "discovery_time_ms": real(metadata.get("discovery_time_ms")),
        "is_success": result.is_success,
        "is_content_success": result.is_content_success,
        "is_technical_failure": result.is_technical_failure,
        "metadata": result.metadata,
        "timestamp": utc_now(),
    }
    return insert_job(DISCOVERY_OUTCOMES, row, dialect=dialect)


def outcomes_report(destination: Destination, operation_id: str | None, hours_back: float) -> dict[str, Any]:
    """See `OperationTracker.get_discovery_outcomes_report`."""
    if operation_id:
        chosen = _COLUMNS.operation_id == operation_id
    else:
        chosen = _COLUMNS.timestamp >= utc_text(utc_now() - timedelta(hours=hours_back), fraction=False)
    (found,) = destination.read_dicts(_summary().where(chosen)) or [_no_summary()]
    summary = {name: 0 if value is None else value for name, value in found.items()}  # a sum of nothing is NULL
    total = summary["total_sources"]
    return {
        "summary": {
            **summary,
            "technical_success_rate": percent(summary["technical_success_count"], total),
            "content_success_rate": percent(summary["content_success_count"], total),
        },
        "outcome_breakdown": [
            {**row, "percentage": percent(row["count"], total)}
            for row in destination.read_dicts(_breakdown().where(chosen))
        ],
        "top_performing_sources": [
            {**row, "content_success_rate": percent(row["content_successes"], row["attempts"])}
            for row in destination.read_dicts(_top_sources().where(chosen))
        ],
    }


def _summary() -> Select[Any]:
    return select(
        func.count().label("total_sources"),
        _count(_COLUMNS.is_success).label("technical_success_count"),
        _count(_COLUMNS.is_content_success).label("content_success_count"),
        _count(_COLUMNS.is_technical_failure).label("technical_failure_count"),
        func.sum(_COLUMNS.articles_found).label("total_articles_found"),
        func.sum(_COLUMNS.articles_new).label("total_new_articles"),
        func.sum(_COLUMNS.articles_duplicate).label("total_duplicate_articles"),
        func.sum(_COLUMNS.articles_expired).label("total_expired_articles"),
        func.avg(_COLUMNS.discovery_time_ms).label("avg_discovery_time_ms"),
    ).select_from(DISCOVERY_OUTCOMES)


def _no_summary() -> dict[str, Any]:
    return {column.name: None for column in _summary().selected_columns}


def _breakdown() -> Select[Any]:
    count = func.count().label("count")
    outcome = _COLUMNS.outcome
    return select(outcome, count).group_by(outcome).order_by(count.desc(), outcome)


def _top_sources() -> Select[Any]:
    successes, new = _count(_COLUMNS.is_content_success), func.sum(_COLUMNS.articles_new)
    rate = func.avg(case((_COLUMNS.is_content_success, 1.0), else_=0.0))
    return (
        select(
            _COLUMNS.source_name,
            func.count().label("attempts"),
            successes.label("content_successes"),
            new.label("total_new_articles"),
        )
        .group_by(_COLUMNS.source_name)
        .order_by(rate.desc(), new.desc(), _COLUMNS.source_name)
        .limit(_TOP_SOURCES)
    )


def _count(flag: Any) -> Any:
    return func.sum(case((flag, 1), else_=0))
