"""What readers ask of the tables of content cleaning."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, func, select

from ..columns import Moment
from ..destination import Destination
from .tables import PATTERNS, SEGMENTS, SESSIONS

_columns = PATTERNS.c
_DESCRIPTION = (
    _columns.pattern_type,
    _columns.text_content,
    _columns.confidence_score,
    _columns.occurrences_total,
    _columns.removal_reason,
)
_SUREST_FIRST = (_columns.confidence_score.desc(), _columns.occurrences_total.desc())


def persistent_patterns(destination: Destination, domain: str | None) -> list[dict[str, Any]]:
    """A domain's active patterns, the surest first."""
    query = select(*_DESCRIPTION, _columns.is_ml_training_eligible).where(_columns.domain == domain)
    return [_with_flag(row) for row in destination.read_dicts(_active(query))]


def training_patterns(destination: Destination, domain: str | None) -> list[dict[str, Any]]:
    """The active patterns of one domain, or of each in turn, that models may be trained on."""
    query = select(_columns.domain, *_DESCRIPTION).where(_columns.is_ml_training_eligible.is_(True))
    return destination.read_dicts(_active(_of(domain, query)))


def telemetry_patterns(destination: Destination, domain: str | None, include_dynamic: bool) -> list[dict[str, Any]]:
    """The active patterns of one domain, or of each in turn, with their category."""
    query = _of(domain, select(_columns.domain, *_DESCRIPTION, _columns.is_ml_training_eligible))
    if not include_dynamic:
        query = query.where(_columns.is_ml_training_eligible.is_(True))
    rows = [_with_flag(row) for row in destination.read_dicts(_active(query))]
    return [{**row, "pattern_category": "persistent" if row["is_ml_training_eligible"] else "dynamic"} for row in rows]


def domain_summary(destination: Destination, domain: str | None) -> dict[str, Any]:
    """What was found on a domain in all sessions."""
    nothing: dict[str, Any] = {"session_count": 0, "avg_segments": None, "avg_removal_pct": None, "last_analysis": None}
    sessions = destination.read_dicts(
        select(
            func.count().label("session_count"),
            func.avg(SESSIONS.c.segments_detected).label("avg_segments"),
            func.avg(SESSIONS.c.removal_percentage).label("avg_removal_pct"),
            func.max(Moment(SESSIONS.c.end_time)).label("last_analysis"),
        ).where(SESSIONS.c.domain == domain)
    )
    detected = func.count().label("detection_count")
    segments = destination.read_dicts(
        select(
            SEGMENTS.c.pattern_type,
            detected,
            func.avg(SEGMENTS.c.boundary_score).label("avg_boundary_score"),
            func.sum(case((SEGMENTS.c.was_removed, 1), else_=0)).label("removed_count"),
        )
        .join(SESSIONS, SESSIONS.c.telemetry_id == SEGMENTS.c.telemetry_id)
        .where(SESSIONS.c.domain == domain)
        .group_by(SEGMENTS.c.pattern_type)
        .order_by(detected.desc(), SEGMENTS.c.pattern_type)
    )
    return {
        "domain": domain,
        "session_summary": _with_means(sessions[0] if sessions else nothing),
        "pattern_breakdown": [_with_means(row) for row in segments],
    }


def _of(domain: str | None, query: Select[Any]) -> Select[Any]:
    return query.order_by(_columns.domain) if domain is None else query.where(_columns.domain == domain)


def _active(query: Select[Any]) -> Select[Any]:
    return query.where(_columns.is_active.is_(True)).order_by(*_SUREST_FIRST)


def _with_flag(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "is_ml_training_eligible": bool(row["is_ml_training_eligible"])}


def _with_means(row: dict[str, Any]) -> dict[str, Any]:
    # PostgreSQL's mean of integers is a Decimal
    return {
        name: float(value) if name.startswith("avg_") and value is not None else value for name, value in row.items()
    }
