"""The reports on what the producers recorded, and the two command lines that print them."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producers import reports
from producers.byline import BylineCleaningTelemetry
from producers.content_cleaning import ContentCleaningTelemetry
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult, ExtractionTelemetry
from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    DiscoveryOutcome,
    DiscoveryResult,
    OperationMetrics,
    OperationTracker,
    OperationType,
)
from producers.reports.command import main
from producers.values import utc_now
from telemetry_bus import TelemetryStore, __version__

NAMES = [
    "publishers", "errors", "methods", "fields", "outcomes", "content-types", "proxies", "verification", "bylines",
    "cleaning", "wire", "locality", "patterns", "discovery", "discovery-methods", "statuses", "operations",
]  # fmt: skip

#: The keys of each report's rows.
KEYS = {
    "publishers": [
        "publisher",
        "host",
        "total_attempts",
        "successful",
        "avg_duration_ms",
        "most_common_method",
        "p95_duration_ms",
        "success_rate",
    ],
    "errors": ["error_type", "host", "status_code", "count", "last_seen"],
    "methods": ["method_type", "successful_method", "count", "avg_duration", "success_rate"],
    "fields": [
        "method",
        "count",
        "title_success_rate",
        "author_success_rate",
        "content_success_rate",
        "date_success_rate",
    ],
    "bylines": [
        "source_name",
        "bylines",
        "with_authors",
        "avg_confidence",
        "wire",
        "to_review",
        "with_errors",
        "avg_time_ms",
        "success_rate",
    ],
    "cleaning": [
        "domain",
        "sessions",
        "articles",
        "segments",
        "removable_chars",
        "removal_rate",
        "avg_time_ms",
        "last_session",
    ],
    "outcomes": ["outcome", "kind", "count", "avg_time_ms", "avg_quality", "last_seen", "share"],
    "content-types": [
        "content_type",
        "count",
        "publishers",
        "avg_confidence",
        "least_confidence",
        "last_seen",
        "share",
    ],
    "proxies": [
        "proxy_url",
        "extractions",
        "served",
        "failed",
        "bypassed",
        "errors",
        "successes",
        "avg_duration_ms",
        "last_used",
        "success_rate",
    ],
    "verification": [
        "job_name",
        "batches",
        "processed",
        "articles",
        "non_articles",
        "errors",
        "last_batch",
        "error_rate",
        "avg_time_ms",
    ],
    "wire": [
        "provider",
        "detection_method",
        "detection_stage",
        "events",
        "domains",
        "avg_confidence",
        "last_seen",
    ],
    "locality": ["domain", "provider", "events", "local", "avg_confidence", "last_seen", "local_rate"],
    "patterns": [
        "domain",
        "pattern_type",
        "occurrences",
        "confidence",
        "is_active",
        "is_ml_training_eligible",
        "first_seen",
        "last_seen",
        "text_content",
    ],
    "discovery-methods": [
        "source_id",
        "source_url",
        "discovery_method",
        "status",
        "attempts",
        "success_rate",
        "articles_found",
        "avg_time_ms",
        "last_status_codes",
        "last_attempt",
    ],
    "statuses": [
        "source_id",
        "source_url",
        "discovery_method",
        "requests",
        "ok",
        "redirects",
        "client_errors",
        "server_errors",
        "no_response",
        "avg_time_ms",
        "last_request",
        "error_rate",
    ],
    "discovery": [
        "source_name",
        "attempts",
        "content_successes",
        "failures",
        "technical_failures",
        "articles_found",
        "articles_new",
        "avg_time_ms",
        "last_attempt",
        "success_rate",
    ],
    "operations": [
        "id",
        "operation_type",
        "status",
        "created_at",
        "duration_ms",
        "processed_items",
        "failed_items",
        "success_rate",
        "error",
    ],
}

each_report = pytest.mark.parametrize("name", NAMES)


def extraction(publisher: str | None, host: str, method: str | None, status: int, duration_ms: float) -> Any:
    metrics = ExtractionMetrics("op", "a", f"https://{host}/x", publisher)
    for tried in ("newspaper4k", "beautifulsoup"):
        metrics.start_method(tried)
        metrics.end_method(tried, tried == method, None, {"title": "t" if tried == method else None})
        metrics.method_timings[tried] = 1500
        if tried == method:
            break
    metrics.set_http_metrics(status, 1, 1)
    metrics.finalize({"title": "t"} if method else {})
    metrics.total_duration_ms = duration_ms
    return metrics


def fill(store: TelemetryStore) -> None:
    """Some of everything."""
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    for each in (
        extraction("Good News", "good.example", "newspaper4k", 200, 500),
        extraction("Good News", "good.example", "newspaper4k", 200, 700),
        extraction("Bad News", "bad.example", None, 404, 2000),
        extraction("Bad News", "bad.example", None, 404, 2000),
        extraction("Bad News", "m.bad.example", "beautifulsoup", 503, 90_000),
        extraction(None, "other.example", None, 200, 10),
    ):
        each.set_content_type_detection({"status": "opinion" if each.publisher else "article", "confidence": "high"})
        status, error = ("success", None) if each.is_success else ("failed", "refused")
        each.set_proxy_metrics(True, f"http://u:p@{each.publisher or 'none'}", True, status, error)
        telemetry.record_extraction(each)
    for job, errors in (("nightly", 1), ("nightly", 3), ("hourly", 0)):
        telemetry.record_verification_batch(
            job_name=job, batch_size=10, verified_articles=6, verified_non_articles=4 - errors,
            verification_errors=errors, total_processed=10, batch_time_seconds=1.0, avg_verification_time_ms=80.0,
            total_time_ms=800.0, sources_processed=None,
        )  # fmt: skip
    now = utc_now()
    for outcome in ("CONTENT_EXTRACTED", "CONTENT_EXTRACTED", "TIMEOUT", "RATE_LIMITED", "PAYWALL_DETECTED"):
        result = ExtractionResult("u", 1, "op", ExtractionOutcome[outcome], 200, now, now)
        ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "u", result)
    bylines = BylineCleaningTelemetry(store=store)
    for source, authors in (("a", ["Ann"]), ("a", ["Bo"]), ("b", []), ("b", ["Cy"]), (None, ["Di"])):
        bylines.start_cleaning_session("By somebody", source_name=source)
        if not authors:
            bylines.log_error("nobody")
        bylines.finalize_cleaning_session(authors, requires_manual_review=not authors)
    cleaning = ContentCleaningTelemetry(store=store)
    for domain in ("a.example", "a.example", "b.example"):
        cleaning.start_cleaning_session(domain, 10)
        cleaning.log_segment_detection(f"Subscribe to {domain}", 0.9, 3, "subscription", 1.0, 9, ["a"], True, "known")
        cleaning.log_wire_detection("AP", "byline", "(AP)", 0.9, "start")
        cleaning.log_locality_detection("AP", "terms", "a", None, {"is_local": domain == "b.example", "confidence": 1})
        cleaning.finalize_cleaning_session(5, 2, 1000, 12.5, processing_time_ms=30.0)
    tracker = OperationTracker(store)
    for source, outcome, new in (("s", "NEW_ARTICLES_FOUND", 3), ("s", "TIMEOUT", 0), ("t", "NEW_ARTICLES_FOUND", 1)):
        found = DiscoveryResult(DiscoveryOutcome[outcome], articles_found=new, articles_new=new)
        tracker.record_discovery_outcome("op", source, source, f"https://{source}", found)
        method = DiscoveryMethod.RSS_FEED
        tracker.update_discovery_method_effectiveness(
            source, f"https://{source}", method, DiscoveryMethodStatus.SUCCESS, new, 50.0, [200]
        )
        codes: list[Any] = [200, None, 404] if new else [503]
        for status in codes:
            tracker.track_http_status("op", source, f"https://{source}", method, "u", status, 30.0)
    with tracker.track_operation(OperationType.DATA_EXPORT) as operation:
        metrics = OperationMetrics(total_items=9, processed_items=7, failed_items=2)
        tracker.update_progress(operation.operation_id, metrics)
    tracker.start_operation("failing", OperationType.ML_ANALYSIS)
    tracker.fail_operation("failing", "out of memory")
    store.flush()


@pytest.fixture
def filled(store: TelemetryStore, database: Path) -> Path:
    """A database with some of everything, written in each of the modes."""
    fill(store)
    return database


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in a file to be copied."""
    path = tmp_path_factory.mktemp("reports") / "made_once.db"
    with TelemetryStore(path, mode="sync") as store:
        fill(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return path


@pytest.fixture
def filled_at_once(database: Path, made_once: Path) -> Path:
    """A copy of it."""
    shutil.copy(made_once, database)
    return database


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert 0 == main([*map(str, arguments), "--format", "json"])
    return json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert 0 == main([*map(str, arguments)])
    return capsys.readouterr().out


def test_publishers(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worst publisher first, its hosts by their attempts; of each the rate and the method that works."""
    found = rows(capsys, "publishers", "--database", filled)
    assert all(abs(row.pop("p95_duration_ms") / row["avg_duration_ms"] - 1) < 0.2 for row in found)
    assert [
        (None, "other.example", 1, 0, 10.0, None, 0.0),
        ("Bad News", "bad.example", 2, 0, 2000.0, None, 0.0),
        ("Bad News", "m.bad.example", 1, 1, 90_000.0, "beautifulsoup", 1.0),
        ("Good News", "good.example", 2, 2, 600.0, "newspaper4k", 1.0),
    ] == [tuple(row.values()) for row in found]
    assert ["Good News"] == [
        row["publisher"]
        for row in rows(
            capsys,
            "publishers",
            "--database",
            filled,
            "--publisher",
            "Good News",
        )
    ]


def test_errors(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By kind, the most frequent of each first."""
    found = rows(capsys, "errors", "--database", filled)
    assert [("4xx_client_error", "bad.example", 404, 2), ("5xx_server_error", "m.bad.example", 503, 1)] == [
        (row["error_type"], row["host"], row["status_code"], row["count"]) for row in found
    ]


def test_methods_and_fields(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How often each method was tried, and what it found."""
    methods = rows(capsys, "methods", "--database", filled)
    assert [("newspaper4k", 6, 1500.0, 2 / 6), ("beautifulsoup", 4, 1500.0, 1 / 4)] == [
        (row["successful_method"], row["count"], row["avg_duration"], row["success_rate"]) for row in methods
    ]
    (fields,) = rows(capsys, "fields", "--database", filled, "--method", "beautifulsoup", "--publisher", "Bad News")
    assert (3, 1 / 3, 0.0) == (fields["count"], fields["title_success_rate"], fields["author_success_rate"])


def test_cleaning(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bylines by source, worst first; content by domain, most sessions first."""
    found = rows(capsys, "bylines", "--database", filled)
    assert [("b", 2, 1, 1, 1, 0.5), ("a", 2, 2, 0, 0, 1.0), (None, 1, 1, 0, 0, 1.0)] == [
        (
            row["source_name"],
            row["bylines"],
            row["with_authors"],
            row["to_review"],
            row["with_errors"],
            row["success_rate"],
        )
        for row in found
    ]
    assert ["a"] == [row["source_name"] for row in rows(capsys, "bylines", "--database", filled, "--source", "a")]
    found = rows(capsys, "cleaning", "--database", filled)
    assert [("a.example", 2, 20, 4, 2000, 0.125, 30.0), ("b.example", 1, 10, 2, 1000, 0.125, 30.0)] == [
        tuple(row[key] for key in KEYS["cleaning"][:-1]) for row in found
    ]
    assert 1 == len(rows(capsys, "cleaning", "--database", filled, "--domain", "b.example"))


def test_crawling(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Discovery by source, worst first; operations newest first, with what went wrong."""
    found = rows(capsys, "discovery", "--database", filled)
    assert [("s", 2, 1, 1, 3, 0.5), ("t", 1, 1, 0, 1, 1.0)] == [
        (
            row["source_name"],
            row["attempts"],
            row["content_successes"],
            row["technical_failures"],
            row["articles_new"],
            row["success_rate"],
        )
        for row in found
    ]
    assert ["t"] == [
        row["source_name"]
        for row in rows(
            capsys,
            "discovery",
            "--database",
            filled,
            "--source",
            "t",
            "--operation",
            "op",
        )
    ]
    assert [] == rows(capsys, "discovery", "--database", filled, "--operation", "another")
    found = rows(capsys, "operations", "--database", filled)
    assert {
        ("data_export", "completed", 7, 2, None),
        ("ml_analysis", "failed", None, None, "out of memory"),
    } == {
        (row["operation_type"], row["status"], row["processed_items"], row["failed_items"], row["error"])
        for row in found
    }
    assert all(row["duration_ms"] >= 0 for row in found)
    assert 1 == len(rows(capsys, "operations", "--database", filled, "--limit", 1))
    assert ["failing"] == [
        row["id"]
        for row in rows(
            capsys,
            "operations",
            "--database",
            filled,
            "--type",
            "ml_analysis",
        )
    ]


@each_report
def test_only_the_last_days(name: str, filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is older is left out."""
    with TelemetryStore(filled_at_once, mode="sync") as store:
        for table, column in (
            ("extraction_telemetry_v2", "created_at"),
            ("extraction_telemetry_v2", "rollup_hour"),
            ("extraction_rollups", "hour"),
            ("extraction_rollups", "last_seen"),
            ("extraction_daily_durations", "day"),
            ("extraction_method_rollups", "hour"),
            ("http_error_summary", "last_seen"),
            ("byline_cleaning_telemetry", "extraction_timestamp"),
            ("content_cleaning_sessions", "start_time"),
            ("discovery_outcomes", "timestamp"),
            ("operations", "created_at"),
            ("extraction_outcomes", "timestamp"),
            ("content_type_detection_telemetry", "created_at"),
            ("verification_telemetry", "timestamp"),
            ("content_cleaning_wire_events", "timestamp"),
            ("content_cleaning_locality_events", "timestamp"),
            ("persistent_boilerplate_patterns", "last_seen"),
            ("discovery_method_effectiveness", "last_attempt"),
            ("http_status_tracking", "timestamp"),
        ):
            store.execute(f"UPDATE {table} SET {column} = datetime({column}, '-3 days')")
    assert rows(capsys, name, "--database", filled_at_once, "--days", 3.5)
    assert [] == rows(capsys, name, "--database", filled_at_once, "--days", 2.5)


@each_report
def test_forms(name: str, filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and CSV have the same rows, and every key; the table has a title, headings and how many there are."""
    found = rows(capsys, name, "--database", filled_at_once)
    assert set(KEYS[name]) == set(found[0])
    assert 0 == main([name, "--database", str(filled_at_once), "--format", "csv"])
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(found) == len(lines)
    assert set(lines[0]) <= set(KEYS[name])
    table = text(capsys, name, "--database", filled_at_once)
    assert f"{len(found)} " in table.splitlines()[-1]
    assert "\x1b" not in table


def test_what_failed_counts(filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the newer reports: what had no response is an error, and rates are worked out of what is stored."""

    def found(name: str, *keys: str) -> list[tuple[Any, ...]]:
        return [tuple(row[key] for key in keys) for row in rows(capsys, name, "--database", filled_at_once)]

    assert [("s", 4, 1, 1, 1, 1, 0.75), ("t", 3, 1, 1, 0, 1, 2 / 3)] == found(
        "statuses", "source_id", "requests", "ok", "client_errors", "server_errors", "no_response", "error_rate"
    )
    assert [("s", 2, 0.5, 3), ("t", 1, 1.0, 1)] == found(
        "discovery-methods", "source_id", "attempts", "success_rate", "articles_found"
    )
    assert [("s", 1, 1), ("t", 0, 0)] == found("discovery", "source_name", "failures", "technical_failures")
    assert [("nightly", 20, 4, 0.2, 80.0), ("hourly", 10, 0, 0.0, 80.0)] == found(
        "verification", "job_name", "processed", "errors", "error_rate", "avg_time_ms"
    )
    assert [("content_extracted", "success", 2, 0.4), ("paywall_detected", "no content", 1, 0.2)] == found(
        "outcomes", "outcome", "kind", "count", "share"
    )[:2]
    assert [("opinion", 5, 2, 5 / 6), ("article", 1, 0, 1 / 6)] == found(
        "content-types", "content_type", "count", "publishers", "share"
    )
    assert [("http://u:***@none", 0, 1), ("http://u:***@Bad News", 1, 2), ("http://u:***@Good News", 2, 0)] == found(
        "proxies", "proxy_url", "served", "failed"
    )
    assert [("AP", "byline", 3, 2)] == found("wire", "provider", "detection_method", "events", "domains")
    assert [("a.example", 2, 0), ("b.example", 1, 1)] == found("locality", "domain", "events", "local")
    assert [("a.example", 6, True), ("b.example", 3, True)] == found("patterns", "domain", "occurrences", "is_active")
    done, failed = sorted(found("operations", "status", "success_rate", "duration_ms"))
    assert ("completed", 5 / 7) == done[:2]
    assert 0 < done[2] < 60_000
    assert ("failed", None) == failed[:2]


@pytest.mark.parametrize("name", ["publishers", "patterns", "operations"])
def test_limit(name: str, filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first ones only."""
    found = rows(capsys, name, "--database", filled_at_once)
    assert found[:1] == rows(capsys, name, "--database", filled_at_once, "--limit", 1)
    assert len(found) > 1


@each_report
def test_nothing_to_show(name: str, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database without these tables has nothing to show: one line says so, and that is no failure."""
    with TelemetryStore(database, mode="sync") as store:
        store.execute("CREATE TABLE other (a)")
    assert 1 == len(text(capsys, name, "--database", database).splitlines())
    assert [] == rows(capsys, name, "--database", database)


def test_values_that_are_missing(filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of old producers with NULL where a value is expected are shown all the same."""
    with TelemetryStore(filled_at_once, mode="sync") as store:
        store.execute("UPDATE http_error_summary SET last_seen = '9999-01-01'")
        store.execute("UPDATE http_error_summary SET count = NULL WHERE status_code = 404")
        store.execute("UPDATE extraction_telemetry_v2 SET host = NULL, total_duration_ms = NULL")
        store.execute("UPDATE operations SET metrics = 'broken', error_details = '[]', created_at = NULL")
    for name in NAMES:
        assert text(capsys, name, "--database", filled_at_once)


@pytest.mark.parametrize("method", ["newspaper4k", "bs4", "trafilatura", "Méthode 5"])
def test_fields_of_any_method(filled: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    """A crawler names its methods as it likes: those that no row has are no mistake."""
    found = rows(capsys, "fields", "--database", filled, "--method", method)
    assert {row["method"] for row in found} <= {method}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["errors", "--days", "0"],
        ["errors", "--days", "nan"],
        ["methods", "--limit", "3"],
        ["errors", "--format", "xml"],
        ["operations", "--limit", "0"],
        ["operations", "--limit", "-1"],
        ["operations", "--limit", "9" * 30],
        ["errors", "--days", "x"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is not understood ends with 2 and the usage."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    printed = capsys.readouterr().err
    assert printed.startswith("usage: telemetry-report")
    assert "_" not in printed


def test_no_such_database(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is not there is not made, however it is named; one line says what is wrong."""
    monkeypatch.chdir(tmp_path)
    for arguments in (["--database", "no/x.db"], ["--database", f"sqlite:///{tmp_path}/no/x.db"], []):
        assert 1 == main(["errors", *arguments])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("telemetry-report: there is no database ")
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", "sqlite:///named.db")
    assert 1 == main(["errors"])
    assert "named.db" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_no_database_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is something else is one line on standard error."""
    path = tmp_path / "x.db"
    path.write_text("this is no database, and it is longer than a header of one. " * 20)
    assert 1 == main(["errors", "--database", str(path)])
    assert 1 == len(capsys.readouterr().err.splitlines())


def test_the_reader_leaves_early(filled_at_once: Path) -> None:
    """As with `| head -1`: no traceback."""
    program = "import sys; from producers.reports.command import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-c", program, "publishers", "--database", str(filled_at_once)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    told = [line for line in ended.stderr.splitlines() if not line.endswith(" s so far")]  # on a busy machine
    assert (1, []) == (ended.returncode, told)


def test_columns_that_hold_anything(filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is a text, documents without end: shown as far as can be."""
    with TelemetryStore(filled_at_once, mode="sync") as store:
        store.execute("UPDATE extraction_rollups SET extractions = x'ff', duration_ms = 'long', last_seen = 5")
        store.execute(
            "UPDATE operations SET metrics = CASE status WHEN 'failed' THEN ? ELSE ? END",
            ("[" * 100_000, '{"processed_items": "many", "failed_items": [1]}'),
        )
    assert "many" in text(capsys, "operations", "--database", filled_at_once)
    assert "bad.example" in text(capsys, "errors", "--database", filled_at_once)
    assert "bad.example" in text(capsys, "publishers", "--database", filled_at_once)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (OverflowError("too large"), 1, 1),
        (TypeError("a\nb\x1b"), 1, 1),
        (KeyboardInterrupt(), 130, 0),
    ],
)
def test_what_is_not_foreseen(
    error: BaseException,
    code: int,
    lines: int,
    filled_at_once: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line on the standard error and no traceback; nothing at all when somebody interrupts."""

    def broken(*_: object) -> Any:
        raise error

    monkeypatch.setattr("producers.reports.command.make_report", broken)
    assert code == main(["errors", "--database", str(filled_at_once)])
    assert lines == len(capsys.readouterr().err.splitlines())


def test_a_disk_that_is_full(filled_at_once: Path) -> None:
    """A report that cannot be written is one line and exit code 1, without a word of the interpreter's."""
    program = "import sys; from producers.reports.command import main; sys.exit(main())"
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program, "publishers", "--database", str(filled_at_once)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (1, "telemetry-report: No space left on device\n") == (ended.returncode, ended.stderr)


def test_a_closed_standard_output(
    filled_at_once: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `>&-`: one line says so."""
    monkeypatch.setattr(sys, "stdout", None)
    assert 1 == main(["errors", "--database", str(filled_at_once)])
    assert "telemetry-report: the standard output is closed\n" == capsys.readouterr().err


def test_one_day(filled_at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The title says which days the errors are of."""
    assert "HTTP errors of the last day\n" in text(capsys, "errors", "--database", filled_at_once, "--days", 1)
    with pytest.raises(SystemExit, match="0"):
        main(["errors", "--help"])
    assert "7 by default" in capsys.readouterr().out


# In a host application

Host = Callable[..., int]


@pytest.fixture
def host(filled_at_once: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The command line of a host application, whose configured database has some of everything."""
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{filled_at_once}")
    parser = argparse.ArgumentParser(prog="host")
    reports.add_telemetry_parser(parser.add_subparsers())
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "sync")

    def run(*arguments: str) -> int:
        given = parser.parse_args(["telemetry", *arguments])
        assert given.func is reports.handle_telemetry_command
        code: int = given.func(given)
        return code

    return run


@each_report
def test_in_a_host_application(name: str, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Each report is a sub-command of `telemetry`."""
    assert 0 == host(name)
    assert 3 < len(capsys.readouterr().out.splitlines())
    assert 0 == host(name, "--format", "json")
    assert set(KEYS[name]) == set(json.loads(capsys.readouterr().out)[0])


def test_which_reports_there_are(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name they are listed, and that is a failure."""
    assert 1 == host()
    assert all(name in capsys.readouterr().out for name in NAMES[:1])


def test_a_report_that_fails(host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged, and the code is 1."""

    def broken() -> Any:
        raise RuntimeError("no store")

    monkeypatch.setattr(reports, "ComprehensiveExtractionTelemetry", broken)
    assert 1 == host("errors")
    assert "the report errors cannot be made" in caplog.text


def test_what_a_host_application_reads(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reports on extractions come from the telemetry's own methods, called as they always were."""

    class Telemetry:
        def get_error_summary(self, days: float = 7) -> list[dict[str, Any]]:
            return [{"host": None, "status_code": 404, "error_type": "4xx", "count": days, "last_seen": None}]

        def get_publisher_stats(self) -> list[dict[str, Any]]:
            return [
                {
                    "publisher": None,
                    "host": "h" * 60,
                    "total_attempts": 20,
                    "successful": 17,
                    "avg_duration_ms": 1500.0,
                    "most_common_method": None,
                }
            ]

    monkeypatch.setattr(reports, "ComprehensiveExtractionTelemetry", Telemetry)
    assert 0 == host("errors", "--days", "3")
    assert "4xx  count 3" in capsys.readouterr().out
    assert 0 == host("publishers")
    printed = capsys.readouterr().out
    assert "Unknown" in printed
    assert "20  17    85.0%" in printed
    assert f"{'h' * 28}…" in printed
    assert "1.5 s" in printed


@pytest.mark.parametrize(
    "words",
    [
        ["--database", "{}", "operations"],
        ["operations", "--database", "{}"],
        ["--database", "elsewhere.db", "operations", "--database={}"],
    ],
)
def test_the_database_stands_before_or_behind_the_report(words: list[str], filled_at_once: Path) -> None:
    """As with the other commands; what is said twice counts the second time."""
    assert 0 == main([word.format(filled_at_once) for word in words])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """As with the other commands."""
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert (0, f"telemetry-bus {__version__}\n") == (left.value.code, capsys.readouterr().out)
