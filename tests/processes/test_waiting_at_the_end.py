"""Exit handlers that run after the bus's own: to wait there is bounded, and does what it says."""

from __future__ import annotations

import pytest

from ..support.bus import Bus

pytestmark = pytest.mark.integration

#: As if registered before the bus was imported, so that it runs when the store's thread has ended.
LATE = """
import atexit
store = None
@atexit.register
def late():
    for number in (2, 3):
        event(store, "p", number)
        try:
            store.flush()
        except Exception as error:
            print(type(error).__name__)
from telemetry_bus.runtime import lifecycle
atexit.unregister(lifecycle._at_exit)
atexit.register(lifecycle._at_exit)
store = TelemetryStore(database, mode=sys.argv[2])
event(store, "p", 1)
"""


@pytest.mark.parametrize("mode", ["daemon", "thread"])
def test_flush_in_a_late_handler(bus: Bus, mode: str) -> None:
    """A writer takes over and the flush returns, or says within its two seconds that it did not; nothing is lost."""
    said = bus.run(LATE, mode, PYTHONWARNINGS="ignore").split()
    assert set(said) <= {"FlushTimeout"}  # on a busy machine a writer may take longer to start
    bus.next_comes()
    assert [1, 2, 3] == sorted(bus.numbers()["p"])


def test_no_writer_may_be_started(bus: Bus) -> None:
    """Then the flush fails after two seconds, though the store's own limit is thirty."""
    program = LATE.replace("mode=sys.argv[2])", "spawn=False)")
    assert ["FlushTimeout", "FlushTimeout"] == bus.run(program, "", PYTHONWARNINGS="ignore").split()
    bus.next_comes()
    assert [1, 2, 3] == sorted(bus.numbers()["p"])


def test_nothing_is_warned_of(bus: Bus) -> None:
    """A program that has started a writer ends quietly, with every warning an error."""
    program = bus.home / "quiet.py"
    program.write_text(
        "import sys\nfrom telemetry_bus import TelemetryStore\nstore = TelemetryStore(sys.argv[1])\n"
        "store.execute('CREATE TABLE IF NOT EXISTS t (a)')\nstore.flush()\n"
    )
    process = bus.start_command("-W", "error", "-X", "dev", str(program), str(bus.path))
    bus.finish(process)
    assert "" == bus.errors(process)
