"""The reports on what came of extractions: outcomes, content types, verified URLs, proxies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData, case, func, or_, select

from .. import verification as batches
from ..columns import Moment, count_if, from_moment
from ..destination import Destination
from ..extraction import PROXY_STATUS_BYPASSED, PROXY_STATUS_FAILED, PROXY_STATUS_SUCCESS, schema
from ..extraction.tables import DETECTIONS, EXTRACTIONS, VERIFICATIONS
from ..extraction_outcomes.tables import EXTRACTION_OUTCOMES
from .report import Column, Report, share


def outcomes(destination: Destination, *, since: str | None = None, operation: str | None = None) -> Report:
    """Per outcome, most frequent first: how often, of which kind, how long and how good."""
    row, count = EXTRACTION_OUTCOMES.c, func.count().label("count")
    kind = case(
        (row.is_success, "success"),
        (row.is_technical_failure, "technical failure"),
        (row.is_bot_protection, "bot protection"),
        else_="no content",
    )
    query = (
        select(
            row.outcome.label("outcome"),
            func.min(kind).label("kind"),
            count,
            func.avg(row.extraction_time_ms).label("avg_time_ms"),
            func.avg(row.content_quality_score).label("avg_quality"),
            func.max(Moment(row.timestamp)).label("last_seen"),
        )
        .group_by(row.outcome)
        .order_by(count.desc(), row.outcome)
    )
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    if operation is not None:
        query = query.where(row.operation_id == operation)
    found = destination.read_dicts(query)
    total = sum(each["count"] for each in found)
    return Report(
        title="Outcomes of extractions",
        columns=(
            Column("outcome", "outcome"),
            Column("kind", "kind"),
            Column("count", "count", "count"),
            Column("share", "share", "rate", good="neither"),
            Column("avg_time_ms", "time", "duration"),
            Column("avg_quality", "quality", "number", optional=True),
            Column("last_seen", "last", "moment"),
        ),
        rows=[{**each, "share": share(each["count"], total)} for each in found],
        counted="outcome",
        nothing="No outcomes have been recorded.",
    )


def content_types(destination: Destination, *, since: str | None = None, publisher: str | None = None) -> Report:
    """Per kind of page, most frequent first: how often it was detected, how surely, at how many publishers."""
    row, count = DETECTIONS.c, func.count().label("count")
    query = (
        select(
            row.status.label("content_type"),
            count,
            func.count(row.publisher.distinct()).label("publishers"),
            func.avg(row.confidence_score).label("avg_confidence"),
            func.min(row.confidence_score).label("least_confidence"),
            func.max(Moment(row.created_at)).label("last_seen"),
        )
        .group_by(row.status)
        .order_by(count.desc(), row.status)
    )
    if since is not None:
        query = query.where(from_moment(row.created_at, since))
    if publisher is not None:
        query = query.where(row.publisher == publisher)
    found = destination.read_dicts(query)
    total = sum(each["count"] for each in found)
    return Report(
        title="Content types",
        columns=(
            Column("content_type", "content type", width=32),
            Column("count", "count", "count"),
            Column("share", "share", "rate", good="neither"),
            Column("publishers", "publishers", "count"),
            Column("avg_confidence", "confidence", "number"),
            Column("least_confidence", "least", "number", optional=True),
            Column("last_seen", "last", "moment"),
        ),
        rows=[{**each, "share": share(each["count"], total)} for each in found],
        counted="content type",
        nothing="No content types have been recorded.",
    )


def verification(destination: Destination, *, since: str | None = None, job: str | None = None) -> Report:
    """Per job, most errors first: URLs verified in batches, and what they were."""
    table = VERIFICATIONS.to_metadata(MetaData(), name=batches.verifications(destination).name)
    row, processed = table.c, func.coalesce(func.sum(table.c.total_processed), 0)
    query = select(
        row.job_name.label("job_name"),
        func.count().label("batches"),
        processed.label("processed"),
        func.sum(row.verified_articles).label("articles"),
        func.sum(row.verified_non_articles).label("non_articles"),
        func.sum(row.verification_errors).label("errors"),
        func.sum(row.avg_verification_time_ms * row.total_processed).label("time_ms"),
        func.max(Moment(row.timestamp)).label("last_batch"),
    ).group_by(row.job_name)
    if since is not None:
        query = query.where(from_moment(row.timestamp, since))
    if job is not None:
        query = query.where(row.job_name == job)
    rows = [
        {
            "error_rate": share(each["errors"], each["processed"]),
            "avg_time_ms": share(each.pop("time_ms"), each["processed"]),
            **each,
        }
        for each in destination.read_dicts(query)
    ]
    return Report(
        title="URLs verified, most errors first",
        columns=(
            Column("job_name", "job", "name", width=32),
            Column("batches", "batches", "count"),
            Column("processed", "URLs", "count"),
            Column("articles", "articles", "count"),
            Column("non_articles", "others", "count", optional=True),
            Column("errors", "errors", "count"),
            Column("error_rate", "failed", "rate", good="low"),
            Column("avg_time_ms", "time", "duration"),
            Column("last_batch", "last", "moment"),
        ),
        rows=sorted(rows, key=lambda each: (-(each["error_rate"] or 0), -each["processed"], each["job_name"] or "")),
        counted="job",
        nothing="No verification has been recorded.",
    )


def proxies(destination: Destination, *, since: str | None = None, publisher: str | None = None) -> Report:
    """Per proxy, worst first: how it served, and what came of the extractions through it."""
    row = EXTRACTIONS.c
    query = (
        select(
            row.proxy_url.label("proxy_url"),
            func.count().label("extractions"),
            *(
                count_if(row.proxy_status == status).label(name)
                for name, status in (
                    ("served", PROXY_STATUS_SUCCESS),
                    ("failed", PROXY_STATUS_FAILED),
                    ("bypassed", PROXY_STATUS_BYPASSED),
                )
            ),
            func.count(row.proxy_error).label("errors"),
            count_if(row.is_success).label("successes"),
            func.avg(row.total_duration_ms).label("avg_duration_ms"),
            func.max(Moment(row.created_at)).label("last_used"),
        )
        .where(or_(row.proxy_used == 1, row.proxy_url.is_not(None), row.proxy_status > 0))
        .group_by(row.proxy_url)
    )
    if since is not None:
        query = query.where(from_moment(row.created_at, since))
    if publisher is not None:
        query = query.where(row.publisher == publisher)
    rows = [_proxy(each) for each in destination.read_dicts(query)] if _knows_proxies(destination) else []
    return Report(
        title="Proxies, worst first",
        columns=(
            Column("proxy_url", "proxy", "name", width=40),
            Column("extractions", "tries", "count"),
            Column("served", "served", "count"),
            Column("failed", "failed", "count"),
            Column("bypassed", "bypassed", "count", optional=True),
            Column("errors", "errors", "count", optional=True),
            Column("successes", "ok", "count", optional=True),
            Column("success_rate", "success", "rate"),
            Column("avg_duration_ms", "time", "duration"),
            Column("last_used", "last", "moment"),
        ),
        rows=sorted(rows, key=lambda each: (each["success_rate"], -each["extractions"], each["proxy_url"] or "")),
        counted="proxy",
        nothing="No proxies have been recorded.",
    )


def _knows_proxies(destination: Destination) -> bool:
    """An old database has no columns for them."""
    return destination.has_columns(schema.EXTRACTIONS, "proxy_used", "proxy_url", "proxy_status", "proxy_error")


def _proxy(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "success_rate": share(found["successes"], found["extractions"])}
