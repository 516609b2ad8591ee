"""The tables of the extractions, and what becomes of a row of HTTP errors that is there already."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, Table, UniqueConstraint, case, func, text

from producers.columns import Flag, Int64, JsonText, PlainText, Real, UtcTimestamp, added, defaults_to_now, serial_id

METADATA = MetaData()

EXTRACTIONS = Table(
    "extraction_telemetry_v2",
    METADATA,
    serial_id(),
    Column("operation_id", PlainText, nullable=False, index=True),
    Column("article_id", PlainText, nullable=False, index=True),
    Column("url", PlainText, nullable=False, index=True),
    Column("publisher", PlainText, index=True),
    Column("host", PlainText, index=True),
    Column("start_time", UtcTimestamp(), nullable=False),
    Column("end_time", UtcTimestamp()),
    Column("total_duration_ms", Real),
    Column("http_status_code", Integer),
    Column("http_error_type", PlainText),
    Column("response_size_bytes", Int64),
    Column("response_time_ms", Real),
    Column("methods_attempted", JsonText),
    Column("successful_method", PlainText, index=True),
    Column("method_timings", JsonText),
    Column("method_success", JsonText),
    Column("method_errors", JsonText),
    Column("field_extraction", JsonText),
    Column("extracted_fields", JsonText),
    Column("final_field_attribution", JsonText),
    added(Column("alternative_extractions", JsonText)),
    Column("content_length", Int64),
    Column("is_success", Flag, index=True),
    Column("error_message", PlainText),
    Column("error_type", PlainText),
    defaults_to_now("created_at"),
    added(Column("proxy_used", Integer)),
    added(Column("proxy_url", PlainText)),
    added(Column("proxy_authenticated", Integer)),
    added(Column("proxy_status", Integer)),
    added(Column("proxy_error", PlainText)),
    sqlite_autoincrement=True,
)
Index("ix_extraction_telemetry_v2_created_at", EXTRACTIONS.c.created_at)

HTTP_ERRORS = Table(
    "http_error_summary",
    METADATA,
    serial_id(),
    Column("host", PlainText, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("error_type", PlainText, nullable=False),
    Column("count", Integer, server_default=text("1")),
    Column("first_seen", UtcTimestamp(), server_default=text("CURRENT_TIMESTAMP")),
    Column("last_seen", UtcTimestamp(), server_default=text("CURRENT_TIMESTAMP")),
    UniqueConstraint("host", "status_code"),
    sqlite_autoincrement=True,
)

DETECTIONS = Table(
    "content_type_detection_telemetry",
    METADATA,
    serial_id(),
    Column("article_id", PlainText, nullable=False),
    Column("operation_id", PlainText),
    Column("url", PlainText, nullable=False),
    Column("publisher", PlainText),
    Column("host", PlainText),
    Column("status", PlainText, nullable=False),
    Column("confidence", PlainText),
    Column("confidence_score", Real),
    Column("reason", PlainText),
    Column("evidence", JsonText),
    Column("version", PlainText),
    Column("detected_at", UtcTimestamp()),
    defaults_to_now("created_at"),
    added(Column("detected_type", PlainText, nullable=False, server_default=text("'unknown'"))),
    added(Column("detection_method", PlainText, nullable=False, server_default=text("'content_type_detector'"))),
    sqlite_autoincrement=True,
)

VERIFICATIONS = Table(
    "verification_telemetry",
    METADATA,
    serial_id(),
    Column("job_name", PlainText, index=True),
    Column("batch_size", Integer, nullable=False),
    Column("verified_articles", Integer, nullable=False),
    Column("verified_non_articles", Integer, nullable=False),
    Column("verification_errors", Integer, nullable=False),
    Column("total_processed", Integer, nullable=False),
    Column("batch_time_seconds", Real, nullable=False),
    Column("avg_verification_time_ms", Real, nullable=False),
    Column("total_time_ms", Real, nullable=False),
    Column("sources_processed", JsonText),
    defaults_to_now("timestamp"),
    defaults_to_now("created_at"),
    sqlite_autoincrement=True,
)
Index("ix_verification_telemetry_timestamp", VERIFICATIONS.c.timestamp)


def count_error(stored: Any, given: Any) -> dict[str, Any]:
    """One more error of a host and a status; late news does not take the last moment back."""
    is_older = given["last_seen"] <= stored["last_seen"]
    return {
        "count": func.coalesce(stored["count"], 0) + 1,
        "last_seen": case((is_older, stored["last_seen"]), else_=given["last_seen"]),
    }
