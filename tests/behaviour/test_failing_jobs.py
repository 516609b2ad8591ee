"""Jobs that the database refuses: what becomes of them, of their neighbours, and who is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from telemetry_bus import JobFailed, TelemetryStore
from telemetry_bus.encoding.values import unpack_job

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, add, dead_letters, in_journaled_modes, in_sync_mode, names, on_both, rows

Failures = Callable[[], list[logging.LogRecord]]


def twice(conn: Any) -> None:
    """Violates a constraint at its third statement."""
    conn.execute(INSERT, ("before", 1))
    conn.execute(INSERT, ("twice", 1))
    conn.execute(INSERT, ("twice", 2))
    conn.execute(INSERT, ("after", 1))


BAD_JOBS: dict[str, Callable[[TelemetryStore], object]] = {
    "constraint": lambda store: store.submit(twice, ensure=[EVENTS]),
    "not null": lambda store: store.execute(INSERT, (None, 1), ensure=[EVENTS]),
    "syntax": lambda store: store.execute("INSERT INTO events (name VALUES (?)", (1,)),
    "no such table": lambda store: store.execute("INSERT INTO nowhere VALUES (?)", (1,)),
    "no such column": lambda store: store.execute("UPDATE events SET colour = ?", (1,), ensure=[EVENTS]),
    "one row of many": lambda store: store.executemany(INSERT, [("x", 1), ("y", 1), ("x", 2)], ensure=[EVENTS]),
    "definition": lambda store: store.submit(lambda conn: None, ensure=["CREATE TABLE broken (id INTEGER"]),
    "bus table": lambda store: store.execute("DELETE FROM telemetry_bus_ledger"),
}

each_bad_job = pytest.mark.parametrize("submit", BAD_JOBS.values(), ids=BAD_JOBS.keys())


@on_both
@in_journaled_modes
@each_bad_job
def test_dead_letter(store: TelemetryStore, submit: Callable[[TelemetryStore], object]) -> None:
    """A refused job becomes a dead letter exactly once and as a whole; its neighbours are applied."""
    add(store, "first", "second")
    submit(store)
    add(store, "third", "fourth")
    assert ["first", "second", "third", "fourth"] == names(store)
    assert [3] == [sequence for sequence, _ in dead_letters(store)]
    assert (5, 5, 1, 0) == _figures(store)


@on_both
@in_sync_mode
@each_bad_job
def test_failure_at_the_caller(store: TelemetryStore, submit: Callable[[TelemetryStore], object], kind: str) -> None:
    """In mode sync a refused job raises `JobFailed` and leaves nothing behind; its neighbours are applied."""
    add(store, "first", "second")
    with pytest.raises(JobFailed):
        submit(store)
    add(store, "third", "fourth")
    assert ["first", "second", "third", "fourth"] == names(store)
    assert (4, 4, 1, 0) == _figures(store)
    tables = {"sqlite": "SELECT name FROM sqlite_master", "postgresql": "SELECT relname AS name FROM pg_class"}[kind]
    assert [] == rows(store, f"SELECT name FROM ({tables}) AS t WHERE name LIKE 'telemetry_bus%'")


def _figures(store: TelemetryStore) -> tuple[int, int, int, int]:
    stats = store.stats()
    return stats.submitted, stats.acknowledged, stats.failed, stats.pending


@in_journaled_modes
def test_dead_letter_is_whole(store: TelemetryStore) -> None:
    """A dead letter holds the job with its definitions and values, the statement, the error and its traceback."""
    add(store, "twice")
    store.submit(twice, ensure=[EVENTS])
    ((error_type, error, statement, job),) = rows(
        store, "SELECT error_type, error, statement, job FROM telemetry_bus_dead_letters"
    )
    assert "IntegrityError" == error_type
    assert "UNIQUE constraint failed: events.name" == error.splitlines()[0]
    assert "Traceback (most recent call last)" in error
    assert INSERT == statement
    whole = unpack_job(job)
    assert (EVENTS,) == whole.ensure
    assert [("before", 1), ("twice", 1), ("twice", 2), ("after", 1)] == [
        row for each in whole.statements for row in each.rows
    ]


@on_both
@in_journaled_modes
def test_many_bad_jobs_among_good_ones(store: TelemetryStore) -> None:
    """Each of many bad jobs is a dead letter once, none of the good ones suffers, and `stats` counts all."""
    for number in range(200):
        add(store, f"e{number}")
        if number % 10 == 5:
            add(store, "e0")
    assert [f"e{number}" for number in range(200)] == names(store)
    assert 20 == len(dead_letters(store)) == len(set(dead_letters(store)))
    assert 20 == store.stats().failed


@in_journaled_modes
def test_logged_once(store: TelemetryStore, failures: Failures) -> None:
    """A failure that nobody is there to catch is logged once, by logger `telemetry_bus`, with its traceback."""
    add(store, "a", "a", "b")
    store.flush()
    (record,) = failures()
    assert "telemetry_bus" == record.name
    text = logging.Formatter().format(record)
    assert "UNIQUE constraint failed: events.name" in text
    assert "Traceback (most recent call last)" in text
    assert INSERT in text
    assert "UNIQUE constraint failed" in (store.stats().last_error or "")


@in_sync_mode
def test_raised_and_not_logged(store: TelemetryStore, failures: Failures) -> None:
    """What is raised is not logged as well; `stats` counts it."""
    add(store, "a")
    with pytest.raises(JobFailed):
        add(store, "a")
    assert [] == failures()
    assert 1 == store.stats().failed
    assert "UNIQUE constraint failed" in (store.stats().last_error or "")


def test_debug_raises_at_the_submit(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `TELEMETRY_DEBUG=1` each submit waits, and raises the writer's error with its traceback, in every mode."""
    monkeypatch.setenv("TELEMETRY_DEBUG", "1")
    store = open_store()
    add(store, "a")
    assert (1, 0) == (store.stats().acknowledged, store.queue.qsize())
    for submit in (
        lambda: add(store, "a"),
        lambda: store.executemany(INSERT, [("b", 1), ("a", 1)]),
        lambda: store.submit(lambda conn: conn.execute(INSERT, ("a", 1))),
    ):
        with pytest.raises(JobFailed, match=r"UNIQUE constraint failed: events\.name") as caught:
            submit()
        assert "IntegrityError" == caught.value.error_type
        assert "Traceback (most recent call last)" in caught.value.traceback
        assert INSERT in str(caught.value)
    add(store, "b")
    assert ["a", "b"] == names(store)
    assert 3 == store.stats().failed


@on_both
@pytest.mark.parametrize("flag", ["0", ""])
@in_journaled_modes
def test_debug_switched_off(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    """`TELEMETRY_DEBUG=0` is no debugging: submits do not raise."""
    monkeypatch.setenv("TELEMETRY_DEBUG", flag)
    store = open_store()
    add(store, "a", "a")
    store.flush()
    assert 1 == store.stats().failed


@on_both
@in_journaled_modes
def test_flush_does_not_raise(store: TelemetryStore) -> None:
    """A dead letter is a decision like any other: `flush` and `shutdown` return."""
    store.execute("INSERT INTO nowhere VALUES (1)")
    store.flush()
    store.shutdown(wait=True)
    assert 1 == store.stats().failed


@on_both
def test_trace(store: TelemetryStore, caplog: pytest.LogCaptureFixture) -> None:
    """At level DEBUG the logger tells of a job's stations."""
    caplog.set_level(logging.DEBUG, logger="telemetry_bus")
    add(store, "a")
    store.flush()
    text = "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG)
    stations = {
        "daemon": {"send", "acknowledge"},  # the writer process traces its commits
        "thread": {"send", "commit", "acknowledge"},
        "sync": {"commit"},
    }
    assert stations[store.mode] == {word for word in ("send", "commit", "acknowledge") if word in text}


@in_journaled_modes
def test_a_flush_that_is_asked_to_raises_the_first_failure(store: TelemetryStore) -> None:
    """With the number of those since the last such flush; a plain flush neither raises nor takes any away."""
    add(store, "a", "a", "b", "b", "b")
    store.flush()
    with pytest.raises(JobFailed, match="the first of 3 that failed: IntegrityError: UNIQUE") as caught:
        store.flush(raise_on_failure=True)
    assert (3, "IntegrityError", INSERT) == (caught.value.number, caught.value.error_type, caught.value.subject)
    assert "job 2" == caught.value.operation
    assert "Traceback (most recent call last)" in caught.value.traceback
    store.flush(raise_on_failure=True)
    add(store, "c")
    store.flush(raise_on_failure=True)
    add(store, "c")
    with pytest.raises(JobFailed, match=r"^job 7: IntegrityError"):
        asyncio.run(store.aflush(raise_on_failure=True))


@on_both
@in_journaled_modes
def test_a_flush_that_raises_counts_more_failures_than_one_answer_tells(store: TelemetryStore) -> None:
    """A thousand bad jobs come in many acknowledgements, and the first is told however long ago it was."""
    store.executemany(INSERT, [("a", 0)], ensure=[EVENTS])
    for _ in range(1200):
        store.execute(INSERT, ("a", 1))
    with pytest.raises(JobFailed, match="the first of 1200 that failed") as caught:
        store.flush(raise_on_failure=True)
    assert "job 2" == caught.value.operation


@on_both
@in_sync_mode
def test_a_flush_raises_nothing_that_was_raised(store: TelemetryStore) -> None:
    """In mode sync the submit has raised it."""
    add(store, "a")
    with pytest.raises(JobFailed):
        add(store, "a")
    store.flush(raise_on_failure=True)
