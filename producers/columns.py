"""The column types of all producers' tables: each value is stored in the same form everywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, Boolean, Column, Double, Integer, text
from sqlalchemy.types import TypeEngine, UserDefinedType

from .values import json_text, parse_moment, plain_text, utc_text

#: Eight bytes on every database.
Real: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
Int64: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


class PlainText(UserDefinedType[str]):
    """Text that every database takes: anything else becomes its `str`, lone surrogates a question mark."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        def process(value: Any) -> str | None:
            if value is None:
                return None
            text = plain_text(value)
            return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")

        return process


class UtcTimestamp(UserDefinedType[datetime]):
    """A moment in UTC, as text that sorts and that SQLite's date functions take.

    A `datetime`, or its text in ISO form; a naive one is taken as UTC. What cannot be read is NULL.
    """

    cache_ok = True

    def __init__(self, fraction: bool = True) -> None:  # SQLAlchemy copies a type by its positional parameters
        self.fraction = fraction

    def get_col_spec(self, **_: Any) -> str:
        return "TIMESTAMP"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        def process(value: Any) -> str | None:
            moment = parse_moment(value)
            return None if moment is None else utc_text(moment, fraction=self.fraction)

        return process


class JsonText(UserDefinedType[Any]):
    """Any value as JSON; None is NULL."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str | None]:
        return lambda value: None if value is None else json_text(value)


class Flag(Boolean):
    """Whether the value counts as true; None is NULL. 0 and 1 in SQLite."""

    cache_ok = True

    def bind_processor(self, dialect: Any) -> Callable[[Any], bool | int | None]:
        kind = bool if dialect.supports_native_boolean else int
        return lambda value: None if value is None else kind(bool(value))


def serial_id() -> Column[int]:
    """An integer key that the database counts."""
    return Column("id", Integer, primary_key=True, autoincrement=True)


def defaults_to_now(name: str, *, nullable: bool = True) -> Column[datetime]:
    """A moment that the database fills in when it is left out."""
    return Column(name, UtcTimestamp(fraction=False), server_default=text("CURRENT_TIMESTAMP"), nullable=nullable)


def added(column: Column[Any]) -> Column[Any]:
    """A column that older databases lack: they get it at the first write."""
    column.info["added"] = True
    return column
