"""A writer that nobody needs leaves, and leaves nothing behind."""

from __future__ import annotations

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration


def test_an_idle_writer_leaves_nothing_behind(bus: Bus) -> None:
    """Exit code 0; the lock is free, sockets and journals are gone, SQLite's log is written back."""
    writer = bus.answering_writer("--idle-timeout", "0.2")
    bus.run(  # it may have left before there is a job; then another one is started
        """
with TelemetryStore(database) as store:
    for number in range(1, 1001):
        pair(store, "p", number)
""",
        TELEMETRY_BUS_IDLE_TIMEOUT="0.2",
    )
    bus.finish(writer, 0)
    assert "Traceback" not in bus.errors(writer)
    wait_until(lambda: not bus.writers(), "no writer is left")
    assert not bus.owned
    assert [] == list(bus.folder.path.glob("*.sock"))
    assert [] == list(bus.folder.journals.iterdir())
    assert not bus.path.with_name(bus.path.name + "-wal").exists()
    assert {"p": list(range(1, 1001))} == bus.numbers("events") == bus.numbers("details")


def test_a_writer_that_a_producer_started_leaves_when_it_is_idle(bus: Bus) -> None:
    """The time comes from the environment of the one that starts it; the log has no complaint."""
    bus.run(
        """
with TelemetryStore(database) as store:
    event(store, "p", 1)
""",
        TELEMETRY_BUS_IDLE_TIMEOUT="0.2",
    )
    wait_until(lambda: not bus.writers(), "the writer leaves")
    assert [] == list(bus.folder.path.glob("*.sock"))
    assert [] == list(bus.folder.journals.iterdir())
    assert "ERROR" not in bus.log()


@pytest.mark.slow
def test_a_producer_that_says_nothing_keeps_the_writer(bus: Bus) -> None:
    """A living producer counts as company, however long it has nothing to say."""
    writer = bus.answering_writer("--idle-timeout", "0.2")
    producer = bus.start(
        Notes.OPEN
        + """
with TelemetryStore(database, spawn=False) as store:
    event(store, "p", 1)
    store.flush()
    noted[1] = 1
    while not noted[0]:
        time.sleep(0.01)
    event(store, "p", 2)
"""
    )
    wait_until(lambda: bus.notes[1], "the producer is there")
    since = bus.status()["uptime_s"]
    wait_until(lambda: bus.status()["uptime_s"] > since + 3, "the writer has looked around a few times")
    bus.notes[0] = 1
    bus.finish(producer)
    bus.finish(writer, 0)
    assert {"p": [1, 2]} == bus.numbers()
