"""Dead letters: kept whole, tried again, deleted, logged in measure."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from telemetry_bus.database.deadletters import LOGGED_PER_PERIOD, MAX_ERROR_TEXT, UNKNOWN, FailureLog, refused
from telemetry_bus.database.sqlite.connection import SqliteConnection
from telemetry_bus.encoding.values import unpack, unpack_job
from telemetry_bus.errors import DatabaseFault, ProtocolError
from telemetry_bus.jobs import Failure, Job, Statement
from telemetry_bus.runtime.throttle import PERIOD_S

from ..writing import EVENT, EVENTS, INSERT_EVENT, Stream, execute, once, opened, rows, sqlite_error, template

NAMES = "SELECT name FROM events ORDER BY id"
IDS = "SELECT id FROM telemetry_bus_dead_letters ORDER BY id"


def test_a_dead_letter_holds_the_whole_job(tmp_path: Path) -> None:
    """Definitions, statements and rows can be read without anything else."""
    stream = Stream()
    jobs = template(INSERT_EVENT, ("DELETE FROM events WHERE name = ?", True), ensure=(EVENTS,))
    with opened(tmp_path) as writer:
        (failure,) = writer.apply([stream.run(jobs, [[None, 1], [["x"], [b"y"]]])])
        (letter,) = writer.dead_letters()
        deletes = Statement("DELETE FROM events WHERE name = ?", (("x",), (b"y",)))
        assert Job((Statement(INSERT_EVENT, ((None, 1),)), deletes), (EVENTS,)) == unpack_job(letter.job)
        assert failure == Failure(letter.stream, letter.sequence, letter.error_type, letter.error, letter.statement)
        age = datetime.now(UTC) - datetime.fromisoformat(f"{letter.failed_at}+00:00")
        assert timedelta() <= age < timedelta(hours=1)
        assert len("2026-01-31 12:00:00.000000") == len(letter.failed_at)


def test_a_payload_that_does_not_fit_its_template_is_kept_as_it_came(tmp_path: Path) -> None:
    """There is no job to be read from it, and a retry says so."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, 7)])
        (letter,) = writer.dead_letters()
        with pytest.raises(ProtocolError):
            unpack_job(letter.job)
        ((_, error),) = writer.retry()
        assert "not a job" in error


def test_failures_after_a_watermark(tmp_path: Path) -> None:
    """Of that stream only, in order, at most so many."""
    a, b = Stream("a"), Stream("b")
    with opened(tmp_path) as writer:
        writer.apply([a.run(EVENT, *([None, i] for i in range(5))), b.run(EVENT, [None, 0])])
        assert [3, 4] == [failure.sequence for failure in writer.failures_after(a.id, 2, limit=2)]
        assert [] == writer.failures_after(b.id, 1)


def test_a_job_that_fails_twice_has_one_letter(tmp_path: Path) -> None:
    """The ledger was lost and the job came again: the letter is written anew."""
    stream = Stream()
    with opened(tmp_path) as writer:
        run = stream.run(EVENT, [None, 1])
        writer.apply([run])
        execute(tmp_path, "DELETE FROM telemetry_bus_ledger")
        assert [1] == [failure.sequence for failure in writer.apply([run])]
        assert 1 == writer.snapshot().dead_letters


class TestRetry:
    """Each job and the deletion of its letter are one transaction."""

    def test_what_succeeds_now_is_applied_and_gone(self, tmp_path: Path) -> None:
        """After the reason was removed."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1], ["x", 2], [None, 3])])
            execute(tmp_path, "DELETE FROM events")
            good, bad = writer.retry()
            assert ((1, ""), 2) == (good, bad[0])
            assert bad[1].startswith("NOT NULL constraint failed")
            assert [("x",)] == rows(tmp_path, NAMES)
            assert [(2,)] == rows(tmp_path, IDS)

    def test_what_fails_again_keeps_its_letter_with_the_new_error(self, tmp_path: Path) -> None:
        """The job is the same, the reason may be another."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1], ["x", 2])])
            (before,) = writer.dead_letters()
            execute(tmp_path, "ALTER TABLE events RENAME COLUMN size TO bytes")
            (result,) = writer.retry([1])
            (after,) = writer.dead_letters()
            assert (1, after.error) == result
            assert after.error.startswith("table events has no column named size")
            assert ("OperationalError", before.job, before.failed_at) == (after.error_type, after.job, after.failed_at)

    def test_only_those_that_were_asked_for(self, tmp_path: Path) -> None:
        """In the order asked for; one that is not there says so."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1], ["x", 2], ["x", 3], ["x", 4])])
            execute(tmp_path, "DELETE FROM events")
            results = writer.retry([3, 99])
            assert [(3, ""), (99, UNKNOWN)] == results
            assert [(1,), (2,)] == rows(tmp_path, IDS)

    def test_a_job_is_whole_in_its_second_life_too(self, tmp_path: Path) -> None:
        """A statement of it fails: none of it stays."""
        jobs = template(INSERT_EVENT, INSERT_EVENT, ensure=(EVENTS,))
        with opened(tmp_path) as writer:
            writer.apply([Stream().run(EVENT, ["first", 0]), Stream("b").run(jobs, [["x", 1], [None, 2]])])
            assert [True] == [error != "" for _, error in writer.retry()]
            assert [("first",)] == rows(tmp_path, NAMES)

    def test_definitions_are_executed_again(self, tmp_path: Path) -> None:
        """The table may be gone by now."""
        with opened(tmp_path) as writer:
            writer.apply([Stream().run(EVENT, ["x", 1], ["x", 2])])
            execute(tmp_path, "DROP TABLE events")
            assert [(1, "")] == writer.retry()
            assert [("x",)] == rows(tmp_path, NAMES)

    @pytest.mark.parametrize("after", [False, True])
    def test_a_fault_leaves_the_rest_undecided(
        self, tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether or not the COMMIT that failed had committed: trying again applies each job once."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, [None, 0], ["x", 1], ["x", 2], ["y", 3], ["y", 4])])
            execute(tmp_path, "DELETE FROM telemetry_bus_dead_letters WHERE sequence = 1", "DELETE FROM events")
            commit = once(SqliteConnection.commit, sqlite_error(sqlite3.SQLITE_IOERR), after=after)
            monkeypatch.setattr(SqliteConnection, "commit", commit)
            with pytest.raises(DatabaseFault):
                writer.retry()
            assert {""} == {error for _, error in writer.retry()}
            assert [("x",), ("y",)] == rows(tmp_path, NAMES)
            assert [] == rows(tmp_path, IDS)


def test_purge_deletes_what_was_asked_for(tmp_path: Path) -> None:
    """Some, or all; the number of those that were there."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, *([None, i] for i in range(4)))])
        assert 1 == writer.purge([2, 99])
        assert [(1,), (3,), (4,)] == rows(tmp_path, IDS)
        assert 3 == writer.purge()
        assert [] == rows(tmp_path, IDS)
        assert [] == writer.retry()


@pytest.mark.parametrize("levels", [40, 700, 1000])
@pytest.mark.parametrize("branches", [1, 2])
def test_lists_within_lists_are_kept_to_a_measure(tmp_path: Path, levels: int, branches: int) -> None:
    """msgpack reads more of them than some of its versions write, and the writer must be able to keep the job."""
    head = bytes([0x90 | branches]) + b"\x01" * (branches - 1)
    payload = unpack(head * levels + b"\xc0")
    with opened(tmp_path) as writer:
        assert 1 == len(writer.apply([Stream().run(EVENT, payload)]))
        assert [] == writer.apply([Stream("next").run(EVENT, ["a", 1])])
    ((job,),) = rows(tmp_path, "SELECT job FROM telemetry_bus_dead_letters")
    kept, found = unpack(job)[2], 0
    while isinstance(kept, list):
        kept, found = kept[-1], found + 1
    assert ("lists within lists, left out", True) == (kept, found < 40)


def test_a_long_error_is_cut_in_its_middle() -> None:
    """The message at its head and the place at its end are kept."""
    text = refused(ValueError("x" * 100_000), None).traceback
    assert len(text) <= MAX_ERROR_TEXT + 10
    assert text.startswith("xxx")
    assert "\n…\n" in text


def test_failures_are_logged_with_their_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By the writer's logger, as errors, once."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, [None, 1])])
    (record,) = caplog.records
    assert ("telemetry_bus", logging.ERROR) == (record.name, record.levelno)
    assert "IntegrityError: NOT NULL constraint failed" in record.getMessage()
    assert "Traceback" in record.getMessage()


def test_a_flood_hides_no_other_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Another error, and the same one of another statement, are logged among a thousand of one kind."""
    log = FailureLog(lambda: 0.0)
    log.write([Failure(b"s", sequence, "Error", "text", "SQL") for sequence in range(1000)])
    log.write([Failure(b"s", 1000, "Other", "text", "SQL"), Failure(b"s", 1001, "Error", "text", "other SQL")])
    assert ["job 1000 ", "job 1001 "] == [record.getMessage()[:9] for record in caplog.records[-2:]]


def test_a_flood_of_failures_is_logged_in_measure(caplog: pytest.LogCaptureFixture) -> None:
    """So many per period, and the number of the others at its end."""
    now = [0.0]
    failures = [Failure(b"s", sequence, "Error", "text") for sequence in range(100)]
    log = FailureLog(lambda: now[0])
    log.write(failures)
    assert LOGGED_PER_PERIOD == len(caplog.records)
    log.write(failures)
    log.tick()
    assert LOGGED_PER_PERIOD == len(caplog.records)
    now[0] = PERIOD_S
    log.tick()
    assert f"{200 - LOGGED_PER_PERIOD} more like this one, left out: job 99" in caplog.records[-1].getMessage()
    log.write(failures[:1])
    assert "job 0 of stream 73" in caplog.records[-1].getMessage()
    log.flush()
    assert LOGGED_PER_PERIOD + 2 == len(caplog.records)
