"""When `telemetry-bus stop` returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import exit_codes, main, stop
from telemetry_bus.cli.survey import Bus, Owner
from telemetry_bus.errors import WriterAbsent
from telemetry_bus.runtime.locks import InstanceLock

PID = 4711

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def lock(database: Path) -> Iterator[InstanceLock]:
    """The lock of the database, held."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    yield lock
    lock.release()


@pytest.fixture
def obedient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that says that it will leave, and still owns the database."""
    monkeypatch.setattr(stop, "ask", lambda *_: {"pid": PID})
    monkeypatch.setattr(Bus, "owner", lambda self: Owner(PID, False))


@pytest.mark.usefixtures("obedient")
def test_it_waits_until_the_database_is_free(
    database: Path, lock: InstanceLock, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """To have said that one leaves is not to have left."""
    naps = []

    def leaves_at_the_third(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            lock.release()

    monkeypatch.setattr("telemetry_bus.cli.stop.time.sleep", leaves_at_the_third)
    assert exit_codes.DONE == main(["stop", "--database", str(database)])
    assert (3, f"writer {PID} has left\n") == (len(naps), capsys.readouterr().out)


@pytest.mark.usefixtures("obedient", "lock")
def test_a_writer_that_does_not_leave_is_told(database: Path, capsys: Captured) -> None:
    """At the end of the time limit."""
    assert exit_codes.FAILED == main(["stop", "--timeout", "0", "--database", str(database)])
    assert f"process {PID} has not left after 0 s" in capsys.readouterr().err


@pytest.mark.usefixtures("obedient", "lock")
def test_the_next_writer_is_not_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer started it at once; the one that was asked has left."""
    owners = iter([Owner(PID, False), Owner(PID, False), Owner(PID + 1, False)])
    monkeypatch.setattr(Bus, "owner", lambda self: next(owners))
    assert exit_codes.DONE == main(["stop", "--database", str(database)])


@pytest.mark.parametrize("still_there", [False, True])
def test_a_writer_that_does_not_hear_has_left_or_is_told(
    database: Path, lock: InstanceLock, monkeypatch: pytest.MonkeyPatch, capsys: Captured, still_there: bool
) -> None:
    """The lock says which."""

    def silence(*_: Any) -> None:
        if not still_there:
            lock.release()
        raise WriterAbsent("no answer")

    monkeypatch.setattr(stop, "ask", silence)
    code = main(["stop", "--database", str(database)])
    told = capsys.readouterr()
    if still_there:
        assert (exit_codes.FAILED, "") == (code, told.out)
        assert f"process {os.getpid()} owns the database and does not answer" in told.err
    else:
        assert (exit_codes.DONE, "no writer runs\n") == (code, told.out)


def test_a_program_in_thread_mode_is_not_asked(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """It has nobody who would answer."""
    monkeypatch.setattr(stop, "ask", None)
    with TelemetryStore(database, mode="thread") as store:
        store.execute("INSERT INTO t VALUES (1)", ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
        assert exit_codes.FAILED == main(["stop", "--database", str(database)])
    assert f"process {os.getpid()} owns the database in thread mode" in capsys.readouterr().err
