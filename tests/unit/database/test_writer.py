"""The writer as others use it: batches, ledger, snapshot, closing, mode `sync`."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.database.sqlite.connection import SqliteConnection
from telemetry_bus.errors import DatabaseFault, JobFailed, StoreClosed

from ..writing import EVENT, EVENTS, INSERT_EVENT, Stream, database, execute, opened, rows, template

SIZES = "CREATE TABLE IF NOT EXISTS sizes (size INTEGER)"


def test_a_batch_is_committed_with_its_ledger(tmp_path: Path) -> None:
    """A reader sees the rows, and the ledger stands at each stream's last job."""
    a, b = Stream("a"), Stream("b")
    with opened(tmp_path) as writer:
        assert [] == writer.apply([a.run(EVENT, ["x", 1]), b.run(EVENT, ["y", 2], ["z", 3]), a.run(EVENT, ["w", 4])])
        assert {a.id: 2, b.id: 2, b"unknown": 0} == writer.last_sequences([a.id, b.id, b"unknown"])
        assert [("x", 1), ("y", 2), ("z", 3), ("w", 4)] == rows(tmp_path, "SELECT name, size FROM events ORDER BY id")


def test_a_job_of_many_statements_and_rows_is_applied_whole(tmp_path: Path) -> None:
    """Every statement of a template gets its part of the payload: one row, or many."""
    jobs = template(INSERT_EVENT, ("INSERT INTO sizes VALUES (?)", True), ensure=(EVENTS, SIZES))
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(jobs, [["x", 1], [[10], [11]]], [["y", 2], []], [["z", 3], [[12]]])])
        assert [("x",), ("y",), ("z",)] == rows(tmp_path, "SELECT name FROM events ORDER BY id")
        assert [(10,), (11,), (12,)] == rows(tmp_path, "SELECT size FROM sizes ORDER BY rowid")
        done = writer.snapshot()
        assert (3, 6, 1) == (done.jobs_committed, done.rows_committed, done.batches)


def test_an_empty_batch_is_no_transaction(tmp_path: Path) -> None:
    """Nothing to do is nothing done."""
    with opened(tmp_path) as writer:
        assert [] == writer.apply([])
        assert [] == writer.apply([Stream().run(EVENT)])
        assert 0 == writer.snapshot().batches


def test_fail_points_are_passed_in_order(tmp_path: Path) -> None:
    """A test may end the process at each step of a batch."""
    passed: list[str] = []
    with opened(tmp_path) as writer:
        writer.failpoint = passed.append
        writer.apply([Stream().run(EVENT, ["x", 1])])
    assert ["before-begin", "in-batch", "before-commit", "after-commit"] == passed


def test_the_ledger_survives_the_writer(tmp_path: Path) -> None:
    """The next writer goes on where the last one stopped."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1], ["y", 2])])
    with opened(tmp_path) as writer:
        assert {stream.id: 2} == writer.last_sequences([stream.id])


def test_a_watermark_raises_the_ledger_and_never_lowers_it(tmp_path: Path) -> None:
    """What a producer has trimmed cannot come again; what is committed is not forgotten."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.raise_watermark(stream.id, 7)
        assert {stream.id: 7} == writer.last_sequences([stream.id])
        writer.raise_watermark(stream.id, 3)
        assert {stream.id: 7} == writer.last_sequences([stream.id])


def test_only_streams_that_have_long_been_over_are_pruned(tmp_path: Path) -> None:
    """A row goes when its stream has ended and that is long ago. However old it is otherwise, its journal may lie in
    another bus folder; one that goes on has not ended."""
    old, kept, young, open_, again = (Stream(name) for name in ("old", "kept", "young", "open", "again"))
    streams = [old, kept, young, open_, again]
    ages = "UPDATE telemetry_bus_ledger SET updated_at = '2001-01-01 00:00:00' WHERE stream < x'79'"
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, [stream.id.decode(), 1]) for stream in streams])
        writer.end_streams([old.id, kept.id, young.id, again.id])
        writer.apply([again.run(EVENT, ["after its end", 2])])
        execute(tmp_path, ages)
        assert 1 == writer.prune_ledger({kept.id})
        expected = {old.id: 0, kept.id: 1, young.id: 1, open_.id: 1, again.id: 2}
        assert expected == writer.last_sequences([stream.id for stream in streams])


def test_a_ledger_is_pruned_in_steps(tmp_path: Path) -> None:
    """Others wait while a transaction lasts."""
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, [stream.id.decode(), 1]) for stream in map(Stream, "abcde")])
        writer.end_streams([Stream(name).id for name in "abcde"])
        execute(tmp_path, "UPDATE telemetry_bus_ledger SET updated_at = '2001-01-01 00:00:00'")
        assert [2, 2, 1, 0] == [writer.prune_ledger(set(), limit=2) for _ in range(4)]


def test_the_ledger_of_an_earlier_version_is_carried_on(tmp_path: Path) -> None:
    """What it lacks is added; an earlier version still writes to it then."""
    stream = Stream()
    earlier = "CREATE TABLE telemetry_bus_ledger (stream BLOB NOT NULL, last_sequence INTEGER NOT NULL,"
    execute(
        tmp_path,
        f"{earlier} updated_at TIMESTAMP NOT NULL, PRIMARY KEY (stream))",
        f"INSERT INTO telemetry_bus_ledger VALUES (x'{stream.id.hex()}', 3, '2001-01-01 00:00:00')",
    )
    stream.last = 3
    with opened(tmp_path) as writer:
        assert 0 == writer.prune_ledger(set())
        assert [] == writer.apply([stream.run(EVENT, ["x", 1])])
        assert {stream.id: 4} == writer.last_sequences([stream.id])
        execute(
            tmp_path, "INSERT INTO telemetry_bus_ledger (stream, last_sequence, updated_at) VALUES (x'00', 1, 'now')"
        )


def test_the_tables_of_the_bus_are_those_that_are_documented(tmp_path: Path) -> None:
    """Programs outside read them: names, types and order of the columns are a contract."""
    with opened(tmp_path):
        columns = 'SELECT name, type, "notnull" FROM pragma_table_info(?)'
        assert [
            ("stream", "BLOB", 1),
            ("last_sequence", "INTEGER", 1),
            ("updated_at", "TIMESTAMP", 1),
            ("ended", "INTEGER", 1),
        ] == rows(tmp_path, columns, "telemetry_bus_ledger")
        assert [
            ("id", "INTEGER", 1),
            ("stream", "BLOB", 1),
            ("sequence", "INTEGER", 1),
            ("failed_at", "TIMESTAMP", 1),
            ("error_type", "TEXT", 1),
            ("error", "TEXT", 1),
            ("statement", "TEXT", 0),
            ("job", "BLOB", 1),
        ] == rows(tmp_path, columns, "telemetry_bus_dead_letters")


def test_a_snapshot_tells_what_was_done(tmp_path: Path) -> None:
    """Counters, the dead letters in the table, latencies, the cache, the log, the database's version."""
    stream = Stream()
    with opened(tmp_path) as writer:
        before = writer.snapshot()
        assert (0, 0, 0, 0, 0.0, 0.0, 0, ()) == (
            before.jobs_committed,
            before.rows_committed,
            before.batches,
            before.dead_letters,
            before.commit_ms_p50,
            before.commit_ms_p99,
            before.ddl_cached,
            before.drift,
        )
        writer.apply([stream.run(EVENT, ["x", 1], ["x", 2], ["y", 3])])
        after = writer.snapshot()
        assert (2, 2, 1, 1, 1) == (
            after.jobs_committed,
            after.rows_committed,
            after.batches,
            after.dead_letters,
            after.ddl_cached,
        )
        assert 0 < after.commit_ms_p50 <= after.commit_ms_p99
        assert os.stat(tmp_path / "telemetry.db-wal").st_size == after.wal_bytes > 0
        assert after.database_version.startswith("SQLite 3.")


def test_close_is_final_and_idempotent(tmp_path: Path) -> None:
    """Closing twice is nothing; use afterwards says so; no log is left behind."""
    writer = Writer(database(tmp_path))
    writer.apply([Stream().run(EVENT, ["x", 1])])
    writer.close()
    writer.close()
    with pytest.raises(StoreClosed, match="the writer is closed"):
        writer.apply([Stream("b").run(EVENT, ["y", 1])])
    assert ["telemetry.db"] == [path.name for path in tmp_path.glob("telemetry.db*")]
    assert 1 == writer.snapshot().jobs_committed


def test_a_resting_writer_has_the_database_closed(tmp_path: Path) -> None:
    """Until the next call needs it, which finds everything as it was."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1])])
        writer.rest()
        writer.rest()
        assert not (tmp_path / "telemetry.db-wal").exists()
        assert 0 == writer.snapshot().dead_letters
        assert [] == writer.apply([stream.run(EVENT, ["y", 2])])
        assert {stream.id: 2} == writer.last_sequences([stream.id])


def test_a_new_database_is_private_and_its_folder_is_made(tmp_path: Path) -> None:
    """Nobody else reads the file that the writer makes."""
    with closing(Writer(parse_database(tmp_path / "deep" / "er" / "x.db"))):
        path = tmp_path / "deep" / "er" / "x.db"
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else is left as it is, and the error says what to do."""
    (tmp_path / "telemetry.db").write_text("Dear diary, " * 100)
    with pytest.raises(DatabaseFault, match=r"file is not a database.*name another one"):
        Writer(database(tmp_path))
    assert "Dear diary, " * 100 == (tmp_path / "telemetry.db").read_text()


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    """A file stands in the place of the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseFault, match="file"):
        Writer(parse_database(tmp_path / "file" / "x.db"))


class TestSync:
    """Mode `sync`: one job, one transaction, in the caller."""

    def test_a_job_is_committed_when_run_returns(self, tmp_path: Path) -> None:
        """No ledger, no dead letters: the file holds the job's tables only."""
        with opened(tmp_path, ledger=False) as writer:
            writer.run(EVENT, ["x", 1])
            assert [("x", 1)] == rows(tmp_path, "SELECT name, size FROM events")
            assert [("events",)] == rows(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'")
            done = writer.snapshot()
            assert (1, 1, 0) == (done.jobs_committed, done.rows_committed, done.dead_letters)

    def test_a_failing_job_raises_and_leaves_nothing(self, tmp_path: Path) -> None:
        """The error carries the driver's exception, its traceback and the statement; the next job goes through."""
        two = template(INSERT_EVENT, ("INSERT INTO events (name) VALUES (?)", True), ensure=(EVENTS,))
        with opened(tmp_path, ledger=False) as writer:
            with pytest.raises(JobFailed, match=r"UNIQUE constraint failed.*INSERT INTO events \(name\)") as caught:
                writer.run(two, [["x", 1], [["y"], ["x"]]])
            assert "IntegrityError" == caught.value.error_type == type(caught.value.__cause__).__name__
            assert "Traceback (most recent call last)" in caught.value.traceback
            writer.run(EVENT, ["z", 3])
            assert [("z",)] == rows(tmp_path, "SELECT name FROM events")

    def test_statements_run_in_order_whatever_they_are(self, tmp_path: Path) -> None:
        """A job may insert, update and insert from a query."""
        mixed = template(
            INSERT_EVENT,
            "UPDATE events SET size = size + ?",
            "INSERT INTO sizes SELECT size FROM events",
            ensure=(EVENTS, SIZES),
        )
        with opened(tmp_path, ledger=False) as writer:
            writer.run(mixed, [["x", 1], [10], []])
            assert [(11,)] == rows(tmp_path, "SELECT size FROM sizes")

    def test_an_error_at_commit_is_the_jobs(self, tmp_path: Path) -> None:
        """A deferred foreign key is judged at COMMIT; nothing of the job stays."""
        ensure = (
            "CREATE TABLE IF NOT EXISTS parents (id INTEGER PRIMARY KEY)",
            "CREATE TABLE IF NOT EXISTS kids (parent REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        with opened(tmp_path, ledger=False) as writer:
            with pytest.raises(JobFailed, match="FOREIGN KEY constraint failed"):
                writer.run(template("INSERT INTO kids VALUES (?)", ensure=ensure), [7])
            writer.run(template("INSERT INTO parents VALUES (?)", ensure=ensure), [7])
            assert [(7,)] == rows(tmp_path, "SELECT id FROM parents")
            assert [] == rows(tmp_path, "SELECT * FROM kids")

    def test_memory_is_read_through_the_driver_connection(self) -> None:
        """`:memory:` has one connection."""
        with closing(Writer(parse_database(":memory:"), ledger=False)) as writer:
            writer.run(EVENT, ["x", 1])
            assert [("x", 1)] == writer.driver_connection.execute("SELECT name, size FROM events").fetchall()
            assert 0 == writer.snapshot().wal_bytes


def test_long_texts_are_let_go(tmp_path: Path) -> None:
    """Statements of long texts, each another one, are not kept by hundreds; one that comes again is found."""
    with opened(tmp_path) as writer:
        writer.apply([Stream("z").run(EVENT, ["x", 1])])
        stream = Stream()
        for number in range(40):
            text = f"UPDATE events SET size = ? WHERE name = '{number:0200000}'"
            writer.apply([stream.run(template(text), [1])])
        connection = writer._connection
        assert isinstance(connection, SqliteConnection)
        assert connection._long_chars <= 2 * 1024 * 1024 + 200_100
        assert sum(map(len, connection._long_texts)) == connection._long_chars
