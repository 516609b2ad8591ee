"""What a writer notices about its database after a fault: another file, or one that is still unwell."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.database import Writer
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.errors import DatabaseFault
from telemetry_bus.journal.ring import Journal
from telemetry_bus.protocol.messages import Hello, Refusal
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake

from .streams import INSERT, MemoryWriter, Sender
from .writing import EVENTS, Stream, database, execute, opened, template

ROUTE = b"route"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with opened(tmp_path) as writer:
        execute(tmp_path, "CREATE TABLE t (a)")
        yield writer


@pytest.fixture
def intake(tmp_path: Path, writer: Writer, clock: Clock) -> Intake[bytes]:
    return Intake(writer, database(tmp_path), BatchLimits(), clock)


def recover(intake: Intake[bytes], clock: Clock) -> None:
    for _ in range(5):
        clock.now += (intake.due_in() or 0.0) + 1e-6
        intake.commit()
        if intake.fault is None:
            return
    pytest.fail(f"it does not recover: {intake.fault}")


@pytest.mark.parametrize("pending", [False, True])
def test_a_restored_database_is_compared_with_what_is_known(
    tmp_path: Path, intake: Intake[bytes], clock: Clock, pending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With jobs waiting or without: what the older file lacks is counted, logged and told to its producer, once."""
    sender = Sender()
    intake.control(ROUTE, Hello(sender.stream, database(tmp_path).identity, 0, 1))
    intake.jobs(sender.message(1, 3))
    intake.commit()
    shutil.copy(tmp_path / "telemetry.db", tmp_path / "backup.db")
    for suffix in ("-wal", "-shm"):
        shutil.copy(tmp_path / f"telemetry.db{suffix}", tmp_path / f"backup.db{suffix}")
    with closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        backup.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    intake.jobs(sender.message(4, 8, after=1))
    intake.commit()
    [*intake.replies()]
    os.replace(tmp_path / "backup.db", tmp_path / "telemetry.db")
    if pending:
        intake.jobs(sender.message(9, 10, after=1))
        intake.commit()
    else:
        intake.maintain(idle=False)
    assert intake.fault is not None
    recover(intake, clock)
    assert 5 == intake.protocol.jobs_gone
    assert [5] == [int(reply.text.split()[0]) for _, reply in intake.replies() if isinstance(reply, Refusal)]
    assert 1 == caplog.text.count("5 jobs that stream")
    assert {sender.stream: 10 if pending else 8} == intake.writer.last_sequences([sender.stream])
    intake.degrade(DatabaseFault("once more"))
    recover(intake, clock)
    assert 5 == intake.protocol.jobs_gone


def test_an_orphan_that_cannot_be_begun_is_a_fault_of_the_database(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The state says so, and however often the writer looks around it is logged once; then the orphan is adopted."""
    folder = BusFolder(tmp_path / "x.db.bus")
    folder.prepare()
    memory = MemoryWriter()
    with closing(Journal(folder.journals, b"a" * 16, 4096, "x")) as journal:
        encoder = Encoder(journal.define)
        assert journal.append(encoder.row(INSERT, (1,), ()))
    intake: Intake[bytes] = Intake(memory, database(tmp_path), BatchLimits(), clock)  # type: ignore[arg-type]
    memory.fault = DatabaseFault("disk I/O error", operation="write")
    with closing(Adopter(folder, intake)) as adopter, caplog.at_level(logging.WARNING):
        for _ in range(10):
            adopter.scan()
            adopter.step()
            intake.commit()
            clock.now += 1.0
        assert memory.fault is intake.fault
        assert 1 == len(caplog.records)
        memory.fault = None
        recover(intake, clock)
        for _ in range(3):
            adopter.scan()
            adopter.step()
            intake.commit()
    assert ([1], 1) == (memory.numbers(b"a" * 16), adopter.adopted)
    assert [] == folder.journal_paths()


def test_drift_that_only_a_refused_job_meets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A table was changed after its definition was executed: the jobs that cannot be applied any more tell of it,
    together once."""
    events = template("INSERT INTO events (name, size) VALUES (?, ?)", ensure=(EVENTS,))
    stream = Stream()
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(events, ["x", 1])])
        execute(tmp_path, "ALTER TABLE events RENAME COLUMN size TO bytes")
        for _ in range(3):
            failures = writer.apply([stream.run(events, ["y", 2], ["z", 3])])
            assert 2 == len(failures)
        assert ("events: missing size",) == writer.snapshot().drift
        assert 1 == caplog.text.count("schema drift")
