"""The tables of operations, and of how articles are found. Their times have no fraction."""

from __future__ import annotations

from ..kinds import BIG_INTEGER, FLAG, INTEGER, JSON, REAL, SECOND, TEXT
from ..schema import Column, Index, Table, defaults_to_now, serial_id

OPERATIONS = Table(
    "operations",
    Column("id", TEXT, key=True),
    Column("operation_type", TEXT, required=True),
    Column("status", TEXT, required=True),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    Column("completed_at", SECOND),
    Column("user_id", TEXT),
    Column("session_id", TEXT),
    Column("parameters", JSON),
    Column("metrics", JSON),
    Column("error_details", JSON),
    Column("result_summary", JSON),
    Column("duration_ms", REAL, added=True),  # its times have no fraction
)

#: One row per operation too, for those who watch jobs of all kinds.
JOBS = Table(
    "jobs",
    Column("id", TEXT, key=True),
    Column("job_type", TEXT, required=True),
    Column("job_name", TEXT),
    defaults_to_now("started_at", required=True),
    Column("finished_at", SECOND),
    Column("exit_status", TEXT),
    Column("params", JSON),
    Column("commit_sha", TEXT),
    Column("environment", JSON),
    Column("artifact_paths", JSON),
    Column("logs_path", TEXT),
    Column("records_processed", INTEGER),
    Column("records_created", INTEGER),
    Column("records_updated", INTEGER),
    Column("errors_count", INTEGER),
)

DISCOVERY_OUTCOMES = Table(
    "discovery_outcomes",
    serial_id(),
    Column("operation_id", TEXT, required=True),
    Column("source_id", TEXT, required=True),
    Column("source_name", TEXT, required=True),
    Column("source_url", TEXT, required=True),
    Column("outcome", TEXT, required=True),
    Column("articles_found", INTEGER, required=True, default="0"),
    Column("articles_new", INTEGER, required=True, default="0"),
    Column("articles_duplicate", INTEGER, required=True, default="0"),
    Column("articles_expired", INTEGER, required=True, default="0"),
    Column("methods_attempted", TEXT, required=True),
    Column("method_used", TEXT),
    Column("error_details", TEXT),
    Column("http_status", INTEGER),
    Column("discovery_time_ms", REAL, required=True, default="0.0"),
    Column("is_success", FLAG, required=True, default="FALSE"),
    Column("is_content_success", FLAG, required=True, default="FALSE"),
    Column("is_technical_failure", FLAG, required=True, default="FALSE"),
    Column("metadata", JSON),
    defaults_to_now("timestamp"),
    indexes=(
        Index("idx_discovery_content_success", ("is_content_success",)),
        Index("idx_discovery_operation", ("operation_id",)),
        Index("idx_discovery_outcome", ("outcome",)),
        Index("idx_discovery_source", ("source_id",)),
        Index("idx_discovery_source_outcome", ("source_id", "outcome")),
        Index("idx_discovery_success", ("is_success",)),
        Index("idx_discovery_timestamp", ("timestamp",)),
    ),
)

HTTP_STATUSES = Table(
    "http_status_tracking",
    serial_id(),
    Column("source_id", TEXT, required=True),
    Column("source_url", TEXT, required=True),
    Column("discovery_method", TEXT, required=True),
    Column("attempted_url", TEXT, required=True),
    Column("status_code", INTEGER, required=True),
    Column("status_category", TEXT, required=True),
    Column("response_time_ms", REAL, required=True),
    Column("timestamp", SECOND, required=True),
    Column("operation_id", TEXT, required=True),
    Column("error_message", TEXT),
    Column("content_length", BIG_INTEGER),
    indexes=(
        Index("idx_http_source_method", ("source_id", "discovery_method")),
        Index("idx_http_status_code", ("status_code",)),
        Index("idx_http_timestamp", ("timestamp",)),
    ),
)

EFFECTIVENESS = Table(
    "discovery_method_effectiveness",
    serial_id(),
    Column("source_id", TEXT, required=True),
    Column("source_url", TEXT, required=True),
    Column("discovery_method", TEXT, required=True),
    Column("status", TEXT, required=True),
    Column("articles_found", INTEGER, required=True, default="0"),
    Column("success_rate", REAL, required=True, default="0.0"),
    Column("last_attempt", SECOND, required=True),
    Column("attempt_count", INTEGER, required=True, default="0"),
    Column("avg_response_time_ms", REAL, required=True, default="0.0"),
    Column("last_status_codes", JSON),
    Column("notes", TEXT),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    # keeps the rate exact; NULL where only the rate is known
    Column("success_count", INTEGER, added=True),
    indexes=(
        Index("idx_effectiveness_last_attempt", ("last_attempt",)),
        Index("idx_effectiveness_method", ("discovery_method",)),
        Index("idx_effectiveness_source", ("source_id",)),
        Index("idx_effectiveness_source_method", ("source_id", "discovery_method"), unique=True),
        Index("idx_effectiveness_success_rate", ("success_rate",)),
    ),
)
