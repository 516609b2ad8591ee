"""Rollups made from rows: of those that are in none, and again where rollups were lost. Recorders may go on.

Each step is one job, which takes rows that are in no rollup, adds them, and marks them. Whether a step was done, twice
asked for, or interrupted: the next one takes what is there, and reports count the rest from its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

from sqlalchemy import and_, func, select

from telemetry_bus import DatabaseFault, Job, Statement
from telemetry_bus.config import DialectName

from ..columns import Hour
from ..destination import Destination, Reading
from ..moments import hour, readable
from ..schema import Table, definitions
from ..values import utc_text
from . import schema
from .counting import Part, ended_of, has_rollups, tried_of
from .rollups import MethodSums, additions, column_of, day_of, summed
from .schema import DURATION_ROLLUPS, METHOD_ROLLUPS, ROLLUP_TABLES, ROLLUPS
from .tables import EXTRACTIONS
from .tables import ROLLUPS as ROLLED

#: Rows of one job: they keep the writer for some 30 ms, then it is the producers' turn.
STEP_ROWS = 1000

_ROW = EXTRACTIONS.c
_EXTRACTIONS = EXTRACTIONS.name


@dataclass(frozen=True)
class Coverage:
    """How many extractions are in rollups, of which hours, and how many rows are in none.

    `pruned` are in rollups whose rows have been deleted; `lost` are rows that say that they are in a rollup which lacks
    them.
    """

    extractions: int = 0
    first_hour: str | None = None
    last_hour: str | None = None
    rows: int = 0
    unrolled: int = 0
    pruned: int = 0
    lost: int = 0


def coverage(destination: Destination) -> Coverage:
    """See `Coverage`; a read over two indexes."""
    if not destination.has_columns(schema.EXTRACTIONS, "id"):
        return Coverage()
    if not has_rollups(destination):
        ((rows,),) = destination.read(select(func.count()).select_from(EXTRACTIONS))
        return Coverage(rows=rows, unrolled=rows)
    with destination.snapshot() as reading:
        return _coverage(reading)


def _coverage(reading: Reading) -> Coverage:
    of_rows = dict(reading.read(select(_ROW.rollup_hour, func.count()).group_by(_ROW.rollup_hour)))
    of_rollups = dict(reading.read(select(ROLLED.c.hour, func.sum(ROLLED.c.extractions)).group_by(ROLLED.c.hour)))
    unrolled = of_rows.pop(None, 0)
    differences = [of_rollups.get(each, 0) - of_rows.get(each, 0) for each in of_rollups.keys() | of_rows.keys()]
    return Coverage(
        extractions=sum(of_rollups.values()),
        first_hour=min(of_rollups, default=None),
        last_hour=max(of_rollups, default=None),
        rows=sum(of_rows.values()) + unrolled,
        unrolled=unrolled,
        pruned=sum(each for each in differences if each > 0),
        lost=-sum(each for each in differences if each < 0),
    )


def rebuild(destination: Destination, *, again: bool = False, told: Callable[[int], object] = lambda rows: None) -> int:
    """Add the rows that are in no rollup; the number of rows added. `told` hears of it after each step.

    First the hours whose rollups lack rows that were in them are emptied, and with `again` all hours: except those
    whose rows are no longer all there, whose rollups are all that is left of them.

    Raises `DatabaseFault` when a step changes nothing, because its job failed.
    """
    if not destination.has_columns(schema.EXTRACTIONS, "id"):
        return 0
    _prepare(destination)
    for each in _hours_to_empty(destination, again):
        _submit(destination, _emptying(each))
    added = 0
    last: tuple[int, ...] = ()
    while step := _next_step(destination):
        if step.place == last:
            raise DatabaseFault(
                f"the rows with the ids {last[0]} to {last[1]} could not be added",
                operation="rollup",
                subject=ROLLUPS.name,
                hint="telemetry-bus dead-letters list has what failed",
            )
        _submit(destination, step.job)
        last = step.place
        added += step.place[2]
        told(added)
    return added


def _submit(destination: Destination, *jobs: Job) -> None:
    destination.submit(*jobs)
    destination.flush()


def _prepare(destination: Destination) -> None:
    """Tables, the column and its index: they must be there to be read."""
    nothing = Statement(f"DELETE FROM {ROLLUPS.name} WHERE hour IS NULL")
    ensure = [
        text for table in (schema.EXTRACTIONS, *ROLLUP_TABLES) for text in definitions(table, destination.dialect)
    ]
    _submit(destination, Job((nothing,), tuple(ensure)))


def _hours_to_empty(destination: Destination, again: bool) -> list[str]:
    with destination.snapshot() as reading:
        of_rows = dict(reading.read(select(_ROW.rollup_hour, func.count()).group_by(_ROW.rollup_hour)))
        of_rollups = dict(reading.read(select(ROLLED.c.hour, func.sum(ROLLED.c.extractions)).group_by(ROLLED.c.hour)))
    return [
        each
        for each, rows in of_rows.items()
        if each is not None and (of_rollups.get(each, 0) < rows or (again and of_rollups[each] == rows))
    ]


def _emptying(emptied: str) -> Job:
    """Takes the rollups of an hour away and its rows out of them, if all of these are there."""
    rows = f"SELECT count(*) FROM {_EXTRACTIONS} WHERE rollup_hour = ?"
    rolled = f"SELECT coalesce(sum(extractions), 0) FROM {ROLLUPS.name} WHERE hour = ?"
    gone = f"NOT EXISTS (SELECT 1 FROM {ROLLUPS.name} WHERE hour = ?)"
    return Job(
        (
            Statement(f"DELETE FROM {ROLLUPS.name} WHERE hour = ? AND ({rolled}) <= ({rows})", ((emptied,) * 3,)),
            Statement(f"DELETE FROM {METHOD_ROLLUPS.name} WHERE hour = ? AND {gone}", ((emptied,) * 2,)),
            Statement(
                f"UPDATE {DURATION_ROLLUPS.name} SET {column_of(emptied)} = NULL WHERE day = ? AND {gone}",
                ((day_of(emptied), emptied),),
            ),
            Statement(
                f"UPDATE {_EXTRACTIONS} SET rollup_hour = NULL WHERE rollup_hour = ? AND {gone}", ((emptied,) * 2,)
            ),
        )
    )


@dataclass(frozen=True)
class _Step:
    """A job, and its place: the first and the last id of its rows, and how many they are."""

    place: tuple[int, int, int]
    job: Job


def _next_step(destination: Destination) -> _Step | None:
    """Takes the rows with the lowest ids; None when all are in rollups."""
    dialect = destination.dialect
    with destination.snapshot() as reading:
        chosen = select(_ROW.id).where(_ROW.rollup_hour.is_(None)).order_by(_ROW.id).limit(STEP_ROWS).subquery()
        bounds: Any = select(func.min(chosen.c.id), func.max(chosen.c.id), func.count())
        ((first, last, count),) = reading.read(bounds)
        if not count:
            return None
        part = Part(and_(_ROW.rollup_hour.is_(None), _ROW.id.between(first, last)))
        added: dict[Table, list[tuple[Any, ...]]] = {
            ROLLUPS: reading.read(part.sums("hour", "publisher", "host", "method", "status")),
            DURATION_ROLLUPS: reading.read(part.durations("hour", "publisher", "host")),
            METHOD_ROLLUPS: list(_methods(reading, part)),
        }
    claim = _claim()
    return _Step(
        (first, last, count),
        Job(
            (
                Statement(_CLAIM, ((claim, first, last, first, last, count),)),
                *additions(added, dialect, _CLAIMED, claim),
                Statement(_done(dialect), ((claim,),)),
            )
        ),
    )


def _methods(reading: Reading, part: Part) -> Iterator[tuple[Any, ...]]:
    """The rows of `METHOD_ROLLUPS`."""
    documents = (_ROW.method_timings, _ROW.method_success, _ROW.methods_attempted, _ROW.field_extraction)
    query = select(Hour(_ROW.created_at), func.coalesce(_ROW.publisher, ""), *documents).where(part.counted)
    found: dict[tuple[str, str], list[tuple[str, MethodSums]]] = {}
    for of_hour, publisher, timings, successes, attempted, fields in reading.read(query):
        did = found.setdefault((of_hour, publisher), [])
        did += ended_of(timings, successes)
        did += tried_of(attempted, fields)
    for key, methods in found.items():
        yield from ((*key, name, *did) for name, did in summed(methods).items())


def _claim() -> str:
    """What marks the rows of a step until its end, for its own statements: a moment that no row has."""
    return utc_text(datetime(2, 1, 1, tzinfo=UTC) + timedelta(microseconds=SystemRandom().getrandbits(44)))


#: All rows of a step, or none if they are not all there or some are in rollups meanwhile.
_CLAIM = f"""UPDATE {_EXTRACTIONS} SET rollup_hour = ? WHERE id BETWEEN ? AND ? AND rollup_hour IS NULL
AND (SELECT count(*) FROM {_EXTRACTIONS} WHERE id BETWEEN ? AND ? AND rollup_hour IS NULL) = ?"""


_CLAIMED = f"EXISTS (SELECT 1 FROM {_EXTRACTIONS} WHERE rollup_hour = ?)"


def _done(dialect: DialectName) -> str:
    created = "created_at" if dialect == "sqlite" else readable("created_at")
    return f"UPDATE {_EXTRACTIONS} SET rollup_hour = {hour(created, dialect)} WHERE rollup_hour = ?"
