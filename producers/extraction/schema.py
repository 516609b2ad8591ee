"""The tables of the extractions, and what becomes of a row of HTTP errors that is there already."""

from __future__ import annotations

from telemetry_bus.config import DialectName

from ..kinds import BIG_INTEGER, FLAG, INTEGER, JSON, MOMENT, REAL, TEXT
from ..moments import comparable, later
from ..schema import NOW, Column, Index, Table, Upsert, defaults_to_now, serial_id

EXTRACTIONS = Table(
    "extraction_telemetry_v2",
    serial_id(),
    Column("operation_id", TEXT, required=True),
    Column("article_id", TEXT, required=True),
    Column("url", TEXT, required=True),
    Column("publisher", TEXT),
    Column("host", TEXT),
    Column("start_time", MOMENT, required=True),
    Column("end_time", MOMENT),
    Column("total_duration_ms", REAL),
    Column("http_status_code", INTEGER),
    Column("http_error_type", TEXT),
    Column("response_size_bytes", BIG_INTEGER),
    Column("response_time_ms", REAL),
    Column("methods_attempted", JSON),
    Column("successful_method", TEXT),
    Column("method_timings", JSON),
    Column("method_success", JSON),
    Column("method_errors", JSON),
    Column("field_extraction", JSON),
    Column("extracted_fields", JSON),
    Column("final_field_attribution", JSON),
    Column("alternative_extractions", JSON, added=True),
    Column("content_length", BIG_INTEGER),
    Column("is_success", FLAG),
    Column("error_message", TEXT),
    Column("error_type", TEXT),
    defaults_to_now("created_at"),
    Column("proxy_used", INTEGER, added=True),
    Column("proxy_url", TEXT, added=True),
    Column("proxy_authenticated", INTEGER, added=True),
    Column("proxy_status", INTEGER, added=True),
    Column("proxy_error", TEXT, added=True),
    indexes=(
        Index("ix_extraction_telemetry_v2_article_id", ("article_id",)),
        Index("ix_extraction_telemetry_v2_created_at", ("created_at",)),
        Index("ix_extraction_telemetry_v2_host", ("host",)),
        Index("ix_extraction_telemetry_v2_is_success", ("is_success",)),
        Index("ix_extraction_telemetry_v2_operation_id", ("operation_id",)),
        Index("ix_extraction_telemetry_v2_publisher", ("publisher",)),
        Index("ix_extraction_telemetry_v2_successful_method", ("successful_method",)),
        Index("ix_extraction_telemetry_v2_url", ("url",)),
    ),
)

HTTP_ERRORS = Table(
    "http_error_summary",
    serial_id(),
    Column("host", TEXT, required=True),
    Column("status_code", INTEGER, required=True),
    Column("error_type", TEXT, required=True),
    Column("count", INTEGER, default="1"),
    Column("first_seen", MOMENT, default=NOW),
    Column("last_seen", MOMENT, default=NOW),
    indexes=(Index("idx_http_error_summary_key", ("host", "status_code"), unique=True),),
)

DETECTIONS = Table(
    "content_type_detection_telemetry",
    serial_id(),
    Column("article_id", TEXT, required=True),
    Column("operation_id", TEXT),
    Column("url", TEXT, required=True),
    Column("publisher", TEXT),
    Column("host", TEXT),
    Column("status", TEXT, required=True),
    Column("confidence", TEXT),
    Column("confidence_score", REAL),
    Column("reason", TEXT),
    Column("evidence", JSON),
    Column("version", TEXT),
    Column("detected_at", MOMENT),
    defaults_to_now("created_at"),
    Column("detected_type", TEXT, required=True, default="'unknown'", added=True),
    Column("detection_method", TEXT, required=True, default="'content_type_detector'", added=True),
)


def _count_error(dialect: DialectName) -> dict[str, str]:
    """One more error; late news does not take the last moment back."""
    return {
        "count": "coalesce(stored.count, 0) + 1",
        "last_seen": later("last_seen", dialect),
    }


def _errors_united(dialect: DialectName) -> dict[str, str]:
    return {
        "count": "sum(coalesce(count, 0))",
        "first_seen": f"min({comparable('first_seen', dialect)})",
        "last_seen": f"max({comparable('last_seen', dialect)})",
    }


COUNT_ERROR = Upsert(("host", "status_code"), _count_error, united=_errors_united)
