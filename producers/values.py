"""What all producers' columns have in common: times, JSON, digests. Each value means the same in every table."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import Enum
from typing import Any


def utc_text(moment: datetime | None = None, *, fraction: bool = True) -> str:
    """A moment as `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, now by default: sorts, and SQLite's date functions take it.

    A naive moment is taken as UTC. The fraction is left out when it is zero, and always without `fraction`.
    """
    moment = datetime.now(UTC) if moment is None else moment
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment if fraction else moment.replace(microsecond=0)).isoformat(" ")


def parse_utc(text: object) -> datetime:
    """The moment, aware and in UTC, that a column holds; now when it holds none that can be read.

    A space or a `T` may separate date and time; a naive moment is taken as UTC.
    """
    if isinstance(text, str):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return datetime.now(UTC)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return datetime.now(UTC)


def json_text(value: object) -> str:
    """`value` as JSON; moments as ISO text, enumerations as their value, anything else that JSON does not know as
    its `str`."""
    return json.dumps(value, default=_plain)


def stable_hash(text: str) -> str:
    """A digest that is the same in every process: SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)
