"""What the stored outcomes say."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, func, select

from ..destination import Destination
from .tables import EXTRACTION_OUTCOMES


def outcome_stats(destination: Destination, operation_id: str | None) -> list[dict[str, Any]]:
    """See `ExtractionTelemetry.get_extraction_stats`."""
    table = EXTRACTION_OUTCOMES.c
    count = func.count().label("count")
    query = (
        select(
            table.outcome,
            count,
            func.avg(table.extraction_time_ms).label("avg_time_ms"),
            func.avg(table.content_quality_score).label("avg_quality_score"),
            *(
                func.sum(case((table[f"is_{kind}"], 1), else_=0)).label(f"{kind}_count")
                for kind in ("success", "content_success", "technical_failure", "bot_protection")
            ),
        )
        .group_by(table.outcome)
        .order_by(count.desc(), table.outcome)
    )
    if operation_id is not None:
        query = query.where(table.operation_id == operation_id)
    return destination.read_dicts(query)
