"""What is read back of the extractions."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from producers.extraction.schema import ROLLUP_TABLES
from producers.values import utc_now
from telemetry_bus import TelemetryStore

NOW = utc_now()


@pytest.fixture
def telemetry(store: TelemetryStore) -> ComprehensiveExtractionTelemetry:
    return ComprehensiveExtractionTelemetry(store=store)


def record(
    telemetry: ComprehensiveExtractionTelemetry, url: str = "https://h/a", publisher: Any = "P", **values: Any
) -> None:
    """Record an extraction with these values for its attributes; `status` for its HTTP status."""
    metrics = ExtractionMetrics("o", "a", url, publisher)
    if status := values.pop("status", None):
        metrics.set_http_metrics(status, 0, 0)
    for name, value in values.items():
        assert hasattr(metrics, name)
        setattr(metrics, name, value)
    telemetry.record_extraction(metrics)


def count_rows_again(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """Make the rows such that are in no rollup."""
    for table in ROLLUP_TABLES:
        telemetry.store.submit(lambda connection, name=table.name: connection.execute(f"DELETE FROM {name}"))
    telemetry.store.submit(
        lambda connection: connection.execute("UPDATE extraction_telemetry_v2 SET rollup_hour = NULL")
    )


def test_nothing_is_there_yet(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """Without tables there is nothing to read, and nothing is made."""
    reads: list[Callable[[], object]] = [
        telemetry.get_error_summary, telemetry.get_method_effectiveness, telemetry.get_publisher_stats,
        telemetry.get_field_extraction_stats, telemetry.get_content_type_detections,
    ]  # fmt: skip
    assert [[]] * 5 == [read() for read in reads]
    with telemetry.store.connection() as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    assert [] == [name for name in tables if not name.startswith("telemetry_bus_")]


def test_error_summary(telemetry: ComprehensiveExtractionTelemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors last seen in the last days, the most frequent first, of equals the latest."""
    seen = [("a", 404, 1, 2), ("b", 503, 3, 3), ("c", 301, 1, 1), ("d", 500, 9, 8)]
    for host, status, times, days in seen:
        moment = NOW - timedelta(days=days) + timedelta(hours=1)
        monkeypatch.setattr("producers.extraction.rows.utc_now", lambda moment=moment: moment)
        for _ in range(times):
            record(telemetry, f"https://{host}/", status=status)
    telemetry.flush()
    summary = telemetry.get_error_summary()
    assert ["b", "c", "a"] == [error["host"] for error in summary]
    last_seen = (NOW - timedelta(days=3) + timedelta(hours=1)).replace(tzinfo=None).isoformat(" ")
    assert {
        "host": "b", "status_code": 503, "error_type": "5xx_server_error", "count": 3, "last_seen": last_seen,
    } == summary[0]  # fmt: skip
    assert ["c"] == [error["host"] for error in telemetry.get_error_summary(1)]
    assert ["d", "b", "c", "a"] == [error["host"] for error in telemetry.get_error_summary(days=10**9)]


def test_method_effectiveness(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """Per method over all rows, or a publisher's: how often, how long, how often with success."""
    record(telemetry, method_timings={"a": 10.0, "b": 30.0}, method_success={"a": False, "b": True})
    record(telemetry, method_timings={"a": 20.0}, method_success={"a": True})
    record(telemetry, publisher="Q", method_timings={"a": 60, "c": "long"}, method_success={"a": False})
    telemetry.flush()
    assert [
        {"method_type": "a", "successful_method": "a", "count": 3, "avg_duration": 30.0, "success_rate": 1 / 3},
        {"method_type": "b", "successful_method": "b", "count": 1, "avg_duration": 30.0, "success_rate": 1.0},
        {"method_type": "c", "successful_method": "c", "count": 1, "avg_duration": 0.0, "success_rate": 0.0},
    ] == telemetry.get_method_effectiveness()
    ours = telemetry.get_method_effectiveness(publisher="Q")
    assert [("a", 1, 60.0), ("c", 1, 0.0)] == [(m["method_type"], m["count"], m["avg_duration"]) for m in ours]
    assert [] == telemetry.get_method_effectiveness("R")


def test_a_method_without_end_has_no_duration(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """A method that was started and never ended is listed as tried, and in no average."""
    metrics = ExtractionMetrics("o", "a", "u", "P")
    metrics.start_method("a")
    metrics.end_method("a", True)
    metrics.start_method("b")
    telemetry.record_extraction(metrics)
    telemetry.flush()
    assert ["a"] == [method["method_type"] for method in telemetry.get_method_effectiveness()]
    assert ["a", "b"] == [method["method"] for method in telemetry.get_field_extraction_stats()]


def test_publisher_stats(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """One entry per publisher and host, the busiest first; the method that succeeded most often there, the first by
    name of equals."""
    for method in ("slow", "fast", "slow", None):
        record(telemetry, successful_method=method, is_success=method is not None, total_duration_ms=100.0)
    record(telemetry, total_duration_ms=50.0)
    for method in ("b", "a"):
        record(telemetry, "https://other/", successful_method=method)
    record(telemetry, "", None, total_duration_ms=None)
    telemetry.flush()
    keys = ("publisher", "host", "total_attempts", "successful", "avg_duration_ms", "most_common_method",
            "p95_duration_ms")  # fmt: skip
    rows = [
        ("P", "h", 5, 3, 90.0, "slow", 2**6.625),
        ("P", "other", 2, 2, 0.0, "a", 1.0),
        (None, "", 1, 0, *[None] * 3),
    ]
    assert [dict(zip(keys, row, strict=True)) for row in rows] == telemetry.get_publisher_stats()


def test_field_extraction_stats(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """Per method that was tried: how often it found each field; without field data it found none."""
    all_found = dict.fromkeys(("title", "author", "content", "publish_date"), True)
    record(telemetry, methods_attempted=["a", "b"], field_extraction={"a": {"title": True}, "b": all_found})
    record(telemetry, methods_attempted=["a", "a"], field_extraction={"a": {"title": True, "publish_date": 1}})
    record(telemetry, publisher="Q", methods_attempted=["a"], field_extraction={"a": "none"})
    record(telemetry, publisher="Q", methods_attempted=["b"])
    telemetry.flush()
    keys = ("method", "count", "title_success_rate", "author_success_rate", "content_success_rate",
            "date_success_rate")  # fmt: skip
    a, b = ("a", 3, 2 / 3, 0.0, 0.0, 1 / 3), ("b", 2, 0.5, 0.5, 0.5, 0.5)
    assert [dict(zip(keys, row, strict=True)) for row in (a, b)] == telemetry.get_field_extraction_stats()
    assert [dict(zip(keys, b, strict=True))] == telemetry.get_field_extraction_stats(method="b")
    assert [("b", 1, 1.0)] == [
        (found["method"], found["count"], found["author_success_rate"])
        for found in telemetry.get_field_extraction_stats("P", "b")
    ]


def test_rows_that_cannot_be_read_are_left_out(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """Broken JSON, or JSON of another shape, in one row takes nothing from the others; null is as nothing."""
    good: dict[str, Any] = {"methods_attempted": ["m"], "method_timings": {"m": 4.0}, "method_success": {"m": True}}
    for _ in range(5):
        record(telemetry, **good)
    columns = "methods_attempted = ?, field_extraction = ?, method_timings = ?, method_success = ?"
    broken = [('["m"', "{}", '{"m": 1', "{}"), ('["m"]', "{", '{"m": 1}', "text"), ("{}", "[]", "[1]", "17"),
              ('["m"]', None, '{"m": 1.0}', None)]  # fmt: skip
    for key, values in enumerate(broken, 1):
        telemetry.store.execute(  # type: ignore[attr-defined]
            f"UPDATE extraction_telemetry_v2 SET {columns} WHERE id = ?", (*values, key)
        )
    count_rows_again(telemetry)
    telemetry.flush()
    (method,), (fields,) = telemetry.get_method_effectiveness(), telemetry.get_field_extraction_stats()
    assert (2, 2.5, 0.5) == (method["count"], method["avg_duration"], method["success_rate"])
    assert 2 == fields["count"]


def test_content_type_detections(telemetry: ComprehensiveExtractionTelemetry) -> None:
    """The newest first by their own moment, else by that of their row; limited by number, status and age."""
    moments = {"old": datetime(2024, 1, 1, tzinfo=UTC), "future": NOW + timedelta(days=1), "now": None}
    for status, moment in moments.items():
        record(telemetry, content_type_detection={"status": status, "detected_at": moment, "evidence": [status]})
    telemetry.flush()
    found = telemetry.get_content_type_detections()
    assert ["future", "now", "old"] == [detection["status"] for detection in found]
    assert [["future"], ["now"], ["old"]] == [detection["evidence"] for detection in found]
    expected = (
        "article_id operation_id url publisher host status confidence confidence_score reason evidence version "
        "detected_at created_at"
    )
    assert expected.split() == list(found[0])
    assert ("2024-01-01 00:00:00", None) == (found[2]["detected_at"], found[1]["detected_at"])

    def statuses(**options: Any) -> list[str]:
        return [detection["status"] for detection in telemetry.get_content_type_detections(**options)]

    assert ["future", "now"] == statuses(limit=2)
    assert ["future", "old"] == statuses(statuses=["old", "future", "unknown"])
    assert ["old"] == statuses(statuses="old")
    telemetry.store.execute(  # type: ignore[attr-defined]
        "UPDATE content_type_detection_telemetry SET created_at = '2024-01-01', evidence = '{' WHERE status <> 'now'"
    )
    telemetry.flush()
    assert ["now"] == statuses(days=30)
    assert ["{", ["now"], "{"] == [detection["evidence"] for detection in telemetry.get_content_type_detections()]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync"])
def test_memory_does_not_grow_with_the_table(
    telemetry: ComprehensiveExtractionTelemetry, store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read some at a time: of four times as many no more are in memory at once."""
    monkeypatch.setattr("producers.destination.CHUNK_ROWS", 200)
    record(telemetry)

    def add(first: int, last: int) -> None:
        sql = """INSERT INTO extraction_telemetry_v2 (operation_id, article_id, url, start_time, methods_attempted,
            method_timings, method_success, field_extraction) VALUES ('o', 'a', 'u', '2026-01-01', '["m"]', ?, ?, ?)"""
        numbers = range(first, last)
        store.executemany(sql, [(f'{{"m": {n}}}', f'{{"x": {n}}}', f'{{"m": {{"title": {n}}}}}') for n in numbers])

    def peak(read: Callable[[], list[dict[str, Any]]], rows: int) -> int:
        tracemalloc.start()
        try:
            assert [rows] == [row["count"] for row in read()]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    reads = (telemetry.get_method_effectiveness, telemetry.get_field_extraction_stats)
    add(0, 5000)
    few = [max(peak(read, 5000), peak(read, 5000)) for read in reads]  # what is remembered is full after the first
    add(5000, 20_000)
    many = [peak(read, 20_000) for read in reads]
    assert [] == [(before, after) for before, after in zip(few, many, strict=True) if after > 1.5 * before]
