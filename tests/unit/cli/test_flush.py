"""What `telemetry-bus flush` waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import exit_codes, main
from telemetry_bus.cli.flush import Barrier
from telemetry_bus.cli.survey import Bus, Journals
from telemetry_bus.journal.orphan import JournalState

Captured = pytest.CaptureFixture[str]


def journals(*found: tuple[str, int, int], damaged: tuple[str, ...] = ()) -> Journals:
    """Journals by the name of their stream, what is trimmed, and what is pending, in jobs of ten bytes."""
    states = [
        JournalState(name.encode(), 1, True, trimmed, pending, 10 * pending, 10 * (trimmed + pending))
        for name, trimmed, pending in found
    ]
    return Journals(states, dict.fromkeys(damaged, "damaged"))


def test_nothing_pending_is_no_barrier() -> None:
    """Journals of producers that have nothing to write do not count."""
    assert Barrier(journals()).reached
    assert Barrier(journals(("a", 7, 0))).reached


@pytest.mark.parametrize("later", [[], [("a", 5, 0)], [("a", 5, 9)], [("b", 0, 4)]])
def test_a_journal_is_done_with_when_its_jobs_are_decided(later: list[tuple[str, int, int]]) -> None:
    """It is gone, or empty, or has come past the last job of the first look; what comes later does not count."""
    barrier = Barrier(journals(("a", 3, 2)))
    barrier.look(journals(*later))
    assert barrier.reached
    assert (2, [b"a".hex() + ".journal"]) == (barrier.jobs, barrier.names)


def test_a_journal_is_waited_for_until_its_last_job_is_decided() -> None:
    """One of two is not enough, and neither is one job of two."""
    barrier = Barrier(journals(("a", 3, 2), ("b", 0, 1)))
    barrier.look(journals(("a", 4, 9)))
    assert not barrier.reached
    assert "1 journal" == str(barrier)


def test_a_damaged_journal_is_waited_for_until_somebody_has_seen_to_it() -> None:
    """Nobody knows what is in it."""
    barrier = Barrier(journals(damaged=("x.journal",)))
    assert not barrier.reached
    assert "1 journal (1 damaged)" == str(barrier)
    barrier.look(journals())
    assert barrier.reached


def test_nothing_to_wait_for_starts_no_writer(database: Path, capsys: Captured) -> None:
    """And makes no folder."""
    database.touch()
    assert exit_codes.DONE == main(["flush", "--database", str(database)])
    assert "no job waits\n" == capsys.readouterr().out
    assert exit_codes.DONE == main(["flush", "--json", "--database", str(database)])
    assert {"flushed": True, "jobs": 0, "journals": 0} == json.loads(capsys.readouterr().out)
    assert not Bus.of(str(database)).folder.path.exists()


def test_waiting_in_vain_ends_and_says_how_many_wait(
    database: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a writer is turned off: the time-out says so in one line."""
    monkeypatch.setenv("TELEMETRY_BUS_SPAWN", "0")
    store = TelemetryStore(database, spawn=False)
    store.execute("INSERT INTO t VALUES (1)")
    store.execute("INSERT INTO t VALUES (2)")
    assert exit_codes.FAILED == main(["flush", "--timeout", "0.1", "--database", str(database)])
    store.shutdown()
    told = capsys.readouterr()
    assert "" == told.out
    assert 1 == told.err.count("\n")
    assert "2 jobs waiting in 1 journal after 0.1 s; the writer: none runs, and starting one is turned off" in told.err


def test_jobs_that_went_to_quarantine_are_not_passed_over(
    database: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that was put aside as damaged is gone from its place, yet not all of its jobs are decided."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    folder.quarantine.mkdir()
    (folder.quarantine / f"{b'a'.hex()}.journal.123").touch()
    looks = iter([journals(("a", 0, 5)), journals()])
    monkeypatch.setenv("TELEMETRY_BUS_SPAWN", "0")
    monkeypatch.setattr(Bus, "journals", lambda self: next(looks))
    assert exit_codes.FAILED == main(["flush", "--database", str(database)])
    assert "61.journal could not be read to the end" in capsys.readouterr().err
