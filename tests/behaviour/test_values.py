"""Values of every type, as a reader finds them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest

from telemetry_bus import JobTooLarge, TelemetryStore, UnsupportedValue

from .looking import rows

THINGS = "CREATE TABLE IF NOT EXISTS things (value)"
INSERT = "INSERT INTO things (value) VALUES (?)"


class Colour(Enum):
    RED = "red"
    THREE = 3


class Shape(StrEnum):
    ROUND = "round"


class Text(str):
    pass


class Number(int):
    pass


class Ratio(float):
    pass


ZONE = timezone(timedelta(hours=5, minutes=30))
#: What is given, what is stored, and as what.
STORED = {
    "None": (None, None, "null"),
    "True": (True, 1, "integer"),
    "False": (False, 0, "integer"),
    "int": (-7, -7, "integer"),
    "smallest int": (-(2**63), -(2**63), "integer"),
    "largest int": (2**63 - 1, 2**63 - 1, "integer"),
    "float": (0.1, 0.1, "real"),
    "whole float": (2.0, 2.0, "real"),
    "infinity": (math.inf, math.inf, "real"),
    "NaN": (math.nan, None, "null"),
    "str": ("plain", "plain", "text"),
    "empty str": ("", "", "text"),
    "unicode": ("ÅΩ漢🙂\u202e", "ÅΩ漢🙂\u202e", "text"),
    "NUL": ("a\0b", "a\0b", "text"),
    "bytes": (b"\0\xff", b"\0\xff", "blob"),
    "empty bytes": (b"", b"", "blob"),
    "bytearray": (bytearray(b"ab"), b"ab", "blob"),
    "memoryview": (memoryview(b"ab"), b"ab", "blob"),
    "datetime": (datetime(2024, 2, 29, 1, 2, 3), "2024-02-29 01:02:03", "text"),
    "datetime with fraction": (datetime(2024, 2, 29, 1, 2, 3, 45), "2024-02-29 01:02:03.000045", "text"),
    "datetime in UTC": (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29 00:00:00+00:00", "text"),
    "datetime in a zone": (datetime(2024, 2, 29, 1, 2, 3, tzinfo=ZONE), "2024-02-29 01:02:03+05:30", "text"),
    "date": (date(999, 1, 2), "0999-01-02", "text"),
    "time": (time(1, 2, 3), "01:02:03", "text"),
    "time with fraction": (time(1, 2, 3, 4), "01:02:03.000004", "text"),
    "Decimal": (Decimal("1.10"), "1.10", "text"),
    "UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001", "text"),
    "Enum": (Colour.RED, "red", "text"),
    "Enum of a number": (Colour.THREE, "3", "text"),
    "StrEnum": (Shape.ROUND, "round", "text"),
    "subclass of str": (Text("t"), "t", "text"),
    "subclass of int": (Number(5), 5, "integer"),
    "subclass of float": (Ratio(0.5), 0.5, "real"),
}


@pytest.mark.parametrize("mode", ["thread", "sync"])
@pytest.mark.parametrize(("given", "value", "stored_as"), STORED.values(), ids=STORED.keys())
def test_value(store: TelemetryStore, given: Any, value: Any, stored_as: str) -> None:
    """Each type is stored in its documented form, alone and beside rows of other types."""
    store.execute(INSERT, (given,), ensure=[THINGS])
    store.executemany(INSERT, [(1,), (given,)])
    expected = [(value, stored_as), (1, "integer"), (value, stored_as)]
    assert expected == rows(store, "SELECT value, typeof(value) FROM things ORDER BY rowid")


def test_all_values_together(store: TelemetryStore) -> None:
    """The same in one job, in each of the modes."""
    store.executemany(INSERT, [(given,) for given, _, _ in STORED.values()], ensure=[THINGS])
    expected = [(value, kind) for _, value, kind in STORED.values()]
    assert expected == rows(store, "SELECT value, typeof(value) FROM things ORDER BY rowid")


class Opaque:
    pass


BAD: dict[str, tuple[object, str]] = {
    "object": (Opaque(), "Opaque"),
    "list": ([1], "list"),
    "dict": ({"a": 1}, "dict"),
    "set": ({1}, "set"),
    "tuple": ((1,), "tuple"),
    "complex": (1j, "complex"),
    "timedelta": (timedelta(1), "timedelta"),
    "type": (int, "type"),
    "function": (math.sin, "builtin"),
    "too large an int": (2**63, "64 bit"),
    "too small an int": (-(2**63) - 1, "64 bit"),
    "huge int": (10**100, "64 bit"),
    "subclass of int": (Number(2**63), "64 bit"),
    "lone surrogate": ("a\ud800", "surrogate"),
}

WAYS: dict[str, Callable[[TelemetryStore, object], object]] = {
    "execute": lambda store, value: store.execute(
        "INSERT INTO things VALUES (?), (?), (?)", ("good", value, 1), ensure=[THINGS]
    ),
    "executemany": lambda store, value: store.executemany(
        "INSERT INTO things VALUES (?), (?)", [(1, 2), (3, value)], ensure=[THINGS]
    ),
    "submit": lambda store, value: store.submit(
        lambda conn: conn.execute("INSERT INTO things VALUES (:a), (:b)", {"b": value, "a": 1}), ensure=[THINGS]
    ),
}


@pytest.mark.parametrize("mode", ["thread", "sync"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(("value", "what"), BAD.values(), ids=BAD.keys())
def test_unsupported_value(
    store: TelemetryStore, value: object, what: str, way: Callable[[TelemetryStore, object], object]
) -> None:
    """What no column can hold is refused at the call, with its type and its position, and nothing is queued."""
    with pytest.raises(UnsupportedValue, match=what) as caught:
        way(store, value)
    assert "value 2 " in str(caught.value)
    assert caught.value.hint
    assert 0 == store.stats().submitted
    store.execute(INSERT, ("good",), ensure=[THINGS])
    assert [("good",)] == rows(store, "SELECT value FROM things")


LIMIT = 8 * 1024 * 1024


def test_largest_job(store: TelemetryStore) -> None:
    """A job of nearly 8 MiB is taken, and arrives whole."""
    size = LIMIT - 10_000
    store.execute(INSERT, (b"x" * size,), ensure=[THINGS])
    assert [(size,)] == rows(store, "SELECT length(value) FROM things")


def test_job_over_the_limit(store: TelemetryStore) -> None:
    """A job of more than 8 MiB is refused at the call, and nothing is queued."""
    submits: list[Callable[[], object]] = [
        lambda: store.execute(INSERT, (b"x" * LIMIT,), ensure=[THINGS]),
        lambda: store.executemany(INSERT, [("x" * 1024,)] * 8192, ensure=[THINGS]),
        lambda: store.submit(lambda conn: conn.execute(INSERT, ("x" * LIMIT,)), ensure=[THINGS]),
    ]
    for submit in submits:
        with pytest.raises(JobTooLarge, match=str(LIMIT)) as caught:
            submit()
        assert caught.value.hint
    assert 0 == store.stats().submitted
    store.execute(INSERT, (1,), ensure=[THINGS])
    assert [(1,)] == rows(store, "SELECT value FROM things")
