"""Outcomes of discovery, and the report over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from producers.operations import DiscoveryOutcome, DiscoveryResult, OperationTracker
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def tracker(store: TelemetryStore) -> OperationTracker:
    return OperationTracker(store)


@pytest.mark.parametrize(
    ("outcome", "new", "flags"),
    [
        (DiscoveryOutcome.NEW_ARTICLES_FOUND, 1, (True, True, False)),
        (DiscoveryOutcome.NEW_ARTICLES_FOUND, 0, (True, False, False)),
        (DiscoveryOutcome.MIXED_RESULTS, 2, (True, True, False)),
        (DiscoveryOutcome.DUPLICATES_ONLY, 1, (True, False, False)),
        (DiscoveryOutcome.EXPIRED_ONLY, 1, (True, False, False)),
        (DiscoveryOutcome.NO_ARTICLES_FOUND, 1, (False, False, False)),
        (DiscoveryOutcome.RSS_MISSING, 1, (False, False, False)),
        (DiscoveryOutcome.CONTENT_BLOCKED, 1, (False, False, False)),
        *(
            (outcome, 1, (False, False, True))
            for outcome in (
                DiscoveryOutcome.HTTP_ERROR,
                DiscoveryOutcome.TIMEOUT,
                DiscoveryOutcome.CONNECTION_ERROR,
                DiscoveryOutcome.PARSING_ERROR,
                DiscoveryOutcome.CLOUDFLARE_BLOCKED,
                DiscoveryOutcome.DATABASE_ERROR,
                DiscoveryOutcome.UNKNOWN_ERROR,
            )
        ),
    ],
)
def test_what_counts_as_what(outcome: DiscoveryOutcome, new: int, flags: tuple[bool, bool, bool]) -> None:
    """Success, success with content, technical failure; each outcome's name is its value in capitals."""
    result = DiscoveryResult(outcome, articles_new=new)
    assert flags == (result.is_success, result.is_content_success, result.is_technical_failure)
    assert outcome.name == outcome.value.upper()


def test_a_result_as_a_dictionary() -> None:
    """Everything by name; the metadata lies on top, and is empty when there is none."""
    result = DiscoveryResult(DiscoveryOutcome.TIMEOUT, 4, 1, 2, 1, "late", 504, "rss_feed", None)  # type: ignore[arg-type]
    assert {} == result.metadata
    expected = {
        "outcome": "timeout",
        "articles_found": 4,
        "articles_new": 1,
        "articles_duplicate": 2,
        "articles_expired": 1,
        "error_details": "late",
        "http_status": 504,
        "method_used": "rss_feed",
        "is_success": False,
        "is_content_success": False,
        "is_technical_failure": True,
    }
    assert expected == result.to_dict()
    result.metadata = {"http_status": 0, "more": 1}
    assert {**expected, "http_status": 0, "more": 1} == result.to_dict()


def test_an_outcome_is_a_row(tracker: OperationTracker, stored: Stored) -> None:
    """Result and metadata of a source are kept, whether or not there are tables of a crawler in the database; what is
    none is not recorded."""
    metadata = {
        "methods_attempted": ["rss_feed", "newspaper4k"],
        "discovery_time_ms": 12.5,
        "odd": {
            1,
        },
    }
    result = DiscoveryResult(DiscoveryOutcome.MIXED_RESULTS, 4, 1, 2, 1, None, 200, "rss_feed", metadata)
    tracker.record_discovery_outcome("op", "s1", "Source", "http://s/", result)
    tracker.record_discovery_outcome("op", "s1", "Source", "http://s/", {"outcome": "timeout"})
    tracker.record_discovery_outcome(None, None, None, None, DiscoveryResult(None))  # type: ignore[arg-type]
    row, empty = stored("SELECT * FROM discovery_outcomes ORDER BY id")
    assert 19 == len(row.pop("timestamp"))
    assert {
        "id": 1,
        "operation_id": "op",
        "source_id": "s1",
        "source_name": "Source",
        "source_url": "http://s/",
        "outcome": "mixed_results",
        "articles_found": 4,
        "articles_new": 1,
        "articles_duplicate": 2,
        "articles_expired": 1,
        "methods_attempted": "rss_feed,newspaper4k",
        "method_used": "rss_feed",
        "error_details": None,
        "http_status": 200,
        "discovery_time_ms": 12.5,
        "is_success": 1,
        "is_content_success": 1,
        "is_technical_failure": 0,
        "metadata": '{"methods_attempted": ["rss_feed", "newspaper4k"], "discovery_time_ms": 12.5, "odd": [1]}',
    } == row
    assert ("", "", "", 0, 0.0, "{}") == tuple(
        empty[name]
        for name in ("operation_id", "outcome", "methods_attempted", "articles_found", "discovery_time_ms", "metadata")
    )
    assert 0 == tracker.failures


@pytest.mark.parametrize("mode", ["sync"])
def test_odd_results(tracker: OperationTracker, stored: Stored) -> None:
    """Figures that are none count as 0, outcomes that are none as they stand, and nobody is disturbed."""
    make: Any = DiscoveryResult
    odd = make(
        "unheard_of",
        None,
        "3",
        float("nan"),
        2.0,
        ValueError("x"),
        "404",
        7,
        {"methods_attempted": "rss_feed", "discovery_time_ms": "slow"},
    )
    tracker.record_discovery_outcome("op", "s", "n", "u", odd)
    odd.metadata = ["a", "list"]
    tracker.record_discovery_outcome("op", "s", "n", "u", odd)
    assert 0 == tracker.failures
    names = "outcome, articles_found, articles_new, articles_duplicate, error_details, http_status, methods_attempted"
    first, second = (
        tuple(row.values()) for row in stored(f"SELECT {names}, metadata FROM discovery_outcomes ORDER BY id")
    )
    assert ("unheard_of", 0, 3, 0, "x", 404, "rss_feed") == first[:-1]
    assert '["a", "list"]' == second[-1]


def test_report(tracker: OperationTracker, store: TelemetryStore) -> None:
    """Sums, shares in percent to two decimals, outcomes by number, sources by their rate and new articles; of one
    operation, or of the last hours."""
    found, timeout = DiscoveryOutcome.NEW_ARTICLES_FOUND, DiscoveryOutcome.TIMEOUT
    results = [
        ("A", DiscoveryResult(found, 5, 3, 1, 1, metadata={"discovery_time_ms": 10})),
        ("A", DiscoveryResult(timeout, metadata={"discovery_time_ms": 20})),
        ("B", DiscoveryResult(found, 2, 2)),
    ]
    for name, result in results:
        tracker.record_discovery_outcome("op", "same", name, "u", result)
    tracker.record_discovery_outcome("other", "same", "C", "u", DiscoveryResult(found, 1, 1))
    store.execute("UPDATE discovery_outcomes SET timestamp = '2020-01-02 03:04:05' WHERE operation_id = 'op'")
    store.flush()
    assert {
        "summary": {
            "total_sources": 3,
            "technical_success_count": 2,
            "content_success_count": 2,
            "technical_failure_count": 1,
            "total_articles_found": 7,
            "total_new_articles": 5,
            "total_duplicate_articles": 1,
            "total_expired_articles": 1,
            "avg_discovery_time_ms": 10.0,
            "technical_success_rate": 66.67,
            "content_success_rate": 66.67,
        },
        "outcome_breakdown": [
            {"outcome": "new_articles_found", "count": 2, "percentage": 66.67},
            {"outcome": "timeout", "count": 1, "percentage": 33.33},
        ],
        "top_performing_sources": [
            {
                "source_name": "B",
                "attempts": 1,
                "content_successes": 1,
                "total_new_articles": 2,
                "content_success_rate": 100.0,
            },
            {
                "source_name": "A",
                "attempts": 2,
                "content_successes": 1,
                "total_new_articles": 3,
                "content_success_rate": 50.0,
            },
        ],
    } == tracker.get_discovery_outcomes_report("op")
    lately = tracker.get_discovery_outcomes_report(hours_back=1)
    assert ["C"] == [source["source_name"] for source in lately["top_performing_sources"]]
    assert 4 == tracker.get_discovery_outcomes_report(hours_back=24 * 365 * 20)["summary"]["total_sources"]


@pytest.mark.parametrize("mode", ["sync"])
def test_the_best_sources(tracker: OperationTracker) -> None:
    """At most ten sources, the highest rate first, among equals the most new articles."""
    for number in range(12):
        outcome = DiscoveryOutcome.NEW_ARTICLES_FOUND if number else DiscoveryOutcome.TIMEOUT
        tracker.record_discovery_outcome("op", "s", f"{number:02}", "u", DiscoveryResult(outcome, 99, number))
    best = tracker.get_discovery_outcomes_report("op")["top_performing_sources"]
    assert [f"{number:02}" for number in range(11, 1, -1)] == [source["source_name"] for source in best]


@pytest.mark.parametrize("mode", ["sync"])
def test_report_of_nothing(tracker: OperationTracker) -> None:
    """Without rows, and before there is a table, all figures are 0."""
    for _ in range(2):
        report = tracker.get_discovery_outcomes_report("op")
        assert {0} == set(report["summary"].values())
        assert 11 == len(report["summary"])
        assert ([], []) == (report["outcome_breakdown"], report["top_performing_sources"])
        tracker.record_discovery_outcome("other", "s", "n", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))


def test_report_that_cannot_be_read(refusing_store: Any) -> None:
    """An error of the store is the report."""
    assert {"error": "refused"} == OperationTracker(refusing_store).get_discovery_outcomes_report()
