"""When a message goes out: at once, when what is in flight is acknowledged, or when it is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from telemetry_bus.config import Database, parse_database
from telemetry_bus.encoding.records import CHUNK_BYTES
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer.outbox import NEVER, Outbox
from telemetry_bus.producer.sender_thread import Sender
from telemetry_bus.producer.transport import Transport
from telemetry_bus.protocol.messages import Ack, Control, Resend, Welcome
from telemetry_bus.protocol.producer import ProducerProtocol
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.spawn import Spawner
from telemetry_bus.runtime.waker import Waker

INSERT = "INSERT INTO t VALUES (?)"
EPOCH = b"an epoch"
WINDOW = 4 * CHUNK_BYTES


class Stream:
    """An outbox with a journal in memory, and what is sent of it and acknowledged."""

    def __init__(self, journal: Journal, database: Database) -> None:
        self.outbox = Outbox(journal, lambda: None, on_full="raise", timeout=0)
        self.protocol = ProducerProtocol(journal.stream, database.identity, 7)

    def submit(self, size: int = 1) -> None:
        self.outbox.put_row(INSERT, ("x" * size,), ())

    def look(self) -> None:
        self.protocol.look(self.outbox.journal.end, 0.0, self.outbox.wanted)

    def send(self) -> list[int]:
        """The numbers of the first and the last job of each message that goes out now."""
        numbers = []
        self.look()
        while (part := self.protocol.next_slice()) is not None:
            message = self.outbox.read(part)
            self.protocol.sent(message, 0.0)
            numbers += [message.first, message.last]
        return numbers

    def hear(self, message: Control) -> None:
        reports = self.protocol.receive(message, 0.0)
        self.outbox.settle(self.protocol.acknowledged, self.protocol.committed, reports)

    def acknowledge(self, committed: int) -> None:
        self.hear(Ack(self.outbox.journal.stream, EPOCH, 1, committed, committed, WINDOW, []))

    def sleep(self) -> None:
        """As the sender's thread before it polls."""
        self.look()
        self.outbox.wake_at = self.protocol.wake_behind()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    """One whose writer is known and has taken nothing yet."""
    database = parse_database(str(tmp_path / "x.db"))
    journal = Journal(None, os.urandom(16), 2 * WINDOW, database.identity)
    with closing(journal):
        stream = Stream(journal, database)
        stream.hear(Welcome(journal.stream, EPOCH, 1, 0, 0, WINDOW, []))
        yield stream


def test_the_first_job_goes_at_once(stream: Stream) -> None:
    """With nothing in flight there is nothing to wait for."""
    assert [] == stream.send()
    stream.submit()
    assert [1, 1] == stream.send()


def test_what_follows_waits_for_the_acknowledgement(stream: Stream) -> None:
    """What gathers while something is in flight goes out as one message when that is settled."""
    stream.submit()
    stream.send()
    for _ in range(10):
        stream.submit()
        assert [] == stream.send()
    stream.acknowledge(1)
    assert [2, 11] == stream.send()


def test_a_whole_message_does_not_wait(stream: Stream) -> None:
    """One that is as large as it gets goes out, as long as the window is open; the rest behind it waits."""
    stream.submit()
    stream.send()
    stream.submit(CHUNK_BYTES)
    stream.submit()
    assert [2, 2] == stream.send()
    assert [] == stream.send()


def test_what_was_lost_is_sent_again_at_once(stream: Stream) -> None:
    """A message that was cut before goes out as it was, however small it is."""
    stream.submit()
    stream.send()
    stream.acknowledge(1)
    stream.submit()
    stream.send()
    stream.hear(Resend(stream.outbox.journal.stream, EPOCH, 2, stream.protocol.rewind))
    stream.submit()
    assert [2, 2] == stream.send()
    stream.acknowledge(2)
    assert [3, 3] == stream.send()


def test_who_sleeps_is_woken_for_what_may_go_out(stream: Stream) -> None:
    """By the next job, by the one that makes a message whole, and by none as long as the window is closed."""
    woken: list[int] = []
    outbox = stream.outbox
    outbox.wake = lambda: woken.append(outbox.last)

    stream.sleep()
    stream.submit()
    stream.send()
    stream.sleep()
    stream.submit()
    stream.submit(CHUNK_BYTES)
    assert [1, 3] == woken
    while outbox.journal.end[1] < WINDOW + 2 * CHUNK_BYTES:
        stream.submit(CHUNK_BYTES)
    woken.clear()
    stream.send()
    stream.sleep()
    stream.submit(CHUNK_BYTES)
    assert [] == woken


def test_a_job_without_a_writer_wakes_once(stream: Stream) -> None:
    """The first one, so that a writer is looked for; those behind it change nothing."""
    stream.protocol.unreachable()
    stream.sleep()
    assert stream.outbox.wake_at < 1
    stream.submit()
    stream.sleep()
    assert NEVER == stream.outbox.wake_at


def test_when_the_thread_is_gone_each_job_wakes(stream: Stream) -> None:
    """Somebody has to see that the job is not left to nobody."""
    woken: list[int] = []
    stream.outbox.wake_at = NEVER
    stream.submit()
    stream.outbox.wake_always(lambda: woken.append(stream.outbox.last))
    stream.submit()
    stream.submit()
    assert [2, 3] == woken


def test_a_thread_that_ends_late_takes_no_wake_away(stream: Stream, tmp_path: Path) -> None:
    """It comes out of its sleep when somebody else is to be called already: that one is called."""
    database = parse_database(str(tmp_path / "x.db"))
    folder = BusFolder.of(database)
    folder.prepare()
    outbox, late, asleep, may_end = stream.outbox, Event(), Event(), Event()

    class Slow(Transport):
        def _timeout(self, deadline: float | None) -> int | None:
            asleep.set()
            may_end.wait(60)
            return super()._timeout(deadline)

    class SlowSender(Sender):
        def _load(self) -> Transport:
            return Slow(
                self._outbox, self._waker, self._folder, self._database, self._spawner, self._requests, self._pace
            )

    with closing(Waker()) as waker:
        outbox.wake = waker.wake
        sender = SlowSender(outbox, waker, folder, database, Spawner(database, folder, enabled=False))
        stream.submit()
        sender.start("sender")
        assert asleep.wait(60)
        assert not sender.stop(0)
        outbox.wake_always(late.set)
        may_end.set()
        assert sender.stop(60)
        stream.submit()
        assert late.is_set()
    folder.close()
