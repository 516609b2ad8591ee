"""Values of jobs as the server takes them: text, which each column reads by its own type, as SQLite's columns do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ...errors import UnsupportedValue
from ...jobs import Row
from .catalog import Column

#: A moment with an offset, in the forms that Python and the codec write.
_OFFSET = re.compile(r"\d[ T]\d\d:\d\d.*(?:[+-]\d\d(?::?\d\d)?|[zZ])\Z")
_PLAIN = frozenset({str, int, type(None)})
_ESCAPED = re.compile(r'["\\]')

#: As the text of a parameter without a type. bytes have one, and go as they are.
_TEXTS: dict[type, Callable[[Any], Any]] = {
    str: lambda value: value,
    int: str,
    float: repr,
    bool: lambda value: "1" if value else "0",
    bytes: lambda value: value,
    type(None): lambda value: None,
}


def texts(row: Row) -> list[Any]:
    """A row as parameters of a statement: booleans are 1 and 0, which a column of any type takes.

    Raises `UnsupportedValue` for what no column takes.
    """
    try:
        return [_TEXTS[type(value)](value) for value in row]
    except KeyError:
        raise _unknown(row) from None


def fit(rows: Sequence[Row], columns: Sequence[Column]) -> Sequence[Row]:
    """Rows whose values stand for these columns, as they have to be given; the same ones where nothing is to be done.

    A whole number that is a float becomes an integer where the column is one, a moment with an offset one in UTC where
    the column keeps none. Raises `UnsupportedValue` for bytes that are not for a column of bytes: the server would
    store a text of digits.
    """
    fitted: list[Sequence[Any]] = []
    changed = False
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        kinds = set(map(type, values))
        if kinds <= _PLAIN and not (str in kinds and column.kind == "moment"):
            fitted.append(values)
            continue
        found = _fit_column(values, kinds, column)
        changed = changed or found is not values
        fitted.append(found)
    return list(zip(*fitted, strict=True)) if changed else rows


def has_offset(text: str) -> bool:
    """Whether it is a moment with an offset from UTC."""
    return 15 < len(text) < 40 and _OFFSET.search(text) is not None


#: The types that COPY takes in binary, as psycopg calls them, each with what values are then, beside None.
_BINARY: dict[str, tuple[str, set[type]]] = {
    "smallint": ("int2", {int}),
    "integer": ("int4", {int}),
    "bigint": ("int8", {int}),
    "double precision": ("float8", {float, int}),
    "boolean": ("bool", {bool}),
    "text": ("text", {str}),
    "character varying": ("varchar", {str}),
    "bytea": ("bytea", {bytes}),
    "timestamp without time zone": ("timestamp", {str}),
    "timestamp with time zone": ("timestamptz", {str}),
}


def binary_types(columns: Sequence[Column]) -> tuple[str, ...] | None:
    """What psycopg calls the types of these columns; None when COPY must give some of them as text."""
    names = [_BINARY.get(column.type, ("", set()))[0] for column in columns]
    return tuple(names) if all(names) else None


def binary(rows: Sequence[Row], columns: Sequence[Column]) -> Sequence[Row] | None:
    """Rows for a COPY in binary; None when a value is not just what its column has: as text it may be."""
    found: list[Sequence[Any]] = []
    changed = False
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        kinds = set(map(type, values)) - {type(None)}
        name, wanted = _BINARY[column.type]
        if not kinds <= wanted:
            return None
        if kinds and name.startswith("timestamp"):
            try:
                values = tuple(_moments(values, name))
            except ValueError:
                return None
            changed = True
        found.append(values)
    return list(zip(*found, strict=True)) if changed else rows


def _moments(values: Sequence[str | None], name: str) -> Sequence[datetime | None]:
    """Naive ones are in UTC, and what a column without a zone keeps."""
    moments = [None if text is None else datetime.fromisoformat(text) for text in values]
    zones = {moment.tzinfo for moment in moments if moment is not None}
    if name == "timestamptz":
        return [one if one is None or one.tzinfo else one.replace(tzinfo=UTC) for one in moments]
    if zones == {None}:
        return moments
    return [one if one is None or not one.tzinfo else one.astimezone(UTC).replace(tzinfo=None) for one in moments]


def array(values: Sequence[Any]) -> str:
    """The text of an array with these elements."""
    kinds = set(map(type, values))
    if kinds == {str}:
        if _ESCAPED.search("".join(values)) is None:
            return '{"' + '","'.join(values) + '"}'
    elif kinds == {int}:
        return "{" + ",".join(map(str, values)) + "}"
    elif kinds == {float}:
        return "{" + ",".join(map(repr, values)) + "}"
    return "{" + ",".join(map(_element, values)) + "}"


def _fit_column(values: Sequence[Any], kinds: set[type], column: Column) -> Sequence[Any]:
    if not kinds <= _TEXTS.keys():
        raise _unknown(values)
    if bytes in kinds and column.kind != "bytes":
        raise UnsupportedValue(
            f"bytes for the column {column.name} of type {column.type}", operation="apply", hint="make it bytea"
        )
    if float in kinds and column.kind == "integer":
        values = [int(one) if type(one) is float and one.is_integer() else one for one in values]
    if str in kinds and column.kind == "moment" and any(type(one) is str and has_offset(one) for one in values):
        values = [_in_utc(one) if type(one) is str else one for one in values]
    return values


def _in_utc(text: str) -> str:
    """A moment with an offset without one; any other text as it is."""
    if not has_offset(text):
        return text
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    except (ValueError, OverflowError):
        return text


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + _ESCAPED.sub(r"\\\g<0>", value) + '"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return str(_TEXTS[type(value)](value))


def _unknown(values: Sequence[Any]) -> UnsupportedValue:
    kind = next(type(value) for value in values if type(value) not in _TEXTS)
    return UnsupportedValue(f"a value of type {kind.__name__}", operation="apply", hint="another program wrote it")
