"""The tables of content cleaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Table, case, func, text, true

from ..columns import Flag, Int64, PlainText, Real, UtcTimestamp, defaults_to_now

METADATA = MetaData()

SESSIONS = Table(
    "content_cleaning_sessions",
    METADATA,
    Column("telemetry_id", PlainText(), primary_key=True),
    Column("session_id", PlainText()),
    Column("domain", PlainText()),
    Column("article_count", Integer),
    Column("min_occurrences", Integer),
    Column("min_boundary_score", Real),
    Column("start_time", UtcTimestamp()),
    Column("end_time", UtcTimestamp()),
    Column("processing_time_ms", Real),
    Column("rough_candidates_found", Integer),
    Column("segments_detected", Integer),
    Column("total_removable_chars", Integer),
    Column("removal_percentage", Real),
    defaults_to_now("created_at"),
    Index("idx_content_cleaning_domain", "domain"),
)

SEGMENTS = Table(
    "content_cleaning_segments",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("telemetry_id", PlainText(), ForeignKey(SESSIONS.c.telemetry_id)),
    Column("detection_number", Integer),
    Column("segment_text", PlainText()),
    Column("segment_text_hash", Int64),
    Column("boundary_score", Real),
    Column("occurrences", Integer),
    Column("pattern_type", PlainText()),
    Column("position_consistency", Real),
    Column("segment_length", Integer),
    Column("affected_article_count", Integer),
    Column("was_removed", Flag()),
    Column("removal_reason", PlainText()),
    Column("timestamp", UtcTimestamp()),
    Column("article_ids_json", PlainText()),
    defaults_to_now("created_at"),
    Index("idx_content_segments_telemetry", "telemetry_id"),
    Index("idx_content_segments_pattern", "pattern_type"),
    Index("idx_content_segments_boundary_score", "boundary_score"),
)

WIRE_EVENTS = Table(
    "content_cleaning_wire_events",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("telemetry_id", PlainText(), ForeignKey(SESSIONS.c.telemetry_id)),
    Column("session_id", PlainText()),
    Column("domain", PlainText()),
    Column("provider", PlainText()),
    Column("detection_method", PlainText()),
    Column("detection_stage", PlainText()),
    Column("confidence", Real),
    Column("pattern_text", PlainText()),
    Column("pattern_text_hash", Int64),
    Column("article_ids_json", PlainText()),
    Column("metadata_json", PlainText()),
    Column("timestamp", UtcTimestamp()),
    defaults_to_now("created_at"),
)

LOCALITY_EVENTS = Table(
    "content_cleaning_locality_events",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("telemetry_id", PlainText(), ForeignKey(SESSIONS.c.telemetry_id)),
    Column("session_id", PlainText()),
    Column("domain", PlainText()),
    Column("provider", PlainText()),
    Column("detection_method", PlainText()),
    Column("article_id", PlainText()),
    Column("is_local", Flag()),
    Column("confidence", Real),
    Column("raw_score", Real),
    Column("threshold", Real),
    Column("signals_json", PlainText()),
    Column("locality_json", PlainText()),
    Column("source_context_json", PlainText()),
    Column("timestamp", UtcTimestamp()),
    defaults_to_now("created_at"),
)


PATTERNS = Table(
    "persistent_boilerplate_patterns",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("domain", PlainText(), nullable=False),
    Column("pattern_type", PlainText(), nullable=False),
    Column("text_content", PlainText(), nullable=False),
    Column("text_hash", PlainText(), nullable=False),
    Column("confidence_score", Real, nullable=False),
    Column("occurrences_total", Integer, server_default=text("1")),
    Column("first_seen", UtcTimestamp(), server_default=text("CURRENT_TIMESTAMP")),
    Column("last_seen", UtcTimestamp(), server_default=text("CURRENT_TIMESTAMP")),
    Column("removal_reason", PlainText()),
    Column("is_active", Flag(), server_default=true()),
    Column("is_ml_training_eligible", Flag(), server_default=true()),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    Index("idx_persistent_patterns_domain", "domain", "is_active"),
    Index("idx_persistent_patterns_type", "pattern_type", "confidence_score"),
    Index("idx_persistent_patterns_ml_eligible", "is_ml_training_eligible", "domain"),
)

_IS_DIGEST = text("length(text_hash) = 64")

#: What tells patterns apart. Older databases have an index of this name that is not unique, over hashes that differed
#: from process to process: those rows stay as they are.
PATTERN_KEY = Index(
    "idx_persistent_patterns_hash",
    PATTERNS.c.domain,
    PATTERNS.c.text_hash,
    unique=True,
    sqlite_where=_IS_DIGEST,
    postgresql_where=_IS_DIGEST,
    info={"replaced": True},
)


def seen_again(stored: Any, given: Any) -> Mapping[str, Any]:
    """What becomes of a pattern that is in the library already: it counts on; its latest type decides whether models
    may be trained on it."""
    is_surer = given.confidence_score > stored.confidence_score
    return {
        "occurrences_total": func.coalesce(stored.occurrences_total, 0) + func.coalesce(given.occurrences_total, 0),
        "last_seen": given.last_seen,
        "confidence_score": case((is_surer, given.confidence_score), else_=stored.confidence_score),
        "is_ml_training_eligible": given.is_ml_training_eligible,
        "updated_at": func.current_timestamp(),
    }
