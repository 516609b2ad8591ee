"""Nobody's memory grows with what waits: the journals hold it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.journal.orphan import inspect

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

MEBIBYTE = 1024 * 1024

#: Has a journal of so many mebibytes, and submits jobs of a kibibyte until so many were dropped because it was full;
#: tells by how many bytes the memory of its own has grown, and how many jobs were accepted.
PROGRAM = (
    Notes.OPEN
    + """
import re
def own():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

store = TelemetryStore(database, spawn=False, on_full="drop", journal_bytes=int(sys.argv[2]) << 20)
text = "x" * 1024
def submit():
    return store.execute("INSERT INTO texts VALUES (?)", (text,), ensure=["CREATE TABLE IF NOT EXISTS texts (text)"])
for _ in range(100):
    submit()
store.flush()
noted[0] = 1
while not noted[1]:
    time.sleep(0.001)
before = own()
while store.stats().dropped < int(sys.argv[3]):
    submit()
noted[2] = max(1, own() - before)
noted[3] = store.stats().submitted
while not noted[4]:
    time.sleep(0.001)
store.flush()
"""
)


def own_memory(pid: int) -> int:
    """Bytes that are not of any file."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def pending(bus: Bus) -> int:
    """Bytes that wait in journals."""
    return sum(inspect(path).pending_bytes for path in bus.folder.journal_paths())


@pytest.mark.slow
def test_a_producer_whose_writer_stands_still(bus: Bus) -> None:
    """It offers fifty mebibytes and more; what it needs beyond its journal of four is what is under way. When the
    writer goes on, everything that was accepted is applied once."""
    writer = bus.answering_writer()
    producer = bus.start(PROGRAM, "4", "50000")
    wait_until(lambda: bus.notes[0], "the producer is there")
    os.kill(writer.pid, signal.SIGSTOP)
    bus.notes[1] = 1
    wait_until(lambda: bus.notes[2], "enough jobs were dropped")
    os.kill(writer.pid, signal.SIGCONT)
    assert bus.notes[2] < 8 * MEBIBYTE
    bus.notes[4] = 1
    bus.finish(producer)
    assert [(bus.notes[3],)] == bus.rows("SELECT count(*) FROM texts")
    bus.sound()


@pytest.mark.slow
def test_a_writer_whose_database_is_locked(bus: Bus) -> None:
    """Two producers have sixty mebibytes for it; it takes a batch and what is under way, and leaves them the rest."""
    writer = bus.answering_writer()
    producers = [bus.start(PROGRAM, "32", "1") for _ in range(2)]
    wait_until(lambda: (200,) in bus.rows("SELECT count(*) FROM texts"), "both of them are there")
    before = own_memory(writer.pid)
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bus.notes[1] = 1
        wait_until(lambda: bus.status_or_none().get("state") == "degraded", "the writer says that it is degraded")
        wait_until(lambda: pending(bus) > 60 * MEBIBYTE, "both journals are full")
        grown = own_memory(writer.pid) - before
        other.execute("ROLLBACK")
    bus.notes[4] = 1
    for producer in producers:
        bus.finish(producer)
    assert grown < 24 * MEBIBYTE
    assert (2 * 25_000,) < bus.rows("SELECT count(*) FROM texts")[0]
    assert "running" == bus.status()["state"]
    bus.sound()
