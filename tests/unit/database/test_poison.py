"""One bad job hurts nobody: it becomes a dead letter, and its neighbours are applied."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.database import Writer
from telemetry_bus.database.sqlite.connection import SqliteConnection
from telemetry_bus.jobs import Template

from ..writing import EVENT, EVENTS, INSERT_EVENT, Stream, execute, opened, rows, sqlite_error, template

NAMES = "SELECT name FROM events ORDER BY id"
FAMILY = (
    "CREATE TABLE IF NOT EXISTS parents (id INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS kids (parent INTEGER REFERENCES parents (id))",
    "CREATE TABLE IF NOT EXISTS late_kids (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
)
INSERT_PARENT, INSERT_KID = "INSERT INTO parents (id) VALUES (?)", "INSERT INTO kids (parent) VALUES (?)"
INSERT_LATE_KID = "INSERT INTO late_kids (parent) VALUES (?)"
PARENT, KID = template(INSERT_PARENT, ensure=FAMILY), template(INSERT_KID, ensure=FAMILY)
LATE_KID = template(INSERT_LATE_KID, ensure=FAMILY)
PLAIN = template("INSERT INTO plain (a) VALUES (?)", ensure=("CREATE TABLE IF NOT EXISTS plain (a)",))
LOG, SEEN = "CREATE TABLE log (seen INTEGER)", "SELECT seen FROM log ORDER BY rowid"
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON events BEGIN INSERT INTO log SELECT count(*) FROM plain; END"
#: Counts for ever.
ENDLESS = """INSERT INTO events (name) WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n)
    SELECT count(*) FROM n WHERE a < 1e12"""


@pytest.mark.parametrize(
    ("jobs", "payload", "error_type"),
    [
        (EVENT, ["taken", 1], "IntegrityError"),
        (EVENT, [None, 1], "IntegrityError"),
        (template("INSERT INTO events (id, name) VALUES (?, 'q')"), ["no number"], "IntegrityError"),
        (template("INSERT INTO events nonsense"), [], "OperationalError"),
        (template("INSERT INTO missing VALUES (?)"), [1], "OperationalError"),
        (template("INSERT INTO events (name, missing) VALUES (?, ?)"), ["q", 1], "OperationalError"),
        (template("UPDATE events SET size = json_extract('{', '$')"), [], "OperationalError"),
        (template("DELETE FROM events; DELETE FROM events"), [], "ProgrammingError"),
        (template("DELETE FROM events WHERE name = 'a\0b'"), [], "ProgrammingError"),
        (template("UPDATE events SET size = zeroblob(?)"), [2**40], "DataError"),
        (EVENT, ["q"], "ProgrammingError"),
        (EVENT, ["q", 1, 2], "ProgrammingError"),
        (EVENT, ["q", 2**63], "OverflowError"),
        (EVENT, ["q", [1]], "ProgrammingError"),
        (EVENT, 7, "ProgrammingError"),
        (template((INSERT_EVENT, True)), [["q", 1], ["r"]], "ProgrammingError"),
        (template((INSERT_EVENT, True)), [["q", 1], None], "ProgrammingError"),
        (template(INSERT_EVENT, INSERT_EVENT), [["q", 1]], "ValueError"),
        (template(INSERT_EVENT, INSERT_EVENT), 7, "TypeError"),
        (template(INSERT_EVENT, "UPDATE events SET size = size + 1, name = 'taken'"), [["q", 1], []], "IntegrityError"),
        (template(ENDLESS), [], "OperationalError"),
    ],
)
def test_a_bad_job_falls_alone(tmp_path: Path, jobs: Template, payload: Any, error_type: str) -> None:
    """Constraint, type, syntax, missing table, number of values, shape, time: only that job is a dead letter."""
    stream = Stream()
    with opened(tmp_path, statement_timeout=0.2) as writer:
        writer.apply([stream.run(EVENT, ["taken", 1])])
        (failure,) = writer.apply([stream.run(EVENT, ["x", 1]), stream.run(jobs, payload), stream.run(EVENT, ["y", 2])])
        assert (stream.id, 3, error_type) == (failure.stream, failure.sequence, failure.error_type)
        assert [("taken", 1), ("x", 1), ("y", 2)] == rows(tmp_path, "SELECT name, size FROM events ORDER BY id")
        assert {stream.id: 4} == writer.last_sequences([stream.id])
        assert [failure] == writer.failures_after(stream.id, 0)


@pytest.mark.parametrize("payload", [["taken", 1], ["q", [1]]], ids=["constraint", "type"])
def test_a_bad_job_leaves_no_circle(tmp_path: Path, payload: Any) -> None:
    """What a refused batch took of memory is free at once, without the collector: a writer lets it look seldom."""

    class Watched(list[Any]):
        """A row whose end can be seen."""

    stream = Stream()
    gc.disable()
    try:
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["taken", 1])])
            good, bad = Watched(["x", 1]), Watched(payload)
            ends = [weakref.ref(good), weakref.ref(bad)]
            run = stream.run(EVENT, good, bad)
            del good, bad
            assert 1 == len(writer.apply([run]))
            del run
            assert [None, None] == [end() for end in ends]
    finally:
        gc.enable()


def test_a_failure_says_what_and_where(tmp_path: Path) -> None:
    """The driver's message, its traceback, the statement that failed of those that the job has."""
    jobs = template("DELETE FROM events", INSERT_EVENT, ensure=(EVENTS,))
    with opened(tmp_path) as writer:
        (failure,) = writer.apply([Stream().run(jobs, [[], [None, 1]])])
        assert INSERT_EVENT == failure.statement
        assert failure.error.startswith("NOT NULL constraint failed: events.name\nTraceback (most recent call last)")


def test_a_definition_that_fails_is_the_statement_that_failed(tmp_path: Path) -> None:
    """The neighbours with good definitions are applied."""
    bad = template(INSERT_EVENT, ensure=("CREATE TABLE IF NOT EXISTS", EVENTS))
    stream = Stream()
    with opened(tmp_path) as writer:
        (failure,) = writer.apply([stream.run(bad, ["x", 1]), stream.run(EVENT, ["y", 2])])
        assert ("CREATE TABLE IF NOT EXISTS", 1) == (failure.statement, failure.sequence)
        assert [("y",)] == rows(tmp_path, NAMES)


def test_failures_come_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    """Of two streams, as they stand in the batch."""
    a, b = Stream("a"), Stream("b")
    with opened(tmp_path) as writer:
        runs = [a.run(EVENT, [None, 1], ["x", 1]), b.run(EVENT, ["y", 1], ["x", 1]), a.run(EVENT, ["y", 1])]
        failures = writer.apply(runs)
        assert [(a.id, 1), (b.id, 2), (a.id, 3)] == [(failure.stream, failure.sequence) for failure in failures]


@pytest.mark.slow
def test_two_thousand_bad_jobs_among_many(tmp_path: Path) -> None:
    """Each is a dead letter once; every other job is applied."""
    stream = Stream()
    payloads = [[None if i % 10 == 0 else f"event {i}", i] for i in range(20_000)]
    with opened(tmp_path) as writer:
        failures = writer.apply([stream.run(EVENT, *payloads)])
        assert [i + 1 for i in range(0, 20_000, 10)] == [failure.sequence for failure in failures]
        assert [(18_000,)] == rows(tmp_path, "SELECT count(*) FROM events")
        assert 2_000 == writer.snapshot().dead_letters
        assert (18_000, 18_000) == (writer.snapshot().jobs_committed, writer.snapshot().rows_committed)


class TestEndingTheTransaction:
    """A job that ends the transaction it stands in takes nobody along."""

    def test_or_rollback(self, tmp_path: Path) -> None:
        """SQLite rolls the whole transaction back; the jobs before and behind are applied all the same."""
        bad = template("INSERT OR ROLLBACK INTO events (name) VALUES (?)")
        stream = Stream()
        with opened(tmp_path) as writer:
            good, ended, more = [["x", 1]], [["x"], ["y"], ["x"]], [["z", 3], ["x", 4]]
            runs = [stream.run(EVENT, *good), stream.run(bad, *ended), stream.run(EVENT, *more)]
            failures = writer.apply(runs)
            assert [2, 4, 6] == [failure.sequence for failure in failures]
            assert [("x",), ("y",), ("z",)] == rows(tmp_path, NAMES)
            assert {stream.id: 6} == writer.last_sequences([stream.id])

    def test_raise_rollback_in_a_trigger(self, tmp_path: Path) -> None:
        """The same from inside a trigger."""
        trigger = """CREATE TRIGGER IF NOT EXISTS picky BEFORE INSERT ON events WHEN new.size < 0 BEGIN
            SELECT RAISE(ROLLBACK, 'too small'); END"""
        picky = template(INSERT_EVENT, ensure=(EVENTS, trigger))
        stream = Stream()
        with opened(tmp_path) as writer:
            failures = writer.apply([stream.run(picky, ["x", 1], ["y", -1], ["z", 2], ["w", -1])])
            assert [(2, "too small"), (4, "too small")] == [(f.sequence, f.error.splitlines()[0]) for f in failures]
            assert [("x",), ("z",)] == rows(tmp_path, NAMES)

    def test_a_statement_over_its_time_limit(self, tmp_path: Path) -> None:
        """The limit is of one statement: SQLite rolls back, and the others are applied."""
        stream = Stream()
        with opened(tmp_path, statement_timeout=0.1) as writer:
            runs = [stream.run(EVENT, ["x", 1]), stream.run(template(ENDLESS), []), stream.run(EVENT, ["y", 2])]
            began = time.monotonic()
            (failure,) = writer.apply(runs)
            assert time.monotonic() - began < 10
            assert (2, "interrupted") == (failure.sequence, failure.error.splitlines()[0])
            assert "the statement took longer than its time limit" in failure.error
            assert [("x",), ("y",)] == rows(tmp_path, NAMES)

    def test_a_batch_may_take_longer_than_one_statement(self, tmp_path: Path) -> None:
        """A slow batch, or job, without a slow statement is not at fault."""
        ticks = count()
        slow = """INSERT INTO events (name) WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n)
            SELECT ? || max(a) FROM (SELECT a FROM n LIMIT 50000)"""
        jobs = template(slow, slow, ensure=(EVENTS,))
        with opened(tmp_path, statement_timeout=30.0, clock=lambda: float(next(ticks))) as writer:
            assert [] == writer.apply([Stream().run(jobs, *([[f"a{i}"], [f"b{i}"]] for i in range(3)))])
            assert next(ticks) > 2 * 30
            assert [(6,)] == rows(tmp_path, "SELECT count(*) FROM events")


class TestForeignKeys:
    """Inserts keep the order that foreign keys need, and a violation is its job's."""

    def test_a_parent_goes_before_its_child(self, tmp_path: Path) -> None:
        """Whatever lane was filled first."""
        stream = Stream()
        with opened(tmp_path) as writer:
            family = template(INSERT_PARENT, INSERT_KID, ensure=FAMILY)
            assert [] == writer.apply([stream.run(PARENT, [1]), stream.run(KID, [1]), stream.run(family, [[2], [2]])])
            assert [] == writer.apply([stream.run(KID, [1]), stream.run(family, [[3], [3]])])
            assert [(1,), (2,), (1,), (3,)] == rows(tmp_path, "SELECT parent FROM kids ORDER BY rowid")

    def test_a_child_without_a_parent_falls_alone(self, tmp_path: Path) -> None:
        """Judged at its statement."""
        stream = Stream()
        with opened(tmp_path) as writer:
            (failure,) = writer.apply([stream.run(PARENT, [1]), stream.run(KID, [1], [9], [1])])
            assert (3, "FOREIGN KEY constraint failed") == (failure.sequence, failure.error.splitlines()[0])
            assert [(1,), (1,)] == rows(tmp_path, "SELECT parent FROM kids")

    @pytest.mark.parametrize("position", [0, 1, 6, 7])
    def test_a_deferred_violation_falls_alone(self, tmp_path: Path, position: int) -> None:
        """Judged at COMMIT: the batch is cut in two until the job stands alone."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(PARENT, [1])])
            parents = [[9 if i == position else 1] for i in range(8)]
            (failure,) = writer.apply([stream.run(LATE_KID, *parents)])
            assert (position + 2, None) == (failure.sequence, failure.statement)
            assert [(7,)] == rows(tmp_path, "SELECT count(*) FROM late_kids")
            assert {stream.id: 9} == writer.last_sequences([stream.id])

    def test_a_deferred_violation_beside_other_failures(self, tmp_path: Path) -> None:
        """Both kinds in one batch are found, in order."""
        stream = Stream()
        with opened(tmp_path) as writer:
            failures = writer.apply(
                [
                    stream.run(PARENT, [1]),
                    stream.run(LATE_KID, [1], [9]),
                    stream.run(PARENT, [1]),
                    stream.run(LATE_KID, [8], [1]),
                    stream.run(KID, [7]),
                ]
            )
            assert [3, 4, 5, 7] == [failure.sequence for failure in failures]
            assert [(1,), (1,)] == rows(tmp_path, "SELECT parent FROM late_kids")

    @pytest.mark.parametrize("kid", [KID, LATE_KID], ids=["at once", "at the end"])
    @pytest.mark.parametrize("together", [True, False])
    def test_a_parent_that_comes_later_does_not_help(self, tmp_path: Path, kid: Template, together: bool) -> None:
        """In one batch as in two: the child that came first is a dead letter, and one behind the parent is not."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(PARENT, [1])])
            runs = [stream.run(kid, [5], [1]), stream.run(PARENT, [5]), stream.run(kid, [5])]
            failures = writer.apply(runs) if together else [f for run in runs for f in writer.apply([run])]
            assert [2] == [failure.sequence for failure in failures]

    def test_jobs_of_parents_and_children_stay_together(self, tmp_path: Path) -> None:
        """Where each child comes behind its parent a batch is a transaction, with a statement for each table."""
        both, stream = template(INSERT_PARENT, INSERT_KID, INSERT_LATE_KID, ensure=FAMILY), Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(PARENT, [0])])
            with _statements(writer) as ran:
                writer.apply([stream.run(both, *([[n], [n], [n]] for n in range(1, 101)))])
            assert 2 == writer.snapshot().batches
            assert 9 == sum(sql.startswith("INSERT") and "telemetry_bus" not in sql for sql in ran)

    @pytest.mark.parametrize(
        ("column", "value"),
        [("DEFAULT (last_insert_rowid())", 1), ("CHECK (v + 0 * changes() < 2)", 0), ("DEFAULT (changes())", 1)],
    )
    def test_defaults_that_ask_for_the_statement_before(self, tmp_path: Path, column: str, value: int) -> None:
        """Each job's second row is about its first, as when it is alone: where its tables are new, and where they are
        found."""
        ensure = (
            "CREATE TABLE IF NOT EXISTS one (id INTEGER PRIMARY KEY, v)",
            f"CREATE TABLE IF NOT EXISTS two (n, v INTEGER {column})",
        )
        second = "INSERT INTO two (n) VALUES (?)" if "DEFAULT" in column else "INSERT INTO two (n, v) VALUES (?, 0)"
        jobs, stream = template("INSERT INTO one (v) VALUES (?)", second, ensure=ensure), Stream()
        for first in (1, 51):
            with opened(tmp_path) as writer:
                assert [] == writer.apply([stream.run(jobs, *([[n], [n]] for n in range(first, first + 50)))])
        expected = [(n if "rowid" in column else value,) for n in range(1, 101)]
        assert expected == rows(tmp_path, "SELECT v FROM two ORDER BY rowid")


@contextmanager
def _statements(writer: Writer) -> Iterator[list[str]]:
    ran: list[str] = []
    writer.driver_connection.set_trace_callback(ran.append)
    yield ran
    writer.driver_connection.set_trace_callback(None)


class TestHealing:
    """Somebody changed the schema under the writer."""

    def test_a_dropped_table_is_made_again(self, tmp_path: Path) -> None:
        """The job's definitions are executed once more."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            execute(tmp_path, "DROP TABLE events")
            assert [] == writer.apply([stream.run(EVENT, ["y", 2])])
            assert [("y",)] == rows(tmp_path, NAMES)

    def test_a_dropped_column_is_added_again(self, tmp_path: Path) -> None:
        """A definition that adds it counts as done only as long as the column is there."""
        ensure = (EVENTS, "ALTER TABLE events ADD COLUMN extra TEXT")
        wide = template("INSERT INTO events (name, extra) VALUES (?, ?)", ensure=ensure)
        stream = Stream()
        with opened(tmp_path) as writer:
            assert [] == writer.apply([stream.run(wide, ["x", "1"])])
            execute(tmp_path, "ALTER TABLE events DROP COLUMN extra")
            assert [] == writer.apply([stream.run(wide, ["y", "2"])])
            assert [("x", None), ("y", "2")] == rows(tmp_path, "SELECT name, extra FROM events ORDER BY id")

    def test_a_dropped_index_is_made_again(self, tmp_path: Path) -> None:
        """An upsert needs the unique index that its conflict clause names."""
        table, index = "CREATE TABLE IF NOT EXISTS t (k, v)", "CREATE UNIQUE INDEX IF NOT EXISTS by_k ON t (k)"
        upsert = "INSERT INTO t VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        stream, jobs = Stream(), template(upsert, ensure=(table, index))
        with opened(tmp_path) as writer:
            assert [] == writer.apply([stream.run(jobs, [1, "x"])])
            execute(tmp_path, "DROP INDEX by_k")
            assert [] == writer.apply([stream.run(jobs, [1, "y"])])
            assert [(1, "y")] == rows(tmp_path, "SELECT k, v FROM t")

    def test_in_mode_sync_too(self, tmp_path: Path) -> None:
        """What heals in production heals in tests."""
        with opened(tmp_path, ledger=False) as writer:
            writer.run(EVENT, ["x", 1])
            execute(tmp_path, "DROP TABLE events")
            writer.run(EVENT, ["y", 2])
            assert [("y",)] == rows(tmp_path, NAMES)

    def test_a_table_dropped_by_a_job_before(self, tmp_path: Path) -> None:
        """Inside one batch: the definitions of a later job are executed again."""
        ensure = ("DROP TABLE IF EXISTS events", "CREATE TABLE IF NOT EXISTS marks (a)")
        drop = template("INSERT INTO marks VALUES (1)", ensure=ensure)
        stream = Stream()
        with opened(tmp_path) as writer:
            assert [] == writer.apply([stream.run(EVENT, ["x", 1]), stream.run(drop, []), stream.run(EVENT, ["y", 2])])
            assert [("y",)] == rows(tmp_path, NAMES)

    def test_a_table_that_stays_away_is_the_jobs_fault(self, tmp_path: Path) -> None:
        """One more try, not more."""
        bad = template("INSERT INTO elsewhere VALUES (1)", ensure=(EVENTS,))
        with opened(tmp_path) as writer:
            (failure,) = writer.apply([Stream().run(bad, [])])
            assert "no such table: elsewhere" == failure.error.splitlines()[0]

    def test_a_trigger_made_by_somebody_else_is_noticed(self, tmp_path: Path) -> None:
        """From then on the table takes no lane: its trigger sees the other tables as the jobs' order has them."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 0]), stream.run(PLAIN, [0])])
            execute(tmp_path, LOG, TRIGGER)
            writer.apply([stream.run(EVENT, ["y", 1]), stream.run(PLAIN, [1]), stream.run(EVENT, ["z", 2])])
            assert [(1,), (2,)] == rows(tmp_path, SEEN)

    def test_a_trigger_that_comes_after_a_rollback_is_noticed(self, tmp_path: Path) -> None:
        """The schema's version is then what it was inside the transaction that was rolled back."""

        def stop(name: str) -> None:
            if name == "before-commit":
                raise KeyboardInterrupt

        more = template("INSERT INTO more VALUES (?)", ensure=("CREATE TABLE IF NOT EXISTS more (a)",))
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 0]), stream.run(PLAIN, [0])])
            execute(tmp_path, LOG)
            writer.failpoint = stop
            with pytest.raises(KeyboardInterrupt):
                writer.apply([stream.run(more, [0])])
            del writer.failpoint
            execute(tmp_path, TRIGGER)
            stream.last = 2
            writer.apply([stream.run(EVENT, ["y", 1]), stream.run(PLAIN, [1]), stream.run(EVENT, ["z", 2])])
            assert [(1,), (2,)] == rows(tmp_path, SEEN)

    @pytest.mark.parametrize("making", [template(TRIGGER), template("INSERT INTO log VALUES (0)", ensure=(TRIGGER,))])
    def test_a_trigger_made_by_a_job_of_the_batch_is_noticed(self, tmp_path: Path, making: Template) -> None:
        """Whether it is a definition or, against all custom, a statement."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 0]), stream.run(PLAIN, [0])])
            execute(tmp_path, LOG)
            before, made = stream.run(EVENT, ["w", 0]), stream.run(making, [])
            after = [stream.run(EVENT, ["y", 1]), stream.run(PLAIN, [1]), stream.run(EVENT, ["z", 2])]
            writer.apply([before, made, *after])
            assert [(1,), (2,)] == rows(tmp_path, f"{SEEN} LIMIT -1 OFFSET {len(making.ensure)}")


def test_rows_of_returning_are_read_and_dropped(tmp_path: Path) -> None:
    """Unread rows would keep the statement open, and COMMIT would fail."""
    jobs = template((f"{INSERT_EVENT} RETURNING id, name", True), ensure=(EVENTS,))
    stream = Stream()
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(jobs, [["x", 1], ["y", 2], ["z", 3]], [["w", 4]])])
        (failure,) = writer.apply([stream.run(jobs, [["v", 5], ["u", 6]], [["x", 7]])])
        assert 4 == failure.sequence
        assert [("x",), ("y",), ("z",), ("w",), ("v",), ("u",)] == rows(tmp_path, NAMES)


def test_a_commit_that_is_refused_for_no_jobs_sake_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a dead letter can be committed: nobody is blamed."""

    def refuse(connection: SqliteConnection) -> None:
        raise sqlite_error(1, "cannot commit")

    with opened(tmp_path) as writer:
        monkeypatch.setattr(SqliteConnection, "commit", refuse)
        with pytest.raises(Exception, match="cannot commit") as caught:
            writer.apply([Stream().run(EVENT, ["x", 1], ["y", 2])])
        monkeypatch.undo()
        assert "DatabaseFault" == type(caught.value).__name__
        assert 0 == writer.snapshot().dead_letters
