"""What is derived from the steps of a byline's cleaning."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from producers.byline.session import new_session, new_step, take_in

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def after(*steps: dict[str, Any]) -> dict[str, Any]:
    """A session after these steps."""
    session = new_session("id", "Ann", NOW)
    for number, step in enumerate(steps, 1):
        values = {"step_name": None, "removed_content": None, "notes": None, "confidence_delta": 0.0, **step}
        take_in(session, new_step("id", number, NOW, 0.0, **values))
    return session


def test_confidence_adds_up() -> None:
    """Every step's delta is added, without limits; what is no number counts nothing."""
    assert 2.75 == after(*({"confidence_delta": delta} for delta in (1, 2.5, -0.75, None, "much")))["confidence_score"]
    assert -1.0 == after({"confidence_delta": -1})["confidence_score"]


@pytest.mark.parametrize(
    ("name", "step", "flag"),
    [
        ("email_removal", {"removed_content": "a@b.c"}, "has_email"),
        ("source_removal", {"removed_content": "Daily"}, "source_name_removed"),
        ("wire_service_detection", {"notes": "Found Wire Service: AP"}, "has_wire_service"),
    ],
)
def test_flags(name: str, step: dict[str, Any], flag: str) -> None:
    """A flag is set by the step of its name with something to say, and by no other; it stays set."""
    flags = {"has_email", "source_name_removed", "has_wire_service", "has_title", "has_organization"}

    def found(*steps: dict[str, Any]) -> set[str]:
        session = after(*steps)
        return {each for each in flags if session[each]}

    assert {flag} == found({"step_name": name, **step}, {"step_name": name})
    assert set() == found({"step_name": name, "removed_content": "", "notes": "wire"})
    assert set() == found({"step_name": name})
    assert set() == found({"step_name": "other", **step})


def test_duplicates_are_counted() -> None:
    """The parts between commas that are not blank, over all steps of that name."""
    assert (
        3
        == after(
            {"step_name": "duplicate_removal", "removed_content": "Ann, ,Bob,"},
            {"step_name": "duplicate_removal", "removed_content": "Cy"},
            {"step_name": "duplicate_removal"},
            {"step_name": "other", "removed_content": "Dee"},
        )["duplicates_removed_count"]
    )


@pytest.mark.parametrize(("length", "words", "raw"), [(0, 0, None), (0, 0, ""), (3, 0, "   "), (8, 2, "Ann\tLée ")])
def test_size_of_a_byline(length: int, words: int, raw: str | None) -> None:
    """Characters, and words between white space; both 0 without a byline."""
    session = new_session("id", raw, NOW)
    assert (length, words) == (session["raw_byline_length"], session["raw_byline_words"])
