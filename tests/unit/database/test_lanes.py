"""Lanes and chunks: which statements are run for which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from telemetry_bus.database import lanes as batching
from telemetry_bus.database.dialects import TableFacts
from telemetry_bus.database.lanes import Lanes, Planner
from telemetry_bus.database.sqlite.multi_row import MAX_CHUNK_ROWS, insert_rows
from telemetry_bus.errors import ParameterCount
from telemetry_bus.jobs import Template
from telemetry_bus.sql.shapes import InsertShape, insert_shape

from ..writing import template

A, B, A2 = "INSERT INTO a (x) VALUES (?)", "INSERT INTO b (x, y) VALUES (?, ?)", "INSERT INTO A (x, y) VALUES (?, 0)"
UPSERT = "INSERT INTO a (x) VALUES (?) ON CONFLICT (x) DO UPDATE SET x = 0"
PLAIN = TableFacts(ordinary=True, triggers=False, referenced=False, rewrites=False, parents=frozenset())


class Recorder:
    """Stands in for a connection: notes what is run."""

    max_parameters = 1000

    def __init__(self) -> None:
        self.ran: list[tuple[str, list[Any]]] = []

    def run(self, sql: str, row: Sequence[Any]) -> None:
        self.ran.append((sql, list(row)))

    def insert(self, sql: str, shape: InsertShape, rows: Sequence[Sequence[Any]]) -> None:
        insert_rows(self, shape, rows)


def facts(**changes: Any) -> dict[str, TableFacts]:
    """Two plain tables; `changes` are those of the first."""
    return {"a": replace(PLAIN, **changes), "b": PLAIN}


def planner() -> Planner:
    return Planner(str.lower)


def poured(tables: Mapping[str, TableFacts], *work: tuple[Template, list[Any]]) -> list[tuple[str, list[Any]]]:
    """What is run when jobs are put into lanes and the lanes are emptied."""
    recorder = Recorder()
    lanes, plans = Lanes(recorder), planner()
    for jobs, payloads in work:
        lanes.add(plans.plan(jobs, tables), payloads)
    lanes.empty()
    return recorder.ran


def test_rows_of_one_statement_become_one_statement() -> None:
    """Of consecutive runs, whatever stands between them in other lanes."""
    assert [
        ("INSERT INTO a (x) VALUES (?),(?),(?),(?)", [1, 2, 3, 4]),
        ("INSERT INTO b (x, y) VALUES (?, ?)", [7, 8]),
    ] == poured(facts(), (template(A), [[1], [2]]), (template(B), [[7, 8]]), (template((A, True)), [[[3], [4]], []]))


def test_order_is_kept_inside_a_lane() -> None:
    """Another statement into the same table ends the one before, whatever the table's spelling."""
    assert [
        ("INSERT INTO a (x) VALUES (?)", [1]),
        ("INSERT INTO A (x, y) VALUES (?, 0)", [2]),
        ("INSERT INTO a (x) VALUES (?)", [3]),
    ] == poured(facts(), (template(A), [[1]]), (template(A2), [[2]]), (template(A), [[3]]))


def test_two_statements_of_a_job_in_one_lane_keep_the_order_of_jobs() -> None:
    """First job's first and second, then the second job's."""
    assert [
        ("INSERT INTO a (x) VALUES (?),(?),(?),(?)", [1, 2, 3, 4]),
        ("INSERT INTO b (x, y) VALUES (?, ?),(?, ?)", [5, 6, 7, 8]),
    ] == poured(facts(), (template(A, B, (A, True)), [[[1], [5, 6], [[2]]], [[3], [7, 8], [[4]]]]))


def test_parents_are_emptied_first() -> None:
    """Their children's foreign keys are judged at once."""
    tables = {"b": PLAIN, "a": TableFacts(True, False, False, False, frozenset({"b"}))}
    assert ["INSERT INTO b (x, y) VALUES (?, ?)", "INSERT INTO a (x) VALUES (?)"] == [
        sql for sql, _ in poured(tables, (template(A), [[1]]), (template(B), [[7, 8]]))
    ]


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("UPDATE a SET x = ?", {}),
        ("INSERT INTO a SELECT ?", {}),
        ("INSERT INTO a (x) VALUES (?) ON CONFLICT (x) DO UPDATE SET x = changes()", {}),
        ("INSERT INTO missing (x) VALUES (?)", {}),
        (A, {"ordinary": False}),
        (A, {"triggers": True}),
        (A, {"parents": frozenset({"b"}), "circle": True}),
        (A, {"referenced": True, "rewrites": True}),
        (UPSERT, {"referenced": True}),
    ],
)
def test_what_does_not_commute_is_a_barrier(statement: str, changes: dict[str, Any]) -> None:
    """Not an insert; no table, a view, triggers, foreign keys in a circle, a conflict that reaches another table."""
    circle = changes.pop("circle", False)
    tables = facts(**changes)
    if circle:
        tables["b"] = TableFacts(True, False, False, False, frozenset({"a"}))
    assert planner().plan(template(statement), tables).inserts is None
    assert planner().plan(template(B, statement), tables).inserts is None


@pytest.mark.parametrize(
    ("statement", "changes"),
    [(A, {"referenced": True}), (A, {"rewrites": True}), (UPSERT, {}), (A, {"parents": frozenset({"a", "b"})})],
)
def test_what_commutes_takes_a_lane(statement: str, changes: dict[str, Any]) -> None:
    """A conflict that reaches no other table, a foreign key to itself or to another."""
    assert planner().plan(template(statement), facts(**changes)).inserts is not None


def test_a_plan_holds_as_long_as_the_facts() -> None:
    """New facts, new plans; and not more plans than the limit."""
    plans, jobs, tables = planner(), template(A), facts()
    assert plans.plan(jobs, tables) is plans.plan(template(A), tables)
    assert plans.plan(jobs, tables).inserts is not None
    assert plans.plan(jobs, facts(triggers=True)).inserts is None


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes a text per job does not fill the memory."""
    monkeypatch.setattr(batching, "MAX_PLANS", 3)
    plans, tables = planner(), facts()
    for i in range(10):
        plans.plan(template(f"INSERT INTO a (x) VALUES ({i})"), tables)
        assert len(plans._plans) <= 3


@pytest.mark.parametrize(
    ("count", "chunks"),
    [(0, []), (1, [1]), (7, [4, 2, 1]), (MAX_CHUNK_ROWS, [MAX_CHUNK_ROWS]), (300, [128, 128, 32, 8, 4])],
)
def test_chunks_are_powers_of_two(count: int, chunks: list[int]) -> None:
    """So that the driver meets few different texts, and every row is in one of them."""
    recorder = Recorder()
    shape = insert_shape(A)
    assert shape is not None
    insert_rows(recorder, shape, [[i] for i in range(count)])
    assert chunks == [len(values) for _, values in recorder.ran]
    assert list(range(count)) == [value for _, values in recorder.ran for value in values]


@pytest.mark.parametrize(("limit", "chunk"), [(1000, 128), (255, 64), (3, 1), (1, 1)])
def test_chunks_keep_to_the_databases_number_of_parameters(limit: int, chunk: int) -> None:
    """A row that has too many by itself is left to the database to refuse."""
    recorder = Recorder()
    recorder.max_parameters = limit
    shape = insert_shape(B)
    assert shape is not None
    insert_rows(recorder, shape, [[1, 2]] * 128)
    assert chunk == len(recorder.ran[0][1]) // 2


def test_long_literals_make_small_chunks() -> None:
    """The text of one statement is bounded."""
    recorder = Recorder()
    shape = insert_shape(f"INSERT INTO b (x, y) VALUES (?, '{'long' * 4000}')")
    assert shape is not None
    insert_rows(recorder, shape, [[i] for i in range(64)])
    assert all(len(sql) < 70_000 for sql, _ in recorder.ran)


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1], [2, 3, 4]], [[1, 2, 3], [4]], [[]], [None]])
def test_a_row_of_another_length_is_refused(rows: list[Any]) -> None:
    """Also when the number of values is right in all: they would move from row to row."""
    shape = insert_shape(B)
    assert shape is not None
    recorder = Recorder()
    with pytest.raises((ParameterCount, TypeError)):
        insert_rows(recorder, shape, rows)
    assert [] == recorder.ran


@pytest.mark.parametrize("payload", [[[1]], [[1], [2, 3], [4]], []])
def test_a_job_without_all_its_parts_is_refused(payload: list[Any]) -> None:
    """Neither too few nor too many."""
    with pytest.raises(ParameterCount):
        poured(facts(), (template(A, B), [[[1], [2, 3]], payload]))
