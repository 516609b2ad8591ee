"""The reporter: its requests to an API, which is slow, broken or not there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from producers.operations import (
    FailureType,
    OperationEvent,
    OperationMetrics,
    OperationStatus,
    OperationTracker,
    OperationType,
    SiteFailure,
    TelemetryReporter,
)
from producers.operations import reporter as reporter_module

PATIENCE_S = 30.0
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Api(ThreadingHTTPServer):
    """Notes each request, and answers with `status` once `gate` is open."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client may have gone."""


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        self.server.came.set()
        self.server.gate.wait(PATIENCE_S)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield api
        api.gate.set()
        api.shutdown()
        thread.join()


@pytest.fixture
def reporter(api: Api) -> Iterator[TelemetryReporter]:
    reporter = TelemetryReporter(f"{api.url}/", "secret")
    yield reporter
    reporter.session.close()


def event(**more: Any) -> OperationEvent:
    return OperationEvent("e", "op", OperationType.ML_ANALYSIS, OperationStatus.STARTED, WHEN, **more)


def metrics() -> OperationMetrics:
    failure = SiteFailure("http://a/", None, FailureType.TIMEOUT, "late", WHEN)
    return OperationMetrics(processed_items=3, estimated_completion=WHEN, site_failures=[failure])


def test_an_event(reporter: TelemetryReporter, api: Api) -> None:
    """An event is posted as JSON, whatever it holds, moments in ISO form, with the key; True says that it was taken."""
    assert reporter.send_operation_event(event(details={"when": WHEN, "odd": {1}}, metrics=metrics()))
    ((method, path, headers, body),) = api.requests
    assert ("POST", "/api/v1/telemetry/operations") == (method, path)
    assert ("Bearer secret", "application/json") == (headers["Authorization"], headers["Content-Type"])
    iso = "2026-01-02T03:04:05+00:00"
    assert {
        "event_id": "e",
        "operation_id": "op",
        "operation_type": "ml_analysis",
        "status": "started",
        "timestamp": iso,
        "user_id": None,
        "session_id": None,
        "message": "",
        "details": {"when": iso, "odd": [1]},
        "metrics": body["metrics"],
        "error_details": None,
    } == body
    assert (3, iso, "timeout", iso) == (
        body["metrics"]["processed_items"],
        body["metrics"]["estimated_completion"],
        body["metrics"]["site_failures"][0]["failure_type"],
        body["metrics"]["site_failures"][0]["failure_time"],
    )


def test_progress(reporter: TelemetryReporter, api: Api) -> None:
    """Progress is put under the operation's id, with the moment of sending."""
    before = datetime.now(UTC)
    assert reporter.send_progress_update("op", metrics())
    ((method, path, _, body),) = api.requests
    assert ("PUT", "/api/v1/telemetry/progress/op") == (method, path)
    assert [*vars(OperationMetrics()), "timestamp"] == list(body)
    assert before <= datetime.fromisoformat(body["timestamp"]) <= datetime.now(UTC)


def test_without_a_key(api: Api) -> None:
    """There is no header for it then."""
    reporter = TelemetryReporter(api.url)
    assert reporter.send_progress_update("op", OperationMetrics())
    assert "Authorization" not in api.requests[0][2]
    reporter.session.close()


def test_a_refusal(reporter: TelemetryReporter, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """A status that tells of an error is False and logged."""
    api.status = 500
    assert not reporter.send_operation_event(event())
    assert caplog.messages[0].startswith("the telemetry API did not take it: HTTPError: 500")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "no address at all", "ftp://x"])
def test_nobody_there(url: str, api: Api) -> None:
    """An API that is not there, or an address that is none, is False, and nothing is raised."""
    reporter = TelemetryReporter(url)
    assert not reporter.send_operation_event(event())
    assert not reporter.send_progress_update("op", None)
    reporter.session.close()


def test_a_request_has_a_time_limit(reporter: TelemetryReporter, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that does not answer in time is False; the limit is ten seconds."""
    assert 10 == reporter_module.TIMEOUT_S
    monkeypatch.setattr(reporter_module, "TIMEOUT_S", 0.05)
    api.gate.clear()
    assert not reporter.send_operation_event(event())
    assert 1 == len(api.requests)


def test_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and the library that would send is not needed."""
    monkeypatch.setitem(__import__("sys").modules, "requests", None)
    reporter = TelemetryReporter()
    assert not reporter.send_operation_event(event())
    assert not reporter.send_progress_update("op", OperationMetrics())


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address its absence is told at once, with the way to install it."""
    monkeypatch.setitem(__import__("sys").modules, "requests", None)
    with pytest.raises(ImportError, match=r"TelemetryReporter needs requests: pip install 'telemetry-bus\["):
        TelemetryReporter("http://127.0.0.1:1")


def test_a_session_of_the_callers_own(api: Api) -> None:
    """The session may be replaced, in any process."""

    class Session:
        sent: list[str]

        def post(self, url: str, **_: Any) -> Any:
            raise OSError(url)

    reporter = TelemetryReporter(api.url)
    session = reporter.session = Session()
    assert session is reporter.session
    assert not reporter.send_operation_event(event())
    assert [] == api.requests


def test_a_child_has_connections_of_its_own(reporter: TelemetryReporter, api: Api) -> None:
    """A forked child does not send over its parent's connections."""
    assert reporter.send_operation_event(event())
    before = reporter.session
    child = os.fork()
    if child == 0:
        os._exit(7 if reporter.session is not before and "Authorization" in reporter.session.headers else 1)
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert before is reporter.session


def test_a_slow_api_delays_nobody(api: Api, refusing_store: Any) -> None:
    """An operation begins and ends while the API has not answered to its beginning; all of it arrives, in order."""
    api.gate.clear()
    reporter = TelemetryReporter(api.url)
    tracker = OperationTracker(refusing_store, telemetry_reporter=reporter)
    with tracker.track_operation(OperationType.DATA_EXPORT, dataset="d") as context:
        assert api.came.wait(PATIENCE_S)
        context.update_progress(1, 2)
        tracker.record_site_failure(context.operation_id, "http://a/", "timeout")
    assert 1 == len(api.requests)
    api.gate.set()
    tracker._poster.drain(PATIENCE_S)
    assert ["started", "POST", "PUT", "POST", "completed"] == [
        api.requests[0][3]["status"],
        *(method for method, *_ in api.requests),
        api.requests[2][3]["status"],
    ]
    started, progress, completed = (body for *_, body in api.requests)
    assert {"dataset": "d"} == started["details"]
    assert (1, 0) == (progress["processed_items"], progress["failed_sites"])
    assert 1 == completed["metrics"]["failed_sites"]
    tracker.close()
    reporter.session.close()
