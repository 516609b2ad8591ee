"""The disk fails under a writer: nothing is acknowledged that is not there, and afterwards everything is, once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus import FlushTimeout, TelemetryStore
from writer_daemon.exit_codes import DONE, NO_DATABASE

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.failing_calls import MANY, FailingOnce, failing, stop_failing
from ..support.jobs import pair

pytestmark = pytest.mark.integration

JOBS = 3


def committed(bus: Bus) -> int:
    """How many jobs a fresh look at the database finds, in order and every one whole."""
    found = bus.numbers("events").pop("p", [])
    assert list(range(1, len(found) + 1)) == found == bus.numbers("details").pop("p", [])
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "error", "step"),
    [("pwrite64", "EIO", 1), ("pwrite64", "ENOSPC", 9), ("fdatasync", "EIO", 1), ("ftruncate", "EIO", 1)],
)
def test_the_nth_call_fails(
    tmp_path: Path, call: str, error: str, step: int, record_property: Callable[[str, object], None]
) -> None:
    """One call after the other, from the making of the database to the last checkpoint, until none is left to fail.

    Whenever `flush` returns, a fresh connection sees everything. In the end each job is there once and none is
    blamed, the file is sound, and the next writer goes on with it.
    """
    with closing(FailingOnce(tmp_path, call, error)) as writers:
        for nth in range(1, MANY, step):
            before = writers.failures()
            (tmp_path / str(nth)).mkdir()
            with closing(Bus(tmp_path / str(nth))) as bus:
                two_lives(bus, writers, nth)
            if writers.failures() == before:
                break
        record_property("calls", nth - 1)
        assert 1 < writers.failures() < MANY // step - 1


def two_lives(bus: Bus, writers: FailingOnce, nth: int) -> None:
    """A writer whose n-th call fails, and the next one, in which none does."""
    writers.start(bus, nth)
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "p", 1)
        if wait_until(lambda: writers.ended() or store.stats().acknowledged, "it commits, or gives up") is True:
            assert NO_DATABASE == writers.finish()
            writers.start(bus, None)
        for number in range(2, JOBS + 1):
            pair(store, "p", number)
            store.flush()
            assert number == committed(bus)
    bus.ask("stop")
    assert DONE == writers.finish()
    writers.start(bus, None)
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "next", 1)
        store.flush()
        assert [1] == bus.numbers().pop("next")
    bus.ask("stop")
    assert DONE == writers.finish()
    assert [(JOBS,), (1,)] == bus.rows("SELECT last_sequence FROM telemetry_bus_ledger ORDER BY 1 DESC")
    bus.sound()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("pwrite64", "EIO", "disk I/O error"),
        ("pwrite64", "ENOSPC", "disk is full"),
        ("fdatasync", "EIO", "disk I/O error"),
    ],
)
def test_every_call_fails_for_a_while(bus: Bus, call: str, error: str, said: str) -> None:
    """The state is degraded and says why; jobs are accepted, none is acknowledged that is not there, and the writer
    stays. When the disk works again everything is applied once."""
    writer = bus.answers(bus.start_under(failing(call, error, "40+", bus.home / "trace")))
    with TelemetryStore(bus.path, spawn=False) as store:
        number = 0
        while bus.status()["state"] == "running":
            number += 1
            pair(store, "p", number)
            wait_until(lambda: not store.stats().pending or bus.status()["state"] == "degraded", "it commits, or says")
            assert store.stats().acknowledged <= committed(bus)
        for _ in range(1000):
            number += 1
            pair(store, "p", number)
        with pytest.raises(FlushTimeout, match=said):
            store.flush(2)
        assert said in bus.status()["last_error"]
        assert store.stats().acknowledged <= committed(bus) < number
        stop_failing(writer.pid)
        store.flush()
        assert number == committed(bus)
    assert ("running", writer.pid) == (bus.status()["state"], bus.status()["pid"])
    bus.another_job()
    bus.sound()


def test_a_writer_killed_after_a_failed_sync(bus: Bus) -> None:
    """It has written what it could not sync, and told nobody. Whatever of it the next writer finds in SQLite's log,
    rows and ledger go together: nothing comes twice."""
    writer = bus.answers(bus.start_under(failing("fdatasync", "EIO", "12+", bus.home / "trace")))
    with TelemetryStore(bus.path, spawn=False) as store:
        number = 0
        while bus.status()["state"] == "running":
            number += 1
            pair(store, "p", number)
            wait_until(lambda: not store.stats().pending or bus.status()["state"] == "degraded", "it commits, or says")
        writer.kill()
        bus.finish(writer, -signal.SIGKILL)
        assert store.stats().acknowledged <= committed(bus) <= number
        bus.answering_writer()
        store.flush()
        assert number == committed(bus)
    bus.another_job()
    bus.sound()
