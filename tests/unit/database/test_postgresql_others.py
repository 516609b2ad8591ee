"""Several writers and other programs in one PostgreSQL database: none waits in a circle, and nothing is lost by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import DatabaseFault

from ..writing import Stream, template

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration]

TABLE = "CREATE TABLE IF NOT EXISTS counts (key BIGINT PRIMARY KEY, seen BIGINT NOT NULL, text TEXT)"
INDEX = "CREATE INDEX IF NOT EXISTS counts_seen ON counts (seen)"
COLUMN = "ALTER TABLE counts ADD COLUMN IF NOT EXISTS later INTEGER"
INSERT = "INSERT INTO counts (key, seen, text) VALUES (?, ?, ?)"
ADDING = f"{INSERT} ON CONFLICT (key) DO UPDATE SET seen = counts.seen + excluded.seen"
IGNORING = f"{INSERT} ON CONFLICT (key) DO NOTHING"
WRITERS = 4


@pytest.fixture
def reader(postgresql: str) -> Iterator[Any]:
    with psycopg.connect(postgresql, autocommit=True) as connection:
        yield connection


def together(url: str, work: Callable[[Writer, int], None], writers: int = WRITERS) -> None:
    """`work` at the same time with a writer each; the first error of any."""
    errors: list[BaseException] = []
    begin = threading.Barrier(writers)

    def run(number: int) -> None:
        try:
            begin.wait()
            with closing(Writer(parse_database(url), busy_timeout=30)) as writer:
                work(writer, number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_eight_writers_define_the_same_at_once(postgresql: str, reader: Any) -> None:
    """Tables of the bus, tables of jobs, indexes and columns: bare, most of them would fail at each other."""

    def work(writer: Writer, number: int) -> None:
        stream = Stream(f"w{number}")
        jobs = template(INSERT, ensure=(TABLE, INDEX, COLUMN))
        assert [] == writer.apply([stream.run(jobs, [number, 1, "x"])])

    together(postgresql, work, writers=8)
    assert [(8,)] == reader.execute("SELECT count(*) FROM counts").fetchall()
    assert [(0,)] == reader.execute("SELECT count(*) FROM telemetry_bus_dead_letters").fetchall()


@pytest.mark.parametrize("sql", [ADDING, IGNORING], ids=["update", "nothing"])
def test_upserts_of_the_same_keys_in_any_order(postgresql: str, reader: Any, sql: str) -> None:
    """Each writer has them in another one, and still none waits for another that waits for it."""
    rounds, keys = 10, 60
    jobs = template(sql, ensure=(TABLE,))

    def work(writer: Writer, number: int) -> None:
        stream = Stream(f"w{number}")
        order = list(range(keys)) if number % 2 else list(reversed(range(keys)))
        for _ in range(rounds):
            assert [] == writer.apply([stream.run(jobs, *([key, 1, "x"] for key in order))])

    together(postgresql, work)
    seen = WRITERS * rounds if sql == ADDING else 1
    assert [(keys, seen, seen)] == reader.execute("SELECT count(*), min(seen), max(seen) FROM counts").fetchall()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert [(0,)] == reader.execute(deadlocks).fetchall()


@pytest.mark.parametrize("count", [1, 20, 300])
def test_a_nul_costs_its_own_job(postgresql: str, reader: Any, count: int) -> None:
    """No text of PostgreSQL has one. A failed COPY leaves no transaction open behind it."""
    stream = Stream()
    with closing(Writer(parse_database(postgresql))) as writer:
        jobs = [[n, 1, "x"] for n in range(count)]
        (failure,) = writer.apply([stream.run(template(INSERT, ensure=(TABLE,)), *jobs, [count, 1, "a\0b"])])
        assert count + 1 == failure.sequence
        assert [(count,)] == reader.execute("SELECT count(*) FROM counts").fetchall()
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
        assert [(0,)] == reader.execute(idle).fetchall()
        (letter,) = writer.dead_letters()
        assert INSERT == letter.statement


def test_many_large_rows_in_single_statements(postgresql: str, reader: Any) -> None:
    """More than the sockets of both ends hold, so that each must be read while the other is written to."""
    stream = Stream()
    with closing(Writer(parse_database(postgresql))) as writer:
        writer.apply([stream.run(template(INSERT, ensure=(TABLE,)), *([n, 0, ""] for n in range(10)))])
        update = template("UPDATE counts SET text = ?, seen = seen + 1 WHERE key = ?")
        assert [] == writer.apply([stream.run(update, *([f"{n}" * 20_000, n % 10] for n in range(400)))])
    assert [(400,)] == reader.execute("SELECT sum(seen) FROM counts").fetchall()


def test_a_lock_of_another_program_is_no_job_s_fault(postgresql: str, reader: Any) -> None:
    """While it lasts the database is at fault, in the words of the server; then the very same jobs are committed."""
    stream = Stream()
    jobs = template(INSERT, ensure=(TABLE,))
    with closing(Writer(parse_database(postgresql), busy_timeout=0.05)) as writer:
        writer.apply([stream.run(jobs, [0, 1, "x"])])
        run = stream.run(jobs, *([n, 1, "x"] for n in range(1, 4)))
        with reader.transaction():
            reader.execute("LOCK TABLE counts")
            with pytest.raises(DatabaseFault, match="lock timeout"):
                writer.apply([run])
        assert [] == writer.apply([run])
        assert [] == list(writer.dead_letters())
    assert [(4,)] == reader.execute("SELECT count(*) FROM counts").fetchall()


def test_a_database_that_is_serializable_by_default(postgresql: str, reader: Any) -> None:
    """The writer says which isolation it needs."""
    reader.execute(
        f"ALTER ROLE bus IN DATABASE {postgresql.rpartition('/')[2]} SET default_transaction_isolation = serializable"
    )
    rounds = 10
    jobs = template(ADDING, ensure=(TABLE,))

    def work(writer: Writer, number: int) -> None:
        stream = Stream(f"w{number}")
        for _ in range(rounds):
            assert [] == writer.apply([stream.run(jobs, *([key, 1, "x"] for key in range(10)))])

    together(postgresql, work)
    assert [(WRITERS * rounds,)] == reader.execute("SELECT DISTINCT seen FROM counts").fetchall()


def test_a_right_that_the_role_lacks(postgresql: str, reader: Any) -> None:
    """Is the job's fault where a job's own statement needs it."""
    stream = Stream()
    with closing(Writer(parse_database(postgresql))) as writer:
        (failure,) = writer.apply([stream.run(template("UPDATE pg_authid SET rolname = ?"), ["x"])])
    assert "InsufficientPrivilege" == failure.error_type


@pytest.mark.parametrize(
    "sql",
    [
        *("ABORT", "START TRANSACTION", "PREPARE TRANSACTION 'x'", "COMMIT AND CHAIN", "SET search_path = x", "LOCK t"),
        *("COPY t FROM PROGRAM 'true'", "SELECT 1", "INSERT INTO t VALUES (1); COMMIT", "RESET ALL", "LISTEN x"),
        *("DELETE FROM telemetry_bus_ledger", 'DELETE FROM public."telemetry_bus_ledger"', "DISCARD ALL"),
        *("INSERT INTO t VALUES (set_config('a.b', 'c', false))", "CREATE TEMP TABLE x (a int)", "DEALLOCATE ALL"),
        "WITH gone AS (DELETE FROM telemetry_bus_ledger RETURNING 1) INSERT INTO t SELECT 1",
    ],
)
def test_what_steers_the_session_is_refused(postgresql: str, sql: str) -> None:
    """By the writer itself, whatever its producer has let pass."""
    stream = Stream()
    with closing(Writer(parse_database(postgresql))) as writer:
        writer.apply([stream.run(template(INSERT, ensure=(TABLE,)), [1, 1, "x"])])
        failures = writer.apply([stream.run(template(sql), []), stream.run(template(INSERT), [2, 1, "x"])])
        assert [2] == [failure.sequence for failure in failures]
        assert failures[0].error_type in ("NotRecordable", "JobError")
        assert {stream.id: 3} == writer.last_sequences([stream.id])
