"""HTTP statuses, and how well the methods of discovery work."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from producers.operations import DiscoveryMethod, DiscoveryMethodStatus, HTTPStatusCategory, OperationTracker
from producers.operations.effectiveness import category_of
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]

S, F, K = DiscoveryMethodStatus.SUCCESS, DiscoveryMethodStatus.TIMEOUT, DiscoveryMethodStatus.SKIPPED


@pytest.fixture
def tracker(store: TelemetryStore) -> OperationTracker:
    return OperationTracker(store)


def attempt(
    tracker: OperationTracker,
    status: Any,
    *,
    source: str = "s",
    method: Any = DiscoveryMethod.RSS_FEED,
    articles: Any = 1,
    time: Any = 10.0,
    codes: Any = (200,),
    notes: Any = None,
    url: str = "http://s/",
) -> None:
    tracker.update_discovery_method_effectiveness(source, url, method, status, articles, time, codes, notes)


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (200, "2xx"),
        (299, "2xx"),
        (300, "3xx"),
        (399, "3xx"),
        (404, "4xx"),
        (500, "5xx"),
        (599, "5xx"),
        (600, "4xx"),
        (100, "4xx"),
        (0, "4xx"),
        (-1, "4xx"),
    ],
)
def test_categories(code: int, category: str) -> None:
    """By the hundreds; whatever is none of them counts as 4xx."""
    assert HTTPStatusCategory(category) is category_of(code)


def test_a_request_is_a_row(tracker: OperationTracker, stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is kept with its category; from 400 on it is logged. What is missing is empty or 0."""
    tracker.track_http_status("op", "s", "http://s/", DiscoveryMethod.RSS_FEED, "http://s/feed", 200, 12.5)
    tracker.track_http_status("op", "s", "http://s/", "odd", "http://s/x", 503, 1, OSError("no"), 77)  # type: ignore[arg-type]
    tracker.track_http_status(None, None, None, None, None, None, None)  # type: ignore[arg-type]
    first, second, third = stored("SELECT * FROM http_status_tracking ORDER BY id")
    assert 19 == len(first.pop("timestamp"))
    assert {
        "id": 1,
        "source_id": "s",
        "source_url": "http://s/",
        "discovery_method": "rss_feed",
        "attempted_url": "http://s/feed",
        "status_code": 200,
        "status_category": "2xx",
        "response_time_ms": 12.5,
        "operation_id": "op",
        "error_message": None,
        "content_length": None,
    } == first
    assert ("odd", "5xx", "no", 77) == tuple(
        second[name] for name in ("discovery_method", "status_category", "error_message", "content_length")
    )
    assert ("", 0, "4xx", 0.0) == tuple(
        third[name] for name in ("discovery_method", "status_code", "status_category", "response_time_ms")
    )
    assert ["HTTP status 503 from http://s/x"] == caplog.messages
    assert 0 == tracker.failures


@pytest.mark.parametrize("mode", ["sync"])
@pytest.mark.parametrize(
    ("statuses", "rates"),
    [
        ([S, S, S], [100, 100, 100]),
        ([F, F], [0, 0]),
        ([S, S, F, F], [100, 100, 200 / 3, 50]),
        ([S, F, S, S], [100, 50, 200 / 3, 75]),
        ([S, K, F], [100, 100, 200 / 3]),
        ([K, S], [0, 50]),
        (["success", "unheard of"], [100, 50]),
    ],
    ids=str,
)
def test_the_rate_is_the_share_of_successes(
    tracker: OperationTracker, stored: Stored, statuses: list[Any], rates: list[float]
) -> None:
    """Successes among all attempts, in percent; an attempt that was skipped counts and leaves the rate alone."""
    for number, (status, rate) in enumerate(zip(statuses, rates, strict=True), 1):
        attempt(tracker, status)
        ((found, count),) = (
            row.values() for row in stored("SELECT success_rate, attempt_count FROM discovery_method_effectiveness")
        )
        assert number == count
        assert rate == found or pytest.approx(rate) == found


def test_attempts_add_up(tracker: OperationTracker, stored: Stored) -> None:
    """One row per source and method: attempts counted, times averaged, the most articles, the last ten codes in their
    order, the latest status, notes kept until there are others, the first URL."""
    attempt(tracker, S, articles=5, time=10, codes=[200, 301, 200], notes="first")
    attempt(tracker, F, articles=2, time=40, codes=range(400, 406), url="http://other/")
    attempt(tracker, S, articles=0, time=10, codes=[500, 501], notes="")
    attempt(tracker, S, method=DiscoveryMethod.NEWSPAPER4K, codes=range(100, 120), notes="of another")
    row, other = stored("SELECT * FROM discovery_method_effectiveness ORDER BY id")
    times = [row.pop(name) for name in ("last_attempt", "created_at", "updated_at")]
    assert [19] * 3 == [len(each) for each in times]
    assert [301, 200, *range(400, 406), 500, 501] == json.loads(row.pop("last_status_codes"))
    assert {
        "id": 1,
        "source_id": "s",
        "source_url": "http://s/",
        "discovery_method": "rss_feed",
        "status": "success",
        "articles_found": 5,
        "success_rate": 100 / 3,
        "attempt_count": 3,
        "avg_response_time_ms": 20.0,
        "notes": "first",
        "success_count": 1,
    } == row
    assert ("newspaper4k", list(range(110, 120)), "of another") == (
        other["discovery_method"],
        json.loads(other["last_status_codes"]),
        other["notes"],
    )
    attempt(tracker, S, notes="second")
    first, _ = stored("SELECT notes, created_at FROM discovery_method_effectiveness ORDER BY id")
    assert ("second", times[1]) == (first["notes"], first["created_at"])


@pytest.mark.parametrize("mode", ["sync"])
def test_an_update_has_its_time(tracker: OperationTracker, store: TelemetryStore, stored: Stored) -> None:
    """`updated_at` and `last_attempt` move with each attempt, `created_at` does not."""
    attempt(tracker, S)
    old = "2020-01-01 00:00:00"
    store.execute(
        "UPDATE discovery_method_effectiveness SET updated_at = ?, last_attempt = ?, created_at = ?", (old, old, old)
    )
    attempt(tracker, S)
    (row,) = stored("SELECT updated_at, last_attempt, created_at FROM discovery_method_effectiveness")
    assert old == row["created_at"]
    assert old < row["updated_at"] == row["last_attempt"]


@pytest.mark.parametrize("mode", ["sync"])
@pytest.mark.parametrize("broken", ["{oops", '{"a": 1}', "7", "null", "", None, "[1,"])
def test_codes_that_are_no_list(
    tracker: OperationTracker, store: TelemetryStore, stored: Stored, broken: str | None
) -> None:
    """What is stored and is no JSON list counts as an empty one; nothing is lost of the attempt."""
    attempt(tracker, S, codes=[200])
    store.execute("UPDATE discovery_method_effectiveness SET last_status_codes = ?", (broken,))
    attempt(tracker, S, codes=[404, None, "x"])
    (row,) = stored("SELECT last_status_codes, attempt_count FROM discovery_method_effectiveness")
    assert ([404, None, "x"], 2) == (json.loads(row["last_status_codes"]), row["attempt_count"])


@pytest.mark.parametrize("mode", ["sync"])
def test_odd_attempts(tracker: OperationTracker, stored: Stored) -> None:
    """Nothing where something is expected counts as empty or 0; the list may be None."""
    tracker.update_discovery_method_effectiveness(None, None, None, None, None, None, None)  # type: ignore[arg-type]
    attempt(tracker, S, articles="3", time=float("inf"), codes=[float("nan")], notes=7)
    assert 0 == tracker.failures
    first, second = stored("SELECT * FROM discovery_method_effectiveness ORDER BY id")
    assert ("", "", 0, 0.0, "[]") == tuple(
        first[name] for name in ("discovery_method", "status", "articles_found", "success_rate", "last_status_codes")
    )
    assert (3, 0.0, "[null]", "7", 100.0) == tuple(
        second[name]
        for name in ("articles_found", "avg_response_time_ms", "last_status_codes", "notes", "success_rate")
    )


def test_effective_methods(tracker: OperationTracker, store: TelemetryStore) -> None:
    """More than half of at least two attempts, with articles: the highest rate first, then the most articles; names
    that are no methods are left out. A source has a history once anything was tried."""
    rss, newspaper, sniffer = DiscoveryMethod
    assert ([], False) == (tracker.get_effective_discovery_methods("s"), tracker.has_historical_data("s"))
    for method, statuses, articles in (
        (rss, [S, S, F], 9),
        (newspaper, [S, S], 2),
        (sniffer, [S, S], 3),
        ("another", [S, S], 3),
    ):
        for status in statuses:
            attempt(tracker, status, method=method, articles=articles)
    attempt(tracker, S, source="once")
    for status in (S, F):
        attempt(tracker, status, source="half")
    store.flush()
    assert [sniffer, newspaper, rss] == tracker.get_effective_discovery_methods("s")
    assert [[], [], []] == [tracker.get_effective_discovery_methods(each) for each in ("once", "half", "unknown")]
    assert [True, True, False] == [tracker.has_historical_data(each) for each in ("s", "once", "unknown")]


def test_methods_that_cannot_be_read(refusing_store: Any) -> None:
    """All methods are worth trying then, in their order; nothing is known of the past."""
    tracker = OperationTracker(refusing_store)
    assert list(DiscoveryMethod) == tracker.get_effective_discovery_methods("s")
    assert not tracker.has_historical_data("s")
