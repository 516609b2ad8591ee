"""The column types of all producers, as both databases store them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql, sqlite

from producers.columns import Flag, JsonText, PlainText, Real, UtcTimestamp

MODULES: Any = (sqlite, postgresql)
SQLITE, POSTGRESQL = (module.dialect() for module in MODULES)


class Colour(Enum):
    RED = "red"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def stored(kind: Any, value: object, dialect: Any = SQLITE) -> object:
    return kind.bind_processor(dialect)(value)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("2026-01-02 03:04:05.000006", datetime(2026, 1, 2, 3, 4, 5, 6)),
        ("2026-01-02 01:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))),
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"),
        ("9999-12-31 23:59:59", datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5)))),
        (None, "yesterday"),
        (None, None),
        (None, 5),
    ],
)
def test_moments(expected: str | None, value: object) -> None:
    """Whatever form a moment comes in, it is stored in one; what is none is NULL."""
    assert expected == stored(UtcTimestamp(), value)


def test_moments_without_fraction() -> None:
    """Some readers take nothing but seconds."""
    kind = UtcTimestamp(fraction=False)
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert "2026-01-02 03:04:05" == stored(kind, moment) == stored(kind.dialect_impl(SQLITE), moment)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (None, None),
        ("a", "a"),
        ("ä", "ä"),
        ("red", Colour.RED),
        ("5", 5),
        ("?x", "\ud800x"),
        ("<Unprintable: RuntimeError>", Unprintable()),
    ],
)
def test_text(expected: str | None, value: object) -> None:
    """Anything becomes text that the database takes."""
    assert expected == stored(PlainText(), value)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (None, None),
        ("[]", ()),
        ('{"1": null, "red": ["a"]}', {1: float("nan"), Colour.RED: {"a"}}),
        ('"<Unprintable: RuntimeError>"', Unprintable()),
    ],
)
def test_json(expected: str | None, value: object) -> None:
    """Anything becomes JSON that every reader takes."""
    assert expected == stored(JsonText(), value)


def test_json_of_what_contains_itself() -> None:
    """It is cut off where it begins again."""
    value: list[Any] = [1]
    value.append(value)
    assert stored(JsonText(), value) == '[1, "\\u2026"]'


def test_flags() -> None:
    """Truth is 0 or 1 in SQLite, a boolean in PostgreSQL; None is NULL."""
    assert [1, 0, None] == [stored(Flag(), value) for value in ("yes", "", None)]
    assert True is stored(Flag(), "yes", POSTGRESQL)


def test_types_as_databases_call_them() -> None:
    """A fraction has eight bytes on both."""
    assert "REAL" == Real.compile(SQLITE)
    assert "DOUBLE PRECISION" == Real.compile(POSTGRESQL)
