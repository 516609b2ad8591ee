"""The tables of byline cleaning."""

from __future__ import annotations

from ..kinds import FLAG, INTEGER, MOMENT, REAL, TEXT
from ..schema import Column, Index, Table, defaults_to_now

SESSIONS = Table(
    "byline_cleaning_telemetry",
    Column("id", TEXT, key=True),
    Column("article_id", TEXT),
    Column("candidate_link_id", TEXT),
    Column("source_id", TEXT),
    Column("source_name", TEXT),
    Column("raw_byline", TEXT),
    Column("raw_byline_length", INTEGER),
    Column("raw_byline_words", INTEGER),
    Column("extraction_timestamp", MOMENT),
    Column("cleaning_method", TEXT),
    Column("source_canonical_name", TEXT),
    Column("final_authors_json", TEXT),
    Column("final_authors_count", INTEGER),
    Column("final_authors_display", TEXT),
    Column("confidence_score", REAL),
    Column("processing_time_ms", REAL),
    Column("has_wire_service", FLAG),
    Column("has_email", FLAG),
    Column("has_title", FLAG),
    Column("has_organization", FLAG),
    Column("source_name_removed", FLAG),
    Column("duplicates_removed_count", INTEGER),
    Column("likely_valid_authors", FLAG),
    Column("likely_noise", FLAG),
    Column("requires_manual_review", FLAG),
    Column("cleaning_errors", TEXT),
    Column("parsing_warnings", TEXT),
    defaults_to_now("created_at"),
    # for people who look through the results
    Column("human_label", TEXT, added=True),
    Column("human_notes", TEXT, added=True),
    Column("reviewed_by", TEXT, added=True),
    Column("reviewed_at", MOMENT, added=True),
)

STEPS = Table(
    "byline_transformation_steps",
    Column("id", TEXT, key=True),
    Column("telemetry_id", TEXT, required=True, references="byline_cleaning_telemetry.id"),
    Column("step_number", INTEGER),
    Column("step_name", TEXT),
    Column("input_text", TEXT),
    Column("output_text", TEXT),
    Column("transformation_type", TEXT),
    Column("removed_content", TEXT),
    Column("added_content", TEXT),
    Column("confidence_delta", REAL),
    Column("processing_time_ms", REAL),
    Column("notes", TEXT),
    Column("timestamp", MOMENT),
    defaults_to_now("created_at"),
    indexes=(Index("idx_byline_steps_telemetry", ("telemetry_id",)),),
)
