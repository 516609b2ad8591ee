"""Who starts the writer, and what happens when it leaves just as somebody comes."""

from __future__ import annotations

import fcntl
import os

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

ONE_JOB_AT_THE_START = """
go, producer = sys.argv[2:]
store = TelemetryStore(database)
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.001)
event(store, producer, 1)
store.shutdown(wait=True)
"""

#: Has a writer come, waits for the moment when the sockets of the leaving writer are gone, submits, and ends without
#: waiting for anything.
ONE_JOB_AS_THE_WRITER_LEAVES = """
producer = sys.argv[2]
store = TelemetryStore(database)
event(store, producer, 1)
store.shutdown(wait=True)
while os.path.exists(database + ".bus/control.sock"):
    pass
event(get_store(database), producer, 2)
"""


@pytest.mark.slow
def test_twenty_that_start_together_share_one_writer(bus: Bus) -> None:
    """Twenty processes submit at the same moment with no writer there: one is started, by one of them."""
    expected = {f"p{index}": [1] for index in range(20)}
    go = bus.home / "go"
    processes = [bus.start(ONE_JOB_AT_THE_START, str(go), producer) for producer in expected]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    go.touch()
    for process in processes:
        bus.finish(process)
    assert expected == bus.numbers()
    assert 1 == len(bus.owners())
    assert set(bus.owners()) == bus.spawned()


@pytest.mark.slow
def test_a_job_that_comes_as_the_writer_leaves_is_written(bus: Bus) -> None:
    """A writer leaves idle, again and again, while short-lived producers submit in that very moment and go without
    waiting: every job gets written, and nobody has to come along and start a writer for it."""
    expected = {f"p{index}": [1, 2] for index in range(5)}
    for producer in expected:
        bus.run(ONE_JOB_AS_THE_WRITER_LEAVES, producer, TELEMETRY_BUS_IDLE_TIMEOUT="0.05")
        bus.settle()
    assert expected == bus.numbers()
    wait_until(lambda: not bus.owned, "the last writer leaves, too")
    bus.sound()


@pytest.mark.slow
def test_one_that_is_stopped_while_it_starts_a_writer_holds_up_nobody_for_ever(bus: Bus) -> None:
    """The lock of the one that starts a writer only spares the others the trouble: held for long with no writer to
    show for it, it is passed over."""
    bus.folder.prepare()
    held = os.open(bus.folder.spawn_lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        bus.next_comes()
    finally:
        os.close(held)
