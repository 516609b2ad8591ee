"""The reports on cleaning: bylines per source, content per domain."""

from __future__ import annotations

from sqlalchemy import func, select

from ..byline.tables import SESSIONS as BYLINES
from ..columns import Moment, count_if, from_moment
from ..content_cleaning.tables import LOCALITY_EVENTS, PATTERNS, SESSIONS, WIRE_EVENTS
from ..destination import Destination
from .report import Column, Report, share


def bylines(destination: Destination, *, since: str | None = None, source: str | None = None) -> Report:
    """Per source, worst first: how often a byline gave authors, and what stood in the way."""
    row, count = BYLINES.c, func.count()
    query = select(
        row.source_name.label("source_name"),
        count.label("bylines"),
        count_if(row.final_authors_count > 0).label("with_authors"),
        func.avg(row.confidence_score).label("avg_confidence"),
        count_if(row.has_wire_service).label("wire"),
        count_if(row.requires_manual_review).label("to_review"),
        count_if(row.cleaning_errors != "[]").label("with_errors"),
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


def wire(destination: Destination, *, since: str | None = None, domain: str | None = None) -> Report:
    """Per wire service and how it was detected, most frequent first."""
    row, count = WIRE_EVENTS.c, func.count().label("events")
    query = (
        select(
            row.provider.label("provider"),
            row.detection_method.label("detection_method"),
            row.detection_stage.label("detection_stage"),
            count,
            func.count(row.domain.distinct()).label("domains"),
            func.avg(row.confidence).label("avg_confidence"),
            func.max(Moment(row.timestamp)).label("last_seen"),
        )
        .group_by(row.provider, row.detection_method, row.detection_stage)
        .order_by(count.desc(), row.provider, row.detection_method, row.detection_stage)
    )
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    if domain is not None:
        query = query.where(row.domain == domain)
    return Report(
        title="Wire services detected",
        columns=(
            Column("provider", "provider", "name", width=32),
            Column("detection_method", "method", width=24),
            Column("detection_stage", "stage", width=24, optional=True),
            Column("events", "events", "count"),
            Column("domains", "domains", "count"),
            Column("avg_confidence", "confidence", "number"),
            Column("last_seen", "last", "moment"),
        ),
        rows=destination.read_dicts(query),
        counted="combination",
        nothing="No wire services have been recorded.",
    )


def locality(destination: Destination, *, since: str | None = None, domain: str | None = None) -> Report:
    """Per domain and wire service, most frequent first: which of its wire articles were judged local."""
    row, count = LOCALITY_EVENTS.c, func.count().label("events")
    query = (
        select(
            row.domain.label("domain"),
            row.provider.label("provider"),
            count,
            count_if(row.is_local).label("local"),
            func.avg(row.confidence).label("avg_confidence"),
            func.max(Moment(row.timestamp)).label("last_seen"),
        )
        .group_by(row.domain, row.provider)
        .order_by(count.desc(), row.domain, row.provider)
    )
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    if domain is not None:
        query = query.where(row.domain == domain)
    return Report(
        title="Wire articles judged local or not",
        columns=(
            Column("domain", "domain", "name", width=32),
            Column("provider", "provider", "name", width=32),
            Column("events", "articles", "count"),
            Column("local", "local", "count"),
            Column("local_rate", "share", "rate", good="neither"),
            Column("avg_confidence", "confidence", "number"),
            Column("last_seen", "last", "moment"),
        ),
        rows=[
            {**found, "local_rate": share(found["local"], found["events"])} for found in destination.read_dicts(query)
        ],
        counted="combination",
        nothing="No locality has been recorded.",
    )


def patterns(
    destination: Destination, *, since: str | None = None, domain: str | None = None, limit: int | None = None
) -> Report:
    """The library of boilerplate, most frequent first."""
    row = PATTERNS.c
    query = (
        select(
            row.domain,
            row.pattern_type,
            row.occurrences_total.label("occurrences"),
            row.confidence_score.label("confidence"),
            row.is_active,
            row.is_ml_training_eligible,
            Moment(row.first_seen).label("first_seen"),
            Moment(row.last_seen).label("last_seen"),
            row.text_content,
        )
        .order_by(row.occurrences_total.desc(), row.domain, row.text_content)
        .limit(limit)
    )
    if since is not None:
        query = query.where(from_moment(row.last_seen, since))
    if domain is not None:
        query = query.where(row.domain == domain)
    flags = ("is_active", "is_ml_training_eligible")
    return Report(
        title="Boilerplate patterns",
        columns=(
            Column("domain", "domain", width=32),
            Column("pattern_type", "type"),
            Column("occurrences", "times", "count"),
            Column("confidence", "confidence", "number"),
            Column("is_active", "active", "flag"),
            Column("is_ml_training_eligible", "training", "flag", optional=True),
            Column("first_seen", "first", "moment", optional=True),
            Column("last_seen", "last", "moment", optional=True),
            Column("text_content", "text", width=60),
        ),
        rows=[
            {**found, **{name: None if found[name] is None else bool(found[name]) for name in flags}}
            for found in destination.read_dicts(query)
        ],
        counted="pattern",
        nothing="No boilerplate patterns have been recorded.",
    )
