"""Two that believe to be the writer, and a database that goes back under the one that is: each job once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from telemetry_bus import TelemetryStore
from tests.support.bus import Bus, Notes
from tests.support.clock import wait_until
from tests.support.jobs import pair

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Submits ten jobs that a stopped writer gets and does not take, and waits to be killed.
PROGRAM = (
    Notes.OPEN
    + """
store = TelemetryStore(database, spawn=False)
for number in range(1, 6):
    pair(store, "p", number)
store.flush()
noted[0] = 1
while not noted[1]:
    time.sleep(0.01)
for number in range(6, 16):
    pair(store, "p", number)
while store.stats().writer.answering:
    time.sleep(0.01)
noted[2] = 1
time.sleep(600)
"""
)


def test_a_stopped_writer_goes_on_when_another_has_its_place(bus: Bus) -> None:
    """Its folder was removed meanwhile, so that the next one found the lock free. What the first holds of jobs that
    the second has adopted meets the fence; then it leaves."""
    first = bus.answering_writer()
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[0], "the first jobs are committed")
    os.kill(first.pid, signal.SIGSTOP)
    bus.notes[1] = 1
    wait_until(lambda: bus.notes[2], "the stopped writer has been sent the others")
    shutil.rmtree(bus.folder.path)
    wait_until(bus.folder.journal_paths, "the journal is made again")
    producer.kill()
    producer.wait()
    second = bus.answering_writer()
    bus.settle()
    assert {"p": list(range(1, 16))} == bus.numbers("events") == bus.numbers("details")
    os.kill(first.pid, signal.SIGCONT)
    bus.finish(first, 5)
    assert {"p": list(range(1, 16))} == bus.numbers("events") == bus.numbers("details")
    assert 0 == bus.status()["jobs_gone"]
    assert second.poll() is None
    bus.another_job()
    bus.sound()


@pytest.mark.parametrize("idle", [False, True], ids=["with jobs", "idle"])
def test_a_database_restored_in_place_under_a_writer(bus: Bus, idle: bool) -> None:
    """As by `.restore`: the file stays, its content goes back. What is lost is counted, with the next job or without
    one, and nothing comes twice."""
    writer = bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store, closing(sqlite3.connect(":memory:")) as backup:
        for number in range(1, 11):
            pair(store, "p", number)
        store.flush()
        with closing(sqlite3.connect(bus.path)) as source:
            source.backup(backup)
        for number in range(11, 31):
            pair(store, "p", number)
        store.flush()
        with closing(sqlite3.connect(bus.path)) as target:
            backup.backup(target)
        if idle:
            wait_until(lambda: bus.status()["jobs_gone"], "the writer has noticed")
        for number in range(31, 41):
            pair(store, "p", number)
        store.flush()
        assert {"p": [*range(1, 11), *range(31, 41)]} == bus.numbers("events") == bus.numbers("details")
        status = bus.status()
        assert ("degraded", 20) == (status["state"], status["jobs_gone"])
    assert 1 == bus.errors(writer).count("the ledger has gone back by 20 jobs")
    bus.another_job()
    bus.sound()
