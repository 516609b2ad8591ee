"""Somebody cleans up what is in use: sockets, the whole bus folder; or leaves behind what is not."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

#: Submits without end, at a pace that leaves others room; asked to (word 0), flushes and ends.
PROGRAM = (
    Notes.OPEN
    + """
store = TelemetryStore(database)
number = 0
while not noted[0]:
    number += 1
    pair(store, "p", number)
    noted[1] = number
    noted[2] = store.stats().acknowledged
    time.sleep(0.0005)
store.flush()
"""
)


def goes_on(bus: Bus) -> None:
    """The producer submits and is acknowledged, from now on."""
    now = bus.notes[1]
    wait_until(lambda: bus.notes[2] > now, "the producer goes on")


@pytest.mark.slow
@pytest.mark.parametrize("names", [["jobs"], ["control"], ["jobs", "control"]], ids="+".join)
def test_socket_files_that_are_deleted_are_bound_again(bus: Bus, names: list[str]) -> None:
    """The writer notices, binds again and goes on: for the producer that is there, and for one that comes."""
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[2] > 100, "the producer is under way")
    for name in names:
        bus.folder.socket_path(name).unlink()
    wait_until(lambda: all(bus.folder.socket_path(name).exists() for name in names), "they are bound again")
    goes_on(bus)
    bus.another_job()
    bus.notes[0] = 1
    bus.finish(producer)
    assert 1 == len(bus.owners())
    assert "binding them again" in bus.log()
    assert list(range(1, bus.notes[1] + 1)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    bus.sound()


@pytest.mark.slow
@pytest.mark.parametrize("bus", ["near", "far" * 40], indirect=True, ids=["near", "far"])
def test_the_whole_folder_removed_under_a_writer(bus: Bus) -> None:
    """The writer leaves with a code of its own; the producer that lives starts the next one, and loses nothing."""
    writer = bus.answering_writer()
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[2] > 100, "the producer is under way")
    shutil.rmtree(bus.folder.path)
    bus.finish(writer, 5)
    goes_on(bus)
    bus.another_job()
    bus.notes[0] = 1
    bus.finish(producer)
    assert "" == bus.errors(producer)
    assert list(range(1, bus.notes[1] + 1)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    assert 1 == len(bus.owners())
    bus.sound()


@pytest.mark.slow
def test_a_store_is_shut_down_after_its_folder_was_removed(bus: Bus) -> None:
    """With nothing pending there is nothing left to do, and nothing to complain of."""
    bus.answering_writer()
    program = """
import shutil
with TelemetryStore(database) as store:
    event(store, "p", 1)
    store.flush()
    shutil.rmtree(database + ".bus")
"""
    process = bus.start(program)
    bus.finish(process)
    assert "" == bus.errors(process)
    assert {"p": [1]} == bus.numbers()


def test_what_the_killed_leave_behind_is_in_nobodys_way(bus: Bus) -> None:
    """Stale sockets, a stale journal and a half-made one: the next writer binds, adopts and deletes."""
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[2] > 100, "the producer is under way")
    bus.kill_writers()
    os.kill(producer.pid, signal.SIGKILL)
    bus.finish(producer, -signal.SIGKILL)
    half_made = bus.folder.journals / "00000000000000000000000000000000.new"
    half_made.write_bytes(b"")
    os.utime(half_made, (0, 0))
    assert bus.folder.socket_path("jobs").exists()
    assert 1 == len(bus.folder.journal_paths())
    bus.answering_writer()
    bus.settle()
    wait_until(lambda: not half_made.exists(), "the half-made journal is gone")
    accepted = bus.notes[1]
    found = bus.numbers("events")["p"]
    assert list(range(1, len(found) + 1)) == found == bus.numbers("details")["p"]
    assert len(found) in (accepted, accepted + 1)
    bus.sound()


@pytest.mark.slow
def test_a_producer_killed_beside_a_living_writer_is_adopted(bus: Bus) -> None:
    """Nobody has to come or to ask: the writer that runs looks around."""
    bus.answering_writer()
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[2] > 100, "the producer is under way")
    producer.kill()
    bus.settle()
    accepted = bus.notes[1]
    found = bus.numbers("events")["p"]
    assert list(range(1, len(found) + 1)) == found == bus.numbers("details")["p"]
    assert len(found) in (accepted, accepted + 1)
    assert 1 == bus.status()["journals_adopted"]
    bus.sound()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_producer_whose_folder_was_removed_is_gone_itself(bus: Bus, end: str) -> None:
    """With no writer there, what it has submitted is in a journal that was removed under it: it makes another, and
    when it is gone all of it is found."""
    producer = bus.start(
        Notes.OPEN
        + """
import shutil
store = TelemetryStore(database, spawn=False)
for number in range(1, 1001):
    pair(store, "p", number)
shutil.rmtree(database + ".bus")
for number in range(1001, 2001):
    pair(store, "p", number)
if sys.argv[2] == "kill":
    while not os.path.exists(store.stats().journal):
        time.sleep(0.001)
    os.kill(os.getpid(), 9)
""",
        end,
    )
    bus.finish(producer, -signal.SIGKILL if end == "kill" else 0)
    assert 1 == len(bus.folder.journal_paths())
    bus.next_comes()
    assert list(range(1, 2001)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    bus.sound()


#: In mode `thread`: jobs before its folder is removed, and behind that some which cannot be committed yet.
THREAD = (
    Notes.OPEN
    + """
import shutil
store = TelemetryStore(database, mode="thread")
pair(store, "p", 1)
store.flush()
noted[0] = 1
while not noted[1]:
    time.sleep(0.01)
shutil.rmtree(database + ".bus")
for number in range(2, 5):
    pair(store, "p", number)
noted[2] = 1
while not noted[3]:
    time.sleep(0.01)
store.flush()
store.shutdown()
"""
)


#: Another thread that would be the writer.
SECOND = """
from telemetry_bus import WriterBusy
try:
    event(TelemetryStore(database, mode="thread"), "q", 1)
except WriterBusy:
    sys.exit(0)
sys.exit(1)
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_thread_whose_folder_was_removed(bus: Bus, end: str) -> None:
    """It makes folder, lock and journal again: no second writer opens the database, and no job is lost when it is
    killed."""
    producer = bus.start(THREAD)
    wait_until(lambda: bus.notes[0], "the first job is committed")
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bus.notes[1] = 1
        wait_until(lambda: bus.notes[2], "the jobs are submitted")
        wait_until(bus.folder.journal_paths, "the journal is made again")
        wait_until(lambda: bus.owned, "the lock is held again")
        bus.run(SECOND)
        if end == "kill":
            producer.kill()
        bus.notes[3] = 1
    bus.finish(producer, -signal.SIGKILL if end == "kill" else 0)
    bus.next_comes()
    assert {"p": [1, 2, 3, 4]} == {"p": bus.numbers("events")["p"]} == bus.numbers("details")
    bus.sound()


def test_a_thread_whose_place_another_writer_takes(bus: Bus) -> None:
    """Between the removal of the folder and the thread's next look a writer comes: the thread waits, says why, and goes
    on when that has left."""
    producer = bus.start(
        Notes.OPEN
        + """
import shutil, threading
from telemetry_bus import FlushTimeout
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock
store = TelemetryStore(database, mode="thread")
pair(store, "p", 1)
store.flush()
folder = BusFolder.of(store._options.database)
shutil.rmtree(folder.path)
folder.prepare()
lock = InstanceLock.acquire(folder.writer_lock)
pair(store, "p", 2)
said = ""
while "another writer owns" not in said:
    pair(store, "p", noted[4] + 3)
    noted[4] += 1
    try:
        store.flush(0.2)
    except FlushTimeout as error:
        said = str(error)
lock.release()
store.flush()
store.shutdown()
"""
    )
    bus.finish(producer)
    assert list(range(1, bus.notes[4] + 3)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    bus.sound()
