"""Bad input: a typed error with a hint at the caller, nothing queued, nothing lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from telemetry_bus import Job, JobError, ParameterCount, Statement, TelemetryStore

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, add, names, on_both

WRONG_COUNTS: dict[str, Callable[[TelemetryStore], object]] = {
    "too few": lambda store: store.execute(INSERT, ("b",), ensure=[EVENTS]),
    "too many": lambda store: store.execute(INSERT, ("b", 1, 2), ensure=[EVENTS]),
    "none": lambda store: store.execute(INSERT, ensure=[EVENTS]),
    "some for none": lambda store: store.execute("DELETE FROM events", (1,)),
    "in one row of many": lambda store: store.executemany(INSERT, [("b", 1), ("c",)], ensure=[EVENTS]),
    "in a callable": lambda store: store.submit(lambda conn: conn.execute(INSERT, ("b",)), ensure=[EVENTS]),
    "in a callable's many": lambda store: store.submit(lambda conn: conn.executemany(INSERT, [("b",)])),
    "by a cursor": lambda store: store.submit(lambda conn: conn.cursor().execute(INSERT, ("b",)), ensure=[EVENTS]),
    "in a job": lambda store: store.submit(Job((Statement(INSERT, (("b",),)),), (EVENTS,))),
    "a name is missing": lambda store: store.execute("INSERT INTO events (name) VALUES (:name)", {"nam": "b"}),
    "names for positions": lambda store: store.execute(INSERT, {"name": "b", "size": 1}),
    "positions in quotes": lambda store: store.execute("INSERT INTO events (name) VALUES ('?')", ("b",)),
}


@on_both
def test_wrong_number_of_values(store: TelemetryStore) -> None:
    """Placeholders and values must agree in number; the error says so at the call."""
    add(store, "a")
    for submit in WRONG_COUNTS.values():
        with pytest.raises(ParameterCount) as caught:
            submit(store)
        assert "events" in str(caught.value)
        assert caught.value.hint
    _nothing_happened(store)


@on_both
def test_parameters_that_are_no_row(store: TelemetryStore) -> None:
    """Values come as a sequence or a mapping; a text is not taken apart into characters."""
    add(store, "a")
    parameters: Any
    for parameters in (5, None, "xy", b"xy", {"b", 1}):
        with pytest.raises(ParameterCount):
            store.execute(INSERT, parameters, ensure=[EVENTS])
        with pytest.raises(ParameterCount):
            store.executemany(INSERT, [parameters], ensure=[EVENTS])
    _nothing_happened(store)


@on_both
def test_statement_that_is_none(store: TelemetryStore) -> None:
    """SQL is a text, with one statement in it."""
    add(store, "a")
    sql: Any
    for sql in (5, None, b"DELETE FROM events", "", "  ", "-- nothing", ";", "DELETE FROM events; DELETE FROM events"):
        with pytest.raises(JobError):
            store.execute(sql)
        with pytest.raises(JobError):
            store.executemany(sql, [()])
        with pytest.raises(JobError):
            store.submit(lambda conn: conn.execute(sql))  # noqa: B023
    _nothing_happened(store)


@on_both
def test_task_that_is_none(store: TelemetryStore) -> None:
    """`submit` takes a callable or a `Job`."""
    add(store, "a")
    task: Any
    for task in (None, 5, INSERT, [INSERT], Statement(INSERT), Job(((INSERT, [("b", 1)]),))):  # type: ignore[arg-type]
        with pytest.raises(JobError):
            store.submit(task, ensure=[EVENTS])
    _nothing_happened(store)


async def awaited(conn: Any) -> None:
    conn.execute(INSERT, ("b", 1))


def yielding(conn: Any) -> Iterator[None]:
    yield conn.execute(INSERT, ("b", 1))


async def both(conn: Any) -> AsyncIterator[None]:
    yield conn.execute(INSERT, ("b", 1))


@on_both
@pytest.mark.parametrize("reads", ["refuse", "flush"])
@pytest.mark.parametrize("task", [awaited, yielding, both, lambda conn: (conn.execute(INSERT, row) for row in "ab")])
def test_task_of_which_nothing_runs(open_store: OpenStore, task: Any, reads: str) -> None:
    """A coroutine or generator function only makes what would have to run: told, and no empty job."""
    store = open_store(job_reads=reads)
    add(store, "a")
    with pytest.raises(JobError, match="of which nothing has run"):
        store.submit(task, ensure=[EVENTS])
    _nothing_happened(store)


@on_both
def test_rows_that_are_none(store: TelemetryStore) -> None:
    """`executemany` takes what can be gone through; an error of the bus otherwise."""
    add(store, "a")
    rows: Any
    for rows in (5, None, object()):
        for submit in (store.executemany, lambda sql, rows: store.submit(lambda conn: conn.executemany(sql, rows))):
            with pytest.raises(JobError, match="rows are of type"):
                submit(INSERT, rows)
        with pytest.raises(JobError, match="rows are of type"):
            store.submit(Job((Statement(INSERT, rows),)))
    _nothing_happened(store)


def _nothing_happened(store: TelemetryStore) -> None:
    """Only the job that was submitted before is there, and the next one follows it."""
    assert 1 == store.stats().submitted
    add(store, "z")
    assert ["a", "z"] == names(store)
    assert 0 == store.stats().failed
