"""A job that makes the database fail, hangs or ends the writer: found, buried, and no other job waits or is blamed."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.database.attempts import Attempts
from telemetry_bus.database.sqlite.connection import SqliteConnection
from telemetry_bus.errors import DatabaseFault
from telemetry_bus.jobs import Template

from ..writing import EVENT, Stream, execute, opened, rows, sqlite_error, template

NAMES = "SELECT name FROM events ORDER BY id"
SERIAL = "CREATE TABLE IF NOT EXISTS serial (id INTEGER PRIMARY KEY AUTOINCREMENT, v)"
COUNT = "WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n LIMIT 1000000000)"


def failing_on(name: str, error: BaseException | int) -> Any:
    """`SqliteConnection.run`, which fails when a row with this name is among the values."""
    run = SqliteConnection.run

    def failing(self: SqliteConnection, sql: str, row: Any) -> None:
        if name in row:
            if isinstance(error, BaseException):
                raise error
            os.kill(os.getpid(), error)
        run(self, sql, row)

    return failing


def test_a_number_that_is_used_up_is_not_a_full_disk(tmp_path: Path) -> None:
    """AUTOINCREMENT at its end says that the disk is full, which it is not: that job is a dead letter."""
    serial = template("INSERT INTO serial (id) VALUES (?)", ensure=(SERIAL,))
    more = template("INSERT INTO serial (v) VALUES (?)", ensure=(SERIAL,))
    stream = Stream()
    with opened(tmp_path) as writer:
        runs = [stream.run(serial, [2**63 - 1]), stream.run(more, ["x"]), stream.run(EVENT, ["y", 1])]
        (failure,) = writer.apply(runs)
        assert (2, "OperationalError") == (failure.sequence, failure.error_type)
        assert [("y",)] == rows(tmp_path, NAMES)
        assert [(1,)] == rows(tmp_path, "SELECT count(*) FROM telemetry_bus_ledger")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        *(
            sqlite_error(code)
            for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR_READ,
                         sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        ),
    ],
    ids=repr,
)  # fmt: skip
def test_a_fault_that_one_job_causes(tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database works otherwise, the job is found, tried again alone, and buried; its neighbours are not."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        monkeypatch.setattr(SqliteConnection, "run", failing_on("bad", error))
        left = [stream.run(EVENT, ["x", 2], ["bad", 3], ["y", 4])]
        failures = []
        for _ in range(6):
            try:
                failures += writer.apply(left)
                break
            except DatabaseFault:
                continue
        assert [3] == [failure.sequence for failure in failures]
        assert [("first",), ("x",), ("y",)] == rows(tmp_path, NAMES)


def test_a_disk_without_room_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is tried, no job is blamed."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        run = [stream.run(EVENT, ["bad", 2])]
        with monkeypatch.context() as patch:
            patch.setattr(SqliteConnection, "run", failing_on("bad", sqlite_error(sqlite3.SQLITE_FULL)))
            patch.setattr(SqliteConnection, "has_room", lambda self: False)
            for _ in range(10):
                with pytest.raises(DatabaseFault):
                    writer.apply(run)
        assert [] == writer.apply(run)
        assert 0 == writer.snapshot().dead_letters


def test_a_statement_of_the_bus_that_a_job_breaks(tmp_path: Path) -> None:
    """A table whose foreign key makes no sense has the ledger refuse every change. The job that would leave it behind
    is a dead letter; the others are applied."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1])])
        advance = writer._applier._ledger.advance
        broken: list[bool] = []

        def advancing(moves: Any) -> None:
            if rows_now(writer, "SELECT 1 FROM events WHERE name = 'bad'"):
                broken.append(True)
                raise DatabaseFault("foreign key mismatch") from sqlite_error(sqlite3.SQLITE_ERROR)
            advance(moves)

        writer._applier._ledger.advance = advancing  # type: ignore[method-assign]
        failures = writer.apply([stream.run(EVENT, ["y", 1], ["bad", 2], ["z", 3])])
        assert broken
        assert [3] == [failure.sequence for failure in failures]
        assert [("x",), ("y",), ("z",)] == rows(tmp_path, NAMES)


def rows_now(writer: Writer, sql: str) -> list[Any]:
    found: list[Any] = writer._connection.own(sql)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "value"),
    [
        (f"INSERT INTO events (name) {COUNT} SELECT count(*) FROM n WHERE a > ?", 0),
        (f"INSERT INTO events (name) {COUNT} SELECT max(length(hex(zeroblob(20000000 + a)))) FROM n WHERE a > ?", 0),
        ("UPDATE events SET size = 1 WHERE name REGEXP ?", "^(a+)+$"),
        ("UPDATE events SET size = 1 WHERE name REGEXP ?", r"(\w*)*\d(\w|a)*!"),
        ("INSERT INTO events (name) VALUES (hex(zeroblob(?)))", 400_000_000),
    ],
    ids=["instructions", "slow instructions", "REGEXP", "REGEXP that fails", "long value"],
)  # fmt: skip
def test_whatever_a_job_does_ends(tmp_path: Path, sql: str, value: Any) -> None:
    """By itself, or when its time is over; the neighbours are applied."""
    stream = Stream()
    with opened(tmp_path, statement_timeout=0.3) as writer:
        writer.apply([stream.run(EVENT, ["a" * 60 + "b", 1])])
        writer.apply([stream.run(EVENT, ["x", 1]), stream.run(template(sql), [value]), stream.run(EVENT, ["y", 2])])
        assert [("x",), ("y",)] == rows(tmp_path, "SELECT name FROM events WHERE name IN ('x', 'y') ORDER BY id")
        assert {stream.id: 4} == writer.last_sequences([stream.id])


class TestEndedWriters:
    """The file that names what was in flight."""

    def killed(self, tmp_path: Path, runs: list[Any]) -> int:
        """A writer in a process of its own, which gets a signal as soon as it runs the job that is called bad."""
        pid = os.fork()
        if not pid:
            try:
                SqliteConnection.run = failing_on("bad", signal.SIGKILL)  # type: ignore[method-assign]
                SqliteConnection.run_many = lambda self, sql, rows: [self.run(sql, row) for row in rows]  # type: ignore
                with closing(
                    Writer(parse_database(tmp_path / "telemetry.db"), attempts=tmp_path / "attempts")
                ) as writer:
                    writer.apply(runs)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def test_a_job_that_ends_the_writer(self, tmp_path: Path) -> None:
        """Once in company, twice alone; then it is a dead letter that says so, and nothing is remembered of it."""
        with opened(tmp_path) as writer:
            writer.apply([Stream("z").run(EVENT, ["first", 1])])
        stream = Stream()
        runs = [stream.run(EVENT, ["x", 1], ["bad", 2], ["y", 3])]
        ends: list[int] = []
        while (end := self.killed(tmp_path, self.left(tmp_path, runs))) and len(ends) < 10:
            ends.append(end)
        assert [signal.SIGKILL] * 3 == ends
        assert [("first",), ("x",), ("y",)] == rows(tmp_path, NAMES)
        assert [(2, "EndedWriter")] == rows(tmp_path, "SELECT sequence, error_type FROM telemetry_bus_dead_letters")
        with closing_attempts(tmp_path) as attempts:
            assert not attempts.concern(runs)

    def left(self, tmp_path: Path, runs: list[Any]) -> list[Any]:
        with opened(tmp_path) as writer:
            done = writer.last_sequences([runs[0].stream])[runs[0].stream]
        return [run._replace(first=done + 1, payloads=run.payloads[done:]) for run in runs]

    def test_a_kill_from_outside_blames_nobody(self, tmp_path: Path) -> None:
        """The jobs run one by one, once, and all are applied."""
        stream = Stream()
        runs = [stream.run(EVENT, ["x", 1], ["y", 2])]
        with closing_attempts(tmp_path) as attempts:
            attempts.batch(runs)
            copy = (tmp_path / "attempts").read_bytes()
        (tmp_path / "attempts").write_bytes(copy)
        with opened(tmp_path, attempts=tmp_path / "attempts") as writer:
            assert writer._attempts.concern(runs)
            assert [] == writer.apply(runs)
            assert not writer._attempts.concern(runs)
        assert [("x",), ("y",)] == rows(tmp_path, NAMES)

    def test_a_job_that_was_given_up(self, tmp_path: Path) -> None:
        """The writer has ended itself because the job could not be stopped: it is not tried again."""
        stream = Stream()
        runs = [stream.run(EVENT, ["x", 1], ["y", 2], ["z", 3])]
        with closing_attempts(tmp_path) as attempts:
            attempts.batch(runs)
            attempts.at(stream.id, 2)
            attempts.give_up()
            copy = (tmp_path / "attempts").read_bytes()
        (tmp_path / "attempts").write_bytes(copy)
        with opened(tmp_path, attempts=tmp_path / "attempts") as writer:
            (failure,) = writer.apply(runs)
        assert (2, "EndedWriter") == (failure.sequence, failure.error_type)
        assert [("x",), ("z",)] == rows(tmp_path, NAMES)

    def test_a_file_that_another_program_cuts_short(self, tmp_path: Path) -> None:
        """The writer goes on; no signal ends it."""
        pid = os.fork()
        if not pid:
            try:
                with opened(tmp_path, attempts=tmp_path / "attempts") as writer:
                    os.truncate(tmp_path / "attempts", 0)
                    writer.apply([Stream().run(EVENT, ["x", 1])])
            finally:
                os._exit(0)
        assert 0 == os.waitpid(pid, 0)[1]
        assert [("x",)] == rows(tmp_path, NAMES)

    @pytest.mark.parametrize("content", [b"", b"x" * 10, b"\xff" * 65536, bytes(65536)])
    def test_a_file_of_something_else(self, tmp_path: Path, content: bytes) -> None:
        """It is begun again."""
        (tmp_path / "attempts").write_bytes(content)
        with closing_attempts(tmp_path) as attempts:
            assert not attempts.concern([Stream().run(EVENT, ["x", 1])])

    def test_a_file_that_cannot_be_made(self, tmp_path: Path) -> None:
        """The writer works without."""
        (tmp_path / "attempts").symlink_to(tmp_path / "elsewhere")
        with opened(tmp_path, attempts=tmp_path / "attempts") as writer:
            assert [] == writer.apply([Stream().run(EVENT, ["x", 1])])
        assert not (tmp_path / "elsewhere").exists()


def closing_attempts(tmp_path: Path) -> closing[Attempts]:
    return closing(Attempts(tmp_path / "attempts"))


class TestPortions:
    """Slow and bad jobs are committed bit by bit."""

    def test_slow_jobs_do_not_make_one_long_transaction(self, tmp_path: Path) -> None:
        """What is done after the time of a portion is committed; the rest is given back."""
        now = [0.0]

        def clock() -> float:
            now[0] += 0.1
            return now[0]

        stream = Stream()
        runs = [stream.run(EVENT, ["taken", 1], ["taken", 2], *([f"event {i}", i] for i in range(50)))]
        with opened(tmp_path, clock=clock) as writer:
            settled = writer.settle(runs)
            assert 0 < sum(len(run.payloads) for run in settled.rest) < 52
            assert [1 + 52 - len(settled.rest[0].payloads)] == [run.first for run in settled.rest]
            writer.apply(settled.rest)
        assert [(51,)] == rows(tmp_path, "SELECT count(*) FROM events")

    def test_ten_thousand_rollbacks_are_linear(self, tmp_path: Path) -> None:
        """Each job ends the transaction that it stands in, and is run no more than twice."""
        execute_all = "INSERT OR ROLLBACK INTO events (name) VALUES (?)"
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            failures = writer.apply([stream.run(template(execute_all), *(["x"] for _ in range(1000)))])
            assert 1000 == len(failures)
            assert writer.snapshot().batches < 1100


def test_triggers_into_full_text_tables(tmp_path: Path) -> None:
    """As another program makes them: the rows go in, and are found."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        execute(
            tmp_path,
            "CREATE VIRTUAL TABLE found USING fts5 (name, content='events', content_rowid='id')",
            "CREATE TRIGGER ins AFTER INSERT ON events BEGIN "
            "INSERT INTO found (rowid, name) VALUES (new.id, new.name); END",
            "CREATE VIRTUAL TABLE boxes USING rtree (id, low, high)",
            "CREATE TRIGGER box AFTER INSERT ON events BEGIN INSERT INTO boxes VALUES (new.id, new.size, 9); END",
        )
        checked = "CREATE TABLE IF NOT EXISTS checked (v TEXT CHECK (v REGEXP '^[a-z]+$'))"
        good: Template = template("INSERT INTO checked VALUES (?)", ensure=(checked,))
        failures = writer.apply([stream.run(EVENT, ["second word", 2]), stream.run(good, ["abc"], ["A1"])])
        assert [4] == [failure.sequence for failure in failures]
        assert [(2,)] == rows(tmp_path, "SELECT rowid FROM found WHERE found MATCH 'word'")
        assert [(2,)] == rows(tmp_path, "SELECT id FROM boxes")
        assert [("abc",)] == rows(tmp_path, "SELECT v FROM checked")


@pytest.mark.slow
class TestSlowDefinitions:
    """Definitions over grown tables."""

    INDEX = "CREATE INDEX IF NOT EXISTS slow ON events (length(name || hex(zeroblob(100000))))"

    def grown(self, writer: Writer, stream: Stream) -> None:
        writer.apply([stream.run(EVENT, ["first", 1])])
        many = (
            "INSERT INTO events (name) WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n LIMIT 20000) "
        )
        writer.apply([stream.run(template(many + "SELECT 'event ' || a FROM n"), [])])

    def test_an_index_that_takes_too_long_is_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It is tried once, and told; jobs are applied without it."""
        jobs, stream = template("UPDATE events SET size = ? WHERE name = 'first'", ensure=(self.INDEX,)), Stream()
        with opened(tmp_path, definition_timeout=0.3) as writer:
            self.grown(writer, stream)
            assert [] == writer.apply([stream.run(jobs, [2])])
            assert [] == writer.apply([stream.run(jobs, [n]) for n in range(3, 50)])
            assert any("not made" in text for text in writer.snapshot().drift)
        assert [(49,)] == rows(tmp_path, "SELECT size FROM events WHERE name = 'first'")
        assert 1 == sum("jobs are applied without it" in record.getMessage() for record in caplog.records)

    def test_a_definition_that_jobs_need_is_not_tried_again(self, tmp_path: Path) -> None:
        """The first job waits for it, the others are told at once."""
        unique = template(EVENT.statements[0][0], ensure=(self.INDEX.replace("INDEX", "UNIQUE INDEX", 1),))
        stream = Stream()
        with opened(tmp_path, definition_timeout=0.3) as writer:
            self.grown(writer, stream)
            failures = writer.apply([stream.run(unique, *([f"n{number}", 1] for number in range(100)))])
            assert ["OperationalError"] + ["BadDefinition"] * 99 == [failure.error_type for failure in failures]
            assert [] == writer.apply([stream.run(EVENT, ["another", 1])])
