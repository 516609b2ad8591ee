"""What byline cleaning records: sessions and their steps."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from producers.byline import BylineCleaningTelemetry
from producers.values import parse_moment
from telemetry_bus import TelemetryStore

SESSIONS = "SELECT * FROM byline_cleaning_telemetry ORDER BY rowid"
STEPS = "SELECT * FROM byline_transformation_steps ORDER BY step_number"

Stored = Callable[[str], list[dict[str, Any]]]


class Unspeakable:
    """A value that nothing can be done with."""

    def _refuse(self) -> Any:
        raise RuntimeError("no")

    __str__ = __bool__ = __len__ = __iter__ = __float__ = _refuse


def test_a_session_is_stored_whole(store: TelemetryStore, stored: Stored) -> None:
    """Each column of a session and of its steps: flags as 0, 1 and NULL, lists as JSON, times in UTC."""
    telemetry = BylineCleaningTelemetry(store=store)
    before = datetime.now(UTC)
    telemetry_id = telemetry.start_cleaning_session(
        "By Ann Lee, Bob Ray  staff@x.com", "a1", "c1", "s1", "Daily", source_canonical_name="The Daily"
    )
    telemetry.log_transformation_step("email_removal", "in", "out", removed_content="staff@x.com", confidence_delta=0.5)
    telemetry.log_error("odd", "parse")
    telemetry.log_transformation_step("split", "out", "", "splitting", None, "Bob", -0.25, "done")
    telemetry.log_warning("short")
    telemetry.finalize_cleaning_session(["Ann Lee", "Bob Ray"], "smart", True, False)
    steps, (session,) = stored(STEPS), stored(SESSIONS)

    remarks = [json.loads(session.pop(name)) for name in ("cleaning_errors", "parsing_warnings")]
    times = [session.pop("extraction_timestamp"), *(step.pop("timestamp") for step in steps)]
    times += [remark.pop("timestamp") for (remark,) in remarks]
    moments = [moment for moment in map(parse_moment, times) if moment is not None]
    assert len(times) == len(moments)
    assert [before] * len(times) <= moments <= [datetime.now(UTC)] * len(times)
    for row in (session, *steps):
        assert parse_moment(row.pop("created_at")) is not None
        assert row.pop("processing_time_ms") >= 0
    assert [
        [{"type": "parse", "message": "odd", "step": 1}],
        [{"type": "parsing", "message": "short", "step": 2}],
    ] == remarks
    assert {
        "id": telemetry_id,
        "article_id": "a1",
        "candidate_link_id": "c1",
        "source_id": "s1",
        "source_name": "Daily",
        "raw_byline": "By Ann Lee, Bob Ray  staff@x.com",
        "raw_byline_length": 32,
        "raw_byline_words": 6,
        "cleaning_method": "smart",
        "source_canonical_name": "The Daily",
        "final_authors_json": '["Ann Lee", "Bob Ray"]',
        "final_authors_count": 2,
        "final_authors_display": "Ann Lee, Bob Ray",
        "confidence_score": 0.25,
        "has_wire_service": 0,
        "has_email": 1,
        "has_title": 0,
        "has_organization": 0,
        "source_name_removed": 0,
        "duplicates_removed_count": 0,
        "likely_valid_authors": 1,
        "likely_noise": 0,
        "requires_manual_review": None,
        "human_label": None,
        "human_notes": None,
        "reviewed_by": None,
        "reviewed_at": None,
    } == session
    assert [4, 4] == [UUID(step.pop("id")).version for step in steps]
    assert [
        {
            "telemetry_id": telemetry_id,
            "step_number": 1,
            "step_name": "email_removal",
            "input_text": "in",
            "output_text": "out",
            "transformation_type": "processing",
            "removed_content": "staff@x.com",
            "added_content": None,
            "confidence_delta": 0.5,
            "notes": None,
        },
        {
            "telemetry_id": telemetry_id,
            "step_number": 2,
            "step_name": "split",
            "input_text": "out",
            "output_text": "",
            "transformation_type": "splitting",
            "removed_content": None,
            "added_content": "Bob",
            "confidence_delta": -0.25,
            "notes": "done",
        },
    ] == steps


def test_what_gathers_can_be_seen(store: TelemetryStore, stored: Stored) -> None:
    """The open session, its steps and its summary are there to look at; finalising clears them."""
    telemetry = BylineCleaningTelemetry(store=store)
    assert (None, [], 0, None) == gathered(telemetry)
    telemetry_id = telemetry.start_cleaning_session("Ann")
    telemetry.log_transformation_step("a", "b", "c", confidence_delta=0.5)
    telemetry.log_warning("w")
    assert telemetry.current_session is not None
    assert ("Ann", 3, 1) == tuple(
        telemetry.current_session[key] for key in ("raw_byline", "raw_byline_length", "raw_byline_words")
    )
    assert ["a"] == [step["step_name"] for step in telemetry.transformation_steps]
    assert 1 == telemetry.step_counter
    assert {
        "telemetry_id": telemetry_id,
        "raw_byline": "Ann",
        "steps_completed": 1,
        "confidence_score": 0.5,
        "has_errors": False,
        "has_warnings": True,
    } == telemetry.get_session_summary()
    telemetry.finalize_cleaning_session([])
    assert (None, [], 0, None) == gathered(telemetry)
    assert [("[]", 0, "", "standard")] == [
        (row["final_authors_json"], row["final_authors_count"], row["final_authors_display"], row["cleaning_method"])
        for row in stored(SESSIONS)
    ]


def test_an_open_session_is_dropped_by_the_next(store: TelemetryStore, stored: Stored) -> None:
    """Starting anew stores nothing of what was open, and counts the steps from 1."""
    telemetry = BylineCleaningTelemetry(store=store)
    first = telemetry.start_cleaning_session("first")
    telemetry.log_transformation_step("a", "", "")
    second = telemetry.start_cleaning_session("second")
    telemetry.log_transformation_step("b", "", "")
    telemetry.finalize_cleaning_session(None)
    assert first != second
    assert [second] == [row["id"] for row in stored(SESSIONS)]
    assert [(second, 1, "b")] == [(row["telemetry_id"], row["step_number"], row["step_name"]) for row in stored(STEPS)]


def test_a_step_takes_the_time_since_the_one_before(
    store: TelemetryStore, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's time is counted from the step before it or from the start, the session's from start to end."""
    telemetry = BylineCleaningTelemetry(store=store)
    clock = iter([100.0, 100.25, 101.25, 103.25, 200.0])
    monkeypatch.setattr("producers.byline.recorder.perf_counter", clock.__next__)
    telemetry.start_cleaning_session("Ann")
    telemetry.log_transformation_step("a", "", "")
    telemetry.log_transformation_step("b", "", "")
    telemetry.finalize_cleaning_session(["Ann"])
    assert [250.0, 1000.0] == [row["processing_time_ms"] for row in stored(STEPS)]
    assert [3250.0] == [row["processing_time_ms"] for row in stored(SESSIONS)]


def test_odd_values_do_not_reach_the_caller(store: TelemetryStore, stored: Stored) -> None:
    """None, numbers, lone surrogates, and what has no text are recorded as well as may be, or counted."""
    telemetry = BylineCleaningTelemetry(store=store)
    telemetry.start_cleaning_session(None, article_id=7)  # type: ignore[arg-type]
    telemetry.log_transformation_step(None, None, 5, None, ["a", "b"], None, "0.5", None)  # type: ignore[arg-type]
    telemetry.log_transformation_step("a", "\ud800", "", confidence_delta=None)  # type: ignore[arg-type]
    telemetry.log_error(ValueError("bad"))  # type: ignore[arg-type]
    telemetry.log_warning(Unspeakable(), None)  # type: ignore[arg-type]
    telemetry.finalize_cleaning_session([None, Path("x"), "B"], likely_noise="yes")  # type: ignore[list-item,arg-type]
    for raw in (12, Unspeakable()):
        telemetry.start_cleaning_session(raw)  # type: ignore[arg-type]
        telemetry.finalize_cleaning_session("Ann Lee")
    telemetry.start_cleaning_session("refused")
    telemetry.finalize_cleaning_session(Unspeakable())
    assert [None, "a"] == [row["step_name"] for row in stored(STEPS)]
    assert [("5", "['a', 'b']", 0.5), ("", None, None)] == [
        (row["output_text"], row["removed_content"], row["confidence_delta"]) for row in stored(STEPS)
    ]
    first, second, third = stored(SESSIONS)
    assert (None, "7", 0, 0) == (
        first["raw_byline"],
        first["article_id"],
        first["raw_byline_length"],
        first["raw_byline_words"],
    )
    assert (0.5, 1, '[null, "x", "B"]', 3, "x, B") == (
        first["confidence_score"],
        first["likely_noise"],
        first["final_authors_json"],
        first["final_authors_count"],
        first["final_authors_display"],
    )
    assert ["bad"] == [error["message"] for error in json.loads(first["cleaning_errors"])]
    assert [None] == [warning["type"] for warning in json.loads(first["parsing_warnings"])]
    assert ("12", '["Ann Lee"]') == (second["raw_byline"], second["final_authors_json"])
    assert "<Unspeakable: RuntimeError>" == third["raw_byline"]
    assert 1 == telemetry.failures


def test_a_session_is_written_whole_or_not_at_all(store: TelemetryStore, stored: Stored) -> None:
    """When the database refuses a step, nothing of its session is stored, and the next one is."""
    telemetry = BylineCleaningTelemetry(store=store)
    telemetry.start_cleaning_session("first")
    telemetry.log_transformation_step("a", "", "")
    telemetry.transformation_steps[0]["telemetry_id"] = "of nobody"
    telemetry.finalize_cleaning_session([])
    telemetry.start_cleaning_session("second")
    telemetry.finalize_cleaning_session([])
    assert ["second"] == [row["raw_byline"] for row in stored(SESSIONS)]
    assert [] == stored(STEPS)


@pytest.mark.parametrize("mode", ["sync"])
def test_nothing_without_a_session(store: TelemetryStore) -> None:
    """Logging and finalising without an open session does nothing."""
    telemetry = BylineCleaningTelemetry(store=store)
    for _ in range(2):
        telemetry.log_transformation_step("a", "b", "c")
        telemetry.log_error("e")
        telemetry.log_warning("w")
        telemetry.finalize_cleaning_session(["x"])
        assert (None, [], 0, None) == gathered(telemetry)
    assert 0 == store.stats().submitted
    assert 0 == telemetry.failures


def test_calls_without_a_session_are_told(
    store: TelemetryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted; the first of a kind is a warning, the next ones again after a minute, with their number."""
    now = 1000.0
    monkeypatch.setattr("producers.destination.monotonic", lambda: now)
    telemetry = BylineCleaningTelemetry(store=store)
    with caplog.at_level(logging.WARNING, logger="producers.byline"):
        for _ in range(3):
            telemetry.finalize_cleaning_session(["x"])
        telemetry.log_error("e")
        telemetry.log_warning("w")
        telemetry.log_transformation_step("a", "b", "c")
        now += 61
        telemetry.finalize_cleaning_session(["x"])
        telemetry.start_cleaning_session("By Ann")
        telemetry.start_cleaning_session("By Bob")
    assert (8, 0) == (telemetry.missed, telemetry.failures)
    assert [
        ("finalize_cleaning_session without start_cleaning_session", "1"),
        ("log_error without start_cleaning_session", "4"),
        ("log_warning without start_cleaning_session", "5"),
        ("log_transformation_step without start_cleaning_session", "6"),
        ("finalize_cleaning_session without start_cleaning_session", "7"),
        ("start_cleaning_session while a session is open, which is dropped", "8"),
    ] == [
        (text.partition(":")[0], text.rpartition(" ")[2]) for text in map(logging.LogRecord.getMessage, caplog.records)
    ]
    off = BylineCleaningTelemetry(False)
    off.finalize_cleaning_session(["x"])
    assert 0 == off.missed


def test_switched_off(refusing_store: Any) -> None:
    """Nothing is recorded, `flush()` does nothing, ids come all the same, and there is no store."""
    telemetry = BylineCleaningTelemetry(False, refusing_store)
    ids = {telemetry.start_cleaning_session("Ann") for _ in range(2)}
    assert [4, 4] == [UUID(telemetry_id).version for telemetry_id in ids]
    telemetry.log_transformation_step("a", "b", "c")
    telemetry.log_error("e")
    telemetry.finalize_cleaning_session(["x"])
    telemetry.flush()
    assert (None, [], 0, None) == gathered(telemetry)
    assert 0 == telemetry.failures
    with pytest.raises(RuntimeError, match="off"):
        _ = telemetry.store


def test_a_refusal_of_the_store_is_logged(refusing_store: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What `submit` raises is a warning in the log and a count, and the object is ready for the next session."""
    telemetry = BylineCleaningTelemetry(store=refusing_store)
    with caplog.at_level(logging.WARNING, logger="producers.byline"):
        telemetry.start_cleaning_session("Ann")
        telemetry.finalize_cleaning_session(["Ann"])
    assert ["telemetry is not recorded: OSError: refused"] == [record.getMessage() for record in caplog.records]
    assert 1 == telemetry.failures
    assert (None, [], 0, None) == gathered(telemetry)


def test_importing_opens_nothing(tmp_path: Path) -> None:
    """The shared instance opens its database at its first session's end, where there was no folder before."""
    program = (
        "import os; from producers.byline import telemetry\n"
        "telemetry.start_cleaning_session('Ann'); print(os.listdir('.'))\n"
        "telemetry.finalize_cleaning_session(['Ann']); telemetry.flush(); print(os.listdir('data'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "TELEMETRY_BUS_MODE": "sync"},
    )
    assert ("", 0) == (ran.stderr, ran.returncode)
    before, after = ran.stdout.splitlines()
    assert "[]" == before
    assert "mizzou.db" in after


def gathered(telemetry: BylineCleaningTelemetry) -> tuple[object, ...]:
    return (
        telemetry.current_session,
        telemetry.transformation_steps,
        telemetry.step_counter,
        telemetry.get_session_summary(),
    )
