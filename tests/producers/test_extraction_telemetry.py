"""Extractions and verification batches on their way into the tables."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics, extraction_job, recorder
from telemetry_bus import TelemetryStore, get_store

ROOT = Path(__file__).parents[2]
START, END = datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 6, 250_000)

EXTRACTIONS = "SELECT * FROM extraction_telemetry_v2 ORDER BY id"
ERRORS = "SELECT * FROM http_error_summary ORDER BY id"
DETECTIONS = "SELECT * FROM content_type_detection_telemetry ORDER BY id"
VERIFICATIONS = "SELECT * FROM verification_telemetry ORDER BY id"

Stored = Callable[[str], list[dict[str, Any]]]

#: As the old producers made them.
OLD_TABLES = """
CREATE TABLE extraction_telemetry_v2 (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operation_id TEXT NOT NULL, article_id TEXT NOT NULL, url TEXT NOT NULL,
    publisher TEXT, host TEXT, start_time TIMESTAMP NOT NULL, end_time TIMESTAMP, total_duration_ms REAL,
    http_status_code INTEGER, http_error_type TEXT, response_size_bytes INTEGER, response_time_ms REAL,
    methods_attempted TEXT, successful_method TEXT, method_timings TEXT, method_success TEXT, method_errors TEXT,
    field_extraction TEXT, extracted_fields TEXT, final_field_attribution TEXT, content_length INTEGER,
    is_success BOOLEAN, error_message TEXT, error_type TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE http_error_summary (
    id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL, status_code INTEGER NOT NULL, error_type TEXT NOT NULL,
    count INTEGER DEFAULT 1, first_seen TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    last_seen TIMESTAMP DEFAULT CURRENT_TIMESTAMP, UNIQUE(host, status_code));
CREATE TABLE content_type_detection_telemetry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, article_id TEXT NOT NULL, operation_id TEXT, url TEXT NOT NULL,
    publisher TEXT, host TEXT, status TEXT NOT NULL, confidence TEXT, confidence_score REAL, reason TEXT,
    evidence TEXT, version TEXT, detected_at TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
INSERT INTO extraction_telemetry_v2
    (operation_id, article_id, url, publisher, host, start_time, method_timings, method_success, methods_attempted,
     successful_method, is_success, total_duration_ms)
    VALUES ('old', 'a', 'u', 'P', 'h', '2024-01-02 03:04:05.600000', '{"m": 100.0, "n": 1704160000.5}', '{"m": true}',
            '["m", "m", "n"]', 'm', 1, 100.0);
INSERT INTO http_error_summary (host, status_code, error_type, count, first_seen, last_seen)
    VALUES ('h', 404, '4xx_client_error', 7, '2024-01-02 03:04:05', '2024-01-02 03:04:05.600000'),
           ('h', 500, '5xx_server_error', NULL, NULL, NULL);
INSERT INTO content_type_detection_telemetry (article_id, url, status, evidence, detected_at)
    VALUES ('a', 'u', 'opinion', 'not JSON', '2024-01-02 03:04:05');
"""


@pytest.fixture
def telemetry(store: TelemetryStore) -> ComprehensiveExtractionTelemetry:
    return ComprehensiveExtractionTelemetry(store=store)


def metrics(status: int | None = None, url: str = "https://h/a") -> ExtractionMetrics:
    made = ExtractionMetrics("o", "a", url, "P")
    if status:
        made.set_http_metrics(status, 10, 2.5)
    return made


def test_every_column(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """A row holds everything that the record holds, as it was when it was handed in."""
    record = metrics(200)
    record.start_method("a")
    record.start_method("b")
    record.end_method("a", False, "empty")
    record.method_timings["a"] = 12.5
    record.record_alternative_extraction("a", "title", "T", "U")
    record.finalize({"title": "T", "content": "x" * 150, "metadata": {"extraction_methods": {"title": "c"}}})
    record.start_time, record.end_time, record.total_duration_ms = START, END, 1250.0
    record.error_message, record.error_type = "e", "E"
    record.set_proxy_metrics(True, "http://me:secret@proxy", True, "bypassed", "slow")
    telemetry.record_extraction(record)
    record.methods_attempted.clear()
    record.method_errors["a"] = record.publisher = "changed later"
    (row,) = stored(EXTRACTIONS)
    assert row["created_at"][:13] + ":00:00" == row.pop("rollup_hour")
    assert 19 == len(row.pop("created_at"))
    assert {
        "id": 1, "operation_id": "o", "article_id": "a", "url": "https://h/a", "publisher": "P", "host": "h",
        "start_time": "2026-01-02 03:04:05", "end_time": "2026-01-02 03:04:06.250000", "total_duration_ms": 1250.0,
        "http_status_code": 200, "http_error_type": None, "response_size_bytes": 10, "response_time_ms": 2.5,
        "methods_attempted": '["a", "b"]', "successful_method": None, "method_timings": '{"a": 12.5}',
        "method_success": '{"a": false}', "method_errors": '{"a": "empty"}', "field_extraction": "{}",
        "extracted_fields": '{"title": true, "author": false, "content": true, "publish_date": false}',
        "final_field_attribution": '{"title": "c"}',
        "alternative_extractions":
            '{"a": {"title": {"alternative_value": "T", "current_value": "U", "values_differ": true}}}',
        "content_length": 150, "is_success": 1, "error_message": "e", "error_type": "E", "proxy_used": 1,
        "proxy_url": "http://me:***@proxy", "proxy_authenticated": 1, "proxy_status": 3, "proxy_error": "slow",
    } == row  # fmt: skip


def test_odd_values_make_a_right_row(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """Nothing that a record was filled with keeps its row away; what cannot be meant is null, or empty where a value
    must be."""
    record = ExtractionMetrics(None, None, None, None)
    record.start_time = record.end_time = "never"  # type: ignore[assignment]
    record.total_duration_ms, record.response_time_ms = "long", float("inf")  # type: ignore[assignment]
    record.http_status_code, record.response_size_bytes = 2**70, "many"  # type: ignore[assignment]
    record.method_errors = {"m": OSError("gone")}  # type: ignore[dict-item]
    record.method_success = {}
    record.final_field_attribution = {"title": {1, 2}, "at": START, "size": float("inf")}
    record.error_message = ValueError("odd \ud800")  # type: ignore[assignment]
    record.content_type_detection = "no dict"  # type: ignore[assignment]
    telemetry.record_extraction(record)
    (row,) = stored(EXTRACTIONS)
    assert ("", "", "", None, "") == tuple(row[n] for n in ("operation_id", "article_id", "url", "publisher", "host"))
    assert row["start_time"] > "2026"
    names = ("end_time", "total_duration_ms", "response_time_ms", "http_status_code", "response_size_bytes")
    assert [None] * 5 == [row[name] for name in names]
    assert '{"m": "gone"}' == row["method_errors"]
    assert '{"title": [1, 2], "at": "2026-01-02T03:04:05", "size": null}' == row["final_field_attribution"]
    assert "odd ?" == row["error_message"]
    assert 0 == row["is_success"]


def test_times_with_an_offset(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """They are stored in UTC."""
    record = metrics()
    record.start_time = START.replace(tzinfo=timezone(timedelta(hours=2)))
    record.end_time = END.replace(tzinfo=UTC)
    telemetry.record_extraction(record)
    (row,) = stored(EXTRACTIONS)
    assert ("2026-01-02 01:04:05", "2026-01-02 03:04:06.250000") == (row["start_time"], row["end_time"])


def test_success(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """What counts is the flag, or a method that succeeded, however the end looks."""
    flag, method, named, none = (metrics() for _ in range(4))
    flag.is_success = True
    method.method_success = {"a": False, "b": True}
    named.successful_method = "b"
    none.method_success = {"a": False}
    for record in (flag, method, named, none):
        telemetry.record_extraction(record)
    assert [1, 1, 1, 0] == [row["is_success"] for row in stored(EXTRACTIONS)]


def test_http_errors_are_counted(
    telemetry: ComprehensiveExtractionTelemetry, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once per extraction, by host and status; a later moment moves `last_seen`, an earlier one does not."""
    for moment in (END, END + timedelta(hours=1), START):
        monkeypatch.setattr("producers.extraction.rows.utc_now", lambda moment=moment: moment)
        telemetry.record_extraction(metrics(404))
    telemetry.record_extraction(metrics(503))
    telemetry.record_extraction(metrics(404, "https://other/"))
    rows = [tuple(row.values())[1:] for row in stored(ERRORS)]
    early, late, first = "2026-01-02 03:04:05", "2026-01-02 04:04:06.250000", "2026-01-02 03:04:06.250000"
    assert [
        ("h", 404, "4xx_client_error", 3, first, late),
        ("h", 503, "5xx_server_error", 1, early, early),
        ("other", 404, "4xx_client_error", 1, early, early),
    ] == rows


def test_a_redirect_before_a_good_answer_is_no_error(
    telemetry: ComprehensiveExtractionTelemetry, stored: Stored
) -> None:
    """Only a status of 300 or above is counted, though the error type of an earlier response stays in place; and
    only with an error type."""
    fine, untyped, moved = metrics(301), metrics(), metrics(301)
    fine.set_http_metrics(200, 1, 1)
    untyped.http_status_code = 404
    for record in (fine, untyped, moved):
        telemetry.record_extraction(record)
    assert ["3xx_redirect", None, "3xx_redirect"] == [row["http_error_type"] for row in stored(EXTRACTIONS)]
    assert [(301, 1)] == [
        (row["status_code"], row["count"]) for row in stored(ERRORS)
    ]  # fmt: skip


def test_an_error_without_a_host(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """Costs no row: it is counted for the empty host."""
    record = metrics(500)
    record.host = None  # type: ignore[assignment]
    telemetry.record_extraction(record)
    assert [None] == [row["host"] for row in stored(EXTRACTIONS)]
    assert [""] == [row["host"] for row in stored(ERRORS)]


def test_content_type_detections(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """Stored with their extraction: a label stands for a number, moments may be text, what is missing is null."""
    full: dict[str, Any] = {
        "status": "opinion", "confidence": "high", "confidence_score": 0.7, "reason": "title", "evidence": {"a": [1]},
        "version": "2", "detected_at": "2026-01-02T03:04:05Z", "detection_method": "rules",
    }  # fmt: skip
    detections = [full, {"confidence": "Very_High", "detected_at": END}, {"status": "x", "detected_at": "?"}, {}, None]
    for detection in detections:
        record = metrics()
        record.set_content_type_detection(detection)
        telemetry.record_extraction(record)
    full["evidence"]["a"].append(2)
    rows = [tuple(row.values()) for row in stored(DETECTIONS)]
    same, at = ("a", "o", "https://h/a", "P", "h"), "2026-01-02 03:04:05"
    assert [
        (1, *same, "opinion", "high", 0.7, "title", '{"a": [1]}', "2", at, "opinion", "rules"),
        (2, *same, "unknown", "Very_High", 0.95, None, None, None, str(END), "unknown", "content_type_detector"),
        (3, *same, "x", None, None, None, None, None, None, "x", "content_type_detector"),
    ] == [row[:13] + row[14:] for row in rows]
    assert 5 == len(stored(EXTRACTIONS))


def test_verification_batches(telemetry: ComprehensiveExtractionTelemetry, stored: Stored) -> None:
    """All figures of a batch; those that are missing are 0."""
    figures = {
        "batch_size": 5, "verified_articles": 3, "verified_non_articles": 1, "verification_errors": 1,
        "total_processed": 5, "batch_time_seconds": 1.5, "avg_verification_time_ms": 300.0, "total_time_ms": 1500.0,
    }  # fmt: skip
    telemetry.record_verification_batch(job_name="j", **figures, sources_processed=["a", "b"])
    telemetry.record_verification_batch(job_name=None, **dict.fromkeys(figures), sources_processed=None)
    telemetry.record_verification_batch(job_name="j", **figures, sources_processed=iter(["c"]))
    telemetry.record_verification_batch(job_name="j", **figures, sources_processed="dd")
    rows = stored(VERIFICATIONS)
    assert all(row.pop("timestamp") > "2026" and row.pop("created_at") > "2026" for row in rows)
    assert {"id": 1, "job_name": "j", **figures, "sources_processed": '["a", "b"]'} == rows[0]
    assert {"id": 2, "job_name": None, **dict.fromkeys(figures, 0), "sources_processed": None} == rows[1]
    assert ['["c"]', '["dd"]'] == [row["sources_processed"] for row in rows[2:]]


def test_an_old_database(
    telemetry: ComprehensiveExtractionTelemetry, database: Path, stored: Stored, drift: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A database of the old producers keeps its rows, gets what it lacks, and is read and written on."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLD_TABLES)
    caplog.set_level(logging.WARNING)
    record = metrics(404)
    record.method_success["m"] = True
    record.method_timings["m"] = 50.0
    record.set_content_type_detection({"status": "news", "evidence": {"a": 1}})
    telemetry.record_extraction(record)
    telemetry.record_extraction(metrics(500))
    rows = stored(EXTRACTIONS)
    assert [("old", None, None), ("o", "{}", 0), ("o", "{}", 0)] == [
        (row["operation_id"], row["alternative_extractions"], row["proxy_used"]) for row in rows
    ]
    assert "2024-01-02 03:04:05.600000" == rows[0]["start_time"]
    errors = [(row["count"], row["first_seen"]) for row in stored(ERRORS)]
    assert [(8, "2024-01-02 03:04:05"), (1, None)] == errors
    assert [("m", 2, 75.0, 1.0), ("n", 1, 0.0, 0.0)] == [
        (found["method_type"], found["count"], found["avg_duration"], found["success_rate"])
        for found in telemetry.get_method_effectiveness()
    ]
    assert [("m", 1), ("n", 1)] == [(f["method"], f["count"]) for f in telemetry.get_field_extraction_stats()]
    assert [{"a": 1}, "not JSON"] == [found["evidence"] for found in telemetry.get_content_type_detections()]
    old, new = stored(DETECTIONS)
    assert ("unknown", "news") == (old["detected_type"], new["detected_type"])
    assert [] == [entry.getMessage() for entry in caplog.records]
    assert [] == drift()


def test_nothing_is_raised(refusing_store: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A record that is none, a store that refuses: logged, and the watched work goes on."""
    refused = ComprehensiveExtractionTelemetry(store=refusing_store)
    refused.record_extraction(None)  # type: ignore[arg-type]
    refused.record_extraction(metrics())
    assert 2 == refused._destination.failures
    refused.record_verification_batch(
        job_name=1, batch_size=1, verified_articles=1, verified_non_articles=1, verification_errors=1,
        total_processed=1, batch_time_seconds=1, avg_verification_time_ms=1, total_time_ms=1, sources_processed=[],
    )  # fmt: skip
    assert 3 == refused._destination.failures
    assert "refused" in caplog.text
    assert {recorder.__name__} == {record.name for record in caplog.records}


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """With a path the folder is made, and a row is there when the call returns."""
    path = tmp_path / "new" / "folder" / "telemetry.db"
    ComprehensiveExtractionTelemetry(str(path)).record_extraction(metrics())
    with closing(sqlite3.connect(path)) as connection:
        assert [("o",)] == connection.execute("SELECT operation_id FROM extraction_telemetry_v2").fetchall()


def test_a_store_wins(tmp_path: Path) -> None:
    """Over a path, which is left alone."""
    with TelemetryStore(tmp_path / "a.db", mode="sync") as store:
        telemetry = ComprehensiveExtractionTelemetry(tmp_path / "no" / "b.db", store)
        assert store is telemetry.store
    assert not (tmp_path / "no").exists()


def test_the_configured_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path and a store it is the shared store of the configured database, opened at the first use."""
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{tmp_path}/first/telemetry.db")
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "sync")
    telemetry = ComprehensiveExtractionTelemetry()
    assert [] == list(tmp_path.iterdir())
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{tmp_path}/second/telemetry.db")
    telemetry.record_extraction(metrics())
    assert ["second"] == [path.name for path in tmp_path.iterdir()]
    assert get_store() is telemetry.store
    assert 1 == len(telemetry.get_publisher_stats())
    get_store().shutdown()


def test_another_store(plain_store: Any, database: Path) -> None:
    """Any store with `submit`, `flush` and `connection` will do, and the driver's connection too."""
    telemetry = ComprehensiveExtractionTelemetry(store=plain_store)
    assert [] == telemetry.get_error_summary()
    record = metrics(404)
    record.set_content_type_detection({"status": "news"})
    telemetry.record_extraction(record)
    with closing(sqlite3.connect(database)) as connection, connection:
        extraction_job(record)(connection)
    assert [("h", 404, 2)] == [(e["host"], e["status_code"], e["count"]) for e in telemetry.get_error_summary()]
    assert [2] == [found["total_attempts"] for found in telemetry.get_publisher_stats()]
    assert ["news"] * 2 == [found["status"] for found in telemetry.get_content_type_detections()]


PROCESSES, EACH = 8, 50
PROGRAM = """
import sys
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from telemetry_bus import TelemetryStore

with TelemetryStore(sys.argv[1]) as store:
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[2])):
        metrics = ExtractionMetrics("o", f"{sys.argv[3]}-{number}", "https://h/", "P")
        metrics.set_http_metrics(404, 0, 0)
        telemetry.record_extraction(metrics)
"""


@pytest.mark.integration
def test_many_processes_count_one_error(database: Path, no_writer_left: None) -> None:
    """Eight processes that see the same error at the same time: each is counted, none twice."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(database), str(EACH), str(number)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
        for process in running:
            process.communicate("go\n", timeout=60)
        assert [0] * PROCESSES == [process.returncode for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
    with closing(sqlite3.connect(database)) as connection:
        summary = connection.execute("SELECT host, status_code, count FROM http_error_summary").fetchall()
        articles = connection.execute(
            "SELECT count(*), count(DISTINCT article_id) FROM extraction_telemetry_v2"
        ).fetchone()
    assert [("h", 404, PROCESSES * EACH)] == summary
    assert (PROCESSES * EACH, PROCESSES * EACH) == articles
