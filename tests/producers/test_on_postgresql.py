"""Producers and reports on PostgreSQL: the same calls leave the same rows, and say the same, as on SQLite."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from producers.byline import BylineCleaningTelemetry
from producers.content_cleaning import ContentCleaningTelemetry
from producers.destination import Destination, Query
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult, ExtractionTelemetry
from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    DiscoveryOutcome,
    DiscoveryResult,
    OperationTracker,
)
from producers.reports.command import main
from telemetry_bus import TelemetryStore

from .test_both_dialects import TABLES
from .test_reports import NAMES, fill

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

#: Columns that differ from one run to the next: counted, random, or read from a clock.
CHANGING = frozenset(
    {
        *("id", "operation_id", "telemetry_id", "session_id", "byline_telemetry_id", "content_cleaning_session_id"),
        *("duration_ms", "total_duration_ms", "processing_time_ms", "extraction_time_ms", "cleaning_time_ms"),
        *("method_timings", "content_type_detection", "metrics", "parameters", "result_summary"),
    }
)
#: What of a report does: moments with the space around them, identifiers, times that were measured.
VARYING = re.compile(r" *\d{4}-\d\d-\d\d[ T][\d:.+]+Z? *| *[0-9a-f-]{36} *|\b\d+\.\d{3,}\b| *[\d.]+ ms")
VERIFIED: dict[str, Any] = {
    "job_name": "j",
    "batch_size": 3,
    "verified_articles": 2,
    "verified_non_articles": 1,
    "verification_errors": 0,
    "total_processed": 3,
    "batch_time_seconds": 0.5,
    "avg_verification_time_ms": 0.25,
    "total_time_ms": 500.0,
    "sources_processed": ["a", "b"],
}
#: The reports with options of their own.
OPTIONS = [
    *([name] for name in NAMES),
    *([name, "--days", "1"] for name in NAMES if name != "operations"),
    ["publishers", "--publisher", "Good News"],
    ["methods", "--publisher", "Good News"],
    ["fields", "--method", "newspaper4k"],
    ["bylines", "--source", "a"],
    ["cleaning", "--domain", "a.example"],
    ["discovery", "--source", "s"],
]


@pytest.fixture
def stores(postgresql: str, tmp_path: Path) -> Iterator[dict[str, TelemetryStore]]:
    """A store on each kind of database, with the same of everything."""
    with (
        TelemetryStore(tmp_path / "telemetry.db", mode="sync") as sqlite,
        TelemetryStore(postgresql, mode="sync") as server,
    ):
        for store in (sqlite, server):
            fill(store)
            fill_the_rest(store)
        yield {"sqlite": sqlite, "postgresql": server}


def fill_the_rest(store: TelemetryStore) -> None:
    """What no report reads, upserts, and texts that only one of the databases takes."""
    cleaning = ContentCleaningTelemetry(store=store)
    for _ in range(2):
        cleaning.start_cleaning_session("news.example", 3)
        cleaning.log_segment_detection("Sub\0scribe", 0.9, 3, "subscription", 1.0, 9, ["a"], True, "known")
        cleaning.log_wire_detection("AP", "byline", "(AP)", 0.9, "early", ["a"])
        cleaning.log_locality_detection("AP", "byline", "a", "news.example", {"is_local": True})
        cleaning.finalize_cleaning_session(1, 1, 9, 0.1)
    bylines = BylineCleaningTelemetry(store=store)
    bylines.start_cleaning_session("By Ann", source_name="c")
    bylines.log_transformation_step("a", "b", "c")
    bylines.finalize_cleaning_session(["Ann"])
    tracker = OperationTracker(store)
    for status in (200, 503):
        tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", status, 1.0)
        tracker.update_discovery_method_effectiveness(
            "s", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 1.0, [status]
        )
    tracker.record_discovery_outcome("op", "s", "ü \ud800 \0", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))
    assert 0 == tracker.failures
    now = datetime(2026, 1, 1)
    result = ExtractionResult("u", 1, "op", ExtractionOutcome.TIMEOUT, 1, now, now)
    ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "u", result)
    metrics = ExtractionMetrics("op", "a", "https://detected.example/a", "Detected")
    metrics.set_http_metrics(404, 10, 1.0)
    metrics.set_content_type_detection({"status": "obituary", "confidence": "high", "confidence_score": 0.5})
    metrics.finalize({})
    metrics.total_duration_ms = 250
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    telemetry.record_extraction(metrics)
    telemetry.record_verification_batch(**VERIFIED)
    store.flush()


def plain(row: dict[str, Any]) -> str:
    """What of a row is the same each time. Of moments it is whether there is one."""
    kept = {name: value for name, value in row.items() if name not in CHANGING}
    if "article_id" in kept:  # some crawlers count articles, others name them: in PostgreSQL that is one type
        kept["article_id"] = str(kept["article_id"])
    return VARYING.sub("*", json.dumps(kept, sort_keys=True))


def test_the_same_rows_and_reports(stores: dict[str, TelemetryStore]) -> None:
    """Each table has rows, and the same ones; each report with its options says the same."""
    tables = {kind: rows_of_all_tables(store) for kind, store in stores.items()}
    assert set() == {name for name, rows in tables["sqlite"].items() if not rows}
    for name, rows in tables["sqlite"].items():
        assert rows == tables["postgresql"][name], name
    for arguments in OPTIONS:
        for form in ("json", "csv", "table"):
            said = {kind: report(store, *arguments, "--format", form) for kind, store in stores.items()}
            assert len(said["postgresql"]) > 30
            if arguments[0] == "operations":  # in the order of moments, with times between them
                if form == "table":  # which cuts random ids
                    continue
                said = {kind: "".join(sorted(re.sub(r"[\d.*]", "", text))) for kind, text in said.items()}
            assert said["sqlite"] == said["postgresql"], arguments


def test_rollups_are_made_again(stores: dict[str, TelemetryStore]) -> None:
    """By `telemetry-report rollup --rebuild`: the same ones, of all hours, and from none."""
    for again in ("--all", "--rebuild"):
        said = {kind: report(store, "rollup", "--rebuild", again) for kind, store in stores.items()}
        assert said["sqlite"] == said["postgresql"]
        tables = {kind: rows_of_all_tables(store) for kind, store in stores.items()}
        assert tables["sqlite"] == tables["postgresql"]
        for store in stores.values():
            store.execute("DELETE FROM extraction_rollups")
            store.flush()


def rows_of_all_tables(store: TelemetryStore) -> dict[str, list[str]]:
    destination = Destination(store, logger=logging.getLogger("test"))
    found = {}
    for table in TABLES:
        columns = ", ".join(table.c.keys())
        query = Query(f"SELECT {columns} FROM {table.name}", (), table.c.keys())
        found[table.name] = sorted(map(plain, destination.read_dicts(query)))
    return found


def report(store: TelemetryStore, *arguments: str) -> str:
    """What a report prints, without what a clock says."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert 0 == main([*arguments, "--database", store.database_url])
    return VARYING.sub("*", out.getvalue())


def test_a_report_of_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and no traceback."""
    assert 1 == main(["publishers", "--database", "postgresql://u:secret@127.0.0.1:1/x"])
    said = capsys.readouterr().err
    assert "start the server" in said
    assert "secret" not in said
    assert 1 == len(said.splitlines())
