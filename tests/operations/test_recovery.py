"""What the page says to do when something is lost or broken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from telemetry_bus.cli import survey
from telemetry_bus.journal.orphan import inspect

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.mounts import mounted
from . import situations
from .operator import Operator

pytestmark = pytest.mark.integration

#: Jobs that fail, for their table is missing; and two that never succeed.
FAILS = """
with TelemetryStore(database) as store:
    event(store, "good", 1)
    for number in range(3):
        store.execute("INSERT INTO later (number) VALUES (?)", (number,))
    for number in range(2):
        store.execute("INSERT INTO events (id, producer, number) VALUES (1, ?, ?)", ("bad", number), ensure=ENSURE)
"""


@pytest.mark.slow
def test_restore(operator: Operator, bus: Bus) -> None:
    """The log of a killed writer does not get into the restored file; what waited in a journal does."""
    situations.committed(bus, "p")
    situations.copy(bus, bus.home / "backups" / "nightly.db")
    bus.run("with TelemetryStore(database) as store: pair(store, 'late', 1)")
    bus.kill_writers()
    situations.left(bus, "q")
    assert bus.path.with_name("telemetry.db-wal").stat().st_size
    operator.goes_on()
    assert {"p": list(range(1, 11)), "q": list(range(1, 11))} == bus.numbers()
    assert {"telemetry.db", "telemetry.db-wal"} <= set(os.listdir(bus.home / "replaced"))
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_restore_under_producers(operator: Operator, bus: Bus) -> None:
    """Producers that live are told how many of their jobs are gone, and go on behind them."""
    situations.spawned_writer(bus)
    load = situations.Load(bus, "a", TELEMETRY_BUS_SPAWN="0")
    situations.copy(bus, bus.home / "backup.db")
    held = len(bus.numbers()["a"])
    wait_until(lambda: any(inspect(path).trimmed > held for path in bus.folder.journal_paths()), "more is acknowledged")
    situations.gone(bus)
    for suffix in ("", "-wal", "-shm"):
        bus.path.with_name(f"telemetry.db{suffix}").unlink(missing_ok=True)
    shutil.copy(bus.home / "backup.db", bus.path)
    situations.spawned_writer(bus)
    lost = wait_until(lambda: bus.status()["jobs_gone"], "the writer has heard of it")
    operator.goes_on()
    bus.answering_writer()
    assert "running" == bus.status()["state"]
    load.ends()
    assert load.submitted["a"] - lost == len(bus.numbers()["a"])


@pytest.mark.slow
def test_corrupt(operator: Operator, bus: Bus) -> None:
    """What can be read is in the new file, and the ledger with it: what waits in a journal goes on, and nothing comes
    twice."""
    situations.committed(bus, "p", 3000)
    situations.gone(bus)
    situations.damage_leaf(bus.path, "details")
    operator.goes_on()
    situations.left(bus, "q")
    operator.goes_on()
    assert list(range(1, 11)) == bus.numbers()["q"]
    assert 2000 < len(bus.numbers("details")["p"]) < 3000 == len(bus.numbers()["p"])
    bus.another_job()


@pytest.mark.slow
def test_lost_folder(operator: Operator, bus: Bus) -> None:
    """Producers that live lose nothing."""
    with situations.under_load(bus, "a"):
        shutil.rmtree(bus.folder.path)
        wait_until(lambda: bus.folder.journal_paths() and bus.status_or_none(), "a producer has made it anew")
        operator.goes_on()


def test_quarantine(operator: Operator, bus: Bus) -> None:
    """The intact beginning is in the database."""
    situations.left(bus, "p", 100)
    (journal,) = bus.folder.journal_paths()
    data = journal.read_bytes()
    at = data.index(b"p", data.rindex(b"INSERT") + 400)
    situations.damage(journal, at + 600, 1)
    situations.spawned_writer(bus)
    bus.settle()
    operator.goes_on()
    assert 1 <= len(bus.numbers()["p"]) < 100


@pytest.mark.slow
def test_dead_letters(operator: Operator, bus: Bus) -> None:
    """What was mended is applied once; the rest is in the exported file."""
    bus.run(FAILS)
    operator.goes_on()
    assert 5 == len((bus.home / "letters.jsonl").read_text().splitlines())
    operator.goes_on()
    operator.goes_on()
    assert [(0,), (1,), (2,)] == bus.rows("SELECT number FROM later ORDER BY number")
    assert [(0,)] == bus.rows("SELECT count(*) FROM telemetry_bus_dead_letters")


@pytest.fixture
def disk(bus: Bus) -> Iterator[None]:
    """The database lies on a small disk of its own. To mount one takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    with mounted("-t", "tmpfs", "-o", "size=48M", "tmpfs", at=bus.path.parent):
        yield
        situations.gone(bus)


@pytest.mark.slow
@pytest.mark.root
def test_disk_full(bus: Bus, disk: None, operator: Operator) -> None:
    """Producers go on; all that they submit is applied once when there is room."""
    with situations.under_load(bus, "a"):
        ballast = bus.path.parent / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while shutil.disk_usage(bus.path.parent).free:
                file.write(bytes(4096))
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
        operator.goes_on()


@pytest.mark.slow
def test_killed(operator: Operator, bus: Bus) -> None:
    """Writer and producer at once, with jobs on their way: what was submitted is applied once."""
    situations.spawned_writer(bus)
    load = situations.Load(bus, "a", TELEMETRY_BUS_SPAWN="0")
    bus.kill_writers()
    seen = survey.Bus.of(str(bus.path))
    wait_until(lambda: seen.journals().pending_jobs, "jobs wait")
    load.killed()
    operator.goes_on()
    assert 0 == seen.journals().pending_jobs
    numbers = bus.numbers()["a"]
    assert list(range(1, len(numbers) + 1)) == numbers
    bus.sound()
