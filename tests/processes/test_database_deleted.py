"""Somebody deletes the database file under a writer."""

from __future__ import annotations

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

PROGRAM = (
    Notes.OPEN
    + """
with TelemetryStore(database) as store:
    for number in (1, 2):
        pair(store, "p", number)
    store.flush()
    noted[1] = 1
    while not noted[0]:
        time.sleep(0.001)
    pair(store, "p", 3)
    try:
        store.flush(2)
    except TimeoutError as error:
        print(error)
"""
)


@pytest.mark.slow
def test_a_deleted_database_is_made_anew_and_the_gap_is_told(bus: Bus) -> None:
    """The waiting producer is told why; the writer leaves, the next one begins a new file, goes on with job 3, and
    says that the first two are gone."""
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[1], "two jobs are committed")
    for suffix in ("", "-wal", "-shm"):
        bus.path.with_name(bus.path.name + suffix).unlink(missing_ok=True)
    bus.notes[0] = 1
    assert "the database file is gone" in bus.finish(producer)
    wait_until(lambda: bus.numbers() == {"p": [3]}, "the next writer goes on")
    status = bus.status()
    assert ("degraded", 2) == (status["state"], status["jobs_gone"])
    assert "was deleted; the next writer makes a new one" in bus.log()
    bus.next_comes()
    bus.sound()
