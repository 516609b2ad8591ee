"""Tables that another program made first: what is recorded lands in them all the same."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producers.byline import BylineCleaningTelemetry
from producers.content_cleaning import ContentCleaningTelemetry
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult, ExtractionTelemetry
from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    DiscoveryOutcome,
    DiscoveryResult,
    OperationTracker,
    OperationType,
)
from producers.schema import NOW, Table, definitions
from producers.values import utc_now
from telemetry_bus import TelemetryStore

from .described import described

Stored = Callable[[str], list[dict[str, Any]]]

BATCH = {
    "batch_size": 5,
    "verified_articles": 3,
    "verified_non_articles": 1,
    "verification_errors": 1,
    "total_processed": 5,
    "batch_time_seconds": 1.5,
    "avg_verification_time_ms": 300.0,
    "total_time_ms": 1500.0,
}


def strict(table: Table) -> str:
    """The table as a library of models would make it: what has a default in ours is NOT NULL, and the program itself
    gives the default; no indexes."""
    text = definitions(table)[0]
    text = re.sub(r"(\w+ TIMESTAMP) DEFAULT CURRENT_TIMESTAMP( NOT NULL)?", r"\1 NOT NULL", text)
    return re.sub(r" DEFAULT \S+?( NOT NULL)?(?=[,\n])", " NOT NULL", text)


def make(database: Path, *texts: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(";\n".join(texts))


def failing(url: str = "https://a.com/x", status: int = 503) -> ExtractionMetrics:
    metrics = ExtractionMetrics("op", "a", url, "A")
    metrics.start_method("m")
    metrics.end_method("m", False)
    metrics.set_http_metrics(status, 10, 1.0)
    metrics.set_content_type_detection({"status": "opinion"})
    metrics.finalize({})
    return metrics


def record_everything(store: TelemetryStore) -> int:
    """A row at least into each table; how much could not be recorded."""
    byline = BylineCleaningTelemetry(store=store)
    byline.start_cleaning_session("By Ann")
    byline.log_transformation_step("a", "b", "c")
    byline.finalize_cleaning_session(["Ann"])
    cleaning = ContentCleaningTelemetry(store=store)
    for _ in range(2):
        cleaning.start_cleaning_session("a.com", 1)
        cleaning.log_segment_detection("Subscribe", 0.9, 3, "subscription", 1.0, 9, ["a"], True, "known")
        cleaning.log_wire_detection("AP", "m", "p", 1, "s")
        cleaning.log_locality_detection("AP", "m", "a", None, {"is_local": True})
        cleaning.finalize_cleaning_session(1, 1, 1, 1.0)
    extraction = ComprehensiveExtractionTelemetry(store=store)
    for _ in range(2):
        extraction.record_extraction(failing())
    extraction.record_verification_batch(job_name="j", **BATCH, sources_processed=[])
    now = utc_now()
    result = ExtractionResult("u", 1, "op", ExtractionOutcome.TIMEOUT, 1, now, now)
    ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "u", result)
    tracker = OperationTracker(store)
    with tracker.track_operation(OperationType.CRAWL_DISCOVERY):
        tracker.record_discovery_outcome("op", "s", "S", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))
        tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 200, 1.0)
        for _ in range(2):
            tracker.update_discovery_method_effectiveness(
                "s", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 1.0, [200]
            )
    store.flush()
    failed = store.stats().failed
    return byline.failures + cleaning.failures + tracker.failures + extraction._destination.failures + failed


def test_every_column_with_a_default_may_be_strict(
    store: TelemetryStore, database: Path, stored: Stored, drift: Callable[[], list[str]]
) -> None:
    """No column may be NULL that has a default with us, none has one, and no index is there: each recorder's rows land,
    those of one key as one."""
    tables = described()
    texts = [strict(table) for table in tables.values()]
    assert [] == [text for text in texts if "DEFAULT" in text]
    make(database, *texts)
    assert 0 == record_everything(store)
    counts = {name: stored(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in tables}
    assert 0 < min(counts.values())
    assert [1, 1, 1] == [
        counts[name]
        for name in ("http_error_summary", "discovery_method_effectiveness", "persistent_boilerplate_patterns")
    ]
    assert [] == drift()


def test_each_default_of_a_moment_is_given() -> None:
    """The tables' own words say which columns the test above makes strict."""
    assert [] != [c for table in described().values() for c in table.columns.values() if c.default == NOW]


def test_rows_of_one_key_become_one(store: TelemetryStore, database: Path, stored: Stored) -> None:
    """A summary without a unique key has counted one error several times: the counts are added up, the first and the
    last moment stay, and counting goes on; other rows stay as they are."""
    make(
        database,
        "CREATE TABLE http_error_summary (id INTEGER PRIMARY KEY, host VARCHAR NOT NULL, status_code INTEGER NOT NULL,"
        " error_type VARCHAR NOT NULL, count INTEGER NOT NULL,"
        " first_seen DATETIME NOT NULL, last_seen DATETIME NOT NULL)",
        "INSERT INTO http_error_summary VALUES (1, 'a.com', 503, 'x', 2, '2024-01-02 00:00:00', '2024-01-03 00:00:00'),"
        " (2, 'b.com', 503, 'y', 7, '2024-01-02 00:00:00', '2024-01-03 00:00:00'),"
        " (3, 'a.com', 503, 'z', 3, '2024-01-02T01:00:00+02:00', '2024-01-02 00:00:00'),"
        " (4, 'a.com', 404, 'x', 1, '2024-01-02 00:00:00', '2024-01-03 00:00:00')",
    )
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    for _ in range(2):
        telemetry.record_extraction(failing())
    assert [
        (1, "a.com", 503, 7, "2024-01-01 23:00:00.000"),
        (2, "b.com", 503, 7, "2024-01-02 00:00:00"),
        (4, "a.com", 404, 1, "2024-01-02 00:00:00"),
    ] == [
        tuple(row.values())
        for row in stored("SELECT id, host, status_code, count, first_seen FROM http_error_summary ORDER BY id")
    ]
    assert 2 == len(stored("SELECT id FROM extraction_telemetry_v2"))


def test_methods_of_one_key_become_one(store: TelemetryStore, database: Path, stored: Stored) -> None:
    """The attempts are added up, the rate and the time are the means over all of them."""
    make(
        database,
        strict(described()["discovery_method_effectiveness"]),
        "INSERT INTO discovery_method_effectiveness (source_id, source_url, discovery_method, status, articles_found,"
        " success_rate, last_attempt, attempt_count, avg_response_time_ms, created_at, updated_at) VALUES"
        " ('s', 'u', 'rss_feed', 'success', 4, 100.0, '2024-01-01 00:00:00', 1, 10.0, '2024', '2024'),"
        " ('s', 'u', 'rss_feed', 'timeout', 9, 0.0, '2024-01-02 00:00:00', 2, 40.0, '2024', '2024')",
    )
    tracker = OperationTracker(store)
    tracker.update_discovery_method_effectiveness(
        "s", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 50.0, [200]
    )
    (row,) = stored("SELECT * FROM discovery_method_effectiveness")
    assert (4, 50.0, 35.0, 9) == (
        row["attempt_count"],
        row["success_rate"],
        row["avg_response_time_ms"],
        row["articles_found"],
    )


def test_patterns_of_one_key_become_one(store: TelemetryStore, database: Path, stored: Stored) -> None:
    """Also in the library of boilerplate; patterns whose hash is none of ours stay as they are."""
    digest = "d" * 64
    make(
        database,
        strict(described()["persistent_boilerplate_patterns"]),
        "INSERT INTO persistent_boilerplate_patterns (id, domain, pattern_type, text_content, text_hash,"
        " occurrences_total, confidence_score, first_seen, last_seen, is_active, is_ml_training_eligible,"
        " created_at, updated_at) VALUES"
        f" ('1', 'a.com', 'footer', 't', '{digest}', 2, 0.5, '2024-01-02', '2024-01-03', 1, 1, '2024', '2024'),"
        f" ('2', 'a.com', 'footer', 't', '{digest}', 3, 0.7, '2024-01-01', '2024-01-02', 1, 1, '2024', '2024'),"
        " ('3', 'a.com', 'footer', 't', '-5', 1, 0.7, '2024-01-01', '2024-01-02', 1, 1, '2024', '2024'),"
        " ('4', 'a.com', 'footer', 't', '-5', 1, 0.7, '2024-01-01', '2024-01-02', 1, 1, '2024', '2024')",
    )
    telemetry = ContentCleaningTelemetry(store=store)
    telemetry.start_cleaning_session("a.com", 1)
    telemetry.log_segment_detection("Subscribe", 0.9, 3, "subscription", 1.0, 9, ["a"], True, "known")
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    rows = stored("SELECT id, occurrences_total, confidence_score FROM persistent_boilerplate_patterns ORDER BY id")
    assert [("1", 5, 0.7), ("3", 1, 0.7), ("4", 1, 0.7)] == [tuple(row.values()) for row in rows if len(row["id"]) == 1]
    assert 4 == len(rows)


OTHER_PURPOSE = """CREATE TABLE verification_telemetry (id VARCHAR PRIMARY KEY, verification_job_id VARCHAR NOT NULL,
    source_name VARCHAR, source_county VARCHAR, total_urls INTEGER NOT NULL)"""


def recorders(store: TelemetryStore) -> list[Any]:
    return [ComprehensiveExtractionTelemetry(store=store), OperationTracker(store)]


@pytest.mark.parametrize("first", ["another program", "nobody"])
def test_a_table_of_another_purpose(store: TelemetryStore, database: Path, stored: Stored, first: str) -> None:
    """Batches get a table of another name where theirs is another program's; both recorders know it. Else theirs is
    ours."""
    if first == "another program":
        make(database, OTHER_PURPOSE)
    for recorder in recorders(store):
        for _ in range(2):
            recorder.record_verification_batch(job_name="j", **BATCH, sources_processed=["a"])
    ours = "article_verification_telemetry" if first == "another program" else "verification_telemetry"
    rows = stored(f"SELECT * FROM {ours}")
    assert 4 * [BATCH] == [{name: row[name] for name in BATCH} for row in rows]
    if first == "another program":
        assert [] == stored("SELECT * FROM verification_telemetry")
    else:
        assert [] == stored("SELECT name FROM sqlite_master WHERE name LIKE 'article_verification%'")


def _with_keys(word: str) -> Callable[[Table], str]:
    counted = "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"
    return lambda table: strict(table).replace(counted, f"id {word} NOT NULL PRIMARY KEY")


def _everything_required(table: Table) -> str:
    return re.sub(r"(?m)^(\t\w+ [A-Z]+)(?=,|\n| *$)", r"\1 NOT NULL", strict(table))


def _with_a_column_of_its_own(table: Table) -> str:
    return strict(table).replace("(\n\t", '(\n\t"Ärger, ""or"" not" VARCHAR(36) NOT NULL,\n\t', 1)


def _in_capitals(table: Table) -> str:
    return re.sub(
        r"(?m)^\t(?!PRIMARY|FOREIGN)(\w+) ", lambda found: f"\t{found[1].upper()} ", _everything_required(table)
    )


def _of_strict_types(table: Table) -> str:
    words = {"TIMESTAMP": "TEXT", "BOOLEAN": "INTEGER"}
    text = re.sub("|".join(words), lambda found: words[found[0]], strict(table))
    return text + (", STRICT" if table.clustered else " STRICT")


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(_with_keys("BIGINT"), id="keys that SQLite does not count"),
        pytest.param(_with_keys("VARCHAR(36)"), id="keys of text"),
        pytest.param(_everything_required, id="no column may be NULL"),
        pytest.param(_with_a_column_of_its_own, id="a required column that is not ours"),
        pytest.param(_in_capitals, id="in capitals"),
        pytest.param(_of_strict_types, id="strict"),
    ],
)
def test_what_a_table_requires_is_given(
    store: TelemetryStore, database: Path, stored: Stored, made: Callable[[Table], str]
) -> None:
    tables = described()
    make(database, *map(made, tables.values()))
    assert 0 == record_everything(store)
    for name in tables:
        rows = stored(f"SELECT * FROM {name}")
        assert rows
        assert [] == [row for row in rows if row.get("id", "") is None]


def test_only_what_is_missing_is_filled_in(store: TelemetryStore, database: Path, stored: Stored) -> None:
    """Columns that may be NULL stay NULL, and each row of a job has a key of its own."""
    make(database, _with_keys("BIGINT")(described()["extraction_telemetry_v2"]))
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    for _ in range(3):
        telemetry.record_extraction(failing())
    store.flush()
    rows = stored("SELECT id, error_message, url FROM extraction_telemetry_v2")
    assert 3 == len({row["id"] for row in rows})
    assert 3 * [(None, "https://a.com/x")] == [(row["error_message"], row["url"]) for row in rows]


def test_tables_of_our_own_require_nothing(store: TelemetryStore) -> None:
    """So that no row is looked through."""
    record_everything(store)
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    telemetry.record_extraction(failing())
    assert {} != telemetry._destination._requirements
    assert [] == [each for each, _ in telemetry._destination._requirements.values() if each]


def test_a_look_makes_no_database(database: Path) -> None:
    """It belongs to whoever writes to it, another user perhaps. What another program makes later is seen."""
    with TelemetryStore(database, spawn=False) as store:
        telemetry = ComprehensiveExtractionTelemetry(store=store)
        telemetry.record_extraction(failing())
        telemetry.record_verification_batch(job_name="j", **BATCH, sources_processed=[])
        assert not database.exists()
        destination = telemetry._destination
        make(database, _with_keys("BIGINT")(described()["extraction_telemetry_v2"]))
        assert {} == destination._required("extraction_telemetry_v2", ())
        destination._requirements = {name: (known, 0.0) for name, (known, _) in destination._requirements.items()}
        assert "id" in destination._required("extraction_telemetry_v2", ())
        store.shutdown(wait=False)
