"""No room, no right, no place: the disk of the database or of the journals says no."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from telemetry_bus import JournalUnavailable, TelemetryStore

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import event, pair
from ..support.mounts import mounted

pytestmark = pytest.mark.integration

DISK_BYTES = 4 * 1024 * 1024
JOURNAL_BYTES = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own. To mount one takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", at=disk):
        yield disk


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert 0 == shutil.disk_usage(disk).free
    return ballast


@pytest.fixture
def bus_on_a_disk(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """The database alone on the small disk, the bus folder elsewhere."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    bus = Bus(tmp_path, disk / "telemetry.db", {"TELEMETRY_BUS_DIR": str(tmp_path)})
    yield bus
    bus.close()


@pytest.mark.slow
@pytest.mark.root
def test_the_disk_of_the_database_is_full_for_a_while(disk: Path, bus_on_a_disk: Bus) -> None:
    """Degraded, and says why; jobs are kept in the journals, and applied once when there is room again."""
    bus = bus_on_a_disk
    with TelemetryStore(bus.path) as store:
        pair(store, "p", 1)
        store.flush()
        ballast = fill(disk)
        for number in range(2, 20_001):
            pair(store, "p", number)
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
        assert "disk is full" in bus.status()["last_error"]
        assert store.stats().acknowledged <= len(bus.numbers()["p"]) < 20_000
        ballast.unlink()
        store.flush()
    assert {"p": list(range(1, 20_001))} == bus.numbers("events") == bus.numbers("details")
    assert "running" == bus.status()["state"]
    assert "the database works again" in bus.log()
    bus.another_job()
    bus.sound()


@pytest.mark.slow
@pytest.mark.root
def test_the_disk_of_the_journals_is_full(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that finds no room for its journal is told so at once. One that has a journal has all of its room:
    it goes round in it, and no signal kills it. Afterwards the first one's next job succeeds."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(disk))
    bus = Bus(tmp_path, environ={"TELEMETRY_BUS_DIR": str(disk)})
    try:
        first, second = (TelemetryStore(bus.path, journal_bytes=JOURNAL_BYTES) for _ in range(2))
        with first, second:
            event(first, "first", 1)
            first.flush()
            ballast = fill(disk)
            with pytest.raises(JournalUnavailable, match=os.strerror(errno.ENOSPC)) as caught:
                event(second, "second", 1)
            assert str(disk) in caught.value.subject
            for number in range(2, 100_001):
                event(first, "first", number)
            first.flush()
            ballast.unlink()
            event(second, "second", 1)
            second.flush()
        assert {"first": list(range(1, 100_001)), "second": [1]} == bus.numbers()
        bus.sound()
    finally:
        bus.close()


def test_a_writer_that_may_write_no_larger_files(bus: Bus) -> None:
    """A limit on the size of files is a full disk: no signal kills the writer, and when it is raised work goes on."""
    writer = bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "p", 1)
        store.flush()
        size = bus.path.with_name(bus.path.name + "-wal").stat().st_size
        before = resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
        for number in range(2, 5001):
            pair(store, "p", number)
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
        assert "disk" in bus.status()["last_error"]
        assert store.stats().acknowledged <= len(bus.numbers()["p"]) < 5000
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, before)
        store.flush()
    assert {"p": list(range(1, 5001))} == bus.numbers("events") == bus.numbers("details")
    assert writer.poll() is None
    bus.another_job()
    bus.sound()
