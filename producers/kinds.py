"""What columns hold: each kind's type on each database, and the form in which it stores a value.

Every kind takes any value, so that what is recorded lands; None is NULL, and so is what stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from telemetry_bus.config import DialectName

from .values import is_none, json_text, parse_moment, plain_text, utc_text

Convert = Callable[[Any], Any]


class Kind(NamedTuple):
    """The type's words and the conversions, by database; without a conversion a value is stored as it is."""

    sqlite: str
    postgresql: str
    to_sqlite: Convert | None = None
    to_postgresql: Convert | None = None

    def word(self, dialect: DialectName) -> str:
        return self.sqlite if dialect == "sqlite" else self.postgresql

    def conversion(self, dialect: DialectName) -> Convert | None:
        return self.to_sqlite if dialect == "sqlite" else self.to_postgresql


def stored_text(value: Any) -> str | None:
    """Text that every database takes: anything else becomes its `str`, lone surrogates a question mark, a NUL the
    character for what cannot be shown."""
    if type(value) is not str:
        if is_none(value):
            return None
        value = plain_text(value)
    text: str = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def stored_moment(value: Any) -> str | None:
    """A moment in UTC, as text that sorts and that SQLite's date functions take.

    A `datetime`, or its text in ISO form; a naive one is taken as UTC. What cannot be read is NULL.
    """
    moment = parse_moment(value)
    return None if moment is None else utc_text(moment)


def stored_second(value: Any) -> str | None:
    """The same without a fraction."""
    moment = parse_moment(value)
    return None if moment is None else utc_text(moment, fraction=False)


def stored_json(value: Any) -> str | None:
    """Any value as JSON."""
    return None if value is None else json_text(value)


def _real(value: Any) -> float | None:
    return None if is_none(value) else float(value)


def _truth(value: Any) -> bool | None:
    """Whether the value counts as true."""
    return None if is_none(value) else bool(value)


def _truth_number(value: Any) -> int | None:
    return None if is_none(value) else int(bool(value))


TEXT = Kind("TEXT", "TEXT", stored_text, stored_text)
INTEGER = Kind("INTEGER", "INTEGER")
#: Eight bytes on every database, as in `REAL`.
BIG_INTEGER = Kind("INTEGER", "BIGINT")
REAL = Kind("REAL", "DOUBLE PRECISION", _real, _real)
MOMENT = Kind("TIMESTAMP", "TIMESTAMP", stored_moment, stored_moment)
SECOND = Kind("TIMESTAMP", "TIMESTAMP", stored_second, stored_second)
JSON = Kind("TEXT", "TEXT", stored_json, stored_json)
#: 0 and 1 in SQLite.
FLAG = Kind("BOOLEAN", "BOOLEAN", _truth_number, _truth)
#: Numbers in some crawlers, text in others. SQLite keeps text in a column of integers as it is.
NUMBER_OR_TEXT = Kind("INTEGER", "TEXT", None, stored_text)
