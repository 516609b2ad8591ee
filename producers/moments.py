"""Moments in SQL: compared as points in time, whatever form an older row or another program has given them.

What is recorded here is always `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, and sorts as text. Other rows may have a `T`
between date and time, a `Z` or an offset behind them, or be numbers: seconds, milliseconds … since 1970. PostgreSQL has
a type for moments; SQLite has texts, and sorts numbers before them.
"""

from __future__ import annotations

from datetime import timedelta

from telemetry_bus.config import DialectName

from .values import EARLIEST_EPOCH, EPOCH_UNITS, parse_utc

#: Before all that there may be.
NO_HOUR = "0001-01-01 00:00:00"


def comparable(sql: str, dialect: DialectName) -> str:
    """The SQL of a moment that compares and sorts as one, from that of a column; NULL for what is none.

    Texts in our form stay as they are, to the microsecond; others come into it, to the millisecond. A number of a
    size that years from 1973 on have in seconds, milli-, micro- or nanoseconds is taken for that.
    """
    if dialect == "postgresql":
        return sql
    tail = f"substr({sql}, 20)"  # what follows the seconds
    # SQLite's functions want a colon in an offset, and the minutes (https://www.sqlite.org/lang_datefunc.html)
    colon = f"substr({sql}, 1, length({sql}) - 2) || ':' || substr({sql}, -2)"
    with_offset = (
        f"CASE WHEN {tail} GLOB '*[-+][0-9][0-9]' THEN {sql} || ':00'"
        f" WHEN {tail} GLOB '*[-+][0-9][0-9][0-9][0-9]' THEN {colon} ELSE upper({sql}) END"
    )
    is_ours = f"substr({sql}, 11, 1) = ' ' AND {tail} NOT GLOB '*[^.0-9]*'"
    ours = f"strftime('%Y-%m-%d %H:%M:%f', {with_offset})"
    units = " ".join(f"WHEN {sql} < {limit:.0f} THEN {sql} / {unit:.1f}" for unit, limit in EPOCH_UNITS)
    number = f"strftime('%Y-%m-%d %H:%M:%f', CASE WHEN {sql} < {EARLIEST_EPOCH} THEN NULL {units} END, 'unixepoch')"
    return (
        f"CASE WHEN typeof({sql}) IN ('integer', 'real') THEN {number} WHEN typeof({sql}) <> 'text' THEN NULL"
        f" WHEN {is_ours} THEN {sql} ELSE {ours} END"
    )


#: A text that is a moment for certain: any other one would end a statement of PostgreSQL.
_MOMENT = (
    r"^\d{4}-((0[13578]|1[02])-31|(0[13-9]|1[0-2])-(29|30)|(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8]))"
    r"([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?( ?(Z|[-+](0\d|1[0-4])(:?[0-5]\d)?))?)?$"
)


def readable(sql: str) -> str:
    """The SQL of a moment on PostgreSQL, in UTC and without a zone, from that of a column of moments or of texts. NULL
    for a text that is none; 29 February is none, either, for not each year has it."""
    text = f"CAST({sql} AS text)"
    return f"CASE WHEN {text} ~ '{_MOMENT}' THEN CAST(CAST({text} AS timestamptz) AS timestamp) END"


def hour(sql: str, dialect: DialectName) -> str:
    """The SQL of the beginning of a moment's hour, from that of a column; `NO_HOUR` where there is no moment."""
    if dialect == "postgresql":
        return f"coalesce(date_trunc('hour', {sql}), CAST('{NO_HOUR}' AS timestamp))"
    return f"coalesce(substr({comparable(sql, dialect)}, 1, 13) || ':00:00', '{NO_HOUR}')"


def later(name: str, dialect: DialectName) -> str:
    """In an upsert: the later one of the stored and of the given moment; the given one where the stored one cannot be
    read."""
    stored, given = f"stored.{name}", f"excluded.{name}"
    return f"CASE WHEN {given} <= {comparable(stored, dialect)} THEN {stored} ELSE {given} END"


def earliest_text(since: str) -> str:
    """A text that no form of a moment from `since` on sorts before: an offset is less than a day."""
    try:
        return (parse_utc(since) - timedelta(days=1)).isoformat()[:10]
    except OverflowError:  # the beginning of the calendar
        return since[:10]
