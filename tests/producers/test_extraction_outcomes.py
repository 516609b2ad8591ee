"""What became of each article: outcomes, their row, their statistics, the crawler's own table."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult, ExtractionTelemetry, host
from telemetry_bus import JobFailed, StoreClosed, TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

OUTCOMES = [
    "content_extracted",
    "partial_content",
    "no_content_found",
    "empty_response",
    "paywall_detected",
    "http_error",
    "timeout",
    "connection_error",
    "ssl_error",
    "dns_error",
    "cloudflare_blocked",
    "captcha_required",
    "bot_protection",
    "rate_limited",
    "parsing_error",
    "encoding_error",
    "javascript_required",
    "database_error",
    "unknown_error",
]

#: As the old producers made it, without the columns that their INSERT named.
OLD_TABLE = """CREATE TABLE extraction_outcomes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operation_id TEXT NOT NULL, article_id INTEGER NOT NULL, url TEXT NOT NULL,
    outcome TEXT NOT NULL, extraction_time_ms REAL NOT NULL DEFAULT 0.0, start_time TIMESTAMP NOT NULL,
    end_time TIMESTAMP NOT NULL, http_status_code INTEGER, response_size_bytes INTEGER,
    has_title BOOLEAN NOT NULL DEFAULT 0, has_content BOOLEAN NOT NULL DEFAULT 0,
    has_author BOOLEAN NOT NULL DEFAULT 0, has_publish_date BOOLEAN NOT NULL DEFAULT 0, content_length INTEGER,
    title_length INTEGER, author_count INTEGER, content_quality_score REAL, error_message TEXT, error_type TEXT,
    is_success BOOLEAN NOT NULL DEFAULT 0, is_content_success BOOLEAN NOT NULL DEFAULT 0,
    is_technical_failure BOOLEAN NOT NULL DEFAULT 0, is_bot_protection BOOLEAN NOT NULL DEFAULT 0, metadata TEXT,
    timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""


def result(outcome: Any = ExtractionOutcome.CONTENT_EXTRACTED, **values: Any) -> ExtractionResult:
    made = ExtractionResult("http://own", 1, "own", outcome, 250, AT, AT + timedelta(seconds=1))
    return replace(made, **values)


def stored(store: TelemetryStore, sql: str = "SELECT * FROM extraction_outcomes ORDER BY id") -> list[dict[str, Any]]:
    store.flush()
    with store.connection() as connection:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_the_outcomes() -> None:
    """Nineteen members, each named as its value in capitals."""
    assert OUTCOMES == [outcome.value for outcome in ExtractionOutcome]
    assert [name.upper() for name in OUTCOMES] == [outcome.name for outcome in ExtractionOutcome]


def test_the_fields_of_a_result() -> None:
    """Their order, since callers give them by position, and their defaults."""
    expected = (
        "url article_id operation_id outcome extraction_time_ms start_time end_time http_status_code "
        "response_size_bytes has_title has_content has_author has_publish_date content_length title_length "
        "author_count title_quality_issues content_quality_issues author_quality_issues publish_date_quality_issues "
        "overall_quality_score error_message error_type extracted_content"
    )
    assert expected.split() == [field.name for field in fields(ExtractionResult)]
    assert (None, False, None, 1.0) == (
        result().http_status_code,
        result().has_title,
        result().title_quality_issues,
        result().overall_quality_score,
    )


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("is_success", {"content_extracted", "partial_content"}),
        ("is_content_success", {"content_extracted"}),
        (
            "is_technical_failure",
            {
                "http_error",
                "timeout",
                "connection_error",
                "ssl_error",
                "dns_error",
                "database_error",
                "parsing_error",
                "encoding_error",
                "unknown_error",
            },
        ),
        ("is_bot_protection", {"cloudflare_blocked", "captcha_required", "bot_protection", "rate_limited"}),
    ],
)
def test_kinds_of_outcomes(kind: str, members: set[str]) -> None:
    """Which outcomes are of which kind; four are of none."""
    assert members == {outcome.value for outcome in ExtractionOutcome if getattr(result(outcome), kind)}


@pytest.mark.parametrize(
    ("expected", "outcome", "flags"),
    [
        (0.0, "CONTENT_EXTRACTED", ()),
        (0.5, "PARTIAL_CONTENT", ("has_title", "has_author")),
        (0.0, "TIMEOUT", ("has_title",)),
        (1.0, "CONTENT_EXTRACTED", ("has_title", "has_content", "has_author", "has_publish_date")),
    ],
)
def test_quality_score(expected: float, outcome: str, flags: tuple[str, ...]) -> None:
    """The share of the four fields that were found, when something was."""
    assert expected == result(ExtractionOutcome[outcome], **dict.fromkeys(flags, True)).content_quality_score


def test_a_row_has_every_column(store: TelemetryStore) -> None:
    """Each value of the result stands in its column; the three arguments are stored, not the result's own copies."""
    telemetry = ExtractionTelemetry(store=store)
    telemetry.record_extraction_outcome(
        "op",
        7,
        "http://given",
        result(
            http_status_code=200,
            response_size_bytes=9,
            has_title=True,
            has_content=True,
            content_length=5,
            title_length=3,
            author_count=2,
            title_quality_issues=["too_short"],
            overall_quality_score=0.9,
            extracted_content={"title": "abc", "at": AT, "odd": {1}},
            error_message="m",
            error_type="T",
        ),
    )
    telemetry.flush()
    (row,) = stored(store)
    assert {"title": "abc", "at": AT.isoformat(), "odd": [1]} == json.loads(row.pop("metadata"))
    assert row.pop("timestamp")
    assert {
        "id": 1,
        "operation_id": "op",
        "article_id": 7,
        "url": "http://given",
        "outcome": "content_extracted",
        "extraction_time_ms": 250.0,
        "start_time": "2026-01-02 03:04:05",
        "end_time": "2026-01-02 03:04:06",
        "http_status_code": 200,
        "response_size_bytes": 9,
        "has_title": 1,
        "has_content": 1,
        "has_author": 0,
        "has_publish_date": 0,
        "content_length": 5,
        "title_length": 3,
        "author_count": 2,
        "content_quality_score": 0.5,
        "error_message": "m",
        "error_type": "T",
        "is_success": 1,
        "is_content_success": 1,
        "is_technical_failure": 0,
        "is_bot_protection": 0,
        "title_quality_issues": '["too_short"]',
        "content_quality_issues": "[]",
        "author_quality_issues": "[]",
        "publish_date_quality_issues": "[]",
        "overall_quality_score": 0.9,
        "title_has_issues": 1,
        "content_has_issues": 0,
        "author_has_issues": 0,
        "publish_date_has_issues": 0,
    } == row


def test_odd_values_make_a_right_row(store: TelemetryStore) -> None:
    """Ids of text survive, times are UTC whatever their zone, and now if they are none, nothing extracted is NULL, an
    outcome of somebody else's is stored as it is."""
    telemetry = ExtractionTelemetry(store=store)
    berlin = AT.astimezone(timezone(timedelta(hours=1)))
    telemetry.record_extraction_outcome(
        "op",
        "id-of-text",
        "http://x",
        result(
            "made up",
            start_time=berlin,
            end_time=AT.replace(tzinfo=None),
            extracted_content={},
            error_message="\ud800",
        ),
    )
    unknown: Any = None
    telemetry.record_extraction_outcome("op", 7, "http://x", result(start_time=unknown, end_time=unknown))
    row, other = stored(store)
    assert (datetime.now(UTC) - timedelta(minutes=5)).isoformat(" ") < other["start_time"] <= other["end_time"]
    assert ("id-of-text", "made up", None, "?") == (
        row["article_id"],
        row["outcome"],
        row["metadata"],
        row["error_message"],
    )
    assert "2026-01-02 03:04:05" == row["start_time"] == row["end_time"]


def test_figures_that_are_none(plain_store: Any, looked: Stored) -> None:
    """What is no number is NULL, or 0 where the column has no NULL; a number in text counts; an id of any kind is text,
    and finds its row of the crawler's table."""
    odd: Any = object()
    identity = uuid4()
    with plain_store.connection() as connection, connection:
        connection.execute("CREATE TABLE articles (id TEXT PRIMARY KEY, status TEXT, processed_at TIMESTAMP)")
        connection.execute("INSERT INTO articles (id) VALUES (?)", (str(identity),))
    unknown: Any = identity
    ExtractionTelemetry(store=plain_store).record_extraction_outcome(
        "op",
        unknown,
        "http://x",
        result(
            http_status_code="404",
            response_size_bytes=2**70,
            content_length=odd,
            title_length=float("nan"),
            author_count=[1],
            overall_quality_score=odd,
            extraction_time_ms=odd,
        ),
    )
    row = looked("SELECT * FROM extraction_outcomes")[0]
    assert (str(identity), 404, 0.0) == (row["article_id"], row["http_status_code"], row["extraction_time_ms"])
    assert {None} == {
        row[name]
        for name in (
            "response_size_bytes",
            "content_length",
            "title_length",
            "author_count",
            "overall_quality_score",
        )
    }
    assert [{"status": "extracted"}] == looked("SELECT status FROM articles")


def test_what_is_no_result(store: TelemetryStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported and left out."""
    ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "http://x", {"outcome": "timeout"})
    assert ["no ExtractionResult for http://x: dict"] == [record.getMessage() for record in caplog.records]
    assert [] == ExtractionTelemetry(store=store).get_extraction_stats()


def test_a_submit_that_fails_is_the_callers_to_know(store: TelemetryStore) -> None:
    """An exception of the store's `submit` is raised."""
    store.shutdown()
    with pytest.raises(StoreClosed):
        ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "http://x", result())


def test_statistics(store: TelemetryStore) -> None:
    """Per outcome, most frequent first: count, averages, and how many were of each kind."""
    telemetry = ExtractionTelemetry(store=store)
    full = {"has_title": True, "has_content": True}
    telemetry.record_extraction_outcome("one", 1, "u", result(**full))
    telemetry.record_extraction_outcome("one", 2, "u", result(extraction_time_ms=750))
    telemetry.record_extraction_outcome("two", 3, "u", result(ExtractionOutcome.RATE_LIMITED))
    telemetry.flush()
    first, second = telemetry.get_extraction_stats()
    assert {
        "outcome": "content_extracted",
        "count": 2,
        "avg_time_ms": 500.0,
        "avg_quality_score": 0.25,
        "success_count": 2,
        "content_success_count": 2,
        "technical_failure_count": 0,
        "bot_protection_count": 0,
    } == first
    assert ("rate_limited", 1, 1) == (second["outcome"], second["count"], second["bot_protection_count"])
    assert [second] == telemetry.get_extraction_stats("two")


def test_statistics_that_cannot_be_read(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unreadable database has no statistics, and a log says why."""
    database.write_text("this is no database, and it is longer than a header of one, which takes a hundred bytes. " * 9)
    with TelemetryStore(database, mode="sync") as store:
        assert [] == ExtractionTelemetry(store=store).get_extraction_stats()
    assert "extraction outcomes cannot be read" in caplog.text


ARTICLES = "CREATE TABLE IF NOT EXISTS articles (id TEXT PRIMARY KEY, status TEXT, processed_at TIMESTAMP)"


def test_the_crawlers_article(store: TelemetryStore) -> None:
    """Where the crawler has a table of articles, its row says how the article ended, and when."""
    store.executemany("INSERT INTO articles (id) VALUES (?)", [("a",), ("b",), ("c",)], ensure=[ARTICLES])
    store.flush()
    telemetry = ExtractionTelemetry(store=store)
    telemetry.record_extraction_outcome("op", "a", "u", result())
    telemetry.record_extraction_outcome("op", "b", "u", result(ExtractionOutcome.TIMEOUT))
    articles = stored(store, "SELECT id, status, processed_at IS NOT NULL AS processed FROM articles ORDER BY id")
    assert [("a", "extracted", 1), ("b", "error", 1), ("c", None, 0)] == [tuple(row.values()) for row in articles]


@pytest.mark.parametrize("articles", [None, "CREATE TABLE IF NOT EXISTS articles (id TEXT PRIMARY KEY, status TEXT)"])
def test_without_the_crawlers_article(store: TelemetryStore, articles: str | None, failures: Any) -> None:
    """Without that table, or without its column, the outcome is recorded all the same, and nothing fails."""
    if articles:
        store.execute("INSERT INTO articles (id) VALUES ('a')", ensure=[articles])
        store.flush()
    ExtractionTelemetry(store=store).record_extraction_outcome("op", "a", "u", result())
    assert 1 == len(stored(store))
    assert 0 == store.stats().failed
    assert [] == failures()


def test_articles_that_come_later(store: TelemetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that was not there is looked for again after a while, not at every outcome."""
    now = 1000.0
    monkeypatch.setattr(host, "monotonic", lambda: now)
    telemetry = ExtractionTelemetry(store=store)
    telemetry.record_extraction_outcome("op", "a", "u", result())
    store.execute("INSERT INTO articles (id) VALUES ('a')", ensure=[ARTICLES])
    store.flush()
    telemetry.record_extraction_outcome("op", "a", "u", result())
    assert [{"status": None}] == stored(store, "SELECT status FROM articles")
    now += host.LOOK_AGAIN_S
    telemetry.record_extraction_outcome("op", "a", "u", result())
    assert [{"status": "extracted"}] == stored(store, "SELECT status FROM articles")


def test_an_update_that_fails_costs_nothing(database: Path) -> None:
    """The crawler's table refuses the update: the outcome is there."""
    guarded = "CREATE TABLE articles (id TEXT PRIMARY KEY, status TEXT CHECK (status = 'new'), processed_at TIMESTAMP)"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(guarded)
        connection.execute("INSERT INTO articles VALUES ('a', 'new', NULL)")
        connection.commit()
    with TelemetryStore(database, mode="sync") as store:
        ExtractionTelemetry(store=store).record_extraction_outcome("op", "a", "u", result())
        assert 1 == len(stored(store))
        with pytest.raises(JobFailed):
            store.execute("UPDATE articles SET status = 'error'")


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """`db_path` is a synchronous store in folders that are made."""
    path = tmp_path / "new" / "x.db"
    ExtractionTelemetry(path).record_extraction_outcome("op", 1, "u", result())
    with closing(sqlite3.connect(path)) as connection:
        assert (1,) == connection.execute("SELECT count(*) FROM extraction_outcomes").fetchone()


def test_nothing_is_opened_before_the_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one touches no database."""
    monkeypatch.chdir(tmp_path)
    ExtractionTelemetry()
    assert [] == list(tmp_path.iterdir())


def test_an_old_database(store: TelemetryStore, database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database of the old producers keeps its rows, gets the columns that it lacks, and is read and written on."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(OLD_TABLE)
        connection.execute(
            """INSERT INTO extraction_outcomes (operation_id, article_id, url, outcome, start_time, end_time)
               VALUES ('old', 3, 'u', 'timeout', '2024-01-02T03:04:05.6', '2024-01-02T03:04:06')"""
        )
        connection.commit()
    telemetry = ExtractionTelemetry(store=store)
    assert ["timeout"] == [each["outcome"] for each in telemetry.get_extraction_stats("old")]
    caplog.set_level(logging.WARNING)
    telemetry.record_extraction_outcome("new", 4, "u", result())
    old, new = stored(store)
    assert (1, "old", None) == (old["id"], old["operation_id"], old["title_has_issues"])
    assert (2, "new", 0) == (new["id"], new["operation_id"], new["title_has_issues"])
    assert [] == [record.getMessage() for record in caplog.records]
