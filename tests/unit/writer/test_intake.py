"""From messages to commits while the database fails: nothing is lost, nothing is blamed, nothing is said too early."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import Database
from telemetry_bus.database import Writer
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.errors import DatabaseFault, ProtocolError
from telemetry_bus.journal.layout import DEFINITIONS_BYTES, PAGE_BYTES, read_watermark
from telemetry_bus.journal.ring import Journal
from telemetry_bus.protocol.messages import Ack, Hello, Refusal, Resend, Welcome
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import (
    CHECK_LOG_AFTER_BYTES,
    HURRY_S,
    RETRY_AFTER_S,
    RETRY_LIMIT_S,
    BatchLimits,
    Intake,
)

from ..streams import INSERT, MemoryWriter, Sender
from ..writing import database, execute, opened, rows

DATABASE = Database("sqlite:////x.db", "sqlite", Path("/x.db"))


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer() -> MemoryWriter:
    return MemoryWriter()


def make(writer: Any, clock: Clock, limits: BatchLimits | None = None) -> Intake[bytes]:
    return Intake(writer, DATABASE, limits or BatchLimits(), clock)


@pytest.fixture
def intake(writer: MemoryWriter, clock: Clock) -> Intake[bytes]:
    return make(writer, clock)


@pytest.fixture
def sender(intake: Intake[bytes]) -> Sender:
    """A producer that has said hello."""
    sender = Sender()
    intake.control(b"route", Hello(sender.stream, DATABASE.identity, 0, 7))
    assert [b"route"] == [route for route, _ in intake.replies()]
    return sender


def committed(intake: Intake[bytes]) -> list[int]:
    return [message.committed for _, message in intake.replies() if isinstance(message, Ack)]


def test_a_batch_is_one_commit(intake: Intake[bytes], writer: MemoryWriter, sender: Sender) -> None:
    """All messages that came are committed at once, and acknowledged then."""
    assert intake.due_in() is None
    intake.jobs(sender.message(1, 2))
    intake.jobs(sender.message(3, 3))
    assert 0.0 == intake.due_in()
    assert [] == committed(intake)
    intake.commit()
    assert ([1, 2, 3], 1) == (writer.numbers(sender.stream), writer.batches)
    assert [3] == committed(intake)
    assert intake.due_in() is None


def test_nothing_to_commit(intake: Intake[bytes], writer: MemoryWriter) -> None:
    """Without jobs there is no transaction."""
    intake.commit()
    assert 0 == writer.attempts


def test_kept_while_the_database_is_at_fault(
    intake: Intake[bytes], writer: MemoryWriter, sender: Sender, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch is kept and tried again, less and less often; nothing more is taken or acknowledged meanwhile; it is
    logged at its beginning and at its end; and then every job is there once."""
    writer.fault = DatabaseFault("disk full", operation="write")
    intake.jobs(sender.message(1, 2))
    intervals = []
    with caplog.at_level(logging.WARNING, logger="telemetry_bus.writer"):
        for attempt in range(1, 10):
            intake.commit()
            assert attempt == writer.attempts
            assert intake.fault is writer.fault
            assert not intake.room
            assert [] == [number for number in committed(intake) if number]
            wait = intake.due_in()
            assert wait is not None
            intervals.append(wait)
            clock.now += wait / 2
            intake.commit()
            assert attempt == writer.attempts, "not before its time"
            clock.now += wait / 2 + 1e-6
        writer.fault = None
        intake.commit()
    assert ([1, 2], None) == (writer.numbers(sender.stream), intake.fault)
    assert [2] == committed(intake)
    assert intake.room
    assert RETRY_AFTER_S == pytest.approx(intervals[0])
    assert RETRY_LIMIT_S == pytest.approx(intervals[-1])
    assert sorted(intervals) == pytest.approx(intervals)
    assert ["ERROR", "WARNING"] == [record.levelname for record in caplog.records]
    assert caplog.records[0].exc_info is not None


def test_backoff_begins_anew(intake: Intake[bytes], writer: MemoryWriter, sender: Sender, clock: Clock) -> None:
    """After a recovery the next fault is tried again soon."""
    fault = DatabaseFault("locked")
    for first in (1, 2):
        intake.jobs(sender.message(first, first))
        writer.fault = fault
        for _ in range(5):
            intake.commit()
            clock.now += (intake.due_in() or 0.0) + 1e-6
        writer.fault = None
        intake.commit()
        assert intake.fault is None
    writer.fault = fault
    intake.jobs(sender.message(3, 3))
    intake.commit()
    assert RETRY_AFTER_S == pytest.approx(intake.due_in())


def test_ledger_that_cannot_be_read(intake: Intake[bytes], writer: MemoryWriter, clock: Clock) -> None:
    """A message of an unknown stream counts as lost, and is asked for when the database is well again."""
    sender = Sender("new")
    writer.fault = DatabaseFault("locked")
    intake.jobs(sender.message(1, 2))
    assert intake.fault is writer.fault
    assert 0 == intake.protocol.pending_jobs
    writer.fault = None
    clock.now += RETRY_AFTER_S
    intake.commit()
    assert intake.fault is None
    intake.control(b"route", Hello(sender.stream, DATABASE.identity, 0, 7))
    intake.jobs(sender.message(3, 3))
    assert [1] == [message.first for _, message in intake.replies() if isinstance(message, Resend)]


def test_answers_that_need_the_database(
    intake: Intake[bytes], writer: MemoryWriter, sender: Sender, clock: Clock
) -> None:
    """A fault while failures are read delays the answers, and loses none."""
    writer.poison = {1}
    intake.jobs(sender.message(1, 1))
    intake.commit()
    assert "no 1" == intake.last_failure
    writer.fault = DatabaseFault("locked")
    assert [] == [*intake.replies()]
    assert intake.fault is writer.fault
    writer.fault = None
    clock.now += RETRY_AFTER_S
    intake.commit()
    ((_, answer),) = intake.replies()
    assert isinstance(answer, Ack)
    assert [1] == [failure.sequence for failure in answer.failures]


def test_database_that_went_back(intake: Intake[bytes], writer: MemoryWriter, caplog: pytest.LogCaptureFixture) -> None:
    """What a producer knows to be committed and the ledger has not is logged as an error, once."""
    for _ in range(3):
        intake.control(b"route", Hello(b"s" * 16, DATABASE.identity, 5, 7))
        [*intake.replies()]
    assert [("ERROR", True)] == [(record.levelname, "5 jobs" in record.getMessage()) for record in caplog.records]
    assert {b"s" * 16: 5} == writer.ledger


def test_housekeeping_at_fault(intake: Intake[bytes], writer: MemoryWriter, clock: Clock) -> None:
    """A fault that housekeeping meets shows in the state, and goes when the database works again."""
    writer.fault = DatabaseFault("locked")
    intake.maintain(idle=True)
    intake.control(b"route", Hello(b"s" * 16, DATABASE.identity, 0, 7))
    assert intake.fault is writer.fault
    writer.fault = None
    clock.now += RETRY_LIMIT_S
    intake.commit()
    assert intake.fault is None


def test_what_can_be_read_can_not_be_written(
    intake: Intake[bytes], writer: MemoryWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a limit of the size of files: the fault does not come and go with each look."""
    monkeypatch.setattr(writer, "last_sequences", lambda streams: dict.fromkeys(streams, 0))
    writer.fault = DatabaseFault("disk full")
    intake.maintain(idle=True)
    clock.now += RETRY_LIMIT_S
    intake.commit()
    assert intake.fault is writer.fault
    writer.fault = None
    clock.now += RETRY_LIMIT_S
    intake.commit()
    assert intake.fault is None


def test_a_log_that_a_reader_kept(intake: Intake[bytes], writer: MemoryWriter, clock: Clock) -> None:
    """While the log could not be written back, it is tried again after each commit; a fault then is a fault, and what
    was committed stays acknowledged."""
    sender = Sender()
    for number in (1, 2, 3):
        writer.behind = number == 2
        intake.jobs(sender.message(number, number))
        intake.commit()
        if intake.log_due:
            intake.write_back()
        assert (number > 1) == writer.checkpoints
    writer.behind = True
    intake.jobs(sender.message(4, 4))
    applied = writer.apply
    writer.apply = lambda runs: (applied(runs), setattr(writer, "fault", DatabaseFault("full")))[0]  # type: ignore[method-assign]
    intake.commit()
    assert intake.fault is None
    intake.write_back()
    assert intake.fault is writer.fault
    assert [1, 2, 3, 4] == writer.numbers(sender.stream)


@pytest.mark.parametrize(
    ("limits", "room"), [(BatchLimits(jobs=3), False), (BatchLimits(jobs=4), True), (BatchLimits(bytes=10), False)]
)
def test_limits(writer: MemoryWriter, clock: Clock, limits: BatchLimits, room: bool) -> None:
    """A batch that is full is due at once, however long it may wait else."""
    intake = make(writer, clock, limits)
    intake.jobs(Sender().message(1, 3))
    assert room == intake.room
    patient = make(writer, clock, BatchLimits(limits.jobs, limits.bytes, delay_s=2.0))
    patient.jobs(Sender().message(1, 3))
    assert (2.0 if room else 0.0) == patient.due_in()


def test_delay_counts_from_the_oldest_job(writer: MemoryWriter, clock: Clock) -> None:
    """Jobs that come later do not put the commit off."""
    intake = make(writer, clock, BatchLimits(delay_s=2.0))
    sender = Sender()
    for first in (1, 2, 3):
        intake.jobs(sender.message(first, first))
        clock.now += 0.5
    assert 0.5 == intake.due_in()
    clock.now += 10.0
    assert 0.0 == intake.due_in()


def test_patient_jobs_wait_for_those_of_other_producers(writer: MemoryWriter, clock: Clock) -> None:
    """A few milliseconds from the first of them, unless a process waits for any job of the batch."""
    intake = make(writer, clock, BatchLimits(step_s=0.5))
    one, other = Sender(), Sender("another")
    intake.jobs(replace(one.message(1, 1), patient=True))
    clock.now += 0.25
    intake.jobs(replace(other.message(1, 1), patient=True))
    assert 0.25 == intake.due_in()
    intake.jobs(one.message(2, 2))
    assert 0.0 == intake.due_in()
    intake.commit()
    assert [[1, 2], [1]] == [writer.numbers(sender.stream) for sender in (one, other)]
    intake.jobs(replace(one.message(3, 3), patient=True))
    assert 0.5 == intake.due_in()


def test_malformed_messages_are_counted_and_logged_seldom(
    intake: Intake[bytes], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A flood of nonsense is counted in full, and logged once in ten seconds, with the number of what was left out."""
    for _ in range(100):
        intake.control(b"route", Ack(b"s" * 16, b"", 1, 1, 1, 1))
    intake.count_malformed(ProtocolError("nonsense"))
    assert (101, 1) == (intake.malformed, len(caplog.records))
    clock.now += 10.0
    intake.maintain(idle=False)
    assert "100 more like this one, left out" in caplog.records[1].getMessage()
    intake.count_malformed(ProtocolError("nonsense"))
    assert (102, 3) == (intake.malformed, len(caplog.records))


def test_a_long_nonsense_is_shortened(intake: Intake[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """What a stranger may put into an error's text does not fill the log."""
    intake.count_malformed(ProtocolError("x" * 1_000_000))
    assert len(caplog.records[0].getMessage()) < 500


def test_a_database_that_comes_and_goes_is_told_of_in_measure(
    intake: Intake[bytes], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred faults in ten seconds are two lines, and then two with how many were left out."""
    for _ in range(100):
        intake.degrade(DatabaseFault("locked"))
        clock.now += 0.1
        intake.commit()
    told = [record.getMessage() for record in caplog.records]
    assert 2 <= len(told) <= 5, told
    intake.pace.flush()
    left_out = sum(getattr(record, "left_out", 0) for record in caplog.records)
    events = [record for record in caplog.records if not hasattr(record, "left_out")]
    assert 200 == left_out + len(events)


# A real database that was replaced


@pytest.fixture
def real_writer(tmp_path: Path) -> Iterator[Writer]:
    with opened(tmp_path) as writer:
        execute(tmp_path, "CREATE TABLE t (a)")
        yield writer


@pytest.fixture
def real_intake(tmp_path: Path, real_writer: Writer, clock: Clock) -> Intake[bytes]:
    return Intake(real_writer, database(tmp_path), BatchLimits(), clock)


def recover(intake: Intake[bytes], clock: Clock) -> None:
    for _ in range(5):
        clock.now += (intake.due_in() or 0.0) + 1e-6
        intake.commit()
        if intake.fault is None:
            return
    pytest.fail(f"it does not recover: {intake.fault}")


@pytest.mark.parametrize("pending", [False, True])
def test_a_restored_database_is_compared_with_what_is_known(
    tmp_path: Path, real_intake: Intake[bytes], clock: Clock, pending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With jobs waiting or without: the producer is told where to go on, and what it does not have any more is
    counted, logged and told, once."""
    sender = Sender()
    real_intake.control(b"route", Hello(sender.stream, database(tmp_path).identity, 0, 1))
    real_intake.jobs(sender.message(1, 3))
    real_intake.commit()
    shutil.copy(tmp_path / "telemetry.db", tmp_path / "backup.db")
    for suffix in ("-wal", "-shm"):
        shutil.copy(tmp_path / f"telemetry.db{suffix}", tmp_path / f"backup.db{suffix}")
    with closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        backup.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    real_intake.jobs(sender.message(4, 8, after=1))
    real_intake.commit()
    [*real_intake.replies()]
    epoch = real_intake.protocol.epoch
    os.replace(tmp_path / "backup.db", tmp_path / "telemetry.db")
    if pending:
        real_intake.jobs(sender.message(9, 10, after=1))
        real_intake.commit()
    else:
        real_intake.maintain(idle=False)
    assert real_intake.fault is not None
    recover(real_intake, clock)
    ((_, welcome),) = real_intake.replies()
    assert isinstance(welcome, Welcome)
    assert (3, 3) == (welcome.received, welcome.committed)
    assert epoch != welcome.epoch
    assert 1 == caplog.text.count("the ledger has gone back by 5 jobs")
    # Jobs 4 to 6 have left its journal, and 7 to 10 have not: they are sent again.
    real_intake.control(b"route", Hello(sender.stream, database(tmp_path).identity, 6, 1))
    assert [3] == [int(reply.text.split()[0]) for _, reply in real_intake.replies() if isinstance(reply, Refusal)]
    assert 3 == real_intake.protocol.jobs_gone
    assert 1 == caplog.text.count("3 jobs that stream")
    real_intake.jobs(sender.message(7, 10))
    real_intake.commit()
    assert [(n,) for n in (1, 2, 3, 7, 8, 9, 10)] == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")
    real_intake.degrade(DatabaseFault("once more"))
    recover(real_intake, clock)
    assert 3 == real_intake.protocol.jobs_gone


def restored(folder: Path) -> None:
    """`.restore`: the file stays, and its content is that of the backup."""
    with closing(sqlite3.connect(folder / "backup.db")) as backup, closing(database_connection(folder)) as target:
        backup.backup(target)


def database_connection(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(database(folder).path or "")


def backed_up(folder: Path) -> None:
    with closing(database_connection(folder)) as source, closing(sqlite3.connect(folder / "backup.db")) as backup:
        source.backup(backup)


@pytest.mark.parametrize("idle", [False, True])
def test_a_database_restored_in_place_is_noticed(
    tmp_path: Path, real_intake: Intake[bytes], idle: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is wrong with the file: the next batch meets the fence, and without one the writer looks."""
    sender = Sender()
    real_intake.control(b"route", Hello(sender.stream, database(tmp_path).identity, 0, 1))
    real_intake.jobs(sender.message(1, 3))
    real_intake.commit()
    backed_up(tmp_path)
    real_intake.jobs(sender.message(4, 8, after=1))
    real_intake.commit()
    real_intake.maintain(idle=False)
    [*real_intake.replies()]
    restored(tmp_path)
    if idle:
        real_intake.maintain(idle=False)
    else:
        real_intake.jobs(sender.message(9, 9, after=1))
        real_intake.commit()
    assert real_intake.fault is None
    assert real_intake.due_in() is None
    assert 1 == caplog.text.count("the ledger has gone back by 5 jobs")
    assert [3] == [reply.received for _, reply in real_intake.replies() if isinstance(reply, Welcome)]
    real_intake.control(b"route", Hello(sender.stream, database(tmp_path).identity, 5, 1))
    assert 2 == real_intake.protocol.jobs_gone
    real_intake.jobs(sender.message(6, 9))
    real_intake.commit()
    assert [(n,) for n in (1, 2, 3, 6, 7, 8, 9)] == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")


@pytest.mark.parametrize("more", [False, True], ids=["the same jobs", "more of them"])
@pytest.mark.parametrize("known", [False, True], ids=["new streams", "known streams"])
def test_another_writer_has_committed_what_is_pending_here(
    tmp_path: Path, real_intake: Intake[bytes], clock: Clock, known: bool, more: bool
) -> None:
    """Two that believe to be the writer, each with the same jobs: they are applied once, and both say that they are
    committed; a stream that the other does not know goes on."""
    sender, bystander = Sender("a"), Sender("b")
    with opened(tmp_path) as second:
        other: Intake[bytes] = Intake(second, database(tmp_path), BatchLimits(), clock)
        for intake in (real_intake, other):
            for each in (sender, bystander):
                intake.control(each.stream, Hello(each.stream, database(tmp_path).identity, 0, 1))
        first = 1
        if known:
            real_intake.jobs(sender.message(1, 2))
            real_intake.commit()
            first = 3
        real_intake.jobs(sender.message(first, 6))
        real_intake.jobs(bystander.message(1, 1))
        other.control(sender.stream, Hello(sender.stream, database(tmp_path).identity, 0, 1))
        other.jobs(sender.message(1, 9 if more else 6))
        other.commit()
        other.commit()
        [*real_intake.replies()]
        real_intake.commit()
        assert [] == rows(tmp_path, "SELECT a FROM t WHERE a > 9")
        for _ in range(3):
            if real_intake.due_in() == 0:
                real_intake.commit()
        answers = {route: reply for route, reply in real_intake.replies() if isinstance(reply, Ack)}
        assert 6 == answers[sender.stream].committed
        if not real_intake.protocol.received(bystander.stream):
            real_intake.jobs(bystander.message(1, 1))
            real_intake.commit()
    assert [(n,) for n in sorted([1, *range(1, 10 if more else 7)])] == rows(tmp_path, "SELECT a FROM t ORDER BY a")
    assert real_intake.fault is None
    assert 0 == real_intake.protocol.jobs_gone


def test_a_file_replaced_during_its_commit_is_noticed_before_anything_is_acknowledged(
    tmp_path: Path, real_intake: Intake[bytes], clock: Clock
) -> None:
    """The rows are in a file that has no name any more; the producer still has the jobs."""
    sender = Sender()
    real_intake.control(b"route", Hello(sender.stream, database(tmp_path).identity, 0, 1))
    real_intake.jobs(sender.message(1, 3))
    real_intake.commit()
    backed_up(tmp_path)
    [*real_intake.replies()]
    replace = os.replace

    def swapped(name: str) -> None:
        if name == "before-commit" and (tmp_path / "backup.db").exists():
            replace(tmp_path / "backup.db", tmp_path / "telemetry.db")

    real_intake.writer.failpoint = swapped
    real_intake.jobs(sender.message(4, 6, after=1))
    real_intake.commit()
    assert real_intake.fault is not None
    assert [] == [reply for _, reply in real_intake.replies() if isinstance(reply, Ack) and reply.committed > 3]
    recover(real_intake, clock)
    while real_intake.protocol.pending:
        real_intake.commit()
    real_intake.jobs(sender.message(4, 6))
    real_intake.commit()
    assert [(n,) for n in range(1, 7)] == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")


def test_an_orphan_is_read_once_more_when_the_ledger_has_moved(
    tmp_path: Path, real_intake: Intake[bytes], clock: Clock
) -> None:
    """A backup is restored in the midst of its adoption."""
    folder = BusFolder(tmp_path / "telemetry.db.bus")
    folder.prepare()
    with closing(Journal(folder.journals, b"o" * 16, 1 << 16, "x")) as journal:
        encoder = Encoder(journal.define)
        for number in range(1, 9):
            assert journal.append(encoder.row(INSERT, (number,), ()))
    backed_up(tmp_path)
    real_intake._limits = BatchLimits(jobs=1)
    with closing(Adopter(folder, real_intake)) as adopter:
        adopter.scan()
        adopter.step()
        real_intake.commit()
        restored(tmp_path)
        real_intake.maintain(idle=False)
        for _ in range(20):
            adopter.step()
            real_intake.commit()
        assert 1 == adopter.adopted
    assert [(n,) for n in range(1, 9)] == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")
    assert [] == folder.journal_paths()


def test_a_dead_letter_that_another_writer_has_retried(tmp_path: Path, real_intake: Intake[bytes]) -> None:
    """Its job is not applied once more: its letter is gone by the time of the COMMIT."""
    execute(tmp_path, "CREATE TABLE u (a UNIQUE)", "INSERT INTO u VALUES (1)")
    sender = Sender()
    real_intake.jobs(sender.message(1, 1, sql="INSERT INTO u VALUES (?)"))
    real_intake.commit()
    (letter,) = real_intake.writer.dead_letters()
    execute(tmp_path, "DELETE FROM u")

    def retried(name: str) -> None:
        execute(tmp_path, "DELETE FROM telemetry_bus_dead_letters", "INSERT INTO u VALUES (1)", "DELETE FROM u")
        del real_intake.writer.failpoint

    real_intake.writer.failpoint = retried
    ((_, why),) = real_intake.writer.retry([letter.id])
    assert "the dead letter is gone" in why
    assert [] == rows(tmp_path, "SELECT a FROM u")


def test_a_stream_that_another_folder_has_is_not_pruned(tmp_path: Path, real_intake: Intake[bytes]) -> None:
    """Its jobs are committed, and not yet acknowledged in its journal, which a writer elsewhere cannot see."""
    folder = BusFolder(tmp_path / "telemetry.db.bus")
    folder.prepare()
    with closing(Journal(folder.journals, b"o" * 16, 1 << 16, "x")) as journal:
        encoder = Encoder(journal.define)
        for number in range(1, 6):
            assert journal.append(encoder.row(INSERT, (number,), ()))
    for _ in range(2):
        with closing(Adopter(folder, real_intake)) as adopter:
            adopter.scan()
            adopter.step()
            real_intake.commit()
        execute(tmp_path, "UPDATE telemetry_bus_ledger SET updated_at = '2001-01-01 00:00:00'")
        with opened(tmp_path) as elsewhere:
            assert 0 == elsewhere.prune_ledger(set())
        real_intake.protocol.forget(b"o" * 16)
    assert [] == folder.journal_paths()  # what was committed is known the second time
    assert [(n,) for n in range(1, 6)] == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")


def test_streams_share_a_portion(writer: MemoryWriter, clock: Clock) -> None:
    """When jobs are slow, a batch has few of them, of each stream as many; none waits behind all of another's."""
    intake = make(writer, clock, BatchLimits(seconds=1.0))
    settle = writer.settle

    def slow(runs: Any) -> Any:
        settled = settle(runs)
        clock.now += 0.1 * sum(len(run.payloads) for run in runs)
        return settled

    writer.settle = slow  # type: ignore[method-assign]
    busy, quiet = Sender("busy"), Sender("quiet")
    intake.jobs(busy.message(1, 100))
    intake.commit()
    intake.jobs(busy.message(101, 300, after=2))
    assert not intake.room
    assert not intake.takes(busy.stream)
    assert intake.takes(quiet.stream)
    intake.jobs(quiet.message(1, 1))
    intake.commit()
    assert [1] == writer.numbers(quiet.stream)
    assert len(writer.numbers(busy.stream)) < 150
    assert 0.0 == intake.due_in()
    while intake.protocol.pending:
        intake.commit()
    assert list(range(1, 301)) == writer.numbers(busy.stream)


def test_the_log_is_looked_at_as_it_grows(intake: Intake[bytes], writer: MemoryWriter, sender: Sender) -> None:
    """Not after each small commit, and not a second later, when many are waiting for a long checkpoint."""
    intake.jobs(replace(sender.message(1, 1), patient=True))
    intake.commit()
    assert not intake.log_due
    first, written = 2, 0
    while not intake.log_due:
        message = sender.message(first, first + 999, after=2)
        intake.jobs(replace(message, patient=True))
        intake.commit()
        first, written = first + 1000, written + len(message.records)
        assert written < 2 * CHECK_LOG_AFTER_BYTES
    intake.write_back()
    assert (1, False) == (writer.checkpoints, intake.log_due)


def test_what_a_process_waits_for_goes_first(intake: Intake[bytes], writer: MemoryWriter) -> None:
    """Many jobs of others are pending: those of a short message, for which a process waits, are committed before them.
    The next batch is of all streams, however many such messages come."""
    busy, quiet, other = Sender("busy"), Sender("quiet"), Sender("other")
    intake.jobs(replace(busy.message(1, 5000), patient=True))
    intake.jobs(quiet.message(1, 1))
    intake.commit()
    assert ([1], []) == (writer.numbers(quiet.stream), writer.numbers(busy.stream))
    assert 0.0 == intake.due_in()
    intake.jobs(other.message(1, 1))
    intake.commit()
    assert [1] == writer.numbers(other.stream)
    assert writer.numbers(busy.stream)
    while intake.protocol.pending:
        intake.commit()
    assert list(range(1, 5001)) == writer.numbers(busy.stream)


def test_batches_are_shorter_while_processes_wait(writer: MemoryWriter, clock: Clock) -> None:
    """As long as one has waited within the last second."""
    intake = make(writer, clock, BatchLimits(hurried_jobs=10, step_s=0.0))
    busy, quiet = Sender("busy"), Sender("quiet")
    intake.jobs(quiet.message(1, 1))
    intake.commit()
    intake.jobs(replace(busy.message(1, 100), patient=True))
    assert not intake.room
    intake.commit()
    assert 10 == len(writer.numbers(busy.stream))
    clock.now += HURRY_S
    intake.commit()
    assert 100 == len(writer.numbers(busy.stream))


def test_a_small_batch_makes_no_other_one_smaller(writer: MemoryWriter, clock: Clock) -> None:
    """One job takes a millisecond, because every batch does: that says nothing of a thousand jobs."""
    intake = make(writer, clock, BatchLimits(seconds=0.05))
    settle = writer.settle

    def slow(runs: Any) -> Any:
        clock.now += 0.001
        return settle(runs)

    writer.settle = slow  # type: ignore[method-assign]
    sender = Sender()
    intake.jobs(sender.message(1, 1))
    intake.commit()
    intake.jobs(sender.message(2, 1001))
    intake.commit()
    assert (2, 0) == (writer.batches, intake.protocol.pending_jobs)


def test_what_is_left_of_a_batch_comes_next(intake: Intake[bytes], writer: MemoryWriter, sender: Sender) -> None:
    """The writer may settle less than it was given: only that is acknowledged."""
    writer.at_most = 2
    intake.jobs(sender.message(1, 5))
    found = []
    while intake.due_in() == 0.0:
        intake.commit()
        found += committed(intake)
    assert [2, 4, 5] == found
    assert [1, 2, 3, 4, 5] == writer.numbers(sender.stream)


def test_what_another_writer_has_acknowledged_is_not_gone(
    intake: Intake[bytes], writer: MemoryWriter, sender: Sender
) -> None:
    """A producer is ahead of what this writer remembers, and not of the ledger."""
    writer.ledger[sender.stream] = 7
    intake.control(b"route", Hello(sender.stream, DATABASE.identity, 5, 7))
    assert 0 == intake.protocol.jobs_gone
    assert [7] == [reply.committed for _, reply in intake.replies() if isinstance(reply, Welcome)]


def test_a_slow_disk_makes_no_batch_smaller(writer: MemoryWriter, clock: Clock) -> None:
    """The time that a COMMIT waits is the same for one job as for a hundred: fewer of them would only take longer."""
    intake = make(writer, clock, BatchLimits(seconds=0.05))
    settle = writer.settle

    def slow(runs: Any) -> Any:
        clock.now += 0.1
        writer.commit_seconds += 0.09
        return settle(runs)

    writer.settle = slow  # type: ignore[method-assign]
    sender = Sender()
    for first in range(1, 1001, 100):
        intake.jobs(sender.message(first, first + 99))
        intake.commit()
    assert (10, 0) == (writer.batches, intake.protocol.pending_jobs)


def grown(folder: BusFolder, laps: int, pending: int, sizes: int) -> tuple[Path, bytes, bytes, int]:
    """A journal in one of its later laps: its path, an early first page, what is in the file now, and up to which job
    it is acknowledged."""
    with closing(Journal(folder.journals, b"o" * 16, 1 << 15, "x")) as journal:
        encoder = Encoder(journal.define)
        assert journal.path is not None
        old = journal.path.read_bytes()[:PAGE_BYTES]
        number = 0
        while journal.end[1] < laps << 15:
            number += 1
            assert journal.append(encoder.row(INSERT, (number * 10**sizes,), ()))
            journal.trim(journal.end)
            if number == 3:
                old = journal.path.read_bytes()[:PAGE_BYTES]
        for waiting in range(number + 1, number + pending + 1):
            assert journal.append(encoder.row(INSERT, (waiting * 10**sizes,), ()))
        journal.path.chmod(0o600)
        return journal.path, old, journal.path.read_bytes(), number


def adopt(folder: BusFolder, intake: Intake[bytes]) -> Adopter:
    with closing(Adopter(folder, intake)) as adopter:
        adopter.scan()
        for _ in range(20):
            adopter.step()
            intake.commit()
    return adopter


@pytest.mark.parametrize("laps", [1, 2, 7])
@pytest.mark.parametrize("pending", [0, 1, 50])
@pytest.mark.parametrize("sizes", [0, 3])
def test_a_power_cut_leaves_an_old_first_page(
    tmp_path: Path, real_intake: Intake[bytes], laps: int, pending: int, sizes: int
) -> None:
    """The ring is newer by laps, and the ledger knows where its rest begins: no intact job is dropped."""
    folder = BusFolder(tmp_path / "telemetry.db.bus")
    folder.prepare()
    path, old, content, last = grown(folder, laps, pending, sizes)
    path.write_bytes(old + content[PAGE_BYTES:])
    real_intake.writer.raise_watermark(b"o" * 16, last)
    adopter = adopt(folder, real_intake)
    expected = [(n * 10**sizes,) for n in range(last + 1, last + pending + 1)]
    assert expected == rows(tmp_path, "SELECT a FROM t ORDER BY rowid")
    assert not path.exists()
    # With nothing behind what the ledger knows it cannot be told whether something was there.
    assert (1, 1 if laps > 1 and not pending else 0) == (adopter.adopted, adopter.quarantined)


def test_a_power_cut_that_took_the_next_job(
    tmp_path: Path, real_intake: Intake[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """What follows it is intact and cannot be applied: it is kept, and told of."""
    folder = BusFolder(tmp_path / "telemetry.db.bus")
    folder.prepare()
    path, old, content, last = grown(folder, 3, 50, 0)
    _, offset = read_watermark(content[:PAGE_BYTES])
    place = PAGE_BYTES + DEFINITIONS_BYTES + offset % (1 << 15)
    content = content[:place] + bytes(8) + content[place + 8 :]
    path.write_bytes(old + content[PAGE_BYTES:])
    real_intake.writer.raise_watermark(b"o" * 16, last)
    adopter = adopt(folder, real_intake)
    assert [] == rows(tmp_path, "SELECT a FROM t")
    assert (1, 1) == (adopter.adopted, adopter.quarantined)
    assert "its first page is older" in caplog.text
