"""Rows of many jobs as few statements, without changing what they mean.

Inside one transaction plain inserts into different tables commute, as long as parents come before their children:
each table is a *lane* in which order is kept, equal consecutive statements of a lane run as one statement with
many rows, and lanes are emptied in the order of their foreign keys. Whatever does not commute empties the lanes
first. (To defer the foreign keys instead would expire all prepared statements in SQLite, and is not to be had for
every foreign key in other databases.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, Protocol

from ..config import DialectName
from ..errors import ParameterCount
from ..jobs import Row, Run, Template
from ..sql.memory import REMEMBERED_CHARS
from ..sql.shapes import ORDER_DEPENDENT, InsertShape, calls, insert_shape, inserted_values, names
from .dialects import TableFacts
from .families import NO_TIES, Awaited, Ties, precedes, ties_of

#: Plans that are kept; a plan is made in microseconds.
MAX_PLANS = 1024


class Target(Protocol):
    """Where statements are run: the part of `dialects.Connection` that this module needs."""

    def insert(self, sql: str, shape: InsertShape, rows: Sequence[Row]) -> None: ...


@dataclass(frozen=True, slots=True)
class Insert:
    """A statement of a template that may take a lane."""

    lane: str
    rank: int
    sql: str
    shape: InsertShape
    many: bool
    ties: Ties = NO_TIES


@dataclass(frozen=True, slots=True)
class Plan:
    """How the jobs of a template run.

    With `inserts` they take lanes: a column of the payloads at a time, or job by job if two statements meet in one
    lane (`by_job`). Without, they run in order behind a barrier. `alone`: they may leave something behind that only
    COMMIT judges; what that is must not depend on the jobs that come next.
    """

    inserts: tuple[Insert, ...] | None
    by_job: bool
    alone: bool = False


class _Planned(NamedTuple):
    """A plan, and the facts that it was made with."""

    plan: Plan
    facts: tuple[tuple[str, TableFacts | None], ...]


class Planner:
    """Plans of templates, as long as the facts about tables hold."""

    def __init__(self, fold: Any, dialect: DialectName = "sqlite") -> None:
        self._fold = fold
        self._dialect = dialect
        self._tables: Mapping[str, TableFacts] = {}
        self._families: Mapping[str, frozenset[str]] = {}
        self._ranks: Mapping[str, int] = {}
        self._circles: Set[str] = set()  # of foreign keys
        self._keys: dict[str, set[tuple[str, ...]]] = {}  # of each table the columns that foreign keys point at
        self._judged_late: set[str] = set()  # tables about which only COMMIT may say something
        self._plans: dict[Template, _Planned] = {}
        self._chars = 0

    def plan(self, template: Template, tables: Mapping[str, TableFacts]) -> Plan:
        if tables is not self._tables:
            self._look_at(tables)
        planned = self._plans.get(template)
        if planned is None or any(tables.get(name) is not facts for name, facts in planned.facts):
            planned = self._plan_anew(template)
        return planned.plan

    def _look_at(self, tables: Mapping[str, TableFacts]) -> None:
        """What is planned stays, unless it is about tables that have changed, or ranks have."""
        self._tables = tables
        self._note_links(tables)
        families = {name: facts.parents for name, facts in tables.items() if facts.parents}
        if families != self._families:
            self._families = families
            self._ranks = _ranks(families)
            self._circles = (families.keys() | set().union(*families.values())) - self._ranks.keys()
            self._forget()

    def _note_links(self, tables: Mapping[str, TableFacts]) -> None:
        keys: dict[str, set[tuple[str, ...]]] = {}
        self._judged_late = set()
        for name, facts in tables.items():
            for link in facts.links:
                parent = tables.get(link.parent)
                keys.setdefault(link.parent, set()).add(link.keys or (parent.primary if parent else ()))
            if facts.deferred and facts.parents:
                self._judged_late |= {name, *facts.parents}
        self._keys = keys
        if self._judged_late:
            self._judged_late |= {name for name, facts in tables.items() if facts.triggers}

    def _plan_anew(self, template: Template) -> _Planned:
        chars = sum(len(sql) for sql, _ in template.statements) + sum(map(len, template.ensure))
        if len(self._plans) >= MAX_PLANS or self._chars + chars > REMEMBERED_CHARS:
            self._forget()
        self._chars += chars
        shapes = [insert_shape(sql, self._dialect) for sql, _ in template.statements]
        lanes = {self._fold(shape.table) for shape in shapes if shape is not None}
        facts = tuple((name, self._tables.get(name)) for name in lanes)
        planned = self._plans[template] = _Planned(self._make(template), facts)
        return planned

    def _forget(self) -> None:
        self._plans.clear()
        self._chars = 0

    def _make(self, template: Template) -> Plan:
        inserts = [self._insert(sql, many) for sql, many in template.statements]
        lanes = [insert.lane for insert in inserts if insert is not None]
        alone = bool(self._judged_late) and any(self._is_judged_late(sql) for sql, _ in template.statements)
        if len(lanes) < len(inserts) or not inserts:
            return Plan(None, False, alone)
        found = tuple(insert for insert in inserts if insert is not None)
        ordered = any(insert.many and insert.ties is not NO_TIES for insert in found)
        return Plan(found, ordered or len(set(lanes)) < len(lanes), alone)

    def _is_judged_late(self, sql: str) -> bool:
        return not self._judged_late.isdisjoint(map(self._fold, names(sql, self._dialect)))

    def _insert(self, sql: str, many: bool) -> Insert | None:
        shape = insert_shape(sql, self._dialect)
        if shape is None or not ORDER_DEPENDENT.isdisjoint(calls(sql, self._dialect)):
            return None
        lane = self._fold(shape.table)
        facts = self._tables.get(lane)
        if facts is None or lane in self._circles or not facts.ordinary or facts.triggers:
            return None
        if facts.referenced and (shape.rewrites or facts.rewrites):
            return None
        rewrites = shape.rewrites or facts.rewrites
        ties = ties_of(inserted_values(sql, self._dialect), facts, rewrites, self._keys.get(lane, ()), self._fold)
        return Insert(lane, self._ranks.get(lane, 0), sql, shape, many, ties)


@dataclass(slots=True)
class Segment:
    """Rows for one statement, one behind the other in their lane."""

    insert: Insert
    rows: list[Row] = field(default_factory=list)


class Lanes:
    """The rows that wait, per table."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lanes: dict[str, list[Segment]] = {}
        self._awaited: Awaited | None = None
        self._early = 0

    def add(self, plan: Plan, payloads: Sequence[Any]) -> None:
        """Put the jobs of a template with `plan.inserts` into their lanes."""
        assert plan.inserts is not None
        width = len(plan.inserts)
        if width == 1:
            self._enter(plan.inserts[0], payloads)
            return
        if set(map(len, payloads)) != {width}:
            raise ParameterCount(f"a job does not have its {width} statements", operation="apply")
        columns = [] if plan.by_job else [list(map(itemgetter(place), payloads)) for place in range(width)]
        if plan.by_job or _are_mixed(plan.inserts, columns):
            for payload in payloads:
                for insert, part in zip(plan.inserts, payload, strict=True):
                    self._enter(insert, (part,))
        else:
            for insert, parts in zip(plan.inserts, columns, strict=True):
                self._enter(insert, parts)

    def empty(self) -> int:
        """Run everything that waits; the number of rows, with those that could not wait until now."""
        count, self._early = self._early, 0
        for lane in sorted(self._lanes.values(), key=_rank):
            for segment in lane:
                self._target.insert(segment.insert.sql, segment.insert.shape, segment.rows)
                count += len(segment.rows)
        self._lanes.clear()
        self._awaited = None
        return count

    def _enter(self, insert: Insert, parts: Sequence[Any]) -> None:
        """Rows of one statement; before them what they would otherwise overtake."""
        ties = insert.ties
        if ties is NO_TIES:
            self._extend(insert, parts)
            return
        rows = list(chain.from_iterable(parts)) if insert.many else parts
        if len(rows) > 1 and precedes(ties, rows, insert.lane, ties, rows):
            for row in rows:
                self._enter(insert, [[row]] if insert.many else [row])
            return
        if self._awaited is not None and self._awaited.has(insert.lane, ties, rows):
            self._early = self.empty()
        self._extend(insert, parts)
        self._awaited = self._awaited or Awaited()
        self._awaited.add(ties, rows)

    def _extend(self, insert: Insert, parts: Iterable[Any]) -> None:
        lane = self._lanes.setdefault(insert.lane, [])
        if not lane or lane[-1].insert.sql != insert.sql:
            lane.append(Segment(insert))
        lane[-1].rows.extend(chain.from_iterable(parts) if insert.many else parts)


def _are_mixed(inserts: Sequence[Insert], columns: Sequence[Sequence[Any]]) -> bool:
    """Whether a job may be the child of one that comes after it."""
    tied = [(insert, rows) for insert, rows in zip(inserts, columns, strict=True) if insert.ties is not NO_TIES]
    return len(tied) > 1 and any(
        precedes(child.ties, rows, parent.lane, parent.ties, parents)
        for child, rows in tied
        for parent, parents in tied
        if child is not parent
    )


def _rank(lane: list[Segment]) -> tuple[int, str]:
    """Also the name: all writers of a database go through its tables in one order, so that they never wait for each
    other in a circle."""
    return lane[0].insert.rank, lane[0].insert.lane


def _ranks(families: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Parents have lower ranks than their children; tables that refer to each other in a circle have none."""
    sorter = TopologicalSorter({name: parents - {name} for name, parents in families.items()})
    with suppress(CycleError):  # the sorter still yields what is not behind the circle
        sorter.prepare()
    ranks: dict[str, int] = {}
    while ready := sorter.get_ready():
        ranks |= dict.fromkeys(ready, len(ranks))
        sorter.done(*ready)
    return ranks


def consecutive(runs: Iterable[Run]) -> Iterable[tuple[Template, list[Run]]]:
    """Runs that follow each other with one template, whatever their streams."""
    for template, group in groupby(runs, attrgetter("template")):
        yield template, list(group)
