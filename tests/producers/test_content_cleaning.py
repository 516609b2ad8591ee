"""What content cleaning records: sessions, segments, events."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from producers.content_cleaning import ContentCleaningTelemetry
from producers.values import parse_moment, stable_hash64
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]

TABLES = (
    "content_cleaning_sessions",
    "content_cleaning_segments",
    "content_cleaning_wire_events",
    "content_cleaning_locality_events",
    "persistent_boilerplate_patterns",
)


class Unspeakable:
    """A value that nothing can be done with."""

    def _refuse(self) -> Any:
        raise RuntimeError("no")

    __str__ = __bool__ = __len__ = __iter__ = __float__ = __index__ = _refuse


def gathered(telemetry: ContentCleaningTelemetry) -> tuple[object, ...]:
    return (
        telemetry.current_session,
        telemetry.detected_segments,
        telemetry.wire_detection_events,
        telemetry.locality_detection_events,
        telemetry.detection_counter,
        telemetry._last_boundary_assessment,
    )


NOTHING: tuple[object, ...] = (None, [], [], [], 0, None)


def segment(telemetry: ContentCleaningTelemetry, text: Any = "Subscribe now", **changed: Any) -> None:
    values = {
        "boundary_score": 0.75,
        "occurrences": 4,
        "pattern_type": "subscription",
        "position_consistency": 0.5,
        "segment_length": 13,
        "article_ids": ["a1", "a2"],
        "was_removed": True,
        "removal_reason": "known",
    }
    telemetry.log_segment_detection(text, **{**values, **changed})


def test_a_session_is_stored_whole(store: TelemetryStore, stored: Stored) -> None:
    """Each column of a session and of all that was found in it: flags as 0, 1 and NULL, lists as JSON, UTC."""
    telemetry = ContentCleaningTelemetry(store=store)
    before = datetime.now(UTC)
    telemetry_id = telemetry.start_cleaning_session("x.com", 12, min_boundary_score=0.25)
    segment(telemetry)
    nothing = dict.fromkeys(("was_removed", "removal_reason", "article_ids"))
    segment(telemetry, "Ad", segment_length=2, pattern_type="ad", **nothing)
    telemetry.log_wire_detection("AP", "regex", "(AP)", 0.5, "early")
    metadata = {"at": datetime(2026, 1, 2)}
    telemetry.log_wire_detection("Reuters", "dateline", "LONDON", 1, "late", ["a1"], "y.com", metadata)
    locality = {"is_local": "yes", "confidence": 0.5, "raw_score": 3, "threshold": 2.5, "signals": [{"city": "X"}]}
    telemetry.log_locality_detection("AP", "scorer", "a1", "x.com", locality, {"county": "Z"})
    telemetry.log_locality_detection("AP", "scorer", "a2", "x.com", {"why": "nothing"})
    telemetry.finalize_cleaning_session(5, 2, 130, 12.5, 42.5)

    rows = {name: stored(f"SELECT * FROM {name} ORDER BY rowid") for name in TABLES[:4]}
    for row in (row for table in rows.values() for row in table):
        assert parse_moment(row.pop("created_at")) is not None
        for name in {"start_time", "end_time", "timestamp"} & set(row):
            moment = parse_moment(row.pop(name))
            assert moment is not None
            assert before <= moment <= datetime.now(UTC)
        assert telemetry_id == row.pop("telemetry_id")
        assert UUID(row.pop("id", telemetry_id)).version == 4
        assert telemetry.session_id == row.pop("session_id", telemetry.session_id)
    assert [
        {
            "domain": "x.com",
            "article_count": 12,
            "min_occurrences": 3,
            "min_boundary_score": 0.25,
            "processing_time_ms": 42.5,
            "rough_candidates_found": 5,
            "segments_detected": 2,
            "total_removable_chars": 130,
            "removal_percentage": 12.5,
        }
    ] == rows["content_cleaning_sessions"]
    assert [
        {
            "detection_number": 1,
            "segment_text": "Subscribe now",
            "segment_text_hash": stable_hash64("Subscribe now"),
            "boundary_score": 0.75,
            "occurrences": 4,
            "pattern_type": "subscription",
            "position_consistency": 0.5,
            "segment_length": 13,
            "affected_article_count": 2,
            "was_removed": 1,
            "removal_reason": "known",
            "article_ids_json": '["a1", "a2"]',
        },
        {
            "detection_number": 2,
            "segment_text": "Ad",
            "segment_text_hash": stable_hash64("Ad"),
            "boundary_score": 0.75,
            "occurrences": 4,
            "pattern_type": "ad",
            "position_consistency": 0.5,
            "segment_length": 2,
            "affected_article_count": 0,
            "was_removed": None,
            "removal_reason": None,
            "article_ids_json": "[]",
        },
    ] == rows["content_cleaning_segments"]
    assert [
        {
            "domain": "x.com",
            "provider": "AP",
            "detection_method": "regex",
            "detection_stage": "early",
            "confidence": 0.5,
            "pattern_text": "(AP)",
            "pattern_text_hash": stable_hash64("(AP)"),
            "article_ids_json": "[]",
            "metadata_json": "{}",
        },
        {
            "domain": "y.com",
            "provider": "Reuters",
            "detection_method": "dateline",
            "detection_stage": "late",
            "confidence": 1.0,
            "pattern_text": "LONDON",
            "pattern_text_hash": stable_hash64("LONDON"),
            "article_ids_json": '["a1"]',
            "metadata_json": '{"at": "2026-01-02T00:00:00"}',
        },
    ] == rows["content_cleaning_wire_events"]
    assert [
        {
            "domain": "x.com",
            "provider": "AP",
            "detection_method": "scorer",
            "article_id": "a1",
            "is_local": 1,
            "confidence": 0.5,
            "raw_score": 3.0,
            "threshold": 2.5,
            "signals_json": '[{"city": "X"}]',
            "locality_json": json.dumps(locality),
            "source_context_json": '{"county": "Z"}',
        },
        {
            "domain": "x.com",
            "provider": "AP",
            "detection_method": "scorer",
            "article_id": "a2",
            "is_local": 0,
            "confidence": None,
            "raw_score": None,
            "threshold": None,
            "signals_json": "[]",
            "locality_json": '{"why": "nothing"}',
            "source_context_json": "{}",
        },
    ] == rows["content_cleaning_locality_events"]


@pytest.mark.parametrize("mode", ["sync"])
def test_what_gathers_can_be_seen(store: TelemetryStore) -> None:
    """The open session and the lists are dictionaries by the columns' names; finalising clears everything."""
    telemetry = ContentCleaningTelemetry(store=store)
    assert NOTHING == gathered(telemetry)
    telemetry_id = telemetry.start_cleaning_session("x.com", 12)
    session = telemetry.current_session
    assert session is not None
    assert datetime is type(session["start_time"])
    assert {
        "telemetry_id": telemetry_id,
        "session_id": telemetry.session_id,
        "domain": "x.com",
        "article_count": 12,
        "min_occurrences": 3,
        "min_boundary_score": 0.3,
        "start_time": session["start_time"],
        "processing_time_ms": None,
        "rough_candidates_found": None,
        "segments_detected": None,
        "total_removable_chars": None,
        "removal_percentage": None,
    } == session
    segment(telemetry)
    telemetry.log_wire_detection("AP", "regex", "(AP)", 0.5, "early", extra_metadata={"a": 1})
    telemetry.log_locality_detection("AP", "scorer", "a1", "x.com", {"is_local": False})
    assert 1 == telemetry.detection_counter
    found = (telemetry.detected_segments, telemetry.wire_detection_events, telemetry.locality_detection_events)
    assert [1, 1, 1] == [len(rows) for rows in found]
    assert [datetime] * 3 == [type(rows[0]["timestamp"]) for rows in found]
    assert ('["a1", "a2"]', '{"a": 1}', '{"is_local": false}') == (
        found[0][0]["article_ids_json"],
        found[1][0]["metadata_json"],
        found[2][0]["locality_json"],
    )
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    assert NOTHING == gathered(telemetry)
    assert session["start_time"] <= session["end_time"]


@pytest.mark.parametrize("mode", ["sync"])
def test_an_open_session_is_dropped_by_the_next(store: TelemetryStore, stored: Stored) -> None:
    """Starting anew stores nothing of what was open, and counts from 1."""
    telemetry = ContentCleaningTelemetry(store=store)
    first = telemetry.start_cleaning_session("first", 1)
    segment(telemetry)
    telemetry.log_wire_detection("AP", "regex", "(AP)", 0.5, "early")
    telemetry.log_locality_detection("AP", "scorer", "a1", "x.com", {"is_local": False})
    second = telemetry.start_cleaning_session("second", 1)
    assert NOTHING[1:] == gathered(telemetry)[1:]
    segment(telemetry, "other")
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    assert first != second
    assert [1, 1, 0, 0, 1] == [stored(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in TABLES]
    assert [(second, 1)] == [
        (row["telemetry_id"], row["detection_number"]) for row in stored("SELECT * FROM content_cleaning_segments")
    ]


@pytest.mark.parametrize("mode", ["sync"])
def test_the_time_is_measured_when_it_is_not_given(
    store: TelemetryStore, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the session's start to its end, in milliseconds; a given time counts, 0 too."""
    telemetry = ContentCleaningTelemetry(store=store)
    clock = iter([10.0, 12.5, 20.0, 30.0, 40.0])
    monkeypatch.setattr("producers.content_cleaning.recorder.perf_counter", clock.__next__)
    for given in (None, 0):
        telemetry.start_cleaning_session("x.com", 1)
        telemetry.finalize_cleaning_session(1, 1, 1, 1.0, given)
    rows = stored("SELECT processing_time_ms AS ms FROM content_cleaning_sessions ORDER BY rowid")
    assert [2500.0, 0.0] == [row["ms"] for row in rows]


@pytest.mark.parametrize(
    ("text", "length", "upper", "ends"),
    [
        ("Ab.", 3, True, True),
        ("aB", 2, False, False),
        ("É?", 2, True, True),
        ("1!", 2, False, True),
        ("", 0, False, False),
    ],
)
def test_the_latest_assessment_is_kept_in_memory(text: str, length: int, upper: bool, ends: bool) -> None:
    """An assessment replaces the one before and says how the text begins and ends; it needs no store."""
    telemetry = ContentCleaningTelemetry(store=None)
    telemetry.start_cleaning_session("x.com", 1)
    telemetry.log_boundary_assessment("before", 0, {}, [])
    telemetry.log_boundary_assessment(text, 0.5, {"a": 0.5}, ["p"])
    assert {
        "text": text,
        "final_score": 0.5,
        "score_breakdown": {"a": 0.5},
        "detected_patterns": ["p"],
        "text_length": length,
        "starts_uppercase": upper,
        "ends_with_punctuation": ends,
    } == telemetry._last_boundary_assessment


def test_odd_values_do_not_reach_the_caller(store: TelemetryStore, stored: Stored) -> None:
    """None and values of other types are recorded as well as may be; what cannot be is counted, and costs no
    neighbour."""
    telemetry = ContentCleaningTelemetry(store=store)
    odd: Any = Unspeakable()
    telemetry.start_cleaning_session("x.com", odd, odd, odd)
    segment(telemetry, None, segment_length=None, article_ids=None)
    segment(telemetry, "\ud800", boundary_score="high", article_ids="a1", pattern_type=None, was_removed="yes")
    segment(telemetry, "3", occurrences=odd, position_consistency=odd, segment_length=odd)
    segment(telemetry, "4", occurrences=float("inf"), segment_length="5")
    segment(telemetry, "t", article_ids=odd)
    segment(telemetry, "t", was_removed=odd)
    telemetry.log_wire_detection(None, None, None, None, None, None, None, None)  # type: ignore[arg-type]
    telemetry.log_wire_detection("AP", "m", "p", 1, "s", {"a1"}, None, {"set": {1}, 2: odd})  # type: ignore[dict-item]
    telemetry.log_wire_detection("AP", "m", "p", 1, "s", domain=odd)
    locality: Any
    for locality in (None, {}, odd, "local"):
        telemetry.log_locality_detection("AP", "m", None, None, locality)
    telemetry.log_locality_detection("AP", "m", 5, None, {"confidence": "low", "signals": 3})  # type: ignore[arg-type]
    telemetry.log_boundary_assessment(None, None, None, None)  # type: ignore[arg-type]
    telemetry.finalize_cleaning_session(odd, odd, odd, odd, odd)
    assert 5 == telemetry.failures
    assert [
        (1, None, 0.75, "[]", 1, 4, None, 0.5),
        (2, "?", None, '["a1"]', 1, 4, 13, 0.5),
        (3, "3", 0.75, '["a1", "a2"]', 1, None, None, None),
        (4, "4", 0.75, '["a1", "a2"]', 1, None, 5, 0.5),
    ] == [
        tuple(row.values())
        for row in stored(
            "SELECT detection_number, segment_text, boundary_score, article_ids_json, was_removed, occurrences,"
            " segment_length, position_consistency FROM content_cleaning_segments ORDER BY rowid"
        )
    ]
    assert [(None, "[]", "{}"), ("p", '["a1"]', '{"set": [1], "2": "<Unspeakable: RuntimeError>"}')] == [
        (row["pattern_text"], row["article_ids_json"], row["metadata_json"])
        for row in stored("SELECT * FROM content_cleaning_wire_events ORDER BY rowid")
    ]
    assert [("5", None, "[3]")] == [
        (row["article_id"], row["confidence"], row["signals_json"])
        for row in stored("SELECT * FROM content_cleaning_locality_events")
    ]
    (session,) = stored("SELECT article_count, min_boundary_score, removal_percentage FROM content_cleaning_sessions")
    assert [None] * 3 == list(session.values())
    assert ["3", "4"] == [row["text_content"] for row in stored("SELECT * FROM persistent_boilerplate_patterns")]


def test_a_session_is_written_whole_or_not_at_all(store: TelemetryStore, stored: Stored) -> None:
    """When the database refuses one of a session's rows nothing of it is stored, and the next session is."""
    telemetry = ContentCleaningTelemetry(store=store)
    telemetry.start_cleaning_session("first.com", 1)
    segment(telemetry)
    telemetry.log_locality_detection("AP", "scorer", "a1", "x.com", {"is_local": True})
    telemetry.locality_detection_events[0]["telemetry_id"] = "of nobody"
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    telemetry.start_cleaning_session("second.com", 1)
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    assert [1, 0, 0, 0, 0] == [stored(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in TABLES]
    assert [{"domain": "second.com"}] == stored("SELECT domain FROM content_cleaning_sessions")
    if store.mode == "sync":
        assert 1 == telemetry.failures
    else:
        assert 1 == len(stored("SELECT * FROM telemetry_bus_dead_letters"))


@pytest.mark.parametrize("domain", [None, "", " ", "y.com"])
def test_the_domain_of_an_event(store: TelemetryStore, stored: Stored, domain: Any) -> None:
    """It is the session's when none is named, for each kind of event."""
    telemetry = ContentCleaningTelemetry(store=store)
    telemetry.start_cleaning_session("x.com", 1)
    telemetry.log_wire_detection("AP", "m", "p", 1, "s", domain=domain)
    telemetry.log_locality_detection("AP", "m", "a", domain, {"is_local": True})
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    expected = domain if domain and domain.strip() else "x.com"
    for table in ("content_cleaning_wire_events", "content_cleaning_locality_events"):
        assert [{"domain": expected}] == stored(f"SELECT domain FROM {table}")


def test_calls_without_a_session_are_told(store: TelemetryStore, caplog: pytest.LogCaptureFixture) -> None:
    """What has no session to go to is counted, and each kind of call is one warning; so is a session that a new one
    replaces."""
    telemetry = ContentCleaningTelemetry(store=store)
    with caplog.at_level(logging.WARNING, logger="producers.content_cleaning"):
        for _ in range(3):
            telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
        segment(telemetry)
        telemetry.start_cleaning_session("x.com", 1)
        telemetry.start_cleaning_session("y.com", 1)
    assert 5 == telemetry.missed
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert [
        "finalize_cleaning_session without start_cleaning_session",
        "log_segment_detection without start_cleaning_session",
        "start_cleaning_session while a session is open, which is dropped",
    ] == told
    assert 0 == telemetry.failures


@pytest.mark.parametrize("mode", ["sync"])
def test_nothing_without_a_session(store: TelemetryStore) -> None:
    """Logging and finalising without an open session does nothing."""
    telemetry = ContentCleaningTelemetry(store=store)
    record_all(telemetry)
    assert NOTHING == gathered(telemetry)
    assert (0, 0) == (store.stats().submitted, telemetry.failures)


def test_switched_off(refusing_store: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is recorded and nothing read, the id is empty, there is no store; `flush()` does nothing."""
    telemetry = ContentCleaningTelemetry(enable_telemetry=False, store=refusing_store)
    assert "" == telemetry.start_cleaning_session("x.com", 1)
    record_all(telemetry)
    telemetry.flush()
    telemetry.shutdown(wait=True)
    assert NOTHING == gathered(telemetry)
    assert ([], [], [], {}) == read_all(telemetry)
    assert (0, []) == (telemetry.failures, caplog.records)
    with pytest.raises(RuntimeError, match="off"):
        _ = telemetry.store


def test_a_refusal_of_the_store_is_logged(refusing_store: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What `submit` or a read raises is a warning in the log; recording is counted, reading gives what is empty."""
    telemetry = ContentCleaningTelemetry(store=refusing_store)
    with caplog.at_level(logging.WARNING, logger="producers.content_cleaning"):
        telemetry.start_cleaning_session("x.com", 1)
        record_all(telemetry)
        assert NOTHING == gathered(telemetry)
        assert ["telemetry is not recorded: OSError: refused"] == [record.getMessage() for record in caplog.records]
        caplog.clear()
        assert ([], [], [], {}) == read_all(telemetry)
    assert 4 * ["the telemetry of content cleaning cannot be read"] == [each.getMessage() for each in caplog.records]
    assert 1 == telemetry.failures


@pytest.mark.parametrize("mode", ["sync"])
def test_the_store_is_opened_at_the_first_use(
    store: TelemetryStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a store the shared one of the URL is taken, not before it is asked for."""
    asked: list[object] = []

    def get(url: object) -> TelemetryStore:
        asked.append(url)
        return store

    monkeypatch.setattr("producers.destination.get_store", get)
    telemetry = ContentCleaningTelemetry(database_url=f"sqlite:///{database}")
    telemetry.start_cleaning_session("x.com", 1)
    segment(telemetry)
    assert [] == asked
    assert store is telemetry.store
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    assert [f"sqlite:///{database}"] == asked
    assert 1 == store.stats().submitted


@pytest.mark.parametrize("mode", ["sync"])
def test_shutdown_leaves_the_store_open(store: TelemetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `wait` it flushes; the store can be used afterwards, by this object and by others."""
    flushed: list[None] = []
    monkeypatch.setattr(store, "flush", lambda timeout=None: flushed.append(None))
    telemetry = ContentCleaningTelemetry(store=store)
    telemetry.shutdown()
    assert 0 == len(flushed)
    telemetry.shutdown(wait=True)
    assert 1 == len(flushed)
    telemetry.start_cleaning_session("x.com", 1)
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)
    assert (1, 0) == (store.stats().submitted, telemetry.failures)


def test_any_store_will_do(plain_store: Any, looked: Stored) -> None:
    """A store that runs each definition each time, on a connection of the driver."""
    for _ in range(2):
        telemetry = ContentCleaningTelemetry(store=plain_store)
        assert ([], 0) == (telemetry.get_persistent_patterns("y.com"), telemetry.failures)
        for _ in range(2):
            telemetry.start_cleaning_session("x.com", 1)
            record_all(telemetry)
        telemetry.flush()
        assert 0 == telemetry.failures
    assert [4, 4, 4, 4, 1] == [looked(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in TABLES]
    (pattern,) = telemetry.get_persistent_patterns("x.com")
    assert 16 == pattern["occurrences_total"]


def record_all(telemetry: ContentCleaningTelemetry) -> None:
    """One of everything, into a session that may be open, and its end."""
    segment(telemetry)
    telemetry.log_wire_detection("AP", "regex", "(AP)", 0.5, "early")
    telemetry.log_locality_detection("AP", "scorer", "a1", "x.com", {"is_local": True})
    telemetry.log_boundary_assessment("t", 1, {}, [])
    telemetry.finalize_cleaning_session(1, 1, 1, 1.0)


def read_all(telemetry: ContentCleaningTelemetry) -> tuple[object, ...]:
    return (
        telemetry.get_persistent_patterns("x.com"),
        telemetry.get_ml_training_patterns(),
        telemetry.get_telemetry_patterns(),
        telemetry.get_domain_telemetry_summary("x.com"),
    )
