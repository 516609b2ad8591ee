"""The tables of operations, and of how articles are found. Their times have no fraction."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, Table, false, text

from ..columns import Flag, Int64, JsonText, PlainText, Real, UtcTimestamp, added, defaults_to_now, serial_id

METADATA = MetaData()

OPERATIONS = Table(
    "operations",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("operation_type", PlainText(), nullable=False),
    Column("status", PlainText(), nullable=False),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    Column("completed_at", UtcTimestamp(fraction=False)),
    Column("user_id", PlainText()),
    Column("session_id", PlainText()),
    Column("parameters", JsonText()),
    Column("metrics", JsonText()),
    Column("error_details", JsonText()),
    Column("result_summary", JsonText()),
)

#: One row per operation too, for those who watch jobs of all kinds.
JOBS = Table(
    "jobs",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("job_type", PlainText(), nullable=False),
    Column("job_name", PlainText()),
    defaults_to_now("started_at", nullable=False),
    Column("finished_at", UtcTimestamp(fraction=False)),
    Column("exit_status", PlainText()),
    Column("params", JsonText()),
    Column("commit_sha", PlainText()),
    Column("environment", JsonText()),
    Column("artifact_paths", JsonText()),
    Column("logs_path", PlainText()),
    Column("records_processed", Integer),
    Column("records_created", Integer),
    Column("records_updated", Integer),
    Column("errors_count", Integer),
)

DISCOVERY_OUTCOMES = Table(
    "discovery_outcomes",
    METADATA,
    serial_id(),
    Column("operation_id", PlainText(), nullable=False),
    Column("source_id", PlainText(), nullable=False),
    Column("source_name", PlainText(), nullable=False),
    Column("source_url", PlainText(), nullable=False),
    Column("outcome", PlainText(), nullable=False),
    Column("articles_found", Integer, nullable=False, server_default=text("0")),
    Column("articles_new", Integer, nullable=False, server_default=text("0")),
    Column("articles_duplicate", Integer, nullable=False, server_default=text("0")),
    Column("articles_expired", Integer, nullable=False, server_default=text("0")),
    Column("methods_attempted", PlainText(), nullable=False),
    Column("method_used", PlainText()),
    Column("error_details", PlainText()),
    Column("http_status", Integer),
    Column("discovery_time_ms", Real, nullable=False, server_default=text("0.0")),
    Column("is_success", Flag(), nullable=False, server_default=false()),
    Column("is_content_success", Flag(), nullable=False, server_default=false()),
    Column("is_technical_failure", Flag(), nullable=False, server_default=false()),
    Column("metadata", JsonText()),
    defaults_to_now("timestamp"),
    Index("idx_discovery_operation", "operation_id"),
    Index("idx_discovery_source", "source_id"),
    Index("idx_discovery_outcome", "outcome"),
    Index("idx_discovery_success", "is_success"),
    Index("idx_discovery_content_success", "is_content_success"),
    Index("idx_discovery_timestamp", "timestamp"),
    Index("idx_discovery_source_outcome", "source_id", "outcome"),
    sqlite_autoincrement=True,
)

HTTP_STATUSES = Table(
    "http_status_tracking",
    METADATA,
    serial_id(),
    Column("source_id", PlainText(), nullable=False),
    Column("source_url", PlainText(), nullable=False),
    Column("discovery_method", PlainText(), nullable=False),
    Column("attempted_url", PlainText(), nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("status_category", PlainText(), nullable=False),
    Column("response_time_ms", Real, nullable=False),
    Column("timestamp", UtcTimestamp(fraction=False), nullable=False),
    Column("operation_id", PlainText(), nullable=False),
    Column("error_message", PlainText()),
    Column("content_length", Int64),
    Index("idx_http_source_method", "source_id", "discovery_method"),
    Index("idx_http_status_code", "status_code"),
    Index("idx_http_timestamp", "timestamp"),
    sqlite_autoincrement=True,
)

EFFECTIVENESS = Table(
    "discovery_method_effectiveness",
    METADATA,
    serial_id(),
    Column("source_id", PlainText(), nullable=False),
    Column("source_url", PlainText(), nullable=False),
    Column("discovery_method", PlainText(), nullable=False),
    Column("status", PlainText(), nullable=False),
    Column("articles_found", Integer, nullable=False, server_default=text("0")),
    Column("success_rate", Real, nullable=False, server_default=text("0.0")),
    Column("last_attempt", UtcTimestamp(fraction=False), nullable=False),
    Column("attempt_count", Integer, nullable=False, server_default=text("0")),
    Column("avg_response_time_ms", Real, nullable=False, server_default=text("0.0")),
    Column("last_status_codes", JsonText()),
    Column("notes", PlainText()),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    # keeps the rate exact; NULL where only the rate is known
    added(Column("success_count", Integer)),
    Index("idx_effectiveness_source_method", "source_id", "discovery_method", unique=True),
    Index("idx_effectiveness_source", "source_id"),
    Index("idx_effectiveness_method", "discovery_method"),
    Index("idx_effectiveness_success_rate", "success_rate"),
    Index("idx_effectiveness_last_attempt", "last_attempt"),
    sqlite_autoincrement=True,
)
