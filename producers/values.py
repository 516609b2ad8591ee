"""What all producers' values have in common: times, JSON, digests. Each value means the same in every table."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

_INT64 = 2**63
#: What is counted since 1970: how many of a unit make a second, and the number below which that unit is meant.
EPOCH_UNITS = tuple((1000**power, 1e11 * 1000**power) for power in range(4))
#: Smaller numbers are taken for none: seconds of a day in 1973.
EARLIEST_EPOCH = 100_000_000
#: What JSON has as it is. A float may be NaN.
_PLAIN = frozenset({str, bool, int, type(None)})


def utc_now() -> datetime:
    """Now, aware and in UTC."""
    return datetime.now(UTC)


def utc_text(moment: datetime | None = None, *, fraction: bool = True) -> str:
    """A moment as `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, now by default: sorts, and SQLite's date functions take it.

    A naive moment is taken as UTC. The fraction is left out when it is zero, and always without `fraction`.
    """
    moment = utc_now() if moment is None else moment
    if moment.tzinfo is not None and moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ")[: 26 if fraction and moment.microsecond else 19]


def parse_moment(value: Any) -> datetime | None:
    """A moment, aware and in UTC, from a `datetime`, a `date`, their text, or the seconds, milliseconds … since 1970;
    None from anything else.

    A space or a `T` may separate date and time, a `Z` or an offset may follow; a naive moment is taken as UTC.
    """
    if type(value).__name__ == "datetime64":  # of numpy; one in nanoseconds becomes a number of them
        value = value.item()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _since_epoch(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime) or is_none(value):
        return None
    if value.tzinfo is UTC:
        return value
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar
        return value.replace(tzinfo=UTC)


def _since_epoch(value: float) -> datetime | None:
    if not value >= EARLIEST_EPOCH:
        return None
    unit = next((unit for unit, limit in EPOCH_UNITS if value < limit), None)
    return None if unit is None else datetime.fromtimestamp(value / unit, UTC)


def parse_utc(value: object) -> datetime:
    """The moment that a column holds, as `parse_moment`; now when it holds none that can be read."""
    return parse_moment(value) or utc_now()


def json_text(value: object) -> str:
    """`value` as JSON that every reader takes, whatever it is made of.

    Moments become ISO text, enumerations their value, sets lists, numbers that JSON does not have null, keys text,
    and anything else its `str`.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):  # what JSON does not have, or what contains itself
        return json.dumps(plain(value))


#: Without a detour for what is made of nothing else than JSON has.
_encode = json.JSONEncoder(allow_nan=False).encode


def plain(value: Any) -> Any:
    """`value` made of nothing but what JSON knows. What contains itself is cut off."""
    return _plain(value, ())


def plain_text(value: object) -> str:
    """Its text: an enumeration's value, anything else's `str`; where that fails, at least its type."""
    if isinstance(value, Enum):
        value = value.value
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def text_or_none(value: object) -> str | None:
    """`plain_text`, but None stays None, and what stands for none becomes it."""
    return None if is_none(value) else plain_text(value)


def is_none(value: Any) -> bool:
    """Whether it is None or stands for it, as NaN does, and NaT and NA of pandas."""
    try:
        return value is None or bool(value != value)
    except Exception:  # NA and a signalling NaN cannot be compared, nor can what is many values
        return type(value).__name__ in ("NAType", "Decimal")


def number(value: Any) -> float | None:
    """What may be a number as one; None when it is none."""
    try:
        return float(value)
    except Exception:  # whatever its own conversion raises
        return None


def finite(value: Any) -> float | None:
    """A number that columns take; None for what is none, and for NaN and infinity."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number of 64 bit; None for what is none."""
    try:
        found = int(value)
    except Exception:  # whatever its own conversion raises
        return None
    return found if -_INT64 <= found < _INT64 else None


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is not float and isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return str(value) if isinstance(value, str) else value
    if is_none(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if id(value) in above:
        return "…"
    above = (*above, id(value))
    if isinstance(value, dict):
        return {
            key if type(key) is str else _key(key): each if type(each) in _PLAIN else _plain(each, above)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [each if type(each) in _PLAIN else _plain(each, above) for each in value]
    return plain_text(value)


def _key(key: object) -> str:
    plain_key = _plain(key, ())
    return plain_key if isinstance(plain_key, str) else json.dumps(plain_key)


def stable_hash(text: str) -> str:
    """A digest that is the same in every process: SHA-256 in hexadecimal digits."""
    return _digest(text).hex()


def stable_hash64(text: str) -> int:
    """Its first eight bytes as a signed integer, for a column of integers."""
    return int.from_bytes(_digest(text)[:8], "big", signed=True)


def _digest(text: str) -> bytes:
    import hashlib  # here, because it brings all of OpenSSL, for the few that need a digest

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
