"""The tables of byline cleaning."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Table

from ..columns import Flag, PlainText, Real, UtcTimestamp, added, defaults_to_now

METADATA = MetaData()

SESSIONS = Table(
    "byline_cleaning_telemetry",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("article_id", PlainText()),
    Column("candidate_link_id", PlainText()),
    Column("source_id", PlainText()),
    Column("source_name", PlainText()),
    Column("raw_byline", PlainText()),
    Column("raw_byline_length", Integer),
    Column("raw_byline_words", Integer),
    Column("extraction_timestamp", UtcTimestamp()),
    Column("cleaning_method", PlainText()),
    Column("source_canonical_name", PlainText()),
    Column("final_authors_json", PlainText()),
    Column("final_authors_count", Integer),
    Column("final_authors_display", PlainText()),
    Column("confidence_score", Real),
    Column("processing_time_ms", Real),
    Column("has_wire_service", Flag()),
    Column("has_email", Flag()),
    Column("has_title", Flag()),
    Column("has_organization", Flag()),
    Column("source_name_removed", Flag()),
    Column("duplicates_removed_count", Integer),
    Column("likely_valid_authors", Flag()),
    Column("likely_noise", Flag()),
    Column("requires_manual_review", Flag()),
    Column("cleaning_errors", PlainText()),
    Column("parsing_warnings", PlainText()),
    defaults_to_now("created_at"),
    # for people who look through the results
    added(Column("human_label", PlainText())),
    added(Column("human_notes", PlainText())),
    added(Column("reviewed_by", PlainText())),
    added(Column("reviewed_at", UtcTimestamp())),
)

STEPS = Table(
    "byline_transformation_steps",
    METADATA,
    Column("id", PlainText(), primary_key=True),
    Column("telemetry_id", PlainText(), ForeignKey(SESSIONS.c.id), nullable=False),
    Column("step_number", Integer),
    Column("step_name", PlainText()),
    Column("input_text", PlainText()),
    Column("output_text", PlainText()),
    Column("transformation_type", PlainText()),
    Column("removed_content", PlainText()),
    Column("added_content", PlainText()),
    Column("confidence_delta", Real),
    Column("processing_time_ms", Real),
    Column("notes", PlainText()),
    Column("timestamp", UtcTimestamp()),
    defaults_to_now("created_at"),
    Index("idx_byline_steps_telemetry", "telemetry_id"),
)
