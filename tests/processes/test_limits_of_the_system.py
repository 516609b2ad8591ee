"""Descriptors run out, hundreds of producers come, and the clock of the day jumps."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore

from ..support.bus import Bus, Notes
from ..support.clock import wait_until
from ..support.jobs import event

pytestmark = pytest.mark.integration

#: Has so many descriptors left, submits until that succeeds, and tells each error; then has enough again.
STARVED = """
import resource, threading
from telemetry_bus import TelemetryError

def limit(left):
    "So many descriptors beyond what was used at the beginning."
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, most))

before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
os.close(lowest)
with TelemetryStore(database, spawn=False) as store:
    left = 0
    while True:
        limit(left)
        try:
            event(store, "p", 1)
            break
        except TelemetryError as error:
            print(type(error).__name__, error)
        left += 1
    limit(left + int(sys.argv[2]))
    while not store.stats().writer.answering and not store.stats().last_error:
        time.sleep(0.01)
    print("seen", store.stats().last_error or "an answer")
    time.sleep(2.5)  # to see how often it tries
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
    event(store, "p", 2)
    store.flush()
"""

#: May have so much memory from now on, or no thread; submits a job, and says what it was told. Then it has enough.
LIMITED = """
import _thread, resource, threading
from telemetry_bus import FlushTimeout, JournalUnavailable

def no_thread(*arguments):
    raise RuntimeError("can't start new thread")

store = TelemetryStore(database, spawn=False, mode=sys.argv[2], timeout=20)
before, start = resource.getrlimit(resource.RLIMIT_AS), _thread.start_new_thread
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), before[1]))
else:
    threading._start_new_thread = _thread.start_new_thread = no_thread
try:
    event(store, "p", 1)
    store.flush(1)
    print("written")
except (FlushTimeout, JournalUnavailable) as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_AS, before)
threading._start_new_thread = _thread.start_new_thread = start
event(store, "p", 2)
store.flush()
print("still here")
"""

#: The clock of the day jumps a day forward or back whenever it is looked at.
JUMPING_CLOCK = """
import itertools, sys, time
_jumps = itertools.cycle([86400, 0, -86400, 0, 0])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + next(_jumps)
time.time_ns = lambda: _time_ns() + next(_jumps) * 10**9
"""

JUMPING_WRITER = (
    JUMPING_CLOCK
    + """
from writer_daemon.__main__ import main
sys.exit(main())
"""
)


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize("left", [1, 3, 12])
def test_a_producer_without_descriptors(bus: Bus, left: int) -> None:
    """What cannot be begun is an error that says so, and never the end of the process; what was submitted is sent
    when there are descriptors again; meanwhile the thread tries now and then."""
    bus.answering_writer()
    producer = bus.start(STARVED, str(left))
    output = bus.finish(producer)
    refused = re.findall(r"^JournalUnavailable .*Too many open files", output, re.M)
    assert len(refused) >= 3
    assert "Too many open files" in output.partition("seen ")[2]
    assert 1 <= bus.errors(producer).count("starts again") <= 10
    assert {"p": [1, 2]} == bus.numbers()
    bus.sound()


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", range(60, 140, 8))
def test_a_producer_without_memory(bus: Bus, mebibytes: int) -> None:
    """However little there is, libzmq is not asked for what it cannot have: it would end the program."""
    bus.answering_writer()
    output = bus.finish(bus.start(LIMITED, "daemon", str(mebibytes << 20)))
    assert "still here" == output.splitlines()[-1]
    assert {tuple(bus.numbers()["p"])} <= {(1, 2), (2,)}
    assert ("JournalUnavailable" in output) == ([2] == bus.numbers()["p"])
    bus.sound()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["daemon", "thread"])
def test_a_producer_without_threads(bus: Bus, mode: str) -> None:
    """It is told at the first job, which is not accepted then; later ones are written."""
    if mode == "daemon":
        bus.answering_writer()
    output = bus.finish(bus.start(LIMITED, mode))
    assert "JournalUnavailable" in output
    assert "ulimit -u" in output
    assert "still here" == output.splitlines()[-1]
    assert {"p": [2]} == bus.numbers()


@pytest.mark.slow
def test_a_writer_takes_the_descriptors_it_may_have(bus: Bus) -> None:
    """It begins with room for a few producers only, and serves hundreds."""
    writer = bus.answers(bus.start_under(["sh", "-c", 'ulimit -Sn 40 && exec "$@"', "sh"]))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (most, most) == resource.prlimit(writer.pid, resource.RLIMIT_NOFILE)
    producers = [
        bus.start(
            """
stores = [TelemetryStore(database, spawn=False, journal_bytes=1 << 17) for _ in range(50)]
for number in range(1, 11):
    for index, store in enumerate(stores):
        event(store, f"{sys.argv[2]}.{index}", number)
for store in stores:
    store.flush()
for store in stores:
    store.shutdown()
""",
            str(index),
        )
        for index in range(4)
    ]
    for producer in producers:
        bus.finish(producer)
    found = bus.numbers()
    assert {f"{program}.{index}" for program in range(4) for index in range(50)} == found.keys()
    assert [list(range(1, 11))] * 200 == list(found.values())
    assert writer.poll() is None
    bus.another_job()
    bus.sound()


def test_a_writer_that_runs_out_of_descriptors(bus: Bus) -> None:
    """The library of the sockets ends the process then. Nothing is lost and nothing comes twice: the next writer,
    with more of them, applies everything."""
    writer = bus.answering_writer()
    first = TelemetryStore(bus.path, spawn=False, journal_bytes=1 << 17)
    event(first, "first", 1)
    first.flush()
    used = len(os.listdir(f"/proc/{writer.pid}/fd"))
    resource.prlimit(writer.pid, resource.RLIMIT_NOFILE, (used + 5, used + 5))
    stores = [TelemetryStore(bus.path, spawn=False, journal_bytes=1 << 17) for _ in range(8)]
    for index, store in enumerate(stores):
        event(store, f"p{index}", 1)
    event(first, "first", 2)
    bus.finish(writer, -signal.SIGABRT)
    bus.answering_writer()
    for store in [first, *stores]:
        store.flush()
        store.shutdown()
    assert {"first": [1, 2]} | {f"p{index}": [1] for index in range(8)} == bus.numbers()
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_a_starved_writer_does_not_spin(bus: Bus) -> None:
    """No descriptor is left for the journals of the dead: it says so and tries again about once a second."""
    writer = bus.answering_writer()
    for _ in range(3):
        bus.run("event(TelemetryStore(database, spawn=False), 'p', 1); os._exit(0)")
    resource.prlimit(writer.pid, resource.RLIMIT_NOFILE, (3, 4096))
    wait_until(lambda: bus.errors(writer).count("Too many open files") >= 3, "it says so")
    used = cpu_seconds(writer.pid)
    time.sleep(2.5)  # to see how often it tries
    assert bus.errors(writer).count("Too many open files") < 30
    assert cpu_seconds(writer.pid) - used < 1
    resource.prlimit(writer.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    bus.settle()
    assert {"p": [1, 1, 1]} == bus.numbers()
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_the_clock_of_the_day_jumps(bus: Bus) -> None:
    """In the writer and in its producers, a day either way, again and again: no time limit notices."""
    program = bus.home / "jumping.py"
    program.write_text(JUMPING_WRITER)
    writer = bus.answers(bus.start_command(str(program), "--database", bus.database.url, "--idle-timeout", "3600"))
    bus.run("store = TelemetryStore(database, spawn=False); pair(store, 'orphan', 1); os._exit(0)")
    bus.run(
        JUMPING_CLOCK
        + Notes.OPEN
        + """
with TelemetryStore(database, spawn=False, journal_bytes=1 << 17, timeout=3600) as store:
    for number in range(1, 20_001):  # more than the journal holds: some submits wait for room
        pair(store, "p", number)
    store.flush()
    assert store.stats().resent == 0
"""
    )
    bus.settle()
    assert {"orphan": [1], "p": list(range(1, 20_001))} == bus.numbers("events") == bus.numbers("details")
    assert writer.poll() is None
    bus.another_job()
    bus.sound()
