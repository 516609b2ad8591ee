"""The writer on PostgreSQL: what is committed, what becomes a dead letter, and what an ended session leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import DatabaseFault, LedgerMoved
from telemetry_bus.jobs import Template

from ..writing import Stream, template

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration]

EVENTS = "CREATE TABLE IF NOT EXISTS events (id BIGINT PRIMARY KEY, name TEXT UNIQUE, size INTEGER)"
INSERT = "INSERT INTO events (id, name, size) VALUES (?, ?, ?)"
EVENT = template(INSERT, ensure=(EVENTS,))


class Other:
    """Another program with the database open."""

    def __init__(self, url: str) -> None:
        self._session = psycopg.connect(url, autocommit=True)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._session.execute(sql, values)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def other(postgresql: str) -> Iterator[Other]:
    with closing(Other(postgresql)) as other:
        yield other


@pytest.fixture
def writer(postgresql: str) -> Iterator[Writer]:
    with closing(Writer(parse_database(postgresql))) as writer:
        yield writer


def events(numbers: range) -> list[list[Any]]:
    return [[n, f"event {n}", n % 7] for n in numbers]


def again(call: Callable[[], Any]) -> Any:
    """What it returns: the call after a fault of the database has a fresh session."""
    try:
        return call()
    except DatabaseFault:
        return call()


@pytest.mark.parametrize("count", [1, 3, 20, 300])
def test_jobs_are_committed_with_the_ledger(writer: Writer, other: Other, count: int) -> None:
    """Whichever way so many rows go."""
    stream = Stream()
    assert [] == writer.apply([stream.run(EVENT, *events(range(count)))])
    assert [(n, f"event {n}", n % 7) for n in range(count)] == other.rows("SELECT * FROM events ORDER BY id")
    assert {stream.id: count} == writer.last_sequences([stream.id])


@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_bad_job_falls_alone(writer: Writer, other: Other, count: int) -> None:
    """It becomes a dead letter with the server's words, and the others are committed in order."""
    stream = Stream()
    jobs = events(range(count))
    (failure,) = writer.apply([stream.run(EVENT, *jobs, [count, "bad", "no number"], [count + 1, "good", 1])])
    assert (stream.id, count + 1) == (failure.stream, failure.sequence)
    assert "invalid input syntax for type integer" in failure.error
    assert [(count + 1,)] == other.rows("SELECT count(*) FROM events")
    (letter,) = writer.dead_letters()
    assert INSERT == letter.statement
    assert "Traceback" in letter.error


def test_a_retried_letter_is_applied_and_gone(writer: Writer, other: Other) -> None:
    """When what was wrong with the table is put right."""
    stream = Stream()
    writer.apply([stream.run(EVENT, [1, "one", 2**40])])
    other.rows("ALTER TABLE events ALTER size TYPE bigint")
    assert [(1, "")] == writer.retry()
    assert [(1, "one", 2**40)] == other.rows("SELECT * FROM events")
    assert [] == list(writer.dead_letters())


def test_refused_definitions_refuse_their_jobs(writer: Writer, other: Other) -> None:
    """Each of them, and no others; what came before is committed first."""
    stream = Stream()
    wrong = template("INSERT INTO nothing VALUES (?)", ensure=("CREATE TABLE IF NOT EXISTS nothing (a nosuch)",))
    failures = writer.apply(
        [
            stream.run(EVENT, *events(range(2))),
            stream.run(wrong, [1], [2]),
            stream.run(EVENT, *events(range(2, 4))),
        ]
    )
    assert [3, 4] == [failure.sequence for failure in failures]
    assert all('type "nosuch" does not exist' in failure.error for failure in failures)
    assert [(4,)] == other.rows("SELECT count(*) FROM events")


def test_what_was_dropped_is_defined_again(writer: Writer, other: Other) -> None:
    """A table that another program has dropped comes back with the next job that brings its definition."""
    stream = Stream()
    writer.apply([stream.run(EVENT, *events(range(3)))])
    other.rows("DROP TABLE events")
    assert [] == writer.apply([stream.run(EVENT, *events(range(3, 6)))])
    assert [(3,)] == other.rows("SELECT count(*) FROM events")
    without = template("INSERT INTO gone VALUES (?)", ensure=(EVENTS,))
    (failure,) = writer.apply([stream.run(without, [1])])
    assert "UndefinedTable" == failure.error_type


@pytest.mark.parametrize("place", ["before-begin", "in-batch", "before-commit", "after-commit"])
def test_an_ended_session_loses_nothing(writer: Writer, other: Other, place: str) -> None:
    """Wherever it ends: the next call finds out what is committed, and does the rest."""
    stream = Stream()
    writer.apply([stream.run(EVENT, *events(range(3)))])
    ended: list[str] = []

    def end(name: str) -> None:
        if name == place and not ended:
            ended.append(name)
            other.rows(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE application_name LIKE 'telemetry-bus%%' AND datname = current_database()"
            )

    writer.failpoint = end
    jobs = stream.run(EVENT, *events(range(3, 6)))
    assert [] == again(lambda: writer.apply([jobs]))
    assert [place] == ended
    assert [(6,)] == other.rows("SELECT count(*) FROM events")
    assert {stream.id: 6} == again(lambda: writer.last_sequences([stream.id]))


def test_the_fence_stops_a_second_writer(writer: Writer, postgresql: str, other: Other) -> None:
    """Whose ledger is not what the first one has made of it meanwhile."""
    stream = Stream()
    writer.apply([stream.run(EVENT, [1, "one", 1])])
    jobs = stream.run(EVENT, [2, "two", 2])
    with closing(Writer(parse_database(postgresql))) as second:
        second.apply([jobs])
    with pytest.raises(LedgerMoved):
        writer.apply([jobs])
    assert [(2,)] == other.rows("SELECT count(*) FROM events")


def test_a_job_that_ends_its_session_falls_alone(writer: Writer, other: Other) -> None:
    """As one that has the server run out of memory. It is tried a few times: others may have ended the session."""
    stream = Stream()
    dies = (
        "CREATE OR REPLACE FUNCTION dies() RETURNS bigint LANGUAGE sql AS "
        "$$ SELECT pg_terminate_backend(pg_backend_pid())::int::bigint $$"
    )
    poison = template("INSERT INTO events (id) SELECT dies() FROM generate_series(1, 2)", ensure=(EVENTS, dies))
    runs = [
        stream.run(EVENT, *events(range(5))),
        stream.run(poison, []),
        stream.run(EVENT, *events(range(5, 10))),
    ]
    for _ in range(20):
        done = again(lambda: writer.last_sequences([stream.id]))[stream.id]
        if left := [run for run in runs if run.last > done]:
            with suppress(DatabaseFault):
                writer.settle(left)
    assert [(10,)] == other.rows("SELECT count(*) FROM events")
    (letter,) = writer.dead_letters()
    assert ("EndedWriter", 6) == (letter.error_type, letter.sequence)


def test_a_forked_child_lets_the_session_of_its_parent_be(writer: Writer, other: Other) -> None:
    """It closes what it has inherited without a word to the server."""
    stream = Stream()
    writer.apply([stream.run(EVENT, *events(range(3)))])
    pid = os.fork()
    if pid == 0:
        writer.abandon(idle=False)
        os._exit(0)
    assert (pid, 0) == os.waitpid(pid, 0)
    assert [] == writer.apply([stream.run(EVENT, *events(range(3, 6)))])
    assert [(6,)] == other.rows("SELECT count(*) FROM events")


VALUES = (
    "CREATE TABLE IF NOT EXISTS things (id INTEGER, whole BIGINT, flag BOOLEAN, at TIMESTAMP, data BYTEA, text TEXT)"
)


@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("sql", ["INSERT INTO things VALUES (?, ?, ?, ?, ?, ?)", "UPDATE"])
def test_values_fit_their_columns(writer: Writer, other: Other, count: int, sql: str) -> None:
    """In one way, however many rows there are and however they get into the table."""
    values = [3.0, True, "2026-01-02 03:04:05+02:00", b"\0\xff", False]
    jobs: Template = template(sql, ensure=(VALUES,))
    payloads = [[n, *values] for n in range(count)]
    stream = Stream()
    if sql == "UPDATE":
        blank = template("INSERT INTO things (id) VALUES (?)", ensure=(VALUES,))
        writer.apply([stream.run(blank, *([n] for n in range(count)))])
        jobs = template("UPDATE things SET whole = ?, flag = ?, at = ?, data = ?, text = ? WHERE id = ?")
        payloads = [[*values, n] for n in range(count)]
    assert [] == writer.apply([stream.run(jobs, *payloads)])
    found = other.rows("SELECT DISTINCT whole, flag, at::text, data, text FROM things")
    assert [(3, True, "2026-01-02 01:04:05", b"\0\xff", "0")] == found
    assert [(count,)] == other.rows("SELECT count(*) FROM things")


@pytest.mark.parametrize("count", [1, 5, 300])
def test_bytes_are_for_columns_of_bytes(writer: Writer, other: Other, count: int) -> None:
    """Into a text, the server would store the digits of their codes."""
    stream = Stream()
    failures = writer.apply([stream.run(EVENT, *([n, b"name", 1] for n in range(count)))])
    assert count == len(failures)
    assert "UnsupportedValue" == failures[0].error_type
    assert [(0,)] == other.rows("SELECT count(*) FROM events")


def test_a_key_that_comes_twice_in_an_upsert(writer: Writer, other: Other) -> None:
    """One statement may not change a row twice: the last value counts, as if each job came alone."""
    upsert = f"{INSERT} ON CONFLICT (id) DO UPDATE SET name = excluded.name, size = events.size + excluded.size"
    stream = Stream()
    jobs = [[n % 10, f"name {n}", 1] for n in range(100)]
    assert [] == writer.apply([stream.run(template(upsert, ensure=(EVENTS,)), *jobs)])
    assert [(n, f"name {90 + n}", 10) for n in range(10)] == other.rows("SELECT * FROM events ORDER BY id")
