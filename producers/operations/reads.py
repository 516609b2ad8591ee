"""What the stored outcomes of discovery say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, case, func, select

from ..columns import from_moment
from ..destination import Destination
from ..values import utc_now, utc_text
from .figures import percent
from .tables import DISCOVERY_OUTCOMES

#: So many sources stand in the report.
_TOP_SOURCES = 10

_COLUMNS = DISCOVERY_OUTCOMES.c


def outcomes_report(destination: Destination, operation_id: str | None, hours_back: float) -> dict[str, Any]:
    """See `OperationTracker.get_discovery_outcomes_report`."""
    if operation_id:
        chosen = _COLUMNS.operation_id == operation_id
    else:
        chosen = from_moment(_COLUMNS.timestamp, utc_text(utc_now() - timedelta(hours=hours_back), fraction=False))
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
