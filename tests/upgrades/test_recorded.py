"""What every earlier version left behind, and a writer of today: exact rows, exactly once. And its form does not change
without its version."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_bus.protocol.messages import VERSION

from ..support.bus import ROOT, Bus
from ..support.clock import wait_until
from .recordings import (
    RECORDED,
    RECORDINGS,
    REFUSED_JOURNALS,
    REFUSED_MESSAGES,
    Recording,
    leave_journals,
    play,
    tables,
)

pytestmark = pytest.mark.integration


def each_but(refused: frozenset[int] = frozenset()) -> pytest.MarkDecorator:
    understood = [recording for recording in RECORDINGS if recording.version not in refused]
    return pytest.mark.parametrize("recording", understood, ids=lambda recording: f"version {recording.version}")


@each_but(REFUSED_JOURNALS)
def test_journals(bus: Bus, recording: Recording) -> None:
    """Adopted to the last row. When they come back, as files do after a power cut, nothing is applied again."""
    journals = recording.journals()
    leave_journals(bus, journals)
    bus.answering_writer()
    bus.settle()
    assert recording.rows("journals") == tables(bus)
    assert len(journals) == bus.status()["journals_adopted"]
    assert recording.expected["journals"]["gone"] == bus.status()["jobs_gone"], "what the ledger should have known"
    leave_journals(bus, journals)
    bus.settle()
    assert recording.rows("journals") == tables(bus)
    bus.sound()


@each_but(REFUSED_MESSAGES)
def test_a_conversation(bus: Bus, recording: Recording) -> None:
    """Each message is understood and answered as that version expects; when all of it comes once more, nothing is
    applied again."""
    bus.answering_writer()
    expected, messages = recording.expected, recording.conversation(bus.database.identity)
    jobs = max(message.last for message in messages)
    for _ in range(2):
        answers = play(bus, messages, expected["committed"])
        assert {recording.version} == {answer[0] for answer in answers}
        assert {"welcome", "ack"} >= {answer[1] for answer in answers}
        assert jobs == answers[-1][expected["committed"]]
        assert recording.rows("conversation") == tables(bus)
        letters = bus.rows("SELECT sequence FROM telemetry_bus_dead_letters ORDER BY sequence")
        assert [(number,) for number in expected["conversation"]["failed"]] == letters
    wait_until(lambda: bus.status()["duplicates_dropped"] == jobs, "the second time is dropped")
    assert 0 == bus.status()["malformed"]


@each_but()
def test_a_database(bus: Bus, recording: Recording) -> None:
    """Its ledger counts: a journal that was applied then is not applied again. Its dead letters are tried again, and
    what can succeed now does."""
    recording.load_database(bus.path)
    if recording.version not in REFUSED_JOURNALS:
        applied = recording.expected["journals"]["files"]["rows"]
        leave_journals(bus, {applied: recording.journals()[applied]})
    bus.answering_writer()
    bus.settle()
    before = bus.status()["dead_letters"]
    bus.run('TelemetryStore(database).execute("CREATE TABLE IF NOT EXISTS missing (id INTEGER PRIMARY KEY, a, b)")')
    bus.settle()
    results = bus.ask("dead-letters retry", ids=None)
    assert before - 1 == sum(result["ok"] for result in results) > 0
    assert recording.rows("database") == tables(bus)
    ((error,),) = bus.rows("SELECT error FROM telemetry_bus_dead_letters")
    assert error.startswith("NOT NULL constraint failed: kept.a")


WHAT_TO_DO = """
{what} of version {version} is no longer what it was. Producers, journals and databases of that version are there, and
would be read by guess. Raise VERSION in telemetry_bus/protocol/messages.py, and when the form of a journal has changed
the last character of _MAGIC in telemetry_bus/journal/layout.py too. See that the older recordings are still understood,
or refuse them on purpose (tests/upgrades/recordings.py). Then record the new version: python {record}
"""


@pytest.mark.slow
def test_the_form_does_not_change_without_its_version(tmp_path: Path) -> None:
    """Recorded anew, this version is byte by byte what it was, but for the white space in SQL."""
    record = Path(__file__).with_name("record.py")
    recorded = RECORDED / str(VERSION)
    assert recorded.is_dir(), f"version {VERSION} is not recorded yet: python {record}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(record), str(tmp_path / "anew")], env=environment, check=True)
    assert sorted(path.name for path in recorded.iterdir()) == sorted(p.name for p in (tmp_path / "anew").iterdir())
    for path in sorted(recorded.iterdir()):
        before, now = (
            gzip.decompress(data) if path.suffix == ".gz" else data
            for data in (path.read_bytes(), (tmp_path / "anew" / path.name).read_bytes())
        )
        if path.name.endswith(".sql.gz"):
            before, now = (b" ".join(text.split()) for text in (before, now))
        assert before == now, WHAT_TO_DO.format(what=path.name, version=VERSION, record=record)
