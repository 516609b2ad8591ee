"""What came of looking for articles: one row per source and time."""

from __future__ import annotations

from telemetry_bus import Job
from telemetry_bus.config import DialectName

from ..schema import insert_job
from ..values import plain_text, text_or_none, utc_now
from .figures import real, text, whole, whole_or_none
from .outcomes import DiscoveryResult
from .schema import DISCOVERY_OUTCOMES


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
