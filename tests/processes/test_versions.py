"""Producers and writers of different versions: refused with a word, nothing read by guess, nothing lost."""

from __future__ import annotations

import signal

import pytest

from telemetry_bus import FlushTimeout, TelemetryStore

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import pair

pytestmark = pytest.mark.integration

#: Speaks another version of the protocol.
NEWER = """
from telemetry_bus.protocol import messages
messages.VERSION += 1
"""

NEWER_WRITER = (
    NEWER
    + """
import sys
from writer_daemon.__main__ import main
sys.exit(main())
"""
)


def why_not(store: TelemetryStore) -> str:
    """What `flush` says when its time is over."""
    with pytest.raises(FlushTimeout) as raised:
        store.flush(1)
    return str(raised.value)


def test_an_old_producer_with_a_new_writer(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """`flush` names both versions, and the log does once; with a writer of its own version everything is applied."""
    program = bus.home / "newer.py"
    program.write_text(NEWER_WRITER)
    writer = bus.start_command(str(program), "--database", bus.database.url)
    wait_until(lambda: "owns" in bus.errors(writer), "the writer is there")
    with TelemetryStore(bus.path, spawn=False) as store:
        for number in range(1, 101):
            pair(store, "p", number)
        wait_until(lambda: "version 2, this is version 1" in why_not(store), "flush names both versions")
        assert 100 == store.stats().pending
        assert 1 == caplog.text.count("dropped a message of the writer")
        writer.send_signal(signal.SIGTERM)
        bus.finish(writer)
        assert {} == bus.numbers()
        bus.answering_writer()
        store.flush()
    assert {"p": list(range(1, 101))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


def test_a_new_producer_with_an_old_writer(bus: Bus) -> None:
    """The same the other way round. What it leaves behind is a journal of a version that the writer knows."""
    writer = bus.answering_writer()
    output = bus.run(
        NEWER
        + """
from telemetry_bus import FlushTimeout
store = TelemetryStore(database, spawn=False)
for number in range(1, 101):
    pair(store, "p", number)
deadline = time.monotonic() + 60
told = ""
while "version" not in told and time.monotonic() < deadline:
    try:
        store.flush(1)
    except FlushTimeout as error:
        told = str(error)
print(told)
"""
    )
    assert "version 1, this is version 2" in output
    bus.settle()
    assert {"p": list(range(1, 101))} == bus.numbers("events") == bus.numbers("details")
    assert 0 < bus.status()["malformed"]
    assert 1 == bus.errors(writer).count("version 2, this is version 1")
    bus.another_job()
    bus.sound()
