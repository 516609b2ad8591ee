"""The record of one extraction, as its callers fill it and look at it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from producers.extraction import (
    PROXY_STATUS_BYPASSED,
    PROXY_STATUS_DISABLED,
    PROXY_STATUS_FAILED,
    PROXY_STATUS_SUCCESS,
    ExtractionMetrics,
    extraction_job,
    proxy_status_to_int,
)


@pytest.fixture
def metrics() -> ExtractionMetrics:
    return ExtractionMetrics("operation", "article", "https://news.example.com:8443/a?b=c", "Example News")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes `time.time()` say the given seconds, one for each call, and no more."""

    def says(*seconds: float) -> None:
        left = iter(seconds)
        monkeypatch.setattr(time, "time", lambda: next(left))

    return says


def test_its_beginning(metrics: ExtractionMetrics) -> None:
    """Every attribute has its first value; those that change belong to one record alone."""
    other = ExtractionMetrics("operation", "article", "https://news.example.com:8443/a?b=c", "Example News")
    start = metrics.start_time
    assert start.tzinfo is None
    assert abs(datetime.now(UTC).replace(tzinfo=None) - start) < timedelta(minutes=1)
    other.methods_attempted.append("m")
    other.method_timings["m"] = 1.0
    other.method_success["m"] = True
    other.method_errors["m"] = "e"
    other.field_extraction["m"] = {}
    other.final_field_attribution["title"] = "m"
    other.alternative_extractions["m"] = {}
    other.extracted_fields["title"] = True
    expected = {
        "operation_id": "operation", "article_id": "article", "url": "https://news.example.com:8443/a?b=c",
        "publisher": "Example News", "host": "news.example.com:8443", "start_time": start, "end_time": None,
        "total_duration_ms": 0, "http_status_code": None, "http_error_type": None, "response_size_bytes": 0,
        "response_time_ms": 0, "methods_attempted": [], "method_timings": {}, "method_success": {},
        "method_errors": {}, "successful_method": None, "field_extraction": {}, "final_field_attribution": {},
        "alternative_extractions": {},
        "extracted_fields": {"title": False, "author": False, "content": False, "publish_date": False},
        "content_length": 0, "is_success": False, "error_message": None, "error_type": None, "proxy_used": False,
        "proxy_url": None, "proxy_authenticated": False, "proxy_status": None, "proxy_error": None,
        "content_type_detection": None,
    }  # fmt: skip
    assert expected == attributes(metrics)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://user:secret@example.com:80/", "example.com:80"),
        ("http://[broken", ""),
        ("no url", ""),
        ("", ""),
        (None, ""),
        (17, ""),
    ],
)
def test_host(url: Any, host: str) -> None:
    """The host and its port, never credentials; what is not a URL has none."""
    assert host == ExtractionMetrics("o", "a", url, None).host


def test_a_method(metrics: ExtractionMetrics, clock: Callable[..., None]) -> None:
    """The clock is read once at each end: seconds since the epoch while the method runs, then milliseconds."""
    clock(1000.0, 1001.5)
    metrics.start_method("newspaper4k")
    assert (["newspaper4k"], {"newspaper4k": 1000.0}) == (metrics.methods_attempted, metrics.method_timings)
    assert {} == metrics.finished_timings()
    metrics.end_method("newspaper4k", True)
    assert {"newspaper4k": 1500.0} == metrics.method_timings == metrics.finished_timings()
    assert {"newspaper4k": True} == metrics.method_success
    assert "newspaper4k" == metrics.successful_method
    assert ({}, {}) == (metrics.method_errors, metrics.field_extraction)


def test_a_method_that_was_not_started(metrics: ExtractionMetrics, clock: Callable[..., None]) -> None:
    """Its end is known, not its time; the clock is not asked."""
    clock()
    metrics.end_method("selenium", False, "no browser")
    assert ([], {}) == (metrics.methods_attempted, metrics.method_timings)
    assert ({"selenium": False}, {"selenium": "no browser"}) == (metrics.method_success, metrics.method_errors)


def test_a_method_that_is_tried_again(metrics: ExtractionMetrics, clock: Callable[..., None]) -> None:
    """It is listed once; its time, success and error are those of the last try that told of them."""
    clock(1.0, 2.0, 10.0, 10.25)
    metrics.start_method("m")
    metrics.end_method("m", False, "first")
    metrics.start_method("m")
    assert {} == metrics.finished_timings()
    metrics.end_method("m", True, "")
    assert (["m"], {"m": 250.0}) == (metrics.methods_attempted, metrics.method_timings)
    assert ({"m": True}, {"m": "first"}) == (metrics.method_success, metrics.method_errors)


def test_an_end_that_is_told_twice(metrics: ExtractionMetrics, clock: Callable[..., None]) -> None:
    """The time remains that of the first end."""
    clock(1.0, 2.0)
    metrics.start_method("m")
    metrics.end_method("m", True)
    metrics.end_method("m", True)
    assert {"m": 1000.0} == metrics.method_timings


def test_a_time_that_a_caller_assigns(metrics: ExtractionMetrics) -> None:
    """Counts as the method's time, whether the method runs or was never started."""
    metrics.start_method("a")
    metrics.method_timings.update(a=12.5, b=7)
    assert {"a": 12.5, "b": 7} == metrics.finished_timings()


def test_the_first_success_stays(metrics: ExtractionMetrics) -> None:
    """Failures before it do not count, nor successes after it; an error of a success is kept."""
    metrics.end_method("a", False)
    metrics.end_method("b", True, "with a warning")
    metrics.end_method("c", True)
    assert "b" == metrics.successful_method
    assert {"b": "with a warning"} == metrics.method_errors


def test_fields_of_a_method(metrics: ExtractionMetrics) -> None:
    """What a method found, by the truth of the four; of a failure too, and of an empty result, but not of none."""
    metrics.end_method("a", True, None, {"title": "T", "author": "", "content": ["c"], "other": 1})
    metrics.end_method("b", False, "e", {})
    metrics.end_method("c", False)
    nothing = {"title": False, "author": False, "content": False, "publish_date": False}
    assert {"a": {**nothing, "title": True, "content": True}, "b": nothing} == metrics.field_extraction


def test_http_status_from_a_method(metrics: ExtractionMetrics) -> None:
    """The first status that a method's metadata tell is taken; one that is known stays."""
    metrics.end_method("a", False, None, {"metadata": {"http_status": 0}})
    assert metrics.http_status_code is None
    metrics.response_size_bytes = 9
    metrics.end_method("b", False, None, {"metadata": {"http_status": 404}})
    told: tuple[object, ...] = (metrics.http_status_code, metrics.response_size_bytes, metrics.http_error_type)
    assert (404, 0, "4xx_client_error") == told
    metrics.end_method("c", True, None, {"metadata": {"http_status": 200}})
    assert 404 == metrics.http_status_code


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (299, None), (300, "3xx_redirect"), (399, "3xx_redirect"), (400, "4xx_client_error"),
        (499, "4xx_client_error"), (500, "5xx_server_error"), (600, "5xx_server_error"), (None, None),
        ("503", "5xx_server_error"), ("none", None), (float("inf"), None),
    ],
)  # fmt: skip
def test_http_error_type(metrics: ExtractionMetrics, status: Any, kind: str | None) -> None:
    """By the class of the status; what is no number has none."""
    metrics.set_http_metrics(status, 2048, 12.5)
    assert (status, 2048, 12.5) == (metrics.http_status_code, metrics.response_size_bytes, metrics.response_time_ms)
    assert kind == metrics.http_error_type


def test_http_error_type_stays(metrics: ExtractionMetrics) -> None:
    """A status below 300 leaves that of an earlier response in place; callers look at it."""
    metrics.set_http_metrics(301, 1, 1)
    metrics.set_http_metrics(200, 1, 1)
    assert (200, "3xx_redirect") == (metrics.http_status_code, metrics.http_error_type)


def test_alternatives(metrics: ExtractionMetrics) -> None:
    """200 characters of each value are kept; whether they differ is seen from all of them."""
    long = "x" * 200
    metrics.record_alternative_extraction("selenium", "title", long + "a", long + "b")
    metrics.record_alternative_extraction("selenium", "author", "A", "A")
    metrics.record_alternative_extraction("bs", "title", None, 7)
    assert {
        "selenium": {
            "title": {"alternative_value": long, "current_value": long, "values_differ": True},
            "author": {"alternative_value": "A", "current_value": "A", "values_differ": False},
        },
        "bs": {"title": {"alternative_value": None, "current_value": "7", "values_differ": True}},
    } == metrics.alternative_extractions


def test_finalize(metrics: ExtractionMetrics) -> None:
    """The times, the fields, who found them, the length of the content."""
    metrics.start_time = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=2)
    metrics.finalize({"title": "T", "content": "text", "metadata": {"extraction_methods": {"title": "m"}}})
    assert metrics.end_time is not None
    assert metrics.end_time.tzinfo is None
    assert (metrics.end_time - metrics.start_time) / timedelta(milliseconds=1) == metrics.total_duration_ms
    assert 7_200_000 <= metrics.total_duration_ms
    assert {"title": True, "author": False, "content": True, "publish_date": False} == metrics.extracted_fields
    assert ({"title": "m"}, 4, True) == (metrics.final_field_attribution, metrics.content_length, metrics.is_success)
    metrics.finalize({"title": "T"})
    assert ({"title": "m"}, 0) == (metrics.final_field_attribution, metrics.content_length)


@pytest.mark.parametrize("result", [{}, None, "text", []])
def test_finalize_with_nothing(metrics: ExtractionMetrics, result: Any) -> None:
    """Only the times change."""
    metrics.is_success, metrics.content_length = True, 5
    metrics.final_field_attribution = {"title": "m"}
    before = {**copy.deepcopy(attributes(metrics)), "end_time": 0, "total_duration_ms": 0}
    metrics.finalize(result)
    assert metrics.end_time is not None
    assert before == {**attributes(metrics), "end_time": 0, "total_duration_ms": 0}


@pytest.mark.parametrize(
    ("result", "success"),
    [
        ({"title": "T"}, True),
        ({"content": "x" * 101}, True),
        ({"content": "x" * 100}, False),
        ({"author": "A", "publish_date": "2026"}, False),
    ],
)
def test_success(metrics: ExtractionMetrics, result: dict[str, str], success: bool) -> None:
    """A title, or more than 100 characters of content; a later result without them takes it back."""
    metrics.is_success = True
    metrics.finalize(result)
    assert success is metrics.is_success


def test_times_with_an_offset(metrics: ExtractionMetrics) -> None:
    """A start that a caller gives with an offset, or as text, is understood; one that is none leaves the duration."""
    metrics.start_time = datetime.now(UTC) - timedelta(hours=1)
    metrics.finalize({})
    assert 3_600_000 <= metrics.total_duration_ms < 7_200_000
    metrics.start_time, metrics.total_duration_ms = "yesterday", 5  # type: ignore[assignment]
    metrics.finalize({})
    assert 5 == metrics.total_duration_ms


class Method(Enum):
    FIRST = "first"


def test_odd_values(metrics: ExtractionMetrics) -> None:
    """Nothing that a caller hands in where a text or a dict belongs makes a method raise."""
    metrics.start_method(Method.FIRST)  # type: ignore[arg-type]
    metrics.end_method(Method.FIRST, None, ValueError("broken"), {"metadata": None})  # type: ignore[arg-type]
    assert ({"first": False}, {"first": "broken"}) == (metrics.method_success, metrics.method_errors)
    metrics.end_method(None, True, None, "not a dict")  # type: ignore[arg-type]
    metrics.end_method("m", True, None, {"metadata": "text"})
    metrics.set_http_metrics(None, None, None)
    metrics.record_alternative_extraction(None, None, None, None)  # type: ignore[arg-type]
    metrics.set_proxy_metrics(None, 17, None, object(), object())  # type: ignore[arg-type]
    metrics.set_content_type_detection(None)
    metrics.finalize({"content": 12, "metadata": None, "title": object()})
    assert (2, True) == (metrics.content_length, metrics.is_success)


def test_proxy_status() -> None:
    """The four names in any case; anything else has no number."""
    assert (0, 1, 2, 3) == (
        PROXY_STATUS_DISABLED, PROXY_STATUS_SUCCESS, PROXY_STATUS_FAILED, PROXY_STATUS_BYPASSED,
    )  # fmt: skip
    names = ["disabled", "SUCCESS", "Failed", "bypassed", "other", None, 1]
    assert [0, 1, 2, 3, None, None, None] == [proxy_status_to_int(name) for name in names]


def test_proxy(metrics: ExtractionMetrics) -> None:
    """What is set is kept, the status as a number; an empty error leaves the earlier one, whose end is cut off."""
    metrics.set_proxy_metrics(True, "http://proxy:3128", True, "failed", "e" * 501)
    assert (True, "http://proxy:3128", True, PROXY_STATUS_FAILED, "e" * 500) == proxy(metrics)
    metrics.set_proxy_metrics(False, None, False, PROXY_STATUS_SUCCESS, "")
    assert (False, None, False, PROXY_STATUS_SUCCESS, "e" * 500) == proxy(metrics)


def test_proxy_from_a_method(metrics: ExtractionMetrics) -> None:
    """The first that a method's metadata tell is taken; without `proxy_used` they tell of none."""
    metrics.end_method("a", False, None, {"metadata": {"proxy_url": "http://other"}})
    assert (False, None, False, None, None) == proxy(metrics)
    told = {"proxy_used": True, "proxy_url": "http://p", "proxy_authenticated": True, "proxy_status": 1}
    metrics.end_method("b", False, None, {"metadata": {**told, "proxy_error": "slow"}})
    assert (True, "http://p", True, 1, "slow") == proxy(metrics)
    metrics.end_method("c", False, None, {"metadata": {"proxy_used": False, "proxy_status": 0}})
    assert (True, "http://p", True, 1, "slow") == proxy(metrics)


def test_no_proxy_from_a_method(metrics: ExtractionMetrics) -> None:
    """A proxy that was known to be disabled stays so."""
    metrics.set_proxy_metrics(False, proxy_status="disabled")
    metrics.end_method("a", True, None, {"metadata": {"proxy_used": True, "proxy_url": "http://p"}})
    assert (False, None, False, PROXY_STATUS_DISABLED, None) == proxy(metrics)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user:secret@proxy:3128", "http://user:***@proxy:3128"),
        ("user:secret@proxy:3128", "user:***@proxy:3128"),
        ("http://secret@proxy", "http://***@proxy"),
        ("http://secret:@proxy", "http://***@proxy"),
        ("http://user:se/cr@et://@proxy", "http://user:***@proxy"),
        ("user:secret://@proxy", "user:***@proxy"),
        ("http://user:it's secret@proxy", "http://user:***@proxy"),
        ("http://user:secret@[broken", "http://user:***@[broken"),
        ("http://user:***@proxy", "http://user:***@proxy"),
        ("", ""),
    ],
)
def test_proxy_credentials(metrics: ExtractionMetrics, url: str, masked: str) -> None:
    """No password of a proxy is kept, nor a user that stands alone; nor in an error with this URL or another.

    Whether they come by the setter or are assigned.
    """
    said = f"cannot reach '{url}', nor <socks5://me:secret@other>, says it@example.com"
    told = f"cannot reach '{masked}', nor <socks5://me:***@other>, says it@example.com"
    metrics.set_proxy_metrics(True, url, False, None, said)
    assert (masked, told) == (metrics.proxy_url, metrics.proxy_error)
    metrics.proxy_url, metrics.proxy_error = url, said
    values = dict(zip(*columns_and_values(metrics), strict=True))
    assert (masked, told) == (values["proxy_url"], values["proxy_error"])


def test_a_credential_at_the_cut(metrics: ExtractionMetrics) -> None:
    """The error is masked before it is cut, so that no half of a URL slips through."""
    error = "e" * 480 + " http://user:secret-of-the-user@proxy"
    metrics.set_proxy_metrics(True, None, False, None, error)
    assert "e" * 480 + " http://user:***@pro" == metrics.proxy_error


def attributes(metrics: ExtractionMetrics) -> dict[str, Any]:
    names = [field.name for field in fields(metrics) if not field.name.startswith("_")]
    return {name: getattr(metrics, name) for name in names}


def proxy(metrics: ExtractionMetrics) -> tuple[Any, ...]:
    return (
        metrics.proxy_used, metrics.proxy_url, metrics.proxy_authenticated, metrics.proxy_status, metrics.proxy_error,
    )  # fmt: skip


def columns_and_values(metrics: ExtractionMetrics) -> tuple[list[str], Any]:
    statement = extraction_job(metrics).statements[0]
    columns = statement.sql.partition("(")[2].partition(")")[0]
    return columns.split(", "), statement.rows[0]
