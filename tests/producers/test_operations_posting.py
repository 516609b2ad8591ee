"""Sending in the background: in order, bounded, and never for long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.operations import OperationMetrics, OperationTracker, OperationType
from producers.operations.posting import BackgroundPoster

PATIENCE_S = 30.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Closed; opened at the end so that no thread is left behind it."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def poster() -> Iterator[BackgroundPoster]:
    poster = BackgroundPoster(max_waiting=2)
    yield poster
    poster.close(PATIENCE_S)


class Reporter:
    """Notes what it is told; behind a gate, if there is one."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.told: list[Any] = []
        self.threads: set[str] = set()

    def send_operation_event(self, event: Any) -> bool:
        return self._note((event.status.value, event))

    def send_progress_update(self, operation_id: str, metrics: Any) -> bool:
        return self._note((operation_id, metrics))

    def _note(self, what: Any) -> bool:
        if self.gate:
            self.gate.wait(PATIENCE_S)
        self.threads.add(threading.current_thread().name)
        self.told.append(what)
        return True


def test_in_order_and_in_another_thread(poster: BackgroundPoster) -> None:
    """What is posted is called in its order, elsewhere."""
    called: list[Any] = []
    poster.post(lambda: called.append((1, threading.current_thread().name)))
    assert poster.drain(PATIENCE_S)
    poster.post(lambda: called.append((2, threading.current_thread().name)))
    assert poster.drain(PATIENCE_S)
    assert [(1, "telemetry-reporter"), (2, "telemetry-reporter")] == called


def test_a_failure_ends_nothing(poster: BackgroundPoster, caplog: pytest.LogCaptureFixture) -> None:
    """What raises is logged, and the next is called."""
    called: list[int] = []
    poster.post(lambda: called[9])
    poster.post(lambda: called.append(1))
    assert poster.drain(PATIENCE_S)
    assert [1] == called
    assert ["an event could not be sent: IndexError: list index out of range"] == caplog.messages


def test_bounded(poster: BackgroundPoster, gate: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    """When too much waits, what comes is dropped, counted, and told once."""
    called: list[int] = []
    begun = threading.Event()
    poster.post(lambda: (begun.set(), gate.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    for number in range(5):
        poster.post(lambda number=number: called.append(number))  # type: ignore[misc]
    assert 3 == poster.dropped
    assert ["events are dropped: the reporter's API does not keep up"] == caplog.messages
    assert not poster.drain(0)
    gate.set()
    assert poster.drain(PATIENCE_S)
    assert [0, 1] == called


def test_the_end(poster: BackgroundPoster, gate: threading.Event) -> None:
    """Closing waits no longer than it may, drops what is not sent, takes nothing more, and may be done twice."""
    begun = threading.Event()
    poster.post(lambda: (begun.set(), gate.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    poster.post(lambda: None)
    poster.close(0)
    poster.post(lambda: None)
    assert 2 == poster.dropped
    thread = poster._thread
    gate.set()
    assert thread is not None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    poster.close(0)


def test_a_child_sends_for_itself(poster: BackgroundPoster, gate: threading.Event) -> None:
    """A forked child has nothing of what waits in its parent, and a thread of its own."""
    called: list[int] = []
    begun = threading.Event()
    poster.post(lambda: (begun.set(), gate.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    poster.post(lambda: called.append(1))
    child = os.fork()
    if child == 0:
        poster.post(lambda: called.append(2))
        os._exit(7 if poster.drain(PATIENCE_S) and called == [2] else 1)
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    gate.set()
    assert poster.drain(PATIENCE_S)
    assert [1] == called


def test_an_exit_waits_for_what_is_posted(tmp_path: Path) -> None:
    """What was posted right before the end of a process is sent."""
    program = """
import sys, threading
from pathlib import Path
from producers.operations.posting import BackgroundPoster
poster = BackgroundPoster()
started = threading.Event()
poster.post(lambda: (started.wait(30), Path(sys.argv[1]).write_text("sent")))
import atexit
atexit.register(started.set)  # runs before the poster's own handler
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "note")],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert "sent" == (tmp_path / "note").read_text()


def test_a_slow_reporter_delays_nobody(refusing_store: Any, gate: threading.Event) -> None:
    """An operation begins, goes on and ends while the first event is not sent yet; all of them are sent, as they were
    when they happened."""
    reporter = Reporter(gate)
    tracker = OperationTracker(refusing_store, telemetry_reporter=reporter)
    details, metrics = {"n": 1}, OperationMetrics(processed_items=1)
    tracker.start_operation("a", OperationType.ML_ANALYSIS, user_id="u", extra=details)
    tracker.update_progress("a", metrics)
    tracker.record_site_failure("a", "http://a/", "timeout")
    tracker.complete_operation("a", {"done": details})
    tracker.fail_operation("b", "broken", {"code": 7})
    assert [] == reporter.told
    details["n"] = metrics.processed_items = 2
    gate.set()
    tracker._poster.drain(PATIENCE_S)
    assert ["started", "a", "completed", "failed"] == [name for name, _ in reporter.told]
    started, progress, completed, failed = (what for _, what in reporter.told)
    assert ("a", OperationType.ML_ANALYSIS, "u") == (started.operation_id, started.operation_type, started.user_id)
    assert {"user_id": "u", "extra": {"n": 1}} == started.details
    assert (1, []) == (progress.processed_items, progress.site_failures)
    assert ({"done": {"n": 1}}, 1) == (completed.details, len(completed.metrics.site_failures))
    assert OperationType.LOAD_SOURCES is failed.operation_type
    assert {"message": "broken", "code": 7} == failed.error_details
    assert {"telemetry-reporter"} == reporter.threads
    assert 4 == len({event.event_id for event in (started, completed, failed)} | {"progress"})
    tracker.close()


def test_a_broken_reporter_disturbs_nobody(refusing_store: Any) -> None:
    """Whatever a reporter raises stays in its thread; the tracker counts no failure for it."""
    tracker = OperationTracker(refusing_store, telemetry_reporter=object())
    tracker.update_progress("a", None)  # has nothing to tell
    before = tracker.failures
    reporter = Reporter()
    reporter.told = None  # type: ignore[assignment]
    tracker.telemetry_reporter = reporter
    tracker.complete_operation("a")
    tracker.close()
    assert 1 == tracker.failures - before  # the store refuses, that is all
