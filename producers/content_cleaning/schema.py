"""The tables of content cleaning, and what becomes of a pattern that is in the library already."""

from __future__ import annotations

from telemetry_bus.config import DialectName

from ..kinds import BIG_INTEGER, FLAG, INTEGER, MOMENT, REAL, TEXT
from ..moments import comparable, later
from ..schema import NOW, Column, Index, Table, Upsert, defaults_to_now

SESSIONS = Table(
    "content_cleaning_sessions",
    Column("telemetry_id", TEXT, key=True),
    Column("session_id", TEXT),
    Column("domain", TEXT),
    Column("article_count", INTEGER),
    Column("min_occurrences", INTEGER),
    Column("min_boundary_score", REAL),
    Column("start_time", MOMENT),
    Column("end_time", MOMENT),
    Column("processing_time_ms", REAL),
    Column("rough_candidates_found", INTEGER),
    Column("segments_detected", INTEGER),
    Column("total_removable_chars", INTEGER),
    Column("removal_percentage", REAL),
    defaults_to_now("created_at"),
    indexes=(Index("idx_content_cleaning_domain", ("domain",)),),
)

SEGMENTS = Table(
    "content_cleaning_segments",
    Column("id", TEXT, key=True),
    Column("telemetry_id", TEXT, references="content_cleaning_sessions.telemetry_id"),
    Column("detection_number", INTEGER),
    Column("segment_text", TEXT),
    Column("segment_text_hash", BIG_INTEGER),
    Column("boundary_score", REAL),
    Column("occurrences", INTEGER),
    Column("pattern_type", TEXT),
    Column("position_consistency", REAL),
    Column("segment_length", INTEGER),
    Column("affected_article_count", INTEGER),
    Column("was_removed", FLAG),
    Column("removal_reason", TEXT),
    Column("timestamp", MOMENT),
    Column("article_ids_json", TEXT),
    defaults_to_now("created_at"),
    indexes=(
        Index("idx_content_segments_boundary_score", ("boundary_score",)),
        Index("idx_content_segments_pattern", ("pattern_type",)),
        Index("idx_content_segments_telemetry", ("telemetry_id",)),
    ),
)

WIRE_EVENTS = Table(
    "content_cleaning_wire_events",
    Column("id", TEXT, key=True),
    Column("telemetry_id", TEXT, references="content_cleaning_sessions.telemetry_id"),
    Column("session_id", TEXT),
    Column("domain", TEXT),
    Column("provider", TEXT),
    Column("detection_method", TEXT),
    Column("detection_stage", TEXT),
    Column("confidence", REAL),
    Column("pattern_text", TEXT),
    Column("pattern_text_hash", BIG_INTEGER),
    Column("article_ids_json", TEXT),
    Column("metadata_json", TEXT),
    Column("timestamp", MOMENT),
    defaults_to_now("created_at"),
)

LOCALITY_EVENTS = Table(
    "content_cleaning_locality_events",
    Column("id", TEXT, key=True),
    Column("telemetry_id", TEXT, references="content_cleaning_sessions.telemetry_id"),
    Column("session_id", TEXT),
    Column("domain", TEXT),
    Column("provider", TEXT),
    Column("detection_method", TEXT),
    Column("article_id", TEXT),
    Column("is_local", FLAG),
    Column("confidence", REAL),
    Column("raw_score", REAL),
    Column("threshold", REAL),
    Column("signals_json", TEXT),
    Column("locality_json", TEXT),
    Column("source_context_json", TEXT),
    Column("timestamp", MOMENT),
    defaults_to_now("created_at"),
)

IS_DIGEST = "length(text_hash) = 64"

PATTERNS = Table(
    "persistent_boilerplate_patterns",
    Column("id", TEXT, key=True),
    Column("domain", TEXT, required=True),
    Column("pattern_type", TEXT, required=True),
    Column("text_content", TEXT, required=True),
    Column("text_hash", TEXT, required=True),
    Column("confidence_score", REAL, required=True),
    Column("occurrences_total", INTEGER, default="1"),
    Column("first_seen", MOMENT, default=NOW),
    Column("last_seen", MOMENT, default=NOW),
    Column("removal_reason", TEXT),
    Column("is_active", FLAG, default="TRUE"),
    Column("is_ml_training_eligible", FLAG, default="TRUE"),
    defaults_to_now("created_at"),
    defaults_to_now("updated_at"),
    indexes=(
        Index("idx_persistent_patterns_domain", ("domain", "is_active")),
        # What tells patterns apart. Older databases have an index of this name that is not unique, over hashes that
        # differed from process to process: those rows stay as they are.
        Index("idx_persistent_patterns_hash", ("domain", "text_hash"), unique=True, where=IS_DIGEST, replaced=True),
        Index("idx_persistent_patterns_ml_eligible", ("is_ml_training_eligible", "domain")),
        Index("idx_persistent_patterns_type", ("pattern_type", "confidence_score")),
    ),
)


def _seen_again(dialect: DialectName) -> dict[str, str]:
    """The pattern counts on; its latest type decides whether models may be trained on it."""
    return {
        "occurrences_total": "coalesce(stored.occurrences_total, 0) + coalesce(excluded.occurrences_total, 0)",
        "last_seen": later("last_seen", dialect),
        "confidence_score": "CASE WHEN excluded.confidence_score > stored.confidence_score "
        "THEN excluded.confidence_score ELSE stored.confidence_score END",
        "is_ml_training_eligible": "excluded.is_ml_training_eligible",
        "updated_at": NOW,
    }


def _patterns_united(dialect: DialectName) -> dict[str, str]:
    return {
        "occurrences_total": "sum(coalesce(occurrences_total, 0))",
        "first_seen": f"min({comparable('first_seen', dialect)})",
        "last_seen": f"max({comparable('last_seen', dialect)})",
        "confidence_score": "max(confidence_score)",
    }


SEEN_AGAIN = Upsert(("domain", "text_hash"), _seen_again, where=IS_DIGEST, united=_patterns_united)
