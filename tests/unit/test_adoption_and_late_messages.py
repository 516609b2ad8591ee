"""Adopting a journal while a late message of its producer is pending, in a database that lost what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import Database
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.journal.ring import Journal
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake

from .journals import small
from .streams import INSERT, MemoryWriter, Sender

DATABASE = Database("sqlite:////x.db", "sqlite", Path("/x.db"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[BusFolder]:
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


def test_late_message_from_before_the_watermark(folder: BusFolder) -> None:
    """It is committed first, then what is missing up to the watermark is given up, and the rest of the journal is
    applied: a gap of that kind is no damage of the journal."""
    sender, writer = Sender("a"), MemoryWriter()
    stand_in: Any = writer
    intake: Intake[bytes] = Intake(stand_in, DATABASE, BatchLimits(), lambda: 10.0)
    with closing(Adopter(folder, intake)) as adopter:
        intake.jobs(sender.message(1, 1))
        for _ in range(5):
            adopter.scan()
            adopter.step()
            intake.commit()
        assert [1, *range(5, 11)] == [number for _, number, _ in writer.applied]
        assert (3, 0) == (intake.protocol.jobs_gone, adopter.quarantined)
        assert [] == folder.journal_paths()
