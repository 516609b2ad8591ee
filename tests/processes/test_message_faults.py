"""Messages and answers that are lost, late, doubled and out of order, between real sockets."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise

import pytest
import zmq

from telemetry_bus import TelemetryStore
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.errors import ProtocolError
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer import transport
from telemetry_bus.protocol.messages import Ack, Bye, Control, Jobs, decode_control, encode_control

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import EVENTS, pair

pytestmark = pytest.mark.integration

INSERT = "INSERT INTO events (producer, number) VALUES (?, ?)"
STREAM = b"p".ljust(16, b".")
JOBS = 60


def messages(bus: Bus, *, leave_behind: bool) -> list[Jobs]:
    """What a producer sent while it lived, a few jobs to a message; it may have left its journal behind."""
    bus.folder.prepare()
    folder = bus.folder.journals if leave_behind else None
    with closing(Journal(folder, STREAM, 1 << 17, bus.database.identity)) as journal:
        encoder = Encoder(journal.define)
        ends = [(0, 0)]
        for number in range(1, JOBS + 1):
            assert journal.append(encoder.row(INSERT, ("p", number), (EVENTS,)))
            if number % 6 == 0:
                ends.append(journal.end)
        definitions, (count, _) = journal.definitions((0, 0))
        return [
            Jobs(STREAM, 0, start[0] + 1, end[0] - start[0], 1, count, definitions, journal.read(start, end))
            for start, end in pairwise(ends)
        ]


def push(bus: Bus, *parts: Jobs, until: Callable[[], bool], what: str) -> None:
    """Send messages, and stay until they have shown what comes of them: what ZeroMQ has not read of a connection when
    that ends is gone, and a writer lets few messages wait."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(bus.folder.endpoint("jobs"))
        for part in parts:
            socket.send_multipart(part.encode())
        wait_until(until, what)
        socket.close(linger=0)


def say_bye(bus: Bus) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(bus.folder.endpoint("control"))
        socket.send(encode_control(Bye(STREAM)))
        socket.close(linger=10_000)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["bye", "adopted"])
def test_late_messages_of_a_stream_that_has_ended(bus: Bus, end: str) -> None:
    """It has said goodbye, or its journal was adopted. Whatever still arrives of it, backwards, doubled and with
    gaps, is known from the ledger: every job is there once."""
    bus.answering_writer()
    sent = messages(bus, leave_behind=end == "adopted")
    if end == "bye":
        push(bus, *sent, until=lambda: bus.numbers().get("p", [])[-1:] == [JOBS], what="all of it is applied")
        say_bye(bus)
    bus.settle()
    assert {"p": list(range(1, JOBS + 1))} == bus.numbers()
    before = bus.status()["duplicates_dropped"]
    late = [*reversed(sent), *sent, *random.Random(5).choices(sent, k=20)]
    doubled = before + sum(message.count for message in late)
    push(bus, *late, until=lambda: bus.status()["duplicates_dropped"] == doubled, what="all of them are dropped")
    assert {"p": list(range(1, JOBS + 1))} == bus.numbers()
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_messages_out_of_order(bus: Bus) -> None:
    """A message that comes before its turn is not applied, and nothing is applied twice; in the right order at last
    all of it is."""
    bus.answering_writer()
    sent = messages(bus, leave_behind=False)
    some = [sent[number] for number in (1, 0, 3, 2, 0, 5)]
    push(bus, *some, until=lambda: bus.numbers().get("p") == [*range(1, 7)], what="what was in its turn is applied")
    push(bus, *sent, until=lambda: bus.numbers().get("p") == [*range(1, JOBS + 1)], what="all of it is applied")
    bus.another_job()
    bus.sound()


def losing(every: Callable[[int], bool]) -> Callable[[bytes], Control]:
    """Acknowledgements that are lost on the way, by their number."""
    seen = 0

    def decode(data: bytes) -> Control:
        nonlocal seen
        message = decode_control(data)
        if isinstance(message, Ack):
            seen += 1
            if every(seen):
                raise ProtocolError("lost")
        return message

    return decode


@pytest.mark.slow
@pytest.mark.parametrize(
    "every", [lambda number: number % 3 > 0, lambda number: 2 <= number <= 6], ids=["two of three", "a row of them"]
)
def test_lost_acknowledgements(bus: Bus, every: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer asks, and the next answer heals it; what it sends again is known to the writer."""
    monkeypatch.setattr(transport, "decode_control", losing(every))
    bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False, journal_bytes=1 << 20) as store:
        for number in range(1, 3001):
            pair(store, "p", number)
            if number % 300 == 0:
                store.flush()
    assert {"p": list(range(1, 3001))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


def test_producers_first_and_the_writer_later(bus: Bus) -> None:
    """Those that live and those that are gone: all of their jobs wait for the writer."""
    bus.run("""
store = TelemetryStore(database, spawn=False)
for number in range(1, 501):
    pair(store, "gone", number)
""")
    with TelemetryStore(bus.path, spawn=False) as store:
        for number in range(1, 501):
            pair(store, "alive", number)
        assert (500, 0) == (store.stats().pending, store.stats().acknowledged)
        bus.answering_writer()
        store.flush()
    bus.settle()
    expected = {"alive": list(range(1, 501)), "gone": list(range(1, 501))}
    assert expected == bus.numbers("events") == bus.numbers("details")
    bus.sound()
