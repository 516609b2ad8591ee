"""The writer dies, or stands still, at the worst moments: exactly once all the same."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

POINTS = ["before-begin", "in-batch", "before-commit", "after-commit"]

#: A writer that is killed when it comes to a fail point for the n-th time.
DOOMED_WRITER = """
import os, signal, sys
from telemetry_bus.database.writer import Writer
from writer_daemon.__main__ import main

point, left = sys.argv.pop(1), int(sys.argv.pop(1))

def failpoint(name):
    global left
    left -= name == point
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Writer.failpoint = staticmethod(failpoint)
sys.exit(main())
"""

#: Some of the jobs cannot be applied if that is asked for: batches are then replayed in order.
PROGRAM = (
    Notes.OPEN
    + """
end, bad = sys.argv[2:]
store = TelemetryStore(database)
for number in range(1, 3001):
    pair(store, "p", number if bad == "none" or number % 1000 else None)
    if number % 300 == 0:
        noted[1] = number
        while end == "flush" and store.stats().pending > 600:
            time.sleep(0.001)
if end == "kill":
    os.kill(os.getpid(), 9)
store.flush()
"""
)


def doomed_writer(bus: Bus, point: str, times: int) -> subprocess.Popen[str]:
    program = bus.home / "doomed.py"
    program.write_text(DOOMED_WRITER)
    return bus.start_command(str(program), point, str(times), "--database", bus.database.url)


def is_exactly_once(bus: Bus, bad: str) -> None:
    """Good jobs are in both tables, bad ones are dead letters, the ledger has no hole."""
    letters = [] if bad == "none" else [1000, 2000, 3000]
    expected = [number for number in range(1, 3001) if number not in letters]
    assert expected == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    assert [(number,) for number in letters] == bus.rows("SELECT sequence FROM telemetry_bus_dead_letters ORDER BY id")
    assert (3000,) in bus.rows("SELECT last_sequence FROM telemetry_bus_ledger")
    assert [("ok",)] == bus.rows("PRAGMA integrity_check")


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["none", "some"])
@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_at_a_fail_point(bus: Bus, point: str, bad: str) -> None:
    """The producer lives: it starts the next writer and learns from it what was committed."""
    writer = bus.answers(doomed_writer(bus, point, 2))
    bus.run(PROGRAM, "flush", bad)
    bus.finish(writer, -signal.SIGKILL)
    assert 1 == len(bus.owners())
    is_exactly_once(bus, bad)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_writer_and_producer_killed(bus: Bus, point: str) -> None:
    """Both are dead: the next writer finds the journal and the ledger, and goes on where they say."""
    writer = bus.answers(doomed_writer(bus, point, 1))
    producer = bus.start(PROGRAM, "kill", "none")
    bus.finish(producer, -signal.SIGKILL)
    bus.finish(writer, -signal.SIGKILL)
    bus.next_comes()
    is_exactly_once(bus, "none")


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_while_it_adopts(bus: Bus, point: str) -> None:
    """A dead producer's journal is being adopted when the writer dies: the next one adopts what is left of it."""
    bus.finish(bus.start(PROGRAM, "kill", "none", TELEMETRY_BUS_SPAWN="0"), -signal.SIGKILL)
    assert 1 == len(bus.folder.journal_paths())
    bus.finish(doomed_writer(bus, point, 1), -signal.SIGKILL)
    bus.next_comes()
    is_exactly_once(bus, "none")


@pytest.mark.slow
def test_a_journal_whose_beginning_is_committed_already(bus: Bus) -> None:
    """Writer and producer die after a commit that nobody has acknowledged: the next writer passes over what the
    ledger has, and reads the rest, with the definitions that stand in the beginning."""
    producer = bus.start(
        Notes.OPEN
        + """
store = TelemetryStore(database, spawn=False)
for number in range(1, 40_001):
    pair(store, "p", number)
noted[1] = 1
time.sleep(3600)
"""
    )
    wait_until(lambda: bus.notes[1], "everything is submitted")
    bus.finish(doomed_writer(bus, "after-commit", 1), -signal.SIGKILL)
    producer.kill()
    assert 0 < len(bus.numbers()["p"]) < 40_000
    bus.next_comes()
    assert list(range(1, 40_001)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]
    bus.sound()


@pytest.mark.slow
def test_a_stopped_writer_beside_a_second_one(bus: Bus) -> None:
    """A writer that stands still for so long that its producer gives it up still owns the database: one that is
    started meanwhile waits, and leaves when the first one goes on."""
    first = bus.answering_writer()
    producer = bus.start(
        Notes.OPEN
        + """
store = TelemetryStore(database)
for number in range(1, 4001):
    pair(store, "p", number)
    if number == 2000:
        store.flush()
        os.kill(int(sys.argv[2]), 19)
while store.stats().writer.answering:
    time.sleep(0.01)
noted[1] = 1
store.flush()
""",
        str(first.pid),
    )
    wait_until(lambda: bus.notes[1], "the producer has given the writer up")
    second = bus.start_writer()
    wait_until(lambda: second.pid in bus.writers(), "the second one is there")
    os.kill(first.pid, signal.SIGCONT)
    bus.finish(producer)
    bus.finish(second, 3)
    assert f"process {first.pid} owns the database" in bus.errors(second)
    assert first.poll() is None
    assert {"p": list(range(1, 4001))} == bus.numbers("events") == bus.numbers("details")
    assert [] == bus.owners()
    bus.sound()
