"""The writer is gone, and nobody told the producer."""

from __future__ import annotations

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

#: Ends the writer in one of three ways and sees its lock free, while the producer has nothing to send.
END_THE_WRITER = """
import signal, subprocess
from telemetry_bus.runtime.locks import is_held

def end_writer(store, how):
    if how == "stop":
        subprocess.run([sys.executable, "-m", "telemetry_bus", "stop", "--database", database], check=True)
    else:
        os.kill(store.stats().writer.pid, getattr(signal, how))
    while is_held(store_lock):
        time.sleep(0.001)

from pathlib import Path
store_lock = Path(database + ".bus", "writer.lock")
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "stop"])
def test_an_idle_producer_goes_on_with_the_next_writer(bus: Bus, how: str) -> None:
    """Its next job finds nobody connected, and it starts a writer; `flush` does not wait in vain."""
    bus.run(
        END_THE_WRITER
        + """
with TelemetryStore(database) as store:
    pair(store, "p", 1)
    store.flush()
    end_writer(store, sys.argv[2])
    pair(store, "p", 2)
    store.flush()
""",
        how,
    )
    assert {"p": [1, 2]} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


@pytest.mark.slow
def test_a_program_that_ends_right_after_its_writer_was_killed_leaves_another(bus: Bus) -> None:
    """The killed one may hold its lock for a moment longer. No other producer comes to the rescue."""
    bus.run("""
import signal
store = TelemetryStore(database)
pair(store, "p", 1)
store.flush()
os.kill(store.stats().writer.pid, signal.SIGKILL)
pair(store, "p", 2)
""")
    wait_until(lambda: bus.numbers() == {"p": [1, 2]}, "the second job is written")
    bus.settle()
    bus.sound()
