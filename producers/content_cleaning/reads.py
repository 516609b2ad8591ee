"""What readers ask of the tables of content cleaning. A cleaner asks before it records, so SQLAlchemy stays away."""

from __future__ import annotations

from typing import Any

from ..destination import Destination, Query
from ..moments import comparable
from .schema import PATTERNS, SEGMENTS, SESSIONS

_DESCRIPTION = ("pattern_type", "text_content", "confidence_score", "occurrences_total", "removal_reason")
_SUREST_FIRST = ("confidence_score DESC", "occurrences_total DESC")


def _is_true(column: str) -> str:
    """Of a column of booleans, and of one of numbers, as another program may have made it."""
    return f"CAST({column} AS TEXT) IN ('1', 'true')"


_IS_ELIGIBLE = _is_true("is_ml_training_eligible")


def persistent_patterns(destination: Destination, domain: str | None) -> list[dict[str, Any]]:
    """A domain's active patterns, the surest first."""
    query = _active((*_DESCRIPTION, "is_ml_training_eligible"), _SUREST_FIRST, "domain = ?", values=(domain,))
    return [_with_flag(row) for row in destination.read_dicts(query)]


def training_patterns(destination: Destination, domain: str | None) -> list[dict[str, Any]]:
    """The active patterns of one domain, or of each in turn, that models may be trained on."""
    return destination.read_dicts(_of(domain, ("domain", *_DESCRIPTION), _IS_ELIGIBLE))


def telemetry_patterns(destination: Destination, domain: str | None, include_dynamic: bool) -> list[dict[str, Any]]:
    """The active patterns of one domain, or of each in turn, with their category."""
    conditions = () if include_dynamic else (_IS_ELIGIBLE,)
    query = _of(domain, ("domain", *_DESCRIPTION, "is_ml_training_eligible"), *conditions)
    rows = [_with_flag(row) for row in destination.read_dicts(query)]
    return [{**row, "pattern_category": "persistent" if row["is_ml_training_eligible"] else "dynamic"} for row in rows]


def domain_summary(destination: Destination, domain: str | None) -> dict[str, Any]:
    """What was found on a domain in all sessions."""
    nothing: dict[str, Any] = {"session_count": 0, "avg_segments": None, "avg_removal_pct": None, "last_analysis": None}
    sessions = Query(
        f"""SELECT count(*), avg(segments_detected), avg(removal_percentage),
            max({comparable("end_time", destination.dialect)})
        FROM {SESSIONS.name} WHERE domain = ?""",
        (domain,),
        tuple(nothing),
    )
    segments = Query(
        f"""SELECT segment.pattern_type, count(*), avg(segment.boundary_score),
            sum(CASE WHEN segment.was_removed THEN 1 ELSE 0 END)
        FROM {SEGMENTS.name} AS segment JOIN {SESSIONS.name} AS session ON session.telemetry_id = segment.telemetry_id
        WHERE session.domain = ? GROUP BY segment.pattern_type ORDER BY count(*) DESC, segment.pattern_type""",
        (domain,),
        ("pattern_type", "detection_count", "avg_boundary_score", "removed_count"),
    )
    found = destination.read_dicts(sessions)
    return {
        "domain": domain,
        "session_summary": _with_means(found[0] if found else nothing),
        "pattern_breakdown": [_with_means(row) for row in destination.read_dicts(segments)],
    }


def _of(domain: str | None, columns: tuple[str, ...], *conditions: str) -> Query:
    if domain is None:
        return _active(columns, ("domain", *_SUREST_FIRST), *conditions)
    return _active(columns, _SUREST_FIRST, "domain = ?", *conditions, values=(domain,))


def _active(columns: tuple[str, ...], order: tuple[str, ...], *conditions: str, values: tuple[Any, ...] = ()) -> Query:
    where = " AND ".join((_is_true("is_active"), *conditions))
    sql = f"SELECT {', '.join(columns)} FROM {PATTERNS.name} WHERE {where} ORDER BY {', '.join(order)}"
    return Query(sql, values, columns)


def _with_flag(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "is_ml_training_eligible": bool(row["is_ml_training_eligible"])}


def _with_means(row: dict[str, Any]) -> dict[str, Any]:
    # PostgreSQL's mean of integers is a Decimal
    return {
        name: float(value) if name.startswith("avg_") and value is not None else value for name, value in row.items()
    }
