"""The journals of dead producers: applied behind the ledger, deleted when all is decided, kept when damaged."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import Database
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.errors import DatabaseFault
from telemetry_bus.journal.layout import PAGE_BYTES
from telemetry_bus.journal.ring import Journal
from telemetry_bus.protocol.messages import Bye, Jobs
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import RETRY_AFTER_S, BatchLimits, Intake

from ..journals import small
from ..streams import INSERT, MemoryWriter, Sender
from ..writing import database

DATABASE = Database("sqlite:////x.db", "sqlite", Path("/x.db"))
RING_BYTES = 2000


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    """Messages of three jobs or so."""
    with small(chunk=30, definitions=256, piece=300):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> BusFolder:
    folder = BusFolder(tmp_path / "x.db.bus")
    folder.prepare()
    return folder


class Life:
    """One life of a writer: an intake, an adopter, a clock."""

    def __init__(self, folder: BusFolder, writer: MemoryWriter, limits: BatchLimits | None = None) -> None:
        self.now = 10.0
        self.writer = writer
        stand_in: Any = writer
        self.intake: Intake[bytes] = Intake(stand_in, DATABASE, limits or BatchLimits(), lambda: self.now)
        self.adopter = Adopter(folder, self.intake)

    def turn(self) -> None:
        self.adopter.step()
        self.intake.commit()
        [*self.intake.replies()]

    def adopt_all(self) -> None:
        """Until no orphan is left."""
        self.adopter.scan()
        for _ in range(100):
            if not self.adopter.busy:
                return
            self.turn()
        pytest.fail("adoption does not end")


@pytest.fixture
def writer() -> MemoryWriter:
    return MemoryWriter()


@pytest.fixture
def life(folder: BusFolder, writer: MemoryWriter) -> Iterator[Life]:
    life = Life(folder, writer)
    with closing(life.adopter):
        yield life


def orphan(folder: BusFolder, jobs: int = 10, trimmed: int = 0, name: str = "a", sql: str = INSERT) -> Journal:
    """A journal whose owner has died; job number n has the value n."""
    journal = Journal(folder.journals, name.encode().ljust(16, b"."), RING_BYTES, DATABASE.identity)
    encoder = Encoder(journal.define)
    for number in range(1, jobs + 1):
        assert number == journal.append(encoder.row(sql, (number,), ()))
        if number == trimmed:
            journal.trim(journal.end)
    journal.close()
    return journal


def message(journal: Journal, first: int, last: int) -> Jobs:
    """What its owner may have sent while it lived: a late message."""
    owner = Journal(None, journal.stream, RING_BYTES, DATABASE.identity)
    with closing(owner):
        encoder = Encoder(owner.define)
        ends = [(0, 0)]
        for number in range(1, last + 1):
            owner.append(encoder.row(INSERT, (number,), ()))
            ends.append(owner.end)
        definitions, (count, _) = owner.definitions((0, 0))
        records = owner.read(ends[first - 1], ends[last])
        return Jobs(journal.stream, 0, first, last - first + 1, 1, count, definitions, records)


def test_an_orphan_is_applied_and_deleted(
    folder: BusFolder, writer: MemoryWriter, life: Life, caplog: pytest.LogCaptureFixture
) -> None:
    """All of its jobs in order; the file goes when they are committed; it is logged how many they were."""
    journal = orphan(folder, 10, trimmed=4)
    writer.ledger[journal.stream] = 4
    with caplog.at_level(logging.INFO, logger="telemetry_bus.writer"):
        life.adopt_all()
    assert [*range(5, 11)] == writer.numbers(journal.stream)
    assert (1, []) == (life.adopter.adopted, folder.journal_paths())
    assert [f"adopted 6 jobs that process {os.getpid()} left behind"] == [r.getMessage() for r in caplog.records]
    assert 10 == writer.ledger[journal.stream], "the ledger's row stays"
    assert 0 == life.intake.protocol.received(journal.stream), "the stream is forgotten"


@pytest.mark.parametrize("known", range(11))
def test_what_the_ledger_has_is_not_applied_again(
    folder: BusFolder, writer: MemoryWriter, life: Life, known: int
) -> None:
    """Wherever the ledger stands, within a message or between two: exactly the rest is applied."""
    journal = orphan(folder)
    writer.ledger[journal.stream] = known
    life.adopt_all()
    assert [*range(known + 1, 11)] == writer.numbers(journal.stream)
    assert [] == folder.journal_paths()


def test_the_file_stays_until_the_commit(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """A writer that dies before its commit leaves the orphan to the next one."""
    journal = orphan(folder)
    life.adopter.scan()
    life.adopter.step()
    assert 10 == life.intake.protocol.pending_jobs
    assert [journal.path] == folder.journal_paths()
    life.adopter.close()
    after = Life(folder, writer)
    after.adopt_all()
    assert [*range(1, 11)] == writer.numbers(journal.stream)


def test_living_owner(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """A journal whose owner lives is left alone, and makes the folder no empty one."""
    journal = Journal(folder.journals, b"l" * 16, RING_BYTES, DATABASE.identity)
    with closing(journal):
        journal.append(b"\x01\x01")
        assert life.adopter.scan()
        life.turn()
        assert not life.adopter.busy
        assert [journal.path] == folder.journal_paths()
    assert {} == writer.ledger


def test_nothing_there(folder: BusFolder, life: Life) -> None:
    """An empty folder holds no journal."""
    assert not life.adopter.scan()
    life.turn()
    assert not life.adopter.busy


def test_many_orphans_beyond_the_batch(folder: BusFolder, writer: MemoryWriter) -> None:
    """Orphans are fed as the batch has room, one after the other, each whole."""
    journals = [orphan(folder, 10, name=name) for name in "abc"]
    life = Life(folder, writer, BatchLimits(jobs=4))
    life.adopt_all()
    for journal in journals:
        assert [*range(1, 11)] == writer.numbers(journal.stream)
    assert (3, []) == (life.adopter.adopted, folder.journal_paths())
    assert writer.batches >= 30 / 8


def test_empty_orphan(folder: BusFolder, writer: MemoryWriter, life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """A journal with nothing left in it just goes, without a word."""
    orphan(folder, 3, trimmed=3)
    writer.ledger[b"a".ljust(16, b".")] = 3
    with caplog.at_level(logging.INFO, logger="telemetry_bus.writer"):
        life.adopt_all()
    assert ([], []) == (folder.journal_paths(), caplog.records)


def test_definitions_without_room(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """Jobs whose SQL travels inline are read as well."""
    journal = orphan(folder, sql=f"INSERT INTO {'x' * 100} VALUES (?)" * 1)
    other = orphan(folder, 3, name="b", sql=f"INSERT INTO {'x' * 300} VALUES (?)")
    life.adopt_all()
    assert ([*range(1, 11)], [1, 2, 3]) == (writer.numbers(journal.stream), writer.numbers(other.stream))


def damage(journal: Journal, at: int) -> None:
    assert journal.path is not None
    data = bytearray(journal.path.read_bytes())
    data[at] ^= 0x40
    journal.path.chmod(0o600)
    journal.path.write_bytes(data)


def test_damaged_orphan(folder: BusFolder, writer: MemoryWriter, life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """What is intact before the damage is applied; the file is kept aside, whole, and it is told why."""
    journal = orphan(folder)
    assert journal.path is not None
    damage(journal, PAGE_BYTES + 256 + 8 * 5 + 1)  # within the sixth job of eight bytes
    content = journal.path.read_bytes()
    life.adopt_all()
    assert [1, 2, 3, 4, 5] == writer.numbers(journal.stream)
    assert ([], 1) == (folder.journal_paths(), life.adopter.quarantined)
    (kept,) = folder.quarantine.iterdir()
    assert content == kept.read_bytes()
    assert kept.name.startswith(journal.path.name)
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "after job 5 are lost" in error.getMessage()
    life.adopter.scan()
    assert not life.adopter.busy


def test_orphan_without_its_definitions(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """Jobs whose definitions are lost are not applied by guess: the file is kept."""
    journal = orphan(folder)
    damage(journal, PAGE_BYTES)
    life.adopt_all()
    assert [] == writer.numbers(journal.stream)
    assert ([], 1) == (folder.journal_paths(), life.adopter.quarantined)
    assert 1 == len([*folder.quarantine.iterdir()])


def test_orphan_without_a_header(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """A file that is no journal is kept aside, and does not keep the others from their turn."""
    lost = orphan(folder, name="a")
    damage(lost, 3)
    other = orphan(folder, name="b")
    life.adopt_all()
    assert ([], [*range(1, 11)]) == (writer.numbers(lost.stream), writer.numbers(other.stream))
    assert (1, 1) == (life.adopter.quarantined, life.adopter.adopted)
    assert [] == folder.journal_paths()


def test_something_else_of_that_name(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """What cannot be opened is logged and left; the others have their turn."""
    (folder.journals / "a.journal").mkdir()
    other = orphan(folder, name="b")
    life.adopt_all()
    assert [*range(1, 11)] == writer.numbers(other.stream)


def test_late_messages_before(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """Messages that a dead producer had sent arrive before its journal is read: each job once."""
    journal = orphan(folder)
    life.intake.jobs(message(journal, 1, 4))
    life.adopt_all()
    assert [*range(1, 11)] == writer.numbers(journal.stream)


@pytest.mark.parametrize(("first", "last"), [(1, 4), (3, 10), (5, 6), (1, 10), (8, 10)])
@pytest.mark.parametrize("limit", [1, 4, 20])
def test_late_messages_in_between(folder: BusFolder, writer: MemoryWriter, first: int, last: int, limit: int) -> None:
    """They arrive at any moment while it is read, or afterwards: each job once, in order."""
    for moment in range(8):
        stream = f"{moment}-{first}-{last}-{limit}"
        journal = orphan(folder, name=stream)
        life = Life(folder, writer, BatchLimits(jobs=limit))
        life.adopter.scan()
        for _ in range(moment):
            life.turn()
        life.intake.jobs(message(journal, first, last))
        life.adopt_all()
        life.turn()
        life.intake.jobs(message(journal, first, last))
        life.turn()
        assert [*range(1, 11)] == writer.numbers(journal.stream)
        assert ([], 0) == (folder.journal_paths(), life.adopter.quarantined)


@pytest.mark.parametrize("limit", [1, 4])
def test_forgotten_in_between(folder: BusFolder, writer: MemoryWriter, limit: int) -> None:
    """A late goodbye, or a long time at fault, does not make the writer forget a stream that it is adopting."""
    for moment in range(6):
        journal = orphan(folder, name=f"{moment}-{limit}")
        life = Life(folder, writer, BatchLimits(jobs=limit))
        life.adopter.scan()
        for _ in range(moment):
            life.turn()
        life.intake.control(b"route", Bye(journal.stream))
        life.intake.protocol.expire(float("inf"))
        life.adopt_all()
        assert [*range(1, 11)] == writer.numbers(journal.stream)
        assert ([], 0) == (folder.journal_paths(), life.adopter.quarantined)


def test_forgotten_before_it_is_let_go(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """A stream that somebody forgot all the same is decided, and its orphan is let go."""
    journal = orphan(folder)
    life.adopter.scan()
    life.turn()
    life.intake.protocol.adopting = None
    life.intake.protocol.forget(journal.stream)
    life.adopt_all()
    assert ([], [*range(1, 11)]) == (folder.journal_paths(), writer.numbers(journal.stream))


def test_database_at_fault(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """While the database is at fault the orphan stays, and is not taken for done; afterwards it is applied once."""
    journal = orphan(folder)
    writer.fault = DatabaseFault("disk full")
    for _ in range(5):
        life.adopter.scan()
        life.turn()
        assert life.adopter.busy
        life.now += 60.0
    assert [journal.path] == folder.journal_paths()
    writer.fault = None
    life.adopt_all()
    assert [*range(1, 11)] == writer.numbers(journal.stream)


@pytest.mark.parametrize("limit", [1, 4, 20])
def test_database_fails_in_between(folder: BusFolder, writer: MemoryWriter, limit: int) -> None:
    """A fault at any moment delays the adoption, and neither loses nor doubles a job, nor damages the journal."""
    for moment in range(8):
        journal = orphan(folder, name=f"{moment}-{limit}")
        life = Life(folder, writer, BatchLimits(jobs=limit))
        life.adopter.scan()
        for _ in range(moment):
            life.turn()
        writer.fault = DatabaseFault("locked")
        life.turn()
        assert life.adopter.busy == bool(folder.journal_paths())
        life.adopter.scan()
        writer.fault = None
        life.now += RETRY_AFTER_S
        life.turn()
        life.adopt_all()
        assert [*range(1, 11)] == writer.numbers(journal.stream)
        assert ([], 0) == (folder.journal_paths(), life.adopter.quarantined)


def test_database_that_went_back(
    folder: BusFolder, writer: MemoryWriter, life: Life, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger behind the journal's watermark: what is gone is counted and logged, the rest is applied behind it."""
    journal = orphan(folder, 10, trimmed=4)
    writer.ledger[journal.stream] = 1
    writer.poison = set()
    life.adopter.scan()
    life.adopter.step()
    assert 4 == writer.ledger[journal.stream]
    life.adopt_all()
    assert [*range(5, 11)] == writer.numbers(journal.stream)
    assert 3 == life.intake.protocol.jobs_gone
    assert "3 jobs that stream" in caplog.text


def test_unfinished_journals(folder: BusFolder, life: Life) -> None:
    """What a producer left that died while it made its journal is removed when it is old; not a fresh one, and not
    one whose maker still holds it."""
    old, fresh, held = (folder.journals / f"{name}.new" for name in ("old", "fresh", "held"))
    for path in (old, fresh):
        path.touch()
    os.utime(old, (1, 1))
    with closing(Journal(folder.journals, b"h" * 16, RING_BYTES, DATABASE.identity)) as journal:
        assert journal.path is not None
        journal.path.rename(held)
        os.utime(held, (1, 1))
        life.adopter.scan()
        assert [False, True, True] == [path.exists() for path in (old, fresh, held)]
    life.adopter.scan()
    assert not held.exists()


def test_replaced_or_gone_while_it_waits(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """An orphan that disappears before its turn is no error."""
    gone, other = orphan(folder, name="a"), orphan(folder, name="b")
    life.adopter.scan()
    assert gone.path is not None
    gone.path.unlink()
    life.adopt_all()
    assert [*range(1, 11)] == writer.numbers(other.stream)


# Adopting a journal while a late message of its producer is pending, in a database that lost what was acknowledged.


@pytest.fixture
def half_acknowledged(tmp_path: Path) -> Iterator[BusFolder]:
    """With the journal of a dead producer: jobs 1 to 4 were acknowledged, 5 to 10 are pending."""
    folder = BusFolder(tmp_path / "x.db.bus")
    folder.prepare()
    with small(chunk=30):
        journal = Journal(folder.journals, Sender("a").stream, 2000, DATABASE.identity)
        encoder = Encoder(journal.define)
        for number in range(1, 11):
            journal.append(encoder.row(INSERT, (number,), ()))
            if number == 4:
                journal.trim(journal.end)
        journal.close()
        yield folder


def test_late_message_from_before_the_watermark(half_acknowledged: BusFolder) -> None:
    """It is committed first, then what is missing up to the watermark is given up, and the rest of the journal is
    applied: a gap of that kind is no damage of the journal."""
    sender, writer = Sender("a"), MemoryWriter()
    stand_in: Any = writer
    intake: Intake[bytes] = Intake(stand_in, DATABASE, BatchLimits(), lambda: 10.0)
    with closing(Adopter(half_acknowledged, intake)) as adopter:
        intake.jobs(sender.message(1, 1))
        for _ in range(5):
            adopter.scan()
            adopter.step()
            intake.commit()
        assert [1, *range(5, 11)] == [number for _, number, _ in writer.applied]
        assert (3, 0) == (intake.protocol.jobs_gone, adopter.quarantined)
        assert [] == half_acknowledged.journal_paths()


# A folder that cannot be read at the moment is not an empty one.


def test_looking_for_journals_without_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and counts as company: nobody leaves for want of journals that were not seen."""
    folder = BusFolder(tmp_path / "x.db.bus")
    folder.prepare()
    intake: Intake[bytes] = Intake(MemoryWriter(), database(tmp_path), BatchLimits())  # type: ignore[arg-type]
    with closing(Adopter(folder, intake)) as adopter:
        assert not adopter.scan()

        def none_left(path: object) -> object:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "scandir", none_left)
        assert adopter.scan()
        assert not adopter.busy
    assert "cannot look for journals" in caplog.text


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def recover(intake: Intake[bytes], clock: Clock) -> None:
    for _ in range(5):
        clock.now += (intake.due_in() or 0.0) + 1e-6
        intake.commit()
        if intake.fault is None:
            return
    pytest.fail(f"it does not recover: {intake.fault}")


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


def test_an_orphan_gets_its_turn(folder: BusFolder, writer: MemoryWriter, life: Life) -> None:
    """Under load a message of it in each turn, and no more; in the end all of it is applied."""
    orphan(folder, 30)
    life.adopter.scan()
    before = 0
    for _ in range(100):
        if not life.adopter.busy:
            break
        life.adopter.step(1)
        assert life.intake.protocol.pending_jobs <= 5
        life.intake.commit()
        assert len(writer.applied) <= before + 5
        before = len(writer.applied)
    assert 30 == len(writer.applied)
