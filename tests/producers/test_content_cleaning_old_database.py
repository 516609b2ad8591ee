"""Content cleaning in a database whose pattern library has hashes that differed from process to process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from producers.content_cleaning import ContentCleaningTelemetry
from telemetry_bus import TelemetryStore

OLD_TABLES = """
CREATE TABLE content_cleaning_sessions (
    telemetry_id TEXT PRIMARY KEY, session_id TEXT, domain TEXT, article_count INTEGER, min_occurrences INTEGER,
    min_boundary_score REAL, start_time TIMESTAMP, end_time TIMESTAMP, processing_time_ms REAL,
    rough_candidates_found INTEGER, segments_detected INTEGER, total_removable_chars INTEGER, removal_percentage REAL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE content_cleaning_segments (
    id TEXT PRIMARY KEY, telemetry_id TEXT, detection_number INTEGER, segment_text TEXT, segment_text_hash INTEGER,
    boundary_score REAL, occurrences INTEGER, pattern_type TEXT, position_consistency REAL, segment_length INTEGER,
    affected_article_count INTEGER, was_removed BOOLEAN, removal_reason TEXT, timestamp TIMESTAMP,
    article_ids_json TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (telemetry_id) REFERENCES content_cleaning_sessions (telemetry_id)
);
CREATE TABLE persistent_boilerplate_patterns (
    id TEXT PRIMARY KEY, domain TEXT NOT NULL, pattern_type TEXT NOT NULL, text_content TEXT NOT NULL,
    text_hash TEXT NOT NULL, confidence_score REAL NOT NULL, occurrences_total INTEGER DEFAULT 1,
    first_seen TIMESTAMP DEFAULT CURRENT_TIMESTAMP, last_seen TIMESTAMP DEFAULT CURRENT_TIMESTAMP, removal_reason TEXT,
    is_active BOOLEAN DEFAULT 1, is_ml_training_eligible BOOLEAN DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_content_cleaning_domain ON content_cleaning_sessions (domain);
CREATE INDEX idx_persistent_patterns_domain ON persistent_boilerplate_patterns (domain, is_active);
CREATE INDEX idx_persistent_patterns_hash ON persistent_boilerplate_patterns (domain, text_hash);

INSERT INTO content_cleaning_sessions (telemetry_id, domain, start_time, end_time, segments_detected)
    VALUES ('old', 'x.com', '2024-05-06 07:08:09.123456', '2024-05-06 07:08:10', 3);
INSERT INTO content_cleaning_segments (id, telemetry_id, segment_text, segment_text_hash, pattern_type, was_removed)
    VALUES ('old-1', 'old', 'Subscribe', -7199254740993123456, 'footer', 1);
INSERT INTO persistent_boilerplate_patterns
        (id, domain, pattern_type, text_content, text_hash, confidence_score, occurrences_total, last_seen)
    VALUES ('p1', 'x.com', 'footer', 'Subscribe', '-7199254740993123456', 0.5, 4, '2024-05-06 07:08:09.123456'),
        ('p2', 'x.com', 'footer', 'Subscribe', '7199254740993123456', 0.5, 5, '2024-05-06 07:08:09'),
        ('p3', 'x.com', 'footer', 'Another', '-7199254740993123456', 0.5, 6, '2024-05-06 07:08:09');
"""

Stored = Callable[[str], list[dict[str, Any]]]

PATTERNS = "SELECT id, text_content, occurrences_total FROM persistent_boilerplate_patterns ORDER BY rowid"


def make_old(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLD_TABLES)


def record(telemetry: ContentCleaningTelemetry) -> None:
    telemetry.start_cleaning_session("x.com", 1)
    telemetry.log_segment_detection("Subscribe", 0.75, 2, "footer", 1.0, 9, ["a"], True)
    telemetry.finalize_cleaning_session(1, 1, 1, 50.0, 1.0)
    telemetry.flush()


def check_recorded(stored: Stored, telemetry: ContentCleaningTelemetry) -> None:
    """After two sessions."""
    *old, new = stored(PATTERNS)
    assert [("p1", "Subscribe", 4), ("p2", "Subscribe", 5), ("p3", "Another", 6)] == [
        tuple(row.values()) for row in old
    ]
    assert ("Subscribe", 4) == (new["text_content"], new["occurrences_total"])
    assert 0 == telemetry.failures
    assert [("Subscribe", 4), ("Another", 6), ("Subscribe", 5), ("Subscribe", 4)] == [
        (row["text_content"], row["occurrences_total"]) for row in telemetry.get_persistent_patterns("x.com")
    ]
    summary = telemetry.get_domain_telemetry_summary("x.com")
    assert 3 == summary["session_summary"]["session_count"]
    assert "2024-05-06 07:08:10" < summary["session_summary"]["last_analysis"]
    assert [3] == [row["removed_count"] for row in summary["pattern_breakdown"]]


def test_an_old_database_is_recorded_on(
    store: TelemetryStore, database: Path, stored: Stored, drift: Callable[[], list[str]]
) -> None:
    """Old rows stay as they are, those with equal hashes too; new ones are told apart by digests and count on. The
    index becomes unique for them. Nothing is told as drift."""
    make_old(database)
    telemetry = ContentCleaningTelemetry(store=store)
    for _ in range(2):
        record(telemetry)
    check_recorded(stored, telemetry)
    (index,) = stored("SELECT sql FROM sqlite_master WHERE name = 'idx_persistent_patterns_hash'")
    assert index["sql"].startswith("CREATE UNIQUE INDEX")
    assert [] == drift()


def test_any_store_records_on_in_an_old_database(plain_store: Any, database: Path, looked: Stored) -> None:
    """The same through a store that runs each definition each time."""
    make_old(database)
    for _ in range(2):
        telemetry = ContentCleaningTelemetry(store=plain_store)
        record(telemetry)
    check_recorded(looked, telemetry)
