"""What is counted of the extractions: rollups where there are, and rows where there are none.

A report looks at the rollups of whole hours, at the rows that are in none, and at the rows of the hour in which its
time begins. In a database that has no rollups it looks at rows alone. The figures are the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Table,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from ..columns import Hour, Moment, from_moment
from ..destination import Destination, Reading
from ..histogram import bucket_sql
from ..moments import NO_HOUR
from ..values import parse_utc, utc_now, utc_text
from . import schema
from .rollups import MethodSums, column_of, day_of, ended, tried
from .schema import NO_RESPONSE, NOT_TOLD
from .tables import DURATION_ROLLUPS, EXTRACTIONS, METHOD_ROLLUPS, ROLLUPS

UNREADABLE = (ValueError, TypeError, RecursionError)

#: Half the time of `json.loads` for a small document.
_raw_decode = json.JSONDecoder().raw_decode

_ROW = EXTRACTIONS.c


def _name_of(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Not the bare column: its index gives the order of the groups, and takes a jump to each row for it."""
    return func.coalesce(column, "")


_SUCCEEDED = case((_ROW.is_success, 1), else_=0)
#: The columns of `ROLLUPS` that tell rows apart, of a row of `EXTRACTIONS`.
_KEY = {
    "hour": Hour(_ROW.created_at),
    "publisher": _name_of(_ROW.publisher),
    "host": _name_of(_ROW.host),
    "method": _name_of(_ROW.successful_method),
    "status": case(
        (func.coalesce(_ROW.http_status_code, 0) != 0, _ROW.http_status_code),
        (_ROW.is_success, NOT_TOLD),
        else_=NO_RESPONSE,
    ),
}
_BUCKET: ColumnElement[Any] = literal_column(bucket_sql(f"{EXTRACTIONS.name}.{_ROW.total_duration_ms.name}"))
_SUMS = ("extractions", "successes", "timed", "duration_ms", "last_seen")


@dataclass(frozen=True)
class Rolled:
    """Which rollups are added up: those of the hours from `first` to before `end`, of a publisher."""

    first: str | None = None
    end: str | None = None
    publisher: str | None = None

    def within(self, table: Table) -> ColumnElement[bool]:
        """Of a table of hours, or of days: the hours that those have."""
        time, of = (table.c.day, day_of) if table is DURATION_ROLLUPS else (table.c.hour, str)
        return and_(
            true() if self.first is None else time >= of(self.first),
            true() if self.end is None else time <= day_of(self.end) if of is day_of else time < self.end,
            true() if self.publisher is None else table.c.publisher == self.publisher,
        )

    def extractions(self) -> ColumnElement[int]:
        """Of a row of `DURATION_ROLLUPS`, in these hours."""
        day = DURATION_ROLLUPS.c.day
        edges = {day_of(edge) for edge in (self.first, self.end) if edge is not None}
        parts = [(day == edge, self._sum(edge)) for edge in edges]
        return case(*parts, else_=self._sum()) if parts else self._sum()

    def _sum(self, day: str | None = None) -> ColumnElement[int]:
        """The hours of a day; of one at the edge those that are within."""
        begin, end = "h00", "h24"
        if self.first is not None and day == day_of(self.first):
            begin = column_of(self.first)
        if self.end is not None and day == day_of(self.end):
            end = column_of(self.end)
        hours = [f"coalesce({hour}, 0)" for hour in schema.HOURS if begin <= hour < end]
        return literal_column(" + ".join(hours) or "0")  # as text: SQLAlchemy takes 10 ms for so many elements


@dataclass(frozen=True)
class Part:
    """The extractions that a report is about: the rows that it counts itself, and which rollups it adds up, None for
    none."""

    counted: ColumnElement[bool]
    rolled: Rolled | None = None

    @classmethod
    def of(cls, destination: Destination, days: float | None = None, publisher: str | None = None) -> Part:
        """All, or those of the last days, of a publisher."""
        since = None if days is None else ago(days)
        if not has_rollups(destination):
            return cls(and_(true() if since is None else from_moment(_ROW.created_at, since), _is_of(publisher)))
        if since is None:
            return cls(and_(_ROW.rollup_hour.is_(None), _is_of(publisher)), Rolled(publisher=publisher))
        begun, first = _hours(since)
        rows = (
            or_(_ROW.rollup_hour.is_(None), _ROW.rollup_hour == begun) if begun < first else _ROW.rollup_hour.is_(None)
        )
        # of the indexes that of the hours finds the fewest rows: this comparison has none
        return cls(and_(rows, Moment(_ROW.created_at) >= since, _is_of(publisher)), Rolled(first, publisher=publisher))

    def sums(self, *names: str) -> CompoundSelect[Any]:
        """The columns of `ROLLUPS` by these names of its key, and its sums; not one row of each key, but to be added
        up."""
        key = [_KEY[name].label(name) for name in names]
        rows = (
            select(
                *key,
                func.count().label("extractions"),
                func.sum(_SUCCEEDED).label("successes"),
                func.count(_ROW.total_duration_ms).label("timed"),
                func.coalesce(func.sum(_ROW.total_duration_ms), 0.0).label("duration_ms"),
                func.coalesce(func.max(Moment(_ROW.created_at)), literal_column(f"'{NO_HOUR}'")).label("last_seen"),
            )
            .where(self.counted)
            .group_by(*_places(key))
        )
        return self._with_rollups(rows, ROLLUPS, *(ROLLUPS.c[name] for name in (*names, *_SUMS)))

    def durations(self, *names: str) -> CompoundSelect[Any]:
        """The same of `DURATION_ROLLUPS`: by these names and by its buckets, how many extractions. Rollups are by no
        hour."""
        key = [*(_KEY[name].label(name) for name in names), _BUCKET.label("bucket")]
        rows = (
            select(*key, func.count().label("extractions"))
            .where(self.counted, _ROW.total_duration_ms.is_not(None))
            .group_by(*_places(key))
        )
        if self.rolled is None:
            return union_all(rows)
        columns = [DURATION_ROLLUPS.c[name] for name in (*names, "bucket")]
        return self._with_rollups(rows, DURATION_ROLLUPS, *columns, self.rolled.extractions().label("extractions"))

    def rows(self, *names: str) -> Select[Any]:
        """These columns of the rows to be counted."""
        return select(*(_ROW[name] for name in names)).where(self.counted)

    def methods(self, reading: Reading) -> defaultdict[str, Methods]:
        """What the rollups tell of each method."""
        methods: defaultdict[str, Methods] = defaultdict(Methods)
        if self.rolled is not None:
            row = METHOD_ROLLUPS.c
            sums = (func.sum(row[name]) for name in MethodSums._fields)
            query = select(row.method, *sums).where(self.rolled.within(METHOD_ROLLUPS)).group_by(row.method)
            for name, *values in reading.read(query):
                methods[name].add(MethodSums(*values))
        return methods

    def _with_rollups(self, rows: Select[Any], table: Table, *columns: ColumnElement[Any]) -> CompoundSelect[Any]:
        if self.rolled is None:
            return union_all(rows)
        return union_all(select(*columns).where(self.rolled.within(table)), rows)


class Methods:
    """`MethodSums` that grow."""

    __slots__ = MethodSums._fields

    def __init__(self) -> None:
        self.tried = self.ended = self.successes = self.timed = 0
        self.duration_ms = 0.0
        self.found_title = self.found_author = self.found_content = self.found_publish_date = 0

    def add(self, did: MethodSums, times: int = 1) -> None:
        self.tried += did.tried * times
        self.ended += did.ended * times
        self.successes += did.successes * times
        self.timed += did.timed * times
        self.duration_ms += did.duration_ms * times
        self.found_title += did.found_title * times
        self.found_author += did.found_author * times
        self.found_content += did.found_content * times
        self.found_publish_date += did.found_publish_date * times


def _places(key: Sequence[object]) -> list[ColumnElement[Any]]:
    """The first columns by their places: PostgreSQL takes an expression with parameters for another one each time."""
    return [literal_column(str(place)) for place, _ in enumerate(key, 1)]


def has_rollups(destination: Destination) -> bool:
    """Whether rows tell in which rollup they are, and there are these."""
    return destination.has_columns(schema.EXTRACTIONS, "rollup_hour") and all(
        destination.has_columns(table, *table.columns) for table in schema.ROLLUP_TABLES
    )


def ended_of(timings: str | None, successes: str | None) -> Iterator[tuple[str, MethodSums]]:
    """`ended` of a row's columns; nothing of what cannot be read."""
    try:
        documents = _decoded(timings, dict), _remembered(successes, dict)
    except UNREADABLE:
        return iter(())
    return ended(*documents)


def tried_of(attempted: str | None, fields: str | None) -> Iterator[tuple[str, MethodSums]]:
    """`tried` of a row's columns; nothing of what cannot be read."""
    try:
        documents = _remembered(attempted, list), _remembered(fields, dict)
    except UNREADABLE:
        return iter(())
    return tried(*documents)


def ago(days: float) -> str:
    """The moment so many days ago, as text like in the columns."""
    try:
        return utc_text(utc_now() - timedelta(days=days))
    except OverflowError:
        return utc_text(datetime.min.replace(tzinfo=UTC) if days > 0 else datetime.max.replace(tzinfo=UTC))


def _is_of(publisher: str | None) -> ColumnElement[bool]:
    if publisher is None:
        return true()
    return _ROW.publisher == publisher if publisher else _name_of(_ROW.publisher) == ""


def _hours(since: str) -> tuple[str, str]:
    """The hour in which a moment is, and the first one that is wholly after it."""
    moment = parse_utc(since)
    begun = moment.replace(minute=0, second=0, microsecond=0)
    try:
        first = begun if begun == moment else begun + timedelta(hours=1)
    except OverflowError:  # the end of the calendar
        first = moment
    return utc_text(begun), utc_text(first)


def _decoded(text: str | None, kind: type) -> Any:
    document, end = _raw_decode(text) if text else (kind(), 0)
    if text and end < len(text):  # blanks, or more than one document
        document = json.loads(text)
    if not isinstance(document, kind):
        raise ValueError(f"not a {kind.__name__}")
    return document


#: Of columns that hold the same few documents in many rows.
_remembered = lru_cache(maxsize=4096)(_decoded)
