"""What a tracker remembers of operations: those that run, and the latest that have ended."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from producers.operations import OperationMetrics, OperationStatus, OperationTracker, OperationType
from producers.operations import memory as memory_module
from producers.operations.memory import OperationMemory


@pytest.fixture
def tracker(refusing_store: Any) -> OperationTracker:
    """A tracker whose rows go nowhere."""
    return OperationTracker(refusing_store)


def test_an_entry(tracker: OperationTracker) -> None:
    """Type, status, start and metrics, and all that it was started with; the entry is live."""
    tracker.start_operation("a", OperationType.ML_ANALYSIS, user_id="u", dataset="d")
    entry = tracker.get_operation_status("a")
    assert entry is not None
    assert entry is tracker.active_operations["a"]
    assert {
        "operation_type": OperationType.ML_ANALYSIS,
        "status": OperationStatus.STARTED,
        "user_id": "u",
        "dataset": "d",
        "metrics": OperationMetrics(),
        "start_time": entry["start_time"],
    } == entry
    metrics = OperationMetrics(processed_items=3)
    tracker.update_progress("a", metrics)
    assert (OperationStatus.IN_PROGRESS, metrics) == (entry["status"], entry["metrics"])
    tracker.update_progress("a", None)
    assert metrics is entry["metrics"]
    assert tracker.get_operation_status("b") is None


def test_those_that_run(tracker: OperationTracker) -> None:
    """Started and in progress, each with its id; those that have ended are not among them."""
    for operation_id in "abc":
        tracker.start_operation(operation_id, OperationType.ML_ANALYSIS, operation_type_of="mine")
    tracker.update_progress("b", OperationMetrics())
    tracker.complete_operation("c")
    assert [("a", "started"), ("b", "in_progress")] == [
        (entry["operation_id"], entry["status"]) for entry in tracker.list_active_operations()
    ]
    assert "operation_id" not in (tracker.get_operation_status("a") or {})


def test_memory_is_bounded(tracker: OperationTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that have ended the latest are kept, in the order of their ends; those that run are all kept."""
    monkeypatch.setattr(memory_module, "FINISHED_KEPT", 3)
    for operation_id in "abcdefg":
        tracker.start_operation(operation_id, OperationType.ML_ANALYSIS)
    for operation_id in "gfegd":  # g twice
        tracker.fail_operation(operation_id, "broken")
    assert set("abcedg") == set(tracker.active_operations)
    assert tracker.get_operation_status("f") is None
    assert OperationStatus.FAILED == (tracker.get_operation_status("g") or {})["status"]
    tracker.start_operation("e", OperationType.ML_ANALYSIS)  # once more: it does not count as ended
    tracker.complete_operation("a")
    tracker.complete_operation("b")
    assert set("abcde") == set(tracker.active_operations)


def test_threads(tracker: OperationTracker) -> None:
    """No failure is lost when threads record at once."""
    tracker.start_operation("a", OperationType.CRAWL_DISCOVERY)

    def fail() -> None:
        for _ in range(300):
            tracker.record_site_failure("a", "http://a/", "timeout")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1200 == tracker.get_failure_summary("a")["total_failures"]
    assert 1200 == (tracker.get_operation_status("a") or {})["metrics"].failed_sites


def test_a_child_is_not_locked_out() -> None:
    """A child that is forked while another thread holds the lock goes on with what was known."""
    memory = OperationMemory()
    memory.start("a", OperationType.ML_ANALYSIS, {})
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with memory._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # ends a child that waits for ever
        os._exit(7 if memory.get("a") else 1)
    done.set()
    thread.join()
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
