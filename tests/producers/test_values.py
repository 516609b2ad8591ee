"""The values that all producers' columns share."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy
import pandas
import pytest

from producers.kinds import FLAG, MOMENT, REAL, SECOND, TEXT, stored_json, stored_moment
from producers.values import json_text, parse_utc, stable_hash, stable_hash64, utc_text

#: What other libraries have where nothing is.
NONE: list[Any] = [
    *(None, math.nan, Decimal("NaN"), Decimal("sNaN")),
    *(pandas.NaT, pandas.NA, numpy.datetime64("NaT"), numpy.float32("nan")),
]


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("expected", "moment"),
    [
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02 03:04:05.000006", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-01-02 01:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_moment_is_utc_text(expected: str, moment: datetime) -> None:
    """Aware moments are converted, naive ones are taken as UTC, a zero fraction is left out."""
    assert expected == utc_text(moment)


def test_the_fraction_can_be_left_out() -> None:
    """Readers of the operations tables parse seconds only."""
    assert utc_text(datetime(2026, 1, 2, 3, 4, 5, 6), fraction=False) == "2026-01-02 03:04:05"


def test_now_is_the_default_and_sqlite_understands_it() -> None:
    """The text is one that SQLite's date functions take."""
    before = datetime.now(UTC)
    text = utc_text()
    assert before <= parse_utc(text) <= datetime.now(UTC)
    connection = sqlite3.connect(":memory:")
    (seconds,) = connection.execute("SELECT abs(julianday('now') - julianday(?)) * 86400", (text,)).fetchone()
    connection.close()
    assert seconds < 60


@pytest.mark.parametrize("text", ["2026-01-02 03:04:05", "2026-01-02T03:04:05", "2026-01-02 04:04:05+01:00"])
def test_text_becomes_an_aware_moment(text: str) -> None:
    """A space or a T, with or without an offset."""
    assert parse_utc(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("2026-01-02 00:00:00", date(2026, 1, 2)),
        ("2026-01-02 03:04:05", 1767323045),
        ("2026-01-02 03:04:05", 1767323045000),
        ("2026-01-02 03:04:05.500000", 1767323045.5),
        ("2026-01-02 03:04:05", numpy.datetime64("2026-01-02T03:04:05")),
        ("2026-01-02 03:04:05", numpy.datetime64("2026-01-02T03:04:05", "ns")),
        ("2026-01-02 03:04:05", pandas.Timestamp("2026-01-02 05:04:05+02:00")),
        (None, True),
        *((None, each) for each in NONE),
    ],
)
def test_what_a_moment_may_be(expected: str | None, value: object) -> None:
    """Whatever programs have for one; what stands for none is none."""
    assert expected == stored_moment(value)


@pytest.mark.parametrize("value", NONE)
def test_what_stands_for_none_is_null(value: object) -> None:
    """In every kind of column, and in what becomes JSON."""
    for kind in (TEXT, REAL, MOMENT, SECOND, FLAG):
        for convert in (kind.to_sqlite, kind.to_postgresql):
            assert convert is not None
            assert convert(value) is None
    assert '{"a": [null]}' == stored_json({"a": [value]})


@pytest.mark.parametrize("text", ["", "yesterday", None, 5])
def test_what_is_no_moment_is_now(text: object) -> None:
    """A reader never fails on an old row."""
    before = datetime.now(UTC)
    assert before <= parse_utc(text) <= datetime.now(UTC)


def test_json_takes_what_json_does_not_know() -> None:
    """Moments, enumerations and other objects are stored, not refused."""
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "colour": Colour.RED, "other": 1j}
    assert json.loads(json_text(value)) == {"at": "2026-01-02T00:00:00+00:00", "colour": "red", "other": "1j"}


def test_a_digest_is_the_same_in_another_process() -> None:
    """Unlike `hash()`, which is salted per process."""
    code = "from producers.values import stable_hash; print(stable_hash('Read more'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert stable_hash("Read more") == found


def test_a_digest_as_an_integer() -> None:
    """The first eight bytes of the same digest, signed, so that a column of integers takes it."""
    assert int.from_bytes(bytes.fromhex(stable_hash("a")[:16]), "big", signed=True) == stable_hash64("a")
    assert {True, False} == {stable_hash64(letter) < 0 for letter in "abcdefgh"}


def test_a_digest_of_any_text() -> None:
    """Lone surrogates, as a broken page may bring them, have a digest too."""
    assert stable_hash("\ud800") != stable_hash("\ud801")
