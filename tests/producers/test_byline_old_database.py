"""Byline cleaning in databases and stores that were there before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producers.byline import BylineCleaningTelemetry
from telemetry_bus import TelemetryStore

OLD_TABLES = """
CREATE TABLE byline_cleaning_telemetry (
    id TEXT PRIMARY KEY, article_id TEXT, candidate_link_id TEXT, source_id TEXT, source_name TEXT, raw_byline TEXT,
    raw_byline_length INTEGER, raw_byline_words INTEGER, extraction_timestamp TIMESTAMP, cleaning_method TEXT,
    source_canonical_name TEXT, final_authors_json TEXT, final_authors_count INTEGER, final_authors_display TEXT,
    confidence_score REAL, processing_time_ms REAL, has_wire_service BOOLEAN, has_email BOOLEAN, has_title BOOLEAN,
    has_organization BOOLEAN, source_name_removed BOOLEAN, duplicates_removed_count INTEGER,
    likely_valid_authors BOOLEAN, likely_noise BOOLEAN, requires_manual_review BOOLEAN, cleaning_errors TEXT,
    parsing_warnings TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE byline_transformation_steps (
    id TEXT PRIMARY KEY, telemetry_id TEXT NOT NULL, step_number INTEGER, step_name TEXT, input_text TEXT,
    output_text TEXT, transformation_type TEXT, removed_content TEXT, added_content TEXT, confidence_delta REAL,
    processing_time_ms REAL, notes TEXT, timestamp TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (telemetry_id) REFERENCES byline_cleaning_telemetry (id)
);
INSERT INTO byline_cleaning_telemetry (id, raw_byline, extraction_timestamp, has_email)
    VALUES ('old', 'By Old', '2024-05-06 07:08:09.123456', 1);
INSERT INTO byline_transformation_steps (id, telemetry_id, step_number, timestamp)
    VALUES ('old-1', 'old', 1, '2024-05-06 07:08:09');
"""

Stored = Callable[[str], list[dict[str, Any]]]


def make_old(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLD_TABLES)


def record(telemetry: BylineCleaningTelemetry, byline: str) -> None:
    telemetry.start_cleaning_session(byline)
    telemetry.log_transformation_step("a", "b", "c")
    telemetry.finalize_cleaning_session(["Ann"])
    telemetry.flush()


def check_grown(stored: Stored) -> None:
    old, *_ = sessions = stored("SELECT * FROM byline_cleaning_telemetry ORDER BY rowid")
    assert ["By Old", "By Ann", "By Bob"] == [row["raw_byline"] for row in sessions]
    assert ("old", "2024-05-06 07:08:09.123456", 1) == (old["id"], old["extraction_timestamp"], old["has_email"])
    assert ["human_label", "human_notes", "reviewed_by", "reviewed_at"] == list(old)[-4:]
    assert [1, 1, 1] == [row["step_number"] for row in stored("SELECT * FROM byline_transformation_steps")]


def test_an_old_database_is_recorded_on(
    store: TelemetryStore, database: Path, stored: Stored, drift: Callable[[], list[str]]
) -> None:
    """Old rows stay as they are, the tables get the columns that came later, and nothing is told as drift."""
    make_old(database)
    telemetry = BylineCleaningTelemetry(store=store)
    for byline in ("By Ann", "By Bob"):
        record(telemetry, byline)
    check_grown(stored)
    assert [] == drift()
    assert 0 == telemetry.failures


def test_any_store_records_on_in_an_old_database(plain_store: Any, database: Path, looked: Stored) -> None:
    """A store that runs each definition each time gets those columns too, once."""
    make_old(database)
    for byline in ("By Ann", "By Bob"):
        telemetry = BylineCleaningTelemetry(store=plain_store)
        record(telemetry, byline)
        assert 0 == telemetry.failures
    check_grown(looked)


def test_any_store_is_asked_for_its_columns_once(
    plain_store: Any, looked: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a column that came later is there is not looked up for every session."""
    telemetry = BylineCleaningTelemetry(store=plain_store)
    record(telemetry, "By Ann")
    opened: list[None] = []
    connection = plain_store.connection
    monkeypatch.setattr(plain_store, "connection", lambda: (opened.append(None), connection())[1])
    record(telemetry, "By Bob")
    assert 1 == len(opened)  # the one that writes
    assert 2 == len(looked("SELECT id FROM byline_cleaning_telemetry"))


def test_any_store_will_do(plain_store: Any, looked: Stored) -> None:
    """The same in a new database, with one object and with another."""
    for telemetry in 2 * [BylineCleaningTelemetry(store=plain_store)] + [BylineCleaningTelemetry(store=plain_store)]:
        record(telemetry, "By Ann")
        assert 0 == telemetry.failures
    assert 3 == len(looked("SELECT human_label FROM byline_cleaning_telemetry"))
    assert 3 == len(looked("SELECT id FROM byline_transformation_steps"))
