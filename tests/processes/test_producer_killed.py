"""A producer is killed at the worst moments of a submit and of the send."""

from __future__ import annotations

import signal

import pytest

from ..support.bus import Bus, Notes

pytestmark = pytest.mark.integration

#: Dies when it comes to a place for the n-th time.
PROGRAM = (
    Notes.OPEN
    + """
import signal
import zmq
from telemetry_bus.journal import ring as journal
from telemetry_bus.journal.ring import Journal
from telemetry_bus.journal.layout import TAIL, DEFINITIONS_TAIL

place, left = sys.argv[2], int(sys.argv[3])

def passing(here):
    global left
    if here == place:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

class Words:
    "The header of a journal: a store to it is what publishes."

    def __init__(self, words):
        self.words = words

    def __setitem__(self, index, value):
        what = {TAIL: "job", DEFINITIONS_TAIL: "definition"}[index]
        passing(f"before publishing a {what}")
        self.words[index] = value
        passing(f"after publishing a {what}")

    def release(self):
        self.words.release()

def make(self, *arguments):
    begin(self, *arguments)
    self._words = Words(self._words)

begin, Journal.__init__ = Journal.__init__, make

def trim(self, position):
    passing("before a trim")
    whole(self, position)
    passing("after a trim")

whole, Journal.trim = Journal.trim, trim

def send(self, *arguments):
    passing("before a send")
    push(self, *arguments)
    passing("after a send")

push, zmq.Socket.send_multipart = zmq.Socket.send_multipart, send

store = TelemetryStore(database, spawn=False, journal_bytes=1 << 17)
for number in range(1, 20_001):
    pair(store, "p", number)
    noted[0] = number
store.flush()
"""
)


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("before publishing a definition", 1),
        ("after publishing a definition", 4),
        ("before publishing a job", 5000),
        ("after publishing a job", 5000),
        ("before a send", 5),
        ("after a send", 1),
        ("before a trim", 2),
        ("after a trim", 2),
    ],
)
def test_killed_at_a_place(bus: Bus, place: str, times: int) -> None:
    """Beside a writer that goes on: every job that was accepted is there once, whole and in order; and the one that
    was in hand, if it was written whole."""
    bus.answering_writer()
    bus.finish(bus.start(PROGRAM, place, str(times)), -signal.SIGKILL)
    accepted = bus.notes[0]
    bus.next_comes()
    found = bus.numbers("events").get("p", [])
    assert list(range(1, len(found) + 1)) == found == bus.numbers("details").get("p", [])
    if place.endswith("publishing a job"):  # before it is published, it is written already
        assert (times - 1, times) == (accepted, len(found))
    assert len(found) - accepted in (0, 1)
    bus.sound()
