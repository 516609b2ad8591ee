"""When a message goes out: at once, when what is under way is acknowledged, or when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.journal.layout import CHUNK_BYTES
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer.link import Link
from telemetry_bus.producer.outbox import NEVER, Outbox
from telemetry_bus.producer.sender import Sender
from telemetry_bus.producer.transport import Transport
from telemetry_bus.protocol.messages import Ack, Resend, Welcome
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.spawn import Spawner
from telemetry_bus.runtime.waker import Waker

INSERT = "INSERT INTO t VALUES (?)"
EPOCH = b"an epoch"
WINDOW = 4 * CHUNK_BYTES


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """One whose writer is known and has taken nothing yet."""
    database = parse_database(str(tmp_path / "x.db"))
    journal = Journal(None, os.urandom(16), 2 * WINDOW, database.identity)
    with closing(journal):
        link = Link(Outbox(journal, lambda: None, on_full="raise", timeout=0), database)
        link.receive([Welcome(journal.stream, EPOCH, 1, 0, 0, WINDOW, [])], 0.0)
        yield link


def submit(link: Link, size: int = 1) -> None:
    link.outbox.put_row(INSERT, ("x" * size,), ())


def send(link: Link) -> list[int]:
    """The numbers of the first and the last job of each message that goes out now."""
    numbers = []
    while (message := link.next()) is not None:
        link.sent(0.0)
        numbers += [message.first, message.last]
    return numbers


def acknowledge(link: Link, committed: int) -> None:
    link.receive([Ack(link.outbox.journal.stream, EPOCH, 1, committed, committed, WINDOW, [])], 0.0)


def test_the_first_job_goes_at_once(link: Link) -> None:
    """With nothing under way nobody waits for company."""
    assert [] == send(link)
    submit(link)
    assert link.ready
    assert [1, 1] == send(link)


def test_what_follows_waits_for_the_acknowledgement(link: Link) -> None:
    """What gathers while something is under way goes out as one message when that is decided."""
    submit(link)
    send(link)
    for _ in range(10):
        submit(link)
        assert not link.ready
        assert [] == send(link)
    acknowledge(link, 1)
    assert [2, 11] == send(link)


def test_a_whole_message_does_not_wait(link: Link) -> None:
    """One that is as large as it gets goes out, as long as the window is open; the rest behind it waits."""
    submit(link)
    send(link)
    submit(link, CHUNK_BYTES)
    submit(link)
    assert [2, 2] == send(link)
    assert [] == send(link)


def test_what_was_lost_is_sent_again_at_once(link: Link) -> None:
    """A message that was cut before goes out as it was, however small it is."""
    submit(link)
    send(link)
    acknowledge(link, 1)
    submit(link)
    send(link)
    stream = link.outbox.journal.stream
    link.receive([Resend(stream, EPOCH, 2, link.protocol.rewind)], 0.0)
    submit(link)
    assert [2, 2] == send(link)
    acknowledge(link, 2)
    assert [3, 3] == send(link)


def test_who_sleeps_is_woken_for_what_may_go_out(link: Link) -> None:
    """By the next job, by the one that makes a message whole, and by none as long as the window is closed."""
    woken: list[int] = []
    outbox = link.outbox
    outbox.wake = lambda: woken.append(outbox.last)

    def sleep() -> None:
        outbox.wake_at = link.wake_at

    sleep()
    submit(link)
    send(link)
    sleep()
    submit(link)
    submit(link, CHUNK_BYTES)
    assert [1, 3] == woken
    while outbox.journal.end[1] < WINDOW + 2 * CHUNK_BYTES:
        submit(link, CHUNK_BYTES)
    woken.clear()
    send(link)
    sleep()
    submit(link, CHUNK_BYTES)
    assert [] == woken


def test_a_job_without_a_writer_wakes_once(link: Link) -> None:
    """The first one, so that a writer is looked for; those behind it change nothing."""
    link.protocol.unreachable()
    assert link.wake_at < 1
    submit(link)
    assert NEVER == link.wake_at


def test_when_the_thread_is_gone_each_job_wakes(link: Link) -> None:
    """Somebody has to see that the job is not left to nobody."""
    woken: list[int] = []
    link.outbox.wake_at = NEVER
    submit(link)
    link.outbox.wake_always(lambda: woken.append(link.outbox.last))
    submit(link)
    submit(link)
    assert [2, 3] == woken


def test_a_thread_that_ends_late_takes_no_wake_away(link: Link, tmp_path: Path) -> None:
    """It comes out of its sleep when somebody else is to be called already: that one is called."""
    database = parse_database(str(tmp_path / "x.db"))
    folder = BusFolder.of(database)
    folder.prepare()
    outbox, late, asleep, may_end = link.outbox, Event(), Event(), Event()

    class Slow(Transport):
        def _timeout(self) -> float | None:
            asleep.set()
            may_end.wait(60)
            return super()._timeout()

    class SlowSender(Sender):
        def _load(self) -> Transport:
            return Slow(
                self._outbox, self._waker, self._folder, self._database, self._spawner, self._requests, self._pace
            )

    with closing(Waker()) as waker:
        outbox.wake = waker.wake
        sender = SlowSender(outbox, waker, folder, database, Spawner(database, folder, enabled=False))
        submit(link)
        sender.start("sender")
        assert asleep.wait(60)
        assert not sender.stop(0)
        outbox.wake_always(late.set)
        may_end.set()
        assert sender.stop(60)
        submit(link)
        assert late.is_set()
    folder.close()
