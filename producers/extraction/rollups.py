"""Hourly rollups of the extractions: what reports need, in fewer rows.

A recorder adds an extraction to its hour in the job that inserts the row, so that both are there exactly once, and
marks the row with the hour that it is in. A row without that mark, of an older program or from before there were
rollups, is in none: reports count it itself, until `rebuilding` has added it. The hour of a row is that of its
`created_at`, so that a row that comes late is in the hour to which it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import add
from typing import Any, NamedTuple

from telemetry_bus import Job, Statement
from telemetry_bus.config import DialectName

from ..histogram import bucket_of
from ..kinds import stored_text
from ..schema import Table, definitions, statement
from ..values import utc_text
from .metrics import FIELDS
from .schema import DURATION_ROLLUPS, METHOD_ROLLUPS, NO_RESPONSE, NOT_TOLD, ROLLUP_TABLES, ROLLUPS, adding

#: Older rows hold the clock of its start, in seconds, for a method without end. No duration in ms is as long.
_LEAST_CLOCK = 1e9


class MethodSums(NamedTuple):
    """What a method did: the sums of its rollups, under their names."""

    tried: int = 0
    ended: int = 0
    successes: int = 0
    timed: int = 0
    duration_ms: float = 0.0
    found_title: int = 0
    found_author: int = 0
    found_content: int = 0
    found_publish_date: int = 0

    def plus(self, other: MethodSums) -> MethodSums:
        return MethodSums(*map(add, self, other))


def hour_of(moment: datetime) -> str:
    """The hour of a moment in UTC, as text of its beginning."""
    return utc_text(moment)[:13] + ":00:00"


def day_of(hour: str) -> str:
    """The day of an hour, as text of its beginning."""
    return hour[:10] + " 00:00:00"


def column_of(hour: str) -> str:
    """Where `DURATION_ROLLUPS` has an hour."""
    return f"h{hour[11:13]}"


def rollup_job(row: Mapping[str, Any], methods: Mapping[str, MethodSums], *, dialect: DialectName = "sqlite") -> Job:
    """The job that adds one extraction, given by the columns of its table, to the rollups of its hour."""
    hour, duration_ms = row["rollup_hour"], row["total_duration_ms"]
    publisher, host = stored_text(row["publisher"]) or "", stored_text(row["host"]) or ""
    method, success = stored_text(row["successful_method"]) or "", int(bool(row["is_success"]))
    status = row["http_status_code"] or (NOT_TOLD if success else NO_RESPONSE)
    timed, seen = duration_ms is not None, utc_text(row["created_at"])[:19]
    sums = (hour, publisher, host, method, status, 1, success, int(timed), duration_ms or 0.0, seen)
    added: dict[Table, list[tuple[Any, ...]]] = {ROLLUPS: [sums]}
    if timed:
        added[DURATION_ROLLUPS] = [(hour, publisher, host, bucket_of(duration_ms), 1)]
    if methods:
        added[METHOD_ROLLUPS] = [(hour, publisher, name, *did) for name, did in methods.items()]
    return added_up_job(added, dialect=dialect)


def added_up_job(added: Mapping[Table, Sequence[tuple[Any, ...]]], *, dialect: DialectName = "sqlite") -> Job:
    """The job that adds rows, whole and as they are stored, to those of rollups."""
    return Job(tuple(additions(added, dialect)), _definitions(dialect))


def additions(
    added: Mapping[Table, Sequence[tuple[Any, ...]]], dialect: DialectName, where: str = "", *values: Any
) -> Iterator[Statement]:
    """What adds rows, as they are stored, to those of rollups; where a condition holds, which has these values. Rows of
    durations are an hour, a publisher, a host, a bucket and how many extractions."""
    for table, rows in added.items():
        for given, of_columns in _by_columns(table, rows).items():
            bound = [(*row, *values) for row in of_columns] if values else of_columns
            if bound:
                yield Statement(_added_up(table, given, dialect, where), tuple(bound))


def _by_columns(table: Table, rows: Sequence[tuple[Any, ...]]) -> Mapping[tuple[str, ...], Sequence[tuple[Any, ...]]]:
    """The rows by the columns that are given."""
    if table is not DURATION_ROLLUPS:
        return {tuple(table.columns): rows}
    found: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for hour, *key, extractions in rows:
        given = ("day", "publisher", "host", "bucket", column_of(hour))
        found.setdefault(given, []).append((day_of(hour), *key, extractions))
    return found


@lru_cache(maxsize=128)
def _added_up(table: Table, given: tuple[str, ...], dialect: DialectName, where: str) -> str:
    return statement(table, given, adding(table, given), dialect, where=where)


@lru_cache(maxsize=2)
def _definitions(dialect: DialectName) -> tuple[str, ...]:
    return tuple(chain.from_iterable(definitions(table, dialect) for table in ROLLUP_TABLES))


def ended(timings: Mapping[str, Any], successes: Mapping[str, Any]) -> Iterator[tuple[str, MethodSums]]:
    """Of one extraction: the methods that came to their end, from its documents as they are stored."""
    for name, duration in timings.items():
        success = 1 if successes.get(name) else 0
        timed = isinstance(duration, int | float) and duration < _LEAST_CLOCK
        sums = MethodSums(0, 1, success, 1, duration) if timed else MethodSums(0, 1, success)
        yield stored_text(name) or "", sums


def tried(attempted: Iterable[Any], fields: Mapping[str, Any]) -> Iterator[tuple[str, MethodSums]]:
    """Of one extraction: the methods that were tried and what they found. Older rows list one as often as it was
    started."""
    for name in dict.fromkeys(map(str, attempted)):
        of_method = fields.get(name)
        found = of_method.get if isinstance(of_method, dict) else _nothing
        yield stored_text(name) or "", MethodSums(1, 0, 0, 0, 0.0, *[1 if found(key) else 0 for key in FIELDS])


def summed(methods: Iterable[tuple[str, MethodSums]]) -> dict[str, MethodSums]:
    """The sums of each method."""
    sums: dict[str, MethodSums] = {}
    for name, did in methods:
        sums[name] = sums[name].plus(did) if name in sums else did
    return sums


def _nothing(key: str) -> None:
    return None
