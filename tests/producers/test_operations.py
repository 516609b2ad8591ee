"""Operations: their rows from start to end, in any order of arrival, and whatever they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import pytest

from producers.operations import (
    OperationContext,
    OperationMetrics,
    OperationStatus,
    OperationTracker,
    OperationType,
)
from producers.operations.rows import FAILURES_STORED
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]
Read = Callable[[str], list[tuple[Any, ...]]]


class Hostile:
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture
def tracker(store: TelemetryStore) -> OperationTracker:
    return OperationTracker(store)


@pytest.fixture
def read(stored: Stored) -> Read:
    """The rows of a query as tuples, once all that was recorded is committed."""
    return lambda sql: [tuple(row.values()) for row in stored(sql)]


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def test_from_start_to_end(tracker: OperationTracker, read: Read) -> None:
    """A tracked operation is one row of `operations` and one of `jobs`, complete, times in UTC without fraction."""
    before = datetime.now(UTC).replace(microsecond=0)
    with tracker.track_operation(
        OperationType.CRAWL_DISCOVERY,
        user_id="u",
        session_id="s",
        parameters={"limit": 3},
        source_name="News",
        commit_sha="abc",
        environment={"host": "h"},
        artifact_paths=["/a"],
        logs_path="/log",
    ) as context:
        assert isinstance(context, OperationContext)
        assert tracker is context.tracker
        context.update_progress(4, 10, "four done")
        tracker.record_site_failure(context.operation_id, "http://a/", "timeout")
    ((operation_id, kind, status, created, updated, completed, user, session, parameters, metrics, *rest),) = read(
        "SELECT * FROM operations"
    )
    assert (context.operation_id, "crawl_discovery", "completed") == (operation_id, kind, status)
    *empty, duration_ms = rest
    assert ("u", "s", {"limit": 3}, [None, None]) == (user, session, json.loads(parameters), empty)
    assert 0 < duration_ms == pytest.approx((moment(completed) - moment(created)).total_seconds() * 1000, abs=1000)
    assert before <= moment(created) <= moment(updated) == moment(completed) <= datetime.now(UTC)
    stored = json.loads(metrics)
    assert list(vars(OperationMetrics())) == list(stored)
    assert (4, 10, 40.0, 1) == tuple(
        stored[key] for key in ("processed_items", "total_items", "success_rate", "failed_sites")
    )
    assert "timeout" == stored["site_failures"][0]["failure_type"]
    assert before < datetime.fromisoformat(stored["estimated_completion"])
    assert [
        (
            operation_id,
            "crawl_discovery",
            "News",
            created,
            completed,
            "success",
            '{"limit": 3}',
            "abc",
            '{"host": "h"}',
            '["/a"]',
            "/log",
            4,
            3,
            0,
            1,
        )
    ] == read("SELECT * FROM jobs")


def test_metrics_stay_null_until_there_are_some(tracker: OperationTracker, read: Read) -> None:
    """Nothing is stored of metrics, error and summary as long as nothing is given, and no parameters are `{}`."""
    with tracker.track_operation(OperationType.ML_ANALYSIS):
        pass
    assert [("{}", None, None, None)] == read(
        "SELECT parameters, metrics, error_details, result_summary FROM operations"
    )


def test_other_arguments_are_the_parameters_of_the_job(tracker: OperationTracker, read: Read) -> None:
    """Without `parameters` a job has all that the operation was started with and that has no column of its own."""
    tracker.start_operation("a", OperationType.LOAD_SOURCES, dataset_label="x", source_limit=5, user_id="u")
    tracker.start_operation("b", OperationType.LOAD_SOURCES, operation_name="by name", source_name="no")
    tracker.start_operation("c", OperationType.LOAD_SOURCES, job_name="mine", operation_name="no")
    assert [
        ("a", "load_sources", '{"dataset_label": "x", "source_limit": 5}'),
        ("b", "by name", '{"operation_name": "by name", "source_name": "no"}'),
        ("c", "mine", '{"operation_name": "no"}'),
    ] == read("SELECT id, job_name, params FROM jobs ORDER BY id")
    assert [("{}",)] * 3 == read("SELECT parameters FROM operations")


@pytest.mark.parametrize("mode", ["sync"])
@pytest.mark.parametrize("raised", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_whatever_is_raised_fails_the_operation(tracker: OperationTracker, read: Read, raised: BaseException) -> None:
    """An exception, an interrupt and an exit are recorded as failures with an end, and go on to the caller."""
    with pytest.raises(type(raised)) as caught, tracker.track_operation(OperationType.DATA_EXPORT):
        raise raised
    assert raised is caught.value
    ((status, completed, error),) = read("SELECT status, completed_at, error_details FROM operations")
    assert "failed" == status
    assert completed
    assert {"message": str(raised) or "KeyboardInterrupt"} == json.loads(error)
    assert [("failed", completed)] == read("SELECT exit_status, finished_at FROM jobs")


@pytest.mark.parametrize("mode", ["sync"])
def test_every_end_has_its_time(tracker: OperationTracker, read: Read) -> None:
    """Completed, failed or cancelled: the end is noted in both tables, in memory too; details of an error win."""
    for operation_id in "abc":
        tracker.start_operation(operation_id, OperationType.LOAD_SOURCES)
    tracker.complete_operation("a", {"sources": 3})
    tracker.fail_operation("b", "broken", {"code": 7, "message": "mine"})
    tracker.cancel_operation("c", "called off")
    assert [
        ("a", "completed", 1, None, '{"sources": 3}'),
        ("b", "failed", 1, '{"message": "mine", "code": 7}', None),
        ("c", "cancelled", 1, '{"message": "called off"}', None),
    ] == read("SELECT id, status, completed_at IS NOT NULL, error_details, result_summary FROM operations ORDER BY id")
    assert [("success", 1), ("failed", 1), ("cancelled", 1)] == read(
        "SELECT exit_status, finished_at IS NOT NULL FROM jobs ORDER BY id"
    )
    ends = [tracker.get_operation_status(each) or {} for each in "abc"]
    assert [OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED] == [
        end["status"] for end in ends
    ]
    assert all(end["start_time"] <= end["end_time"] for end in ends)


def test_what_comes_late_does_not_reopen(tracker: OperationTracker, store: TelemetryStore, read: Read) -> None:
    """Progress after the end, of this process or of another, is stored and leaves status and end alone. A second end
    replaces the first."""
    tracker.start_operation("a", OperationType.LOAD_SOURCES)
    tracker.complete_operation("a", {"n": 1})
    tracker.update_progress("a", OperationMetrics(processed_items=5))
    OperationTracker(store).update_progress("a", OperationMetrics(processed_items=6, failed_items=2))
    OperationTracker(store).start_operation("a", OperationType.ML_ANALYSIS, user_id="late")
    sql = """SELECT operation_type, status, completed_at IS NOT NULL, user_id,
             json_extract(metrics, '$.processed_items'), result_summary FROM operations"""
    assert [("load_sources", "completed", 1, "late", 6, '{"n": 1}')] == read(sql)
    assert [("load_sources", "success", 6, 4, 0, 2)] == read(
        "SELECT job_type, exit_status, records_processed, records_created, records_updated, errors_count FROM jobs"
    )
    assert OperationStatus.COMPLETED == (tracker.get_operation_status("a") or {})["status"]
    tracker.fail_operation("a", "after all")
    assert [("load_sources", "failed", 1, "late", 6, '{"n": 1}')] == read(sql)


def test_the_first_word_of_an_unknown_operation(tracker: OperationTracker, store: TelemetryStore, read: Read) -> None:
    """Metrics, error and summary of an id that was never started are kept; type, user, session, parameters and name
    come when somebody tells them. The time of the first row stays."""
    tracker.update_progress("a", OperationMetrics(processed_items=5))
    tracker.fail_operation("b", "broken")
    tracker.complete_operation("c", {"n": 1})
    sql = """SELECT id, operation_type, status, parameters, metrics IS NOT NULL, error_details, result_summary
             FROM operations ORDER BY id"""
    assert [
        ("a", "", "in_progress", "{}", 1, None, None),
        ("b", "", "failed", "{}", 0, '{"message": "broken"}', None),
        ("c", "", "completed", "{}", 0, None, '{"n": 1}'),
    ] == read(sql)
    assert [("", "operation", "{}")] * 3 == read("SELECT job_type, job_name, params FROM jobs")
    first = read("SELECT created_at FROM operations WHERE id = 'b'")
    known = {"user_id": "u", "session_id": "s", "parameters": {"p": 1}, "commit_sha": "abc"}
    OperationTracker(store).start_operation("b", OperationType.ML_ANALYSIS, **known)
    OperationTracker(store).start_operation("b", OperationType.DATA_EXPORT, **dict.fromkeys(known, "no"))
    assert [("ml_analysis", "failed", "u", "s", '{"p": 1}')] == read(
        "SELECT operation_type, status, user_id, session_id, parameters FROM operations WHERE id = 'b'"
    )
    assert [("ml_analysis", "ml_analysis", '{"p": 1}', "abc", "failed")] == read(
        "SELECT job_type, job_name, params, commit_sha, exit_status FROM jobs WHERE id = 'b'"
    )
    assert first == read("SELECT created_at FROM operations WHERE id = 'b'")
    assert [] == tracker.list_active_operations()


def test_a_row_is_whole_though_its_start_was_lost(tracker: OperationTracker, store: TelemetryStore, read: Read) -> None:
    """Each write of a known operation brings all that is known: the start may be missing."""
    store.execute("CREATE TABLE operations (id TEXT)")  # which takes no start
    tracker.start_operation("a", OperationType.ML_ANALYSIS, user_id="u", parameters={"p": 1})
    store.flush()
    store.execute("DROP TABLE operations")
    store.flush()
    tracker.active_operations["a"]["start_time"] = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    tracker.complete_operation("a")
    if store.mode == "sync":
        assert 1 == tracker.failures
    assert [("ml_analysis", "completed", "u", '{"p": 1}', "2026-01-02 03:04:05")] == read(
        "SELECT operation_type, status, user_id, parameters, created_at FROM operations"
    )
    assert [("2026-01-02 03:04:05",)] == read("SELECT started_at FROM jobs")


@pytest.mark.parametrize("mode", ["sync"])
def test_an_end_tells_no_old_progress(tracker: OperationTracker, store: TelemetryStore, read: Read) -> None:
    """Metrics that are stored already are not stored again at the end: another process may know more by then."""
    tracker.start_operation("a", OperationType.CRAWL_DISCOVERY)
    tracker.record_site_failure("a", "http://a/", "timeout")
    tracker.update_progress("a", OperationMetrics(processed_items=5))
    OperationTracker(store).update_progress("a", OperationMetrics(processed_items=6))
    tracker.complete_operation("a")
    assert [("completed", 6)] == read("SELECT status, json_extract(metrics, '$.processed_items') FROM operations")


@pytest.mark.parametrize("mode", ["sync"])
def test_anything_can_be_told(tracker: OperationTracker, read: Read) -> None:
    """Values that JSON does not know, moments, locks, nothing at all, types that do not exist: recorded as text, and
    nobody is disturbed."""
    when = datetime(2026, 1, 2, tzinfo=UTC)
    odd: dict[Any, Any] = {"when": when, "lock": Lock(), "nan": float("nan"), 3: {4}, "enum": OperationType.DATA_EXPORT}
    odd["self"] = odd
    tracker.start_operation("a", "no_such_type", parameters=odd, user_id=7, session_id=Hostile())  # type: ignore[arg-type]
    tracker.update_progress("a", OperationMetrics(estimated_completion=when, processed_items=None))  # type: ignore[arg-type]
    tracker.record_site_failure("a", "http://a/", Hostile(), http_status="x")  # type: ignore[arg-type]
    tracker.update_progress("a", None)
    tracker.complete_operation("a", odd)
    tracker.fail_operation("b", None, ["x"])  # type: ignore[arg-type]
    tracker.start_operation("c", None, parameters=None)  # type: ignore[arg-type]
    with tracker.track_operation(OperationType.ML_ANALYSIS, operation_id="mine", status="odd", metrics=4) as context:
        context.update_progress(None, None, None)  # type: ignore[arg-type]
        context.update_progress(1, 0)
        context.update_progress(1, 10**400)
        context.log_message("word", level="no such level")
        context.log_message(Hostile(), level=None)  # type: ignore[arg-type]
    assert 0 == tracker.failures
    ((kind, user, session, parameters, metrics),) = read(
        "SELECT operation_type, user_id, session_id, parameters, metrics FROM operations WHERE id = 'a'"
    )
    assert ("no_such_type", "7", "<Hostile: RuntimeError>") == (kind, user, session)
    stored = json.loads(parameters)
    assert [when.isoformat(), None, [4], "data_export", "…"] == [
        stored[key] for key in ("when", "nan", "3", "enum", "self")
    ]
    assert stored["lock"].startswith("<unlocked")
    assert when.isoformat() == json.loads(metrics)["estimated_completion"]
    assert [('{"message": "None", "details": ["x"]}',)] == read("SELECT error_details FROM operations WHERE id = 'b'")
    assert [("completed", "ml_analysis")] == read(
        f"SELECT status, operation_type FROM operations WHERE id = '{context.operation_id}'"
    )


@pytest.mark.parametrize("mode", ["sync"])
def test_what_cannot_be_recorded_is_counted(tracker: OperationTracker, store: TelemetryStore) -> None:
    """A store that refuses, or an id that no dictionary takes, is counted and logged; the work goes on."""
    with tracker.track_operation(OperationType.LOAD_SOURCES) as context:
        tracker.update_progress([], OperationMetrics())  # type: ignore[arg-type]
        assert 1 == tracker.failures
        store.shutdown()
        context.update_progress(1, 2)
    assert 3 == tracker.failures


@pytest.mark.parametrize("mode", ["sync"])
def test_a_row_holds_the_latest_failures_only(tracker: OperationTracker, read: Read) -> None:
    """However many sites fail, a row's metrics stay of a bounded size, with the true count; memory has all."""
    tracker.start_operation("a", OperationType.CRAWL_DISCOVERY)
    for number in range(FAILURES_STORED + 5):
        tracker.record_site_failure("a", f"http://{number}/", "timeout")
    tracker.update_progress("a", OperationMetrics(total_items=1000))
    stored = json.loads(read("SELECT metrics FROM operations")[0][0])
    assert (FAILURES_STORED, FAILURES_STORED + 5) == (len(stored["site_failures"]), stored["failed_sites"])
    assert f"http://{FAILURES_STORED + 4}/" == stored["site_failures"][-1]["site_url"]
    assert FAILURES_STORED + 5 == len(tracker.get_site_failures("a"))


@pytest.mark.parametrize("mode", ["sync"])
def test_a_row_is_what_was_known_when_it_was_handed_in(store: TelemetryStore) -> None:
    """Parameters and metrics are taken as they are at the call; what the caller does with them later is not stored."""
    late: list[Any] = []

    class Later:
        database_url = store.database_url
        flush = store.flush
        connection = store.connection

        def submit(self, task: Any, *, ensure: Any = None) -> None:
            late.append((task, ensure))

    tracker = OperationTracker(Later())
    parameters, metrics = {"n": 1}, OperationMetrics(processed_items=1)
    tracker.start_operation("a", OperationType.LOAD_SOURCES, parameters=parameters)
    tracker.update_progress("a", metrics)
    parameters["n"] = metrics.processed_items = 2
    for task, ensure in late:
        store.submit(task, ensure=ensure)
    with store.connection() as connection:
        ((stored, text),) = connection.execute("SELECT parameters, metrics FROM operations").fetchall()
    assert ('{"n": 1}', 1) == (stored, json.loads(text)["processed_items"])
