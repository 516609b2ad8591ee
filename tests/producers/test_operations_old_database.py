"""A database that was written before: its rows stay, what it lacks is added, and recording goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    DiscoveryOutcome,
    DiscoveryResult,
    OperationMetrics,
    OperationTracker,
)
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]

OLD = """
CREATE TABLE operations (
    id TEXT PRIMARY KEY, operation_type TEXT NOT NULL, status TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP NULL, user_id TEXT, session_id TEXT, parameters TEXT, metrics TEXT, error_details TEXT,
    result_summary TEXT);
INSERT INTO operations (id, operation_type, status, created_at) VALUES
    ('failed', 'crawl_discovery', 'failed', '2024-05-06 07:08:09'), ('nameless', '', 'started', '2024-05-06 07:08:09');
CREATE TABLE discovery_outcomes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operation_id TEXT NOT NULL, source_id TEXT NOT NULL,
    source_name TEXT NOT NULL, source_url TEXT NOT NULL, outcome TEXT NOT NULL,
    articles_found INTEGER NOT NULL DEFAULT 0, articles_new INTEGER NOT NULL DEFAULT 0,
    articles_duplicate INTEGER NOT NULL DEFAULT 0, articles_expired INTEGER NOT NULL DEFAULT 0,
    methods_attempted TEXT NOT NULL, method_used TEXT, error_details TEXT, http_status INTEGER,
    discovery_time_ms REAL NOT NULL DEFAULT 0.0, is_success BOOLEAN NOT NULL DEFAULT 0,
    is_content_success BOOLEAN NOT NULL DEFAULT 0, is_technical_failure BOOLEAN NOT NULL DEFAULT 0, metadata TEXT,
    timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX idx_discovery_operation ON discovery_outcomes (operation_id);
INSERT INTO discovery_outcomes (operation_id, source_id, source_name, source_url, outcome, methods_attempted,
    is_success, is_content_success, articles_new, timestamp)
    VALUES ('op', 's', 'Old', 'u', 'new_articles_found', 'rss_feed', 1, 1, 3, '2024-05-06 07:08:09');
CREATE TABLE http_status_tracking (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source_id TEXT NOT NULL, source_url TEXT NOT NULL,
    discovery_method TEXT NOT NULL, attempted_url TEXT NOT NULL, status_code INTEGER NOT NULL,
    status_category TEXT NOT NULL, response_time_ms REAL NOT NULL, timestamp TIMESTAMP NOT NULL,
    operation_id TEXT NOT NULL, error_message TEXT, content_length INTEGER);
INSERT INTO http_status_tracking (source_id, source_url, discovery_method, attempted_url, status_code,
    status_category, response_time_ms, timestamp, operation_id)
    VALUES ('s', 'u', 'rss_feed', 'u', 200, '2xx', 1.0, '2024-05-06 07:08:09', 'op');
CREATE TABLE discovery_method_effectiveness (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source_id TEXT NOT NULL, source_url TEXT NOT NULL,
    discovery_method TEXT NOT NULL, status TEXT NOT NULL, articles_found INTEGER NOT NULL DEFAULT 0,
    success_rate REAL NOT NULL DEFAULT 0.0, last_attempt TIMESTAMP NOT NULL,
    attempt_count INTEGER NOT NULL DEFAULT 0, avg_response_time_ms REAL NOT NULL DEFAULT 0.0,
    last_status_codes TEXT, notes TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE UNIQUE INDEX idx_effectiveness_source_method ON discovery_method_effectiveness (source_id, discovery_method);
INSERT INTO discovery_method_effectiveness (source_id, source_url, discovery_method, status, articles_found,
    success_rate, last_attempt, attempt_count, avg_response_time_ms, last_status_codes) VALUES
    ('s', 'u', 'rss_feed', 'success', 7, 50.0, '2024-05-06 07:08:09', 3, 20.0, '[200, 404]'),
    ('s', 'u', 'storysniffer', 'success', 2, 100.0, '2024-05-06 07:08:09', 2, 20.0, NULL);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, job_type TEXT NOT NULL, job_name TEXT,
    started_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, finished_at TIMESTAMP, exit_status TEXT, params TEXT,
    commit_sha TEXT, environment TEXT, artifact_paths TEXT, logs_path TEXT, records_processed INTEGER,
    records_created INTEGER, records_updated INTEGER, errors_count INTEGER);
INSERT INTO jobs (id, job_type, started_at) VALUES ('failed', 'crawl_discovery', '2024-05-06 07:08:09');
"""


@pytest.fixture
def tracker(database: Path, store: TelemetryStore) -> OperationTracker:
    """A tracker on an old database."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLD)
    return OperationTracker(store)


def test_an_old_database(
    tracker: OperationTracker, store: TelemetryStore, stored: Stored, drift: Callable[[], list[str]]
) -> None:
    """Old rows are read, and go on from where they stood; the share of successes is taken from the old rate; no table
    is reported as different from its definition."""
    assert [DiscoveryMethod.STORYSNIFFER] == tracker.get_effective_discovery_methods("s")
    assert 3 == tracker.get_discovery_outcomes_report("op")["summary"]["total_new_articles"]
    tracker.update_discovery_method_effectiveness(
        "s", "other", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 40.0, [500]
    )
    tracker.update_progress("failed", OperationMetrics(processed_items=2))
    tracker.start_operation("nameless", "ml_analysis")  # type: ignore[arg-type]
    tracker.record_discovery_outcome("op", "s", "New", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))
    tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 301, 1.0)
    store.flush()
    row, other = stored("SELECT * FROM discovery_method_effectiveness ORDER BY id")
    assert (4, 62.5, 25.0, 7, "u", [200, 404, 500], None) == (
        row["attempt_count"],
        row["success_rate"],
        row["avg_response_time_ms"],
        row["articles_found"],
        row["source_url"],
        json.loads(row["last_status_codes"]),
        row["success_count"],
    )
    assert (2, 100.0, None, None) == (
        other["attempt_count"],
        other["success_rate"],
        other["last_status_codes"],
        other["success_count"],
    )
    failed, nameless = stored("SELECT * FROM operations ORDER BY id")
    assert ("failed", "crawl_discovery", "2024-05-06 07:08:09", None) == (
        failed["status"],
        failed["operation_type"],
        failed["created_at"],
        failed["completed_at"],
    )
    assert 2 == json.loads(failed["metrics"])["processed_items"]
    assert ("ml_analysis", "2024-05-06 07:08:09") == (nameless["operation_type"], nameless["created_at"])
    assert [("failed", 2, "2024-05-06 07:08:09"), ("nameless", None, nameless["updated_at"])] == [
        tuple(row.values()) for row in stored("SELECT id, records_processed, started_at FROM jobs ORDER BY id")
    ]
    report = tracker.get_discovery_outcomes_report("op")
    assert (2, 50.0) == (report["summary"]["total_sources"], report["summary"]["technical_success_rate"])
    assert ["2xx", "3xx"] == [
        row["status_category"] for row in stored("SELECT status_category FROM http_status_tracking ORDER BY id")
    ]
    assert 0 == tracker.failures
    assert [] == drift()


def test_somebody_elses_store_adds_the_column(plain_store: Any, database: Path, looked: Stored) -> None:
    """A store that is not ours gets the old table's new column, too, once."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLD)
    tracker = OperationTracker(plain_store)
    for _ in range(2):
        tracker.update_discovery_method_effectiveness(
            "new", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 40.0, [500]
        )
    assert 0 == tracker.failures
    assert [2] == [
        row["success_count"]
        for row in looked("SELECT success_count FROM discovery_method_effectiveness WHERE source_id = 'new'")
    ]
