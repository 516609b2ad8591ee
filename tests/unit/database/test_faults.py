"""The database's fault: nobody's job is blamed, nothing is lost, and the same call may be made again."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.database.sqlite.connection import SqliteConnection, SqliteDialect
from telemetry_bus.errors import DatabaseFault, LedgerMoved, NotRecordable

from ..writing import EVENT, EVENTS, Stream, execute, once, opened, rows, sqlite_error, template

NAMES = "SELECT name FROM events ORDER BY id"


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_READONLY_DBMOVED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CORRUPT_INDEX,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    ],
)
def test_the_database_is_to_blame(code: int) -> None:
    """Result codes, plain and extended, that say nothing about the job; each with a hint."""
    error = sqlite_error(code)
    assert SqliteDialect().blames_database(error)
    assert "" != SqliteDialect().fault(error, "write", "x").hint


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error(sqlite3.SQLITE_ERROR), sqlite_error(sqlite3.SQLITE_CONSTRAINT_UNIQUE),
        sqlite_error(sqlite3.SQLITE_MISMATCH), sqlite_error(sqlite3.SQLITE_TOOBIG), sqlite_error(sqlite3.SQLITE_RANGE),
        sqlite_error(sqlite3.SQLITE_AUTH), sqlite_error(sqlite3.SQLITE_SCHEMA), sqlite_error(sqlite3.SQLITE_INTERRUPT),
        sqlite_error(sqlite3.SQLITE_CORRUPT_VTAB), sqlite3.ProgrammingError("bindings"), sqlite3.InterfaceError("type"),
        OverflowError("2**63"), TypeError("type"), ValueError("value"), "\ud800",
        NotRecordable("PRAGMA"),
    ],
)  # fmt: skip
def test_the_job_is_to_blame(error: Exception | str) -> None:
    """Everything else: the statement, its values, its time."""
    if isinstance(error, str):
        with pytest.raises(UnicodeEncodeError) as caught:
            error.encode()
        error = caught.value
    assert isinstance(error, SqliteDialect().errors)
    assert not SqliteDialect().blames_database(error)


def test_memory_is_the_machines() -> None:
    """The driver raises Python's own error for it."""
    assert SqliteDialect().blames_database(MemoryError())


def test_a_locked_database_is_retried_by_the_caller(tmp_path: Path) -> None:
    """`apply` waits no longer than the busy timeout; the same runs go through when the lock is free."""
    runs = [Stream().run(EVENT, ["x", 1], ["y", 2])]
    with opened(tmp_path, busy_timeout=0.01) as writer:
        with closing(sqlite3.connect(tmp_path / "telemetry.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseFault, match=r"database is locked.*another process holds the write lock"):
                writer.apply(runs)
            other.execute("ROLLBACK")
        assert [] == writer.apply(runs)
        assert [("x",), ("y",)] == rows(tmp_path, NAMES)
        assert 0 == writer.snapshot().dead_letters


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY])
def test_a_fault_inside_the_batch_undoes_it(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the batch is applied and no job is blamed; then it goes through once."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        runs = [stream.run(EVENT, ["x", 1], ["y", 2])]
        monkeypatch.setattr(SqliteConnection, "run", once(SqliteConnection.run, sqlite_error(code)))
        with pytest.raises(DatabaseFault, match="injected"):
            writer.apply(runs)
        assert [("first",)] == rows(tmp_path, NAMES)
        assert [] == writer.apply(runs)
        assert [("first",), ("x",), ("y",)] == rows(tmp_path, NAMES)
        assert {stream.id: 3} == writer.last_sequences([stream.id])


def test_a_fault_in_bookkeeping_leaves_no_transaction_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes on to be used."""
    stream = Stream()
    with opened(tmp_path) as writer:
        commit = once(SqliteConnection.commit, sqlite_error(sqlite3.SQLITE_BUSY))
        monkeypatch.setattr(SqliteConnection, "commit", commit)
        with pytest.raises(DatabaseFault, match="injected"):
            writer.raise_watermark(stream.id, 7)
        assert {stream.id: 0} == writer.last_sequences([stream.id])
        writer.raise_watermark(stream.id, 8)
        assert {stream.id: 8} == writer.last_sequences([stream.id])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("poison", [False, True])
def test_after_an_error_at_commit_the_ledger_decides(
    tmp_path: Path, after: bool, poison: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether COMMIT failed before or after it had committed: each job is applied once, each failure told once."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        runs = [stream.run(EVENT, ["x", 1], ["first" if poison else "y", 2]), stream.run(EVENT, ["z", 3])]
        commit = once(SqliteConnection.commit, sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), after=after)
        monkeypatch.setattr(SqliteConnection, "commit", commit)
        with pytest.raises(DatabaseFault, match="injected"):
            writer.apply(runs)
        failures = writer.apply(runs)
        expected = [("first",), ("x",), ("z",)] if poison else [("first",), ("x",), ("y",), ("z",)]
        assert expected == rows(tmp_path, NAMES)
        assert ([3] if poison else []) == [failure.sequence for failure in failures]
        assert int(poison) == writer.snapshot().dead_letters
        assert {stream.id: 4} == writer.last_sequences([stream.id])


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
def test_what_was_committed_before_a_fault_is_not_applied_again(tmp_path: Path, point: str) -> None:
    """A batch that had to be cut in two may fail in its second part; all failures are told at the end."""
    stream = Stream()
    bad = template("INSERT OR ROLLBACK INTO events (name) VALUES (?)")
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1])])
        runs = [stream.run(EVENT, ["y", 2]), stream.run(bad, ["x"], ["y"]), stream.run(EVENT, ["z", 3], ["x", 4])]
        writer.failpoint = _fail_at_second(point)
        with pytest.raises(DatabaseFault, match="injected"):
            writer.apply(runs)
        del writer.failpoint
        assert [3, 4, 6] == [failure.sequence for failure in writer.apply(runs)]
        assert [("x",), ("y",), ("z",)] == rows(tmp_path, NAMES)
        assert {stream.id: 6} == writer.last_sequences([stream.id])


def test_an_interrupt_in_a_batch_leaves_it_undone(tmp_path: Path) -> None:
    """Ctrl-C is nobody's fault: rolled back, and the same runs go through."""
    runs = [Stream().run(EVENT, ["x", 1])]

    def interrupt(name: str) -> None:
        if name == "in-batch":
            raise KeyboardInterrupt

    with opened(tmp_path) as writer:
        writer.failpoint = interrupt
        with pytest.raises(KeyboardInterrupt):
            writer.apply(runs)
        del writer.failpoint
        assert [] == writer.apply(runs)
        assert [("x",)] == rows(tmp_path, NAMES)


class TestVanished:
    """The file is taken away while the writer has it open."""

    def test_a_deleted_database_is_not_made_again(self, tmp_path: Path) -> None:
        """Each call says what is wrong, until the file is back."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            os.rename(tmp_path / "telemetry.db", tmp_path / "away.db")
            runs = [stream.run(EVENT, ["y", 2])]
            for said in ("was deleted or replaced", "is gone or empty", "is gone or empty"):
                with pytest.raises(DatabaseFault, match=said):
                    writer.apply(runs)
            assert not (tmp_path / "telemetry.db").exists()
            os.rename(tmp_path / "away.db", tmp_path / "telemetry.db")
            assert [] == writer.apply(runs)
            assert [("x",), ("y",)] == rows(tmp_path, NAMES)

    def test_another_file_in_its_place_is_taken_up(self, tmp_path: Path) -> None:
        """A restored database gets what comes now, and nothing of the log that its predecessor left behind."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            writer.maintain(idle=True)
            shutil.copy(tmp_path / "telemetry.db", tmp_path / "backup.db")
            writer.apply([stream.run(EVENT, ["lost", 2])])
            os.replace(tmp_path / "backup.db", tmp_path / "telemetry.db")
            runs = [stream.run(EVENT, ["y", 3])]
            with pytest.raises(DatabaseFault, match="was deleted or replaced"):
                writer.apply(runs)
            with pytest.raises(LedgerMoved):  # job 2 may still come
                writer.apply(runs)
            writer.raise_watermark(stream.id, 2)
            assert [] == writer.apply(runs)
            assert [("x",), ("y",)] == rows(tmp_path, NAMES)
            assert [("ok",)] == rows(tmp_path, "PRAGMA integrity_check")

    @pytest.mark.parametrize("content", [b"", b"no database at all " * 100])
    def test_what_is_no_database_is_not_written_to(self, tmp_path: Path, content: bytes) -> None:
        """An empty file or one of something else stays as it is."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            os.unlink(tmp_path / "telemetry.db")
            (tmp_path / "telemetry.db").write_bytes(content)
            for _ in range(3):
                with pytest.raises(DatabaseFault):
                    writer.apply([stream.run(EVENT, ["y", 2])])
            assert content == (tmp_path / "telemetry.db").read_bytes()

    def test_a_fresh_database_begins_without_what_was_known_of_the_old(self, tmp_path: Path) -> None:
        """Definitions are executed again, and the bus's tables are made."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            (tmp_path / "other").mkdir()
            execute(tmp_path / "other", "CREATE TABLE theirs (a)")
            os.replace(tmp_path / "other" / "telemetry.db", tmp_path / "telemetry.db")
            runs = [stream.run(EVENT, ["y", 2])]
            with pytest.raises(DatabaseFault):
                writer.apply(runs)
            writer.raise_watermark(stream.id, 1)
            assert [] == writer.apply(runs)
            assert [("y",)] == rows(tmp_path, NAMES)
            assert {stream.id: 2} == writer.last_sequences([stream.id])

    def test_an_idle_writer_notices_too(self, tmp_path: Path) -> None:
        """The status can say so before the next job comes."""
        with opened(tmp_path) as writer:
            os.unlink(tmp_path / "telemetry.db")
            with pytest.raises(DatabaseFault, match="was deleted or replaced"):
                writer.maintain(idle=True)
            assert 0 == writer.snapshot().jobs_committed


def test_dropped_tables_of_the_bus_are_made_again(tmp_path: Path) -> None:
    """Somebody cleaned up too much: one fault, then work goes on."""
    runs = [Stream().run(EVENT, ["x", 1])]
    with opened(tmp_path) as writer:
        execute(tmp_path, "DROP TABLE telemetry_bus_ledger")
        with pytest.raises(DatabaseFault, match="no such table: telemetry_bus_ledger"):
            writer.apply(runs)
        assert [] == writer.apply(runs)
        assert [("x",)] == rows(tmp_path, NAMES)


def test_a_database_without_write_access_is_a_fault(tmp_path: Path) -> None:
    """The connection is refused writes; the job is not blamed."""
    with opened(tmp_path) as writer:
        writer.driver_connection.set_authorizer(None)
        writer.driver_connection.execute("PRAGMA query_only=ON")
        with pytest.raises(DatabaseFault, match=r"readonly.*check owner and rights"):
            writer.apply([Stream().run(EVENT, ["x", 1])])


def test_a_snapshot_is_had_in_every_state(tmp_path: Path) -> None:
    """While the database is away the last known number of dead letters is told."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1], ["x", 2])])
        assert 1 == writer.snapshot().dead_letters
        os.unlink(tmp_path / "telemetry.db")
        with pytest.raises(DatabaseFault):
            writer.apply([stream.run(EVENT, ["y", 3])])
        assert 1 == writer.snapshot().dead_letters


def test_a_snapshot_is_had_without_the_table_of_dead_letters(tmp_path: Path) -> None:
    """Somebody dropped it a moment ago."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, ["x", 1], ["x", 2])])
        assert 1 == writer.snapshot().dead_letters
        execute(tmp_path, "DROP TABLE telemetry_bus_dead_letters")
        assert 1 == writer.snapshot().dead_letters


def test_a_signal_in_the_middle_of_a_statement_is_nobodys_fault(tmp_path: Path) -> None:
    """What a signal handler raises there is swallowed by the driver, and looks like a time limit that has passed."""
    counting = """INSERT INTO events (name) WITH RECURSIVE n (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM n)
        SELECT max(a) FROM (SELECT a FROM n LIMIT 100000)"""
    signals = iter([False, False, True])

    def clock() -> float:
        if armed and next(signals, False):
            raise KeyboardInterrupt
        return 0.0

    armed = False
    runs = [Stream().run(template(counting, ensure=(EVENTS,)), [])]
    with opened(tmp_path, clock=clock) as writer:
        armed = True
        with pytest.raises(DatabaseFault, match="interrupted"):
            writer.apply(runs)
        assert [] == writer.apply(runs)
        assert [("100000",)] == rows(tmp_path, NAMES)


def _fail_at_second(name: str) -> Callable[[str], None]:
    seen = count()

    def failpoint(passed: str) -> None:
        if passed == name and next(seen) == 1:
            raise DatabaseFault("injected") from sqlite_error(sqlite3.SQLITE_IOERR)

    return failpoint


def test_memory_outlives_every_fault() -> None:
    """`:memory:` is in its one connection, so that there is no fresh one to go on with."""
    stream = Stream()
    with closing(Writer(parse_database(":memory:"))) as writer:
        assert [] == writer.apply([stream.run(EVENT, ["x", 1])])
        writer.driver_connection.set_authorizer(None)
        writer.driver_connection.execute("DROP TABLE telemetry_bus_ledger")
        runs = [stream.run(EVENT, ["y", 2])]
        with pytest.raises(DatabaseFault, match="no such table"):
            writer.apply(runs)
        writer.raise_watermark(stream.id, 1)
        assert [] == writer.apply(runs)
        assert [("x",), ("y",)] == writer.driver_connection.execute(NAMES).fetchall()
