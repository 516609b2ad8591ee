"""The reports on cleaning: bylines per source, content per domain."""

from __future__ import annotations

from sqlalchemy import case, func, select

from ..byline.tables import SESSIONS as BYLINES
from ..columns import Moment, from_moment
from ..content_cleaning.tables import SESSIONS
from ..destination import Destination
from .report import Column, Report, share


def bylines(destination: Destination, *, since: str | None = None, source: str | None = None) -> Report:
    """Per source, worst first: how often a byline gave authors, and what stood in the way."""
    row, count = BYLINES.c, func.count()
    query = select(
        row.source_name.label("source_name"),
        count.label("bylines"),
        func.sum(case((row.final_authors_count > 0, 1), else_=0)).label("with_authors"),
        func.avg(row.confidence_score).label("avg_confidence"),
        func.sum(case((row.has_wire_service, 1), else_=0)).label("wire"),
        func.sum(case((row.requires_manual_review, 1), else_=0)).label("to_review"),
        func.sum(case((row.cleaning_errors != "[]", 1), else_=0)).label("with_errors"),
        func.avg(row.processing_time_ms).label("avg_time_ms"),
    ).group_by(row.source_name)
    if since is not None:
        query = query.where(from_moment(row.extraction_timestamp, since))
    if source is not None:
        query = query.where(row.source_name == source)
    rows = [
        {**found, "success_rate": share(found["with_authors"], found["bylines"])}
        for found in destination.read_dicts(query)
    ]
    return Report(
        title="Bylines cleaned, worst first",
        columns=(
            Column("source_name", "source", width=32),
            Column("bylines", "bylines", "count"),
            Column("with_authors", "ok", "count"),
            Column("success_rate", "success", "rate"),
            Column("avg_confidence", "confidence", "number", optional=True),
            Column("wire", "wire", "count", optional=True),
            Column("to_review", "review", "count"),
            Column("with_errors", "errors", "count"),
            Column("avg_time_ms", "time", "duration", optional=True),
        ),
        rows=sorted(rows, key=lambda found: (found["success_rate"], -found["bylines"], found["source_name"] or "")),
        counted="source",
        nothing="No bylines have been recorded.",
    )


def contents(destination: Destination, *, since: str | None = None, domain: str | None = None) -> Report:
    """Per domain, most sessions first: how much of the articles was boilerplate."""
    row, count = SESSIONS.c, func.count().label("sessions")
    query = (
        select(
            row.domain.label("domain"),
            count,
            func.sum(row.article_count).label("articles"),
            func.sum(row.segments_detected).label("segments"),
            func.sum(row.total_removable_chars).label("removable_chars"),
            (func.avg(row.removal_percentage) / 100).label("removal_rate"),
            func.avg(row.processing_time_ms).label("avg_time_ms"),
            func.max(Moment(row.end_time)).label("last_session"),
        )
        .group_by(row.domain)
        .order_by(count.desc(), row.domain)
    )
    if since is not None:
        query = query.where(from_moment(row.start_time, since))
    if domain is not None:
        query = query.where(row.domain == domain)
    return Report(
        title="Content cleaned",
        columns=(
            Column("domain", "domain", width=32),
            Column("sessions", "sessions", "count"),
            Column("articles", "articles", "count"),
            Column("segments", "segments", "count", optional=True),
            Column("removable_chars", "chars", "count", optional=True),
            Column("removal_rate", "removed", "rate"),
            Column("avg_time_ms", "time", "duration", optional=True),
            Column("last_session", "last", "moment"),
        ),
        rows=destination.read_dicts(query),
        counted="domain",
        nothing="No cleaning sessions have been recorded.",
    )
