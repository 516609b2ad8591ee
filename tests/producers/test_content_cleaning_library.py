"""The library of boilerplate patterns: what enters it, how it counts, how it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from producers.content_cleaning import ContentCleaningTelemetry
from producers.values import stable_hash
from telemetry_bus import TelemetryStore

Stored = Callable[[str], list[dict[str, Any]]]

DEFAULTS: tuple[Any, ...] = (0.75, 1, "footer", True, "known")
PATTERNS = "SELECT * FROM persistent_boilerplate_patterns ORDER BY rowid"


def clean(telemetry: ContentCleaningTelemetry, domain: Any, *segments: tuple[Any, ...]) -> None:
    """A session with these segments: text, and as far as given score, occurrences, type, whether removed, reason."""
    telemetry.start_cleaning_session(domain, 1)
    for text, *given in segments:
        score, occurrences, kind, removed, reason = [*given, *DEFAULTS[len(given) :]]
        telemetry.log_segment_detection(text, score, occurrences, kind, 1.0, 5, ["a"], removed, reason)
    telemetry.finalize_cleaning_session(1, len(segments), 1, 50.0)


@pytest.mark.parametrize("mode", ["sync"])
def test_what_enters(store: TelemetryStore, stored: Stored) -> None:
    """Removed, a score of at least 0.5, one of seven types, a domain: all must hold; four types are for training."""
    telemetry = ContentCleaningTelemetry(store=store)
    persistent = ["subscription", "navigation", "footer", "social_share_header"]
    dynamic = ["sidebar", "trending", "other"]
    kinds = [*persistent, *dynamic, "ad", "", None]
    clean(telemetry, "x.com", *((f"of type {kind}", 0.5, 1, kind) for kind in kinds))
    for refused in ((0.49,), (None,), (0.75, 1, "footer", False), (0.75, 1, "footer", None)):
        clean(telemetry, "x.com", ("refused", *refused))
    for domain in ("", None):
        clean(telemetry, domain, ("refused",))
    clean(telemetry, "x.com", (None,))
    assert 0 == telemetry.failures
    assert [(kind, f"of type {kind}", kind in persistent) for kind in persistent + dynamic] == [
        (row["pattern_type"], row["text_content"], bool(row["is_ml_training_eligible"])) for row in stored(PATTERNS)
    ]


def test_a_pattern_that_is_seen_again(store: TelemetryStore, stored: Stored) -> None:
    """It counts on, keeps the larger score, takes the latest sight and the latest type's eligibility; all else stays
    as it was at first."""
    telemetry = ContentCleaningTelemetry(store=store)
    clean(telemetry, "x.com", ("Subscribe", 0.6, 4, "subscription", True, "first"))
    (first,) = stored(PATTERNS)
    assert UUID(first["id"]).version == 4
    assert ("x.com", "subscription", "Subscribe", stable_hash("Subscribe"), 0.6, 4, "first", 1, 1) == tuple(
        first[name]
        for name in (
            "domain",
            "pattern_type",
            "text_content",
            "text_hash",
            "confidence_score",
            "occurrences_total",
            "removal_reason",
            "is_active",
            "is_ml_training_eligible",
        )
    )
    assert first["first_seen"] == first["last_seen"]
    clean(telemetry, "x.com", ("Subscribe", 0.5, 3, "other", True, "second"))
    (second,) = stored(PATTERNS)
    changed: dict[str, object] = {"occurrences_total": 7, "is_ml_training_eligible": 0}
    moved = {name: second[name] for name in ("last_seen", "updated_at")}
    assert {**first, **changed, **moved} == second
    assert first["last_seen"] < second["last_seen"]
    assert first["updated_at"] <= second["updated_at"]
    clean(telemetry, "x.com", ("Subscribe", 0.9, None, "footer"))
    (third,) = stored(PATTERNS)
    changed = {"occurrences_total": 7, "is_ml_training_eligible": 1, "confidence_score": 0.9}
    assert {**second, **changed, "last_seen": third["last_seen"], "updated_at": third["updated_at"]} == third


def test_updated_at_moves(store: TelemetryStore, stored: Stored) -> None:
    """A further sight sets `updated_at` to now and leaves `created_at` and `first_seen` alone; a pattern that was
    switched off stays off, and an unknown count is taken as 0."""
    telemetry = ContentCleaningTelemetry(store=store)
    clean(telemetry, "x.com", ("Subscribe",))
    store.execute(
        "UPDATE persistent_boilerplate_patterns SET created_at = '2001-01-01', updated_at = '2001-01-01',"
        " first_seen = '2001-01-01', is_active = 0, occurrences_total = NULL"
    )
    clean(telemetry, "x.com", ("Subscribe", 0.75, 5))
    (row,) = stored(PATTERNS)
    assert ("2001-01-01", "2001-01-01", 0, 5) == (
        row["created_at"],
        row["first_seen"],
        row["is_active"],
        row["occurrences_total"],
    )
    assert "2001-01-01" < row["updated_at"]
    assert [] == telemetry.get_persistent_patterns("x.com")


def test_a_text_twice_in_a_session_counts_twice(store: TelemetryStore, stored: Stored) -> None:
    """Segments are applied one after the other, in order; other domains and texts have patterns of their own."""
    telemetry = ContentCleaningTelemetry(store=store)
    clean(telemetry, "x.com", ("A", 0.6, 2), ("B", 0.6, 1), ("A", 0.9, 3, "other"), ("A", 0.7, 5))
    clean(telemetry, "y.com", ("A", 0.6, 7))
    clean(telemetry, "x.com", ("B", 0.6, 1), ("A", 0.6, 1, "trending"))
    names = "domain, text_content, pattern_type, occurrences_total, confidence_score, is_ml_training_eligible"
    assert [
        ("x.com", "A", "footer", 11, 0.9, 0),
        ("x.com", "B", "footer", 2, 0.6, 1),
        ("y.com", "A", "footer", 7, 0.6, 1),
    ] == [tuple(row.values()) for row in stored(PATTERNS.replace("*", names))]


def test_reading(store: TelemetryStore) -> None:
    """Keys, order and filters of each read; flags are booleans; what is switched off is not there."""
    telemetry = ContentCleaningTelemetry(store=store)
    clean(
        telemetry,
        "x.com",
        ("low", 0.5, 9),
        ("most", 0.75, 5, "other"),
        ("more", 0.75, 7, "navigation"),
        ("sure", 1.0, 1, "footer", True, None),
        ("off", 1.0, 1),
    )
    clean(telemetry, "a.com", ("low", 0.5, 1), ("dynamic", 0.75, 1, "sidebar"))
    store.execute("UPDATE persistent_boilerplate_patterns SET is_active = 0 WHERE text_content = 'off'")
    store.flush()

    sure = {
        "pattern_type": "footer",
        "text_content": "sure",
        "confidence_score": 1.0,
        "occurrences_total": 1,
        "removal_reason": None,
    }
    patterns = telemetry.get_persistent_patterns("x.com")
    assert ["sure", "more", "most", "low"] == texts(patterns)
    assert {**sure, "is_ml_training_eligible": True} == patterns[0]
    assert [True, True, False, True] == [row["is_ml_training_eligible"] for row in patterns]
    assert {bool} == {type(row["is_ml_training_eligible"]) for row in patterns}
    assert [] == telemetry.get_persistent_patterns("z.com")

    assert ["low", "sure", "more", "low"] == texts(telemetry.get_ml_training_patterns())
    assert {"domain": "x.com", **sure} == telemetry.get_ml_training_patterns("x.com")[0]
    assert ["sure", "more", "low"] == texts(telemetry.get_ml_training_patterns("x.com"))

    every = telemetry.get_telemetry_patterns()
    assert ["dynamic", "low", "sure", "more", "most", "low"] == texts(every)
    assert ["dynamic", "persistent"] == [row["pattern_category"] for row in every[:2]]
    assert {"domain": "x.com", **sure, "is_ml_training_eligible": True, "pattern_category": "persistent"} == every[2]
    assert {bool} == {type(row["is_ml_training_eligible"]) for row in every}
    assert ["low", "sure", "more", "low"] == texts(telemetry.get_telemetry_patterns(include_dynamic=False))
    assert ["dynamic", "low"] == texts(telemetry.get_telemetry_patterns("a.com"))
    assert ["low"] == texts(telemetry.get_telemetry_patterns("a.com", False))


def test_the_summary_of_a_domain(store: TelemetryStore) -> None:
    """Sessions, means and the latest end of one domain; its segments by type, the most frequent first. Without any
    session the count is 0 and the rest unknown."""
    telemetry = ContentCleaningTelemetry(store=store)
    clean(telemetry, "other.com", ("A",))
    clean(telemetry, "x.com", ("A", 0.25, 1, "ad", False), ("B", 0.5, 1, "footer"))
    clean(telemetry, "x.com", ("A", 0.75, 1, "footer", None), ("B", 0.25, 1, "ad", True), ("C", None, 1, "footer"))
    store.flush()
    summary = telemetry.get_domain_telemetry_summary("x.com")
    with store.connection() as connection:
        (last,) = connection.execute("SELECT max(end_time) FROM content_cleaning_sessions").fetchone()
    assert {
        "domain": "x.com",
        "session_summary": {
            "session_count": 2,
            "avg_segments": 2.5,
            "avg_removal_pct": 50.0,
            "last_analysis": last,
        },
        "pattern_breakdown": [
            {"pattern_type": "footer", "detection_count": 3, "avg_boundary_score": 0.625, "removed_count": 2},
            {"pattern_type": "ad", "detection_count": 2, "avg_boundary_score": 0.25, "removed_count": 1},
        ],
    } == summary
    assert unknown("z.com") == telemetry.get_domain_telemetry_summary("z.com")


@pytest.mark.parametrize("mode", ["sync"])
def test_reading_before_anything_is_written(store: TelemetryStore, caplog: pytest.LogCaptureFixture) -> None:
    """Without tables there is nothing to read, and that is no error."""
    telemetry = ContentCleaningTelemetry(store=store)
    assert [] == telemetry.get_persistent_patterns("x.com")
    assert [] == telemetry.get_ml_training_patterns()
    assert [] == telemetry.get_telemetry_patterns()
    assert unknown("x.com") == telemetry.get_domain_telemetry_summary("x.com")
    assert [] == caplog.records


def unknown(domain: str) -> dict[str, Any]:
    return {
        "domain": domain,
        "session_summary": {"session_count": 0, "avg_segments": None, "avg_removal_pct": None, "last_analysis": None},
        "pattern_breakdown": [],
    }


def texts(patterns: list[dict[str, Any]]) -> list[str]:
    return [row["text_content"] for row in patterns]
