"""Failures of sites: their types, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from producers.operations import FailureType, OperationTracker, OperationType, SiteFailure


@pytest.fixture
def tracker(refusing_store: Any) -> OperationTracker:
    """A tracker that knows the operation `a`. Failures of sites need no store."""
    tracker = OperationTracker(refusing_store)
    tracker.start_operation("a", OperationType.CRAWL_DISCOVERY)
    return tracker


@pytest.mark.parametrize(
    ("expected", "message", "status"),
    [
        ("network_error", "Connection timeout", None),
        ("network_error", "could not RESOLVE host", 500),
        ("ssl_error", "bad handshake", None),
        ("ssl_error", "certificate timed out", None),
        ("timeout", "Read timed out", 404),
        ("cloudflare_protection", "Checking your browser", 403),
        ("cloudflare_protection", "503 Service Temporarily Unavailable", 503),
        ("rate_limited", "Too Many Requests", None),
        ("rate_limited", "no", 429),
        ("authentication_error", "403", None),
        ("authentication_error", "no", 401),
        ("authentication_error", "no", "403"),
        ("http_error", "invalid", 404),
        ("http_error", "no", 599),
        ("unknown", "no", 600),
        ("unknown", "no", 399),
        ("parsing_error", "malformed XML", None),
        ("rss_error", "invalid rss", None),
        ("rss_error", "bad feed", None),
        ("unknown", "rss", None),
        ("content_error", "no articles", None),
        ("unknown", "", None),
        ("unknown", None, None),
    ],
)
def test_types(tracker: OperationTracker, expected: str, message: Any, status: Any) -> None:
    """The first rule that a message's words or the status meet decides, in the documented order."""
    assert FailureType(expected) is tracker.categorize_failure_type(message, status)


def test_a_failure_is_kept_whole(tracker: OperationTracker) -> None:
    """Error, place and circumstances are kept; the operation's metrics count it; the list that is given is a copy."""
    tracker.record_site_failure("a", "http://a/", ValueError("bad feed"), "A", "rss_feed", None, 12.5, 2)
    (failure,) = tracker.get_site_failures("a")
    assert (
        SiteFailure(
            "http://a/",
            "A",
            FailureType.RSS_ERROR,
            "bad feed",
            failure.failure_time,
            2,
            None,
            12.5,
            "rss_feed",
            {"exception_type": "ValueError", "exception_module": "builtins", "traceback": "bad feed"},
        )
        == failure
    )
    tracker.get_site_failures("a").clear()
    metrics = (tracker.get_operation_status("a") or {})["metrics"]
    assert (1, 1, [failure]) == (metrics.failed_sites, metrics.failed_items, metrics.site_failures)


def test_an_unknown_operation_has_no_failures(tracker: OperationTracker, caplog: pytest.LogCaptureFixture) -> None:
    """A failure of an operation that nobody started is logged, and nothing else."""
    tracker.record_site_failure("b", "http://b/", "timeout")
    assert [] == tracker.get_site_failures("b")
    assert "timeout of http://b/ (unknown operation b): timeout" in caplog.messages
    assert tracker.get_operation_status("b") is None


def test_what_cannot_be_an_id_names_no_operation(tracker: OperationTracker) -> None:
    """A list instead of an id is answered like an unknown operation, by whatever looks."""
    odd: Any = ["a"]
    assert tracker.get_operation_status(odd) is None
    assert [] == tracker.get_site_failures(odd)
    assert [] == tracker.identify_common_failures(odd)
    assert 0 == tracker.get_failure_summary(odd)["total_failures"]
    assert "\n" not in tracker.generate_failure_report(odd)


def test_summary(tracker: OperationTracker) -> None:
    """Counts by type, sites in order, retries; the same keys when nothing has failed."""
    assert (
        {
            "total_failures": 0,
            "failure_types": {},
            "failed_sites": [],
            "total_retries": 0,
            "average_retries": 0,
            "most_common_failure": None,
        }
        == tracker.get_failure_summary("a")
        == tracker.get_failure_summary("b")
    )
    for site, error, retries in (("1", "timeout", 1), ("2", "ssl", 0), ("1", "timeout", 3)):
        tracker.record_site_failure("a", site, error, retry_count=retries)
    assert {
        "total_failures": 3,
        "failure_types": {"timeout": 2, "ssl_error": 1},
        "failed_sites": ["1", "2", "1"],
        "total_retries": 4,
        "average_retries": 4 / 3,
        "most_common_failure": "timeout",
    } == tracker.get_failure_summary("a")


def test_common_failures(tracker: OperationTracker) -> None:
    """One group for a type and the first hundred characters of the message; the response time is the average of those
    that are known, statuses are named once; the largest group first."""
    tracker.record_site_failure("a", "0", "ssl")
    for site, status, time in (("1", 500, 10.0), ("2", 502, None), ("3", 500, 30.0)):
        tracker.record_site_failure("a", site, "x" * 100 + site, http_status=status, response_time_ms=time)
    assert [
        {
            "failure_type": "http_error",
            "error_pattern": "x" * 100,
            "count": 3,
            "sites": ["1", "2", "3"],
            "avg_response_time": 20.0,
            "http_statuses": [500, 502],
        },
        {
            "failure_type": "ssl_error",
            "error_pattern": "ssl",
            "count": 1,
            "sites": ["0"],
            "avg_response_time": 0,
            "http_statuses": [],
        },
    ] == tracker.identify_common_failures("a")


def test_report(tracker: OperationTracker) -> None:
    """Totals, types with their share, the five largest patterns; one sentence when nothing has failed."""
    assert "No site failures recorded for operation a." == tracker.generate_failure_report("a")
    for number in range(2):
        tracker.record_site_failure("a", f"http://{number}/", "no", http_status=500, response_time_ms=10.4)
    for number in range(5):
        tracker.record_site_failure("a", "http://t/", f"timeout {number}", retry_count=1)
    lines = tracker.generate_failure_report("a").splitlines()
    assert [
        "Site failure report for operation a",
        "",
        "Total failures: 7",
        "Most common failure type: timeout",
        "Total retries: 5",
        "Average retries per failure: 0.7",
        "",
        "Failure types:",
        "  timeout: 5 (71.4%)",
        "  http_error: 2 (28.6%)",
        "",
        "Common failure patterns:",
        "  1. http_error (2 sites)",
        "     Pattern: no",
        "     Average response time: 10 ms",
        "     HTTP statuses: 500",
        "  2. timeout (1 sites)",
        "     Pattern: timeout 0",
    ] == lines[:18]
    assert ["  5. timeout (1 sites)", "     Pattern: timeout 3"] == lines[-2:]
