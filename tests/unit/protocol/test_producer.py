"""The producer's half of the protocol, one rule at a time. (All of them together: tests/simulation.)"""

from __future__ import annotations

import pytest

from telemetry_bus.encoding.records import CHUNK_BYTES, Position
from telemetry_bus.jobs import Failure
from telemetry_bus.protocol.messages import Ack, Bye, Confirm, Control, Hello, Jobs, Refusal, Resend, Welcome
from telemetry_bus.protocol.producer import (
    ASK_AFTER_S,
    ASK_LIMIT_S,
    ASK_PATIENTLY_AFTER_S,
    INTRODUCE_AFTER_S,
    KNOCK_LIMIT_S,
    ProducerProtocol,
    Slice,
)

STREAM, OTHER = b"s" * 16, b"o" * 16
EPOCH, LATER = b"epoch one", b"epoch two"
DATABASE = "sqlite:////x.db"
MESSAGE = CHUNK_BYTES
WINDOW = 10 * MESSAGE
#: The end of an endless journal, and of one of which all is sent.
ENDLESS: Position = (1 << 40, 1 << 60)


def producer() -> ProducerProtocol:
    return ProducerProtocol(STREAM, DATABASE, 7)


def welcome(received: int = 0, committed: int | None = None, epoch: bytes = EPOCH) -> Welcome:
    return Welcome(STREAM, epoch, 99, received, received if committed is None else committed, WINDOW)


def ack(received: int, committed: int, *failures: Failure, epoch: bytes = EPOCH) -> Ack:
    return Ack(STREAM, epoch, 99, received, committed, WINDOW, [*failures])


def sending(*messages: int, now: float = 0.0) -> ProducerProtocol:
    """A welcomed producer that has sent full messages of so many jobs."""
    protocol = producer()
    protocol.receive(welcome(), now)
    for jobs in messages:
        send(protocol, jobs, now)
    return protocol


def send(protocol: ProducerProtocol, jobs: int, now: float = 0.0) -> None:
    start, end, known, rewind, _ = next_slice(protocol)
    count, size = (end[0] - start[0], end[1] - start[1]) if end else (jobs, MESSAGE)
    definitions = bytes(30 - known[1])
    message = Jobs(STREAM, rewind, start[0] + 1, count, known[0] + 1, 3 - known[0], definitions, bytes(size))
    protocol.sent(message, now)


def look(protocol: ProducerProtocol, waiting: bool = True) -> None:
    """At a journal in which a job waits, or none."""
    protocol.look(ENDLESS if waiting else protocol.position, 0.0)


def may_send(protocol: ProducerProtocol) -> bool:
    look(protocol)
    return protocol.next_slice() is not None


def next_slice(protocol: ProducerProtocol) -> Slice:
    look(protocol)
    wanted = protocol.next_slice()
    assert wanted is not None
    return wanted


def said(protocol: ProducerProtocol, now: float, waiting: bool = True) -> list[Control]:
    look(protocol, waiting)
    return [*protocol.due(now)]


def answer(protocol: ProducerProtocol, message: Control, now: float) -> None:
    """To the question that is due."""
    assert [Hello] == [type(word) for word in said(protocol, now, waiting=False)]
    protocol.receive(message, now)


def deadline(protocol: ProducerProtocol, waiting: bool) -> float | None:
    look(protocol, waiting)
    return protocol.deadline()


def waits(protocol: ProducerProtocol) -> bool:
    look(protocol, waiting=False)
    return protocol.waits


def test_knocks_until_it_is_welcomed() -> None:
    """It says who it is, and sends nothing before somebody has answered; it knocks often, but not at every turn."""
    protocol = producer()
    assert not may_send(protocol)
    assert [Hello(STREAM, DATABASE, 0, 7)] == said(protocol, 0.0)
    assert [] == said(protocol, 0.0)
    now = 0.0
    for _ in range(20):
        at = deadline(protocol, waiting=True)
        assert at is not None
        assert now < at <= now + KNOCK_LIMIT_S
        now = at
        assert [Hello(STREAM, DATABASE, 0, 7)] == said(protocol, now)
    protocol.receive(welcome(), now)
    assert may_send(protocol)
    assert [] == said(protocol, now)


def test_silent_when_it_has_nothing_to_say() -> None:
    """Without jobs nobody is asked and no time is waited for."""
    protocol = producer()
    assert [] == said(protocol, 100.0, waiting=False)
    assert deadline(protocol, waiting=False) is None
    protocol = sending(1)
    protocol.receive(ack(1, 1), 0.0)
    assert [] == said(protocol, 100.0, waiting=False)
    assert deadline(protocol, waiting=False) is None
    assert Bye(STREAM) == protocol.bye()


def test_acknowledgements_free_whole_messages() -> None:
    """A message may leave the journal when all of it is decided; the count of decided jobs is exact."""
    protocol = sending(3, 4, 5)
    protocol.receive(ack(12, 5), 0.0)
    assert (5, (3, MESSAGE)) == (protocol.committed, protocol.acknowledged)
    protocol.receive(ack(12, 7), 0.0)
    assert (7, (7, 2 * MESSAGE)) == (protocol.committed, protocol.acknowledged)
    assert waits(protocol)
    protocol.receive(ack(12, 12), 0.0)
    assert (12, (12, 3 * MESSAGE)) == (protocol.committed, protocol.acknowledged)
    assert not waits(protocol)


def test_old_acknowledgements_take_nothing_back() -> None:
    """Acknowledgements that overtook each other: the furthest counts."""
    protocol = sending(3, 4)
    protocol.receive(ack(7, 7), 0.0)
    protocol.receive(ack(7, 3), 0.0)
    assert (7, (7, 2 * MESSAGE)) == (protocol.committed, protocol.acknowledged)


def test_window() -> None:
    """At most so many bytes are under way as the writer grants; one message always is."""
    protocol = sending(*[1] * 10)
    assert not may_send(protocol)
    protocol.receive(ack(10, 1), 0.0)
    assert may_send(protocol)
    lone = producer()
    lone.receive(Welcome(STREAM, EPOCH, 99, 0, 0, 1), 0.0)
    assert may_send(lone)


def test_a_stream_that_was_silent_for_long_introduces_itself() -> None:
    """The writer may have forgotten it: its next message brings all definitions, and goes along with a Hello."""
    protocol = sending(5)
    protocol.receive(ack(5, 5), 0.0)
    tail = (6, MESSAGE + 10)
    protocol.look(tail, INTRODUCE_AFTER_S)
    assert ((3, 30), []) == (protocol.next_slice().definitions, [*protocol.due(0.0)])  # type: ignore[union-attr]
    protocol.look(tail, INTRODUCE_AFTER_S + 1)
    wanted = protocol.next_slice()
    assert wanted is not None
    assert (0, 0) == wanted.definitions
    assert [Hello(STREAM, DATABASE, 5, 7)] == [*protocol.due(0.0)]
    assert 0 == protocol.resent


def test_resend_goes_back() -> None:
    """It goes on from the first job that was lost, with all definitions, in the same messages as before."""
    protocol = sending(3, 4, 5)
    protocol.receive(Resend(STREAM, EPOCH, 4, protocol.rewind), 0.0)
    rewind = protocol.rewind
    assert Slice((3, MESSAGE), (7, 2 * MESSAGE), (0, 0), rewind) == next_slice(protocol)
    send(protocol, 4)
    assert Slice((7, 2 * MESSAGE), (12, 3 * MESSAGE), (3, 30), rewind) == next_slice(protocol)
    send(protocol, 5)
    assert Slice((12, 3 * MESSAGE), None, (3, 30), rewind) == next_slice(protocol)
    assert 9 == protocol.resent


def test_resend_from_within_a_message() -> None:
    """What begins within a message is sent again from that message's beginning."""
    protocol = sending(3, 4, 5)
    protocol.receive(Resend(STREAM, EPOCH, 6, protocol.rewind), 0.0)
    assert (3, MESSAGE) == protocol.position


def test_resend_counts_once() -> None:
    """One that answers messages from before the last rewind, or comes from another life of the writer, is old."""
    protocol = sending(3, 4)
    old = protocol.rewind
    protocol.receive(Resend(STREAM, EPOCH, 1, old), 0.0)
    assert old + 1 == protocol.rewind
    send(protocol, 3)
    for stale in (Resend(STREAM, EPOCH, 1, old), Resend(STREAM, LATER, 1, old + 1), Resend(OTHER, EPOCH, 1, old + 1)):
        protocol.receive(stale, 0.0)
        assert ((3, MESSAGE), old + 1) == (protocol.position, protocol.rewind)


def test_a_new_writer_gets_what_it_has_not() -> None:
    """A welcome of another epoch says what the ledger has; all behind it is sent again at once, definitions too."""
    protocol = sending(3, 4, 5)
    protocol.receive(welcome(received=3, epoch=LATER), 0.0)
    assert ((3, MESSAGE), (0, 0), 3) == (protocol.position, next_slice(protocol).definitions, protocol.committed)
    assert LATER == protocol.epoch
    assert may_send(protocol)


def test_acknowledgements_of_another_epoch() -> None:
    """An acknowledgement counts only from the writer that has welcomed it."""
    protocol = sending(3)
    protocol.receive(ack(3, 3, epoch=LATER), 0.0)
    assert 0 == protocol.committed


def test_overdue_acknowledgement_is_asked_for() -> None:
    """It asks, and does not resend what the writer has received; less and less often, up to a limit."""
    protocol = sending(3)
    assert ASK_AFTER_S == deadline(protocol, waiting=False)
    now, intervals = 0.0, []
    for _ in range(12):
        at = deadline(protocol, waiting=False)
        assert at is not None
        intervals.append(at - now)
        now = at
        assert [Hello(STREAM, DATABASE, 0, 7)] == said(protocol, now, waiting=False)
        protocol.receive(welcome(received=3, committed=0), now)
    assert ASK_AFTER_S == intervals[0]
    assert sorted(intervals) == intervals
    assert ASK_LIMIT_S == intervals[-1]
    assert ((3, MESSAGE), 0) == (protocol.position, protocol.resent)


def test_two_answers_without_progress_mean_loss() -> None:
    """Once the messages may still be on their way; the same answer again says that they are lost."""
    protocol = sending(3, 4)
    answer(protocol, welcome(received=3), 1.0)
    assert (7, 2 * MESSAGE) == protocol.position
    answer(protocol, welcome(received=3), 2.0)
    assert (3, MESSAGE) == protocol.position


def test_progress_between_two_answers() -> None:
    """Answers that differ show that messages arrive."""
    protocol = sending(3, 4, 5)
    for now, received in ((1.0, 3), (2.0, 7)):
        answer(protocol, welcome(received, committed=3), now)
        assert (12, 3 * MESSAGE) == protocol.position
    answer(protocol, welcome(7, committed=3), 3.0)
    assert (7, 2 * MESSAGE) == protocol.position


def test_what_was_not_asked_for_means_no_loss() -> None:
    """A writer that calls may not have read yet what is on its way."""
    protocol = sending(3, 4)
    for now in (1.0, 1.1, 1.2):
        protocol.receive(welcome(received=3), now)
    assert (7, 2 * MESSAGE) == protocol.position


def test_writer_that_does_not_answer() -> None:
    """After some questions without an answer the writer is taken for gone, and nothing is sent until one answers."""
    protocol = sending(3)
    asked = 0
    while protocol.welcomed:
        asked += len(said(protocol, deadline(protocol, waiting=False) or 0.0, waiting=False))
        assert asked < 10
    assert 3 == asked
    assert not may_send(protocol)
    protocol.receive(welcome(received=3), 100.0)
    assert may_send(protocol)


def test_wrong_database() -> None:
    """A writer of another database refuses it: nothing is sent, it asks on, and a welcome mends it."""
    protocol = producer()
    refusal = Refusal(STREAM, "this writer owns another", fatal=True)
    protocol.receive(refusal, 0.0)
    assert refusal == protocol.refused
    assert not may_send(protocol)
    assert [Hello] == [type(message) for message in said(protocol, 1.0)]
    protocol.receive(welcome(), 1.0)
    assert protocol.refused is None
    assert may_send(protocol)


def test_failures_are_told_once_and_confirmed() -> None:
    """A failure is news once, however often it is repeated; each repetition is confirmed, for that may be lost."""
    protocol = sending(5)
    first, second = (
        Failure(STREAM, 2, "IntegrityError", "no", "INSERT"),
        Failure(STREAM, 4, "IntegrityError", "no", None),
    )
    assert [first] == protocol.receive(ack(5, 2, first), 0.0)
    assert 0.0 == deadline(protocol, waiting=False), "the confirmation need not wait for the next question"
    assert [Confirm(STREAM, 2)] == said(protocol, 0.0)
    assert 0.0 != deadline(protocol, waiting=False)
    assert [second] == protocol.receive(ack(5, 5, first, second), 0.0)
    assert [] == protocol.receive(ack(5, 2, first), 0.0)
    assert [Confirm(STREAM, 4), Confirm(STREAM, 4)] == said(protocol, 0.0)


def test_messages_to_others() -> None:
    """What is meant for another stream is none of its business."""
    protocol = sending(3)
    protocol.receive(Ack(OTHER, EPOCH, 99, 3, 3, WINDOW), 0.0)
    protocol.receive(Refusal(OTHER, "no", fatal=True), 0.0)
    assert (0, None) == (protocol.committed, protocol.refused)


# Jobs that no process waits for are gathered.

LINGER_S = 10.0


def lingering() -> ProducerProtocol:
    protocol = ProducerProtocol(STREAM, DATABASE, 7, linger_s=LINGER_S, full_bytes=1000)
    protocol.receive(welcome(), 0.0)
    return protocol


def sends(protocol: ProducerProtocol, tail: Position, now: float, wanted: int = 0) -> list[tuple[int, bool]]:
    """Where the messages end that go out now, of jobs of a hundred bytes, and whether they are patient."""
    protocol.look(tail, now, wanted)
    found = []
    while (part := protocol.next_slice()) is not None:
        found.append((tail[0], part.patient))
        size = tail[1] - part.start[1]
        message = Jobs(STREAM, 0, part.start[0] + 1, size // 100, 1, 0, b"", bytes(size), part.patient)
        protocol.sent(message, now)
    return found


def test_jobs_are_gathered_until_the_interval_is_over() -> None:
    """From the first one on, until the next multiple of the interval: all producers of a machine send together."""
    protocol = lingering()
    assert [] == sends(protocol, (1, 100), 23.0)
    assert 30.0 == protocol.deadline()
    assert [] == sends(protocol, (2, 200), 29.9)
    assert [(3, True)] == sends(protocol, (3, 300), 30.5)


def test_none_wakes_while_jobs_keep_coming() -> None:
    """When no job has come in an interval, the next one does."""
    protocol = lingering()
    protocol.look((0, 0), 20.0)
    assert 0 == protocol.wake_behind()
    assert protocol.deadline() is None
    sends(protocol, (1, 100), 23.0)
    assert 999 == protocol.wake_behind()
    sends(protocol, (2, 200), 30.0)
    assert 1199 == protocol.wake_behind()
    protocol.receive(ack(2, 2), 40.0)
    assert [] == sends(protocol, (2, 200), 40.0)
    assert (200, None) == (protocol.wake_behind(), protocol.deadline())


def test_a_single_job_in_an_interval_is_followed_by_none() -> None:
    """The sender is not awake in the next one to find that there is nothing: the next job wakes it."""
    protocol = lingering()
    sends(protocol, (1, 100), 29.0)
    assert [(1, True)] == sends(protocol, (1, 100), 30.0)
    assert 100 == protocol.wake_behind()
    assert ASK_PATIENTLY_AFTER_S + 30.0 == protocol.deadline()
    assert [] == sends(protocol, (2, 200), 31.0)
    assert [(2, True)] == sends(protocol, (2, 200), 40.0)


def test_messages_do_not_wait_for_acknowledgements() -> None:
    """The writer acknowledges about once a second what no process waits for; it is not asked before."""
    protocol = lingering()
    sends(protocol, (2, 200), 29.0)
    assert [(2, True)] == sends(protocol, (2, 200), 30.0)
    assert [(4, True)] == sends(protocol, (4, 400), 40.0)
    assert 1399 == protocol.wake_behind()
    protocol.receive(ack(2, 2), 41.0)
    assert [] == [*protocol.due(41.0 + ASK_AFTER_S)]
    assert [Hello] == [type(word) for word in protocol.due(41.0 + ASK_PATIENTLY_AFTER_S)]


def test_much_that_is_not_acknowledged_is_not_patient() -> None:
    """Before the window is full, or the journal, an acknowledgement is due."""
    protocol = lingering()
    sends(protocol, (1, 100), 23.0)
    assert [(6, True)] == sends(protocol, (6, 600), 30.0)
    assert [(12, False)] == sends(protocol, (12, 1200), 40.0)


def test_under_load_messages_wait_for_acknowledgements() -> None:
    """One that was not patient is acknowledged at once: until then only full messages are sent. What should have gone
    meanwhile does not wait for another interval."""
    protocol = lingering()
    assert [] == sends(protocol, (9, 900), 23.0)
    assert [(10, False)] == sends(protocol, (10, 1000), 23.0)
    assert [] == sends(protocol, (15, 1500), 30.0)
    protocol.receive(ack(10, 10), 31.0)
    assert [(16, True)] == sends(protocol, (16, 1600), 31.0)
    assert [] == sends(protocol, (17, 1700), 31.0)
    assert [(18, True)] == sends(protocol, (18, 1800), 40.0)


def test_a_wait_for_what_is_in_flight_is_said() -> None:
    """The writer does not know that a process waits for what was sent before; it is asked at once, and once."""
    protocol = lingering()
    sends(protocol, (1, 100), 23.0)
    sends(protocol, (1, 100), 30.0)
    assert [] == sends(protocol, (1, 100), 30.1, wanted=1)
    assert [Hello(STREAM, DATABASE, 0, 7)] == [*protocol.due(30.1)]
    sends(protocol, (1, 100), 30.1, wanted=1)
    assert [] == [*protocol.due(30.1)]


def test_a_writer_that_calls_gets_what_is_gathered() -> None:
    """An operator looks at the bus: a welcome that was not asked for is a call. What comes later is gathered again."""
    protocol = lingering()
    assert [] == sends(protocol, (2, 200), 23.0)
    protocol.receive(welcome(), 23.0)
    assert [(3, False)] == sends(protocol, (3, 300), 23.1)
    assert [] == sends(protocol, (4, 400), 23.2)


def test_a_message_that_cannot_be_sent_raises_a_doubt() -> None:
    """Whether the writer lives is seen as soon as where jobs are not gathered."""
    protocol = lingering()
    sends(protocol, (1, 100), 23.0)
    sends(protocol, (1, 100), 30.0)
    protocol.look((2, 200), 40.0)
    protocol.hindered(30.1)
    assert [Hello(STREAM, DATABASE, 0, 7)] == [*protocol.due(30.1 + ASK_AFTER_S)]


def test_what_a_process_waits_for_is_sent_at_once() -> None:
    """And what is before it; the next jobs are gathered again."""
    protocol = lingering()
    assert [(2, False)] == sends(protocol, (2, 200), 23.0, wanted=2)
    protocol.receive(ack(2, 2), 23.1)
    assert [] == sends(protocol, (3, 300), 23.2, wanted=2)
    assert [(3, True)] == sends(protocol, (3, 300), 30.0, wanted=2)


def test_waited_for_behind_what_is_in_flight() -> None:
    """It does not wait for the acknowledgement of what was sent before."""
    protocol = lingering()
    sends(protocol, (1, 100), 23.0)
    assert [(1, True)] == sends(protocol, (1, 100), 30.0)
    assert [(2, False)] == sends(protocol, (2, 200), 31.0, wanted=2)


def test_a_full_message_is_sent_at_once() -> None:
    """However much of the interval is left."""
    protocol = lingering()
    assert [] == sends(protocol, (9, 900), 23.0)
    assert [(10, False)] == sends(protocol, (10, 1000), 23.0)


def test_what_is_gathered_is_not_asked_after() -> None:
    """The writer owes no answer for what it was not sent; one that has not answered at all is knocked for at once."""
    protocol = lingering()
    assert [] == sends(protocol, (1, 100), 23.0)
    assert [] == [*protocol.due(23.0)]
    stranger = ProducerProtocol(STREAM, DATABASE, 7, linger_s=LINGER_S)
    stranger.look((1, 100), 23.0)
    assert [Hello(STREAM, DATABASE, 0, 7)] == [*stranger.due(23.0)]


# A writer that asks for what has left the journal is told so at once, or the two would go round in circles.


#: Where a journal of eleven jobs of a hundred bytes ends.
SMALL_TAIL: Position = (11, 1100)


def small(first: int, count: int) -> Jobs:
    return Jobs(STREAM, 0, first, count, 1, 0, b"", bytes(100 * count))


def said_of_small(protocol: ProducerProtocol, now: float) -> list[Control]:
    protocol.look(SMALL_TAIL, now)
    return [*protocol.due(now)]


@pytest.fixture
def acknowledged() -> ProducerProtocol:
    """Jobs 1 to 9 are acknowledged, 10 is in flight; it was all said and sent at 0.0."""
    protocol = ProducerProtocol(STREAM, DATABASE, 7)
    protocol.receive(Welcome(STREAM, EPOCH, 99, 0, 0, WINDOW), 0.0)
    for first, count in ((1, 9), (10, 1)):
        protocol.sent(small(first, count), 0.0)
    protocol.receive(Ack(STREAM, EPOCH, 99, 10, 9, WINDOW), 0.0)
    assert [] == said_of_small(protocol, 0.0)
    return protocol


def test_resend_from_before_the_watermark(acknowledged: ProducerProtocol) -> None:
    """The database has lost jobs of it. Whatever it sends the writer misses them, and it must hear the watermark,
    although there is always something that looks like progress."""
    acknowledged.receive(Resend(STREAM, EPOCH, 1, acknowledged.rewind), 0.1)
    acknowledged.sent(small(10, 1), 0.1)
    assert [Hello(STREAM, DATABASE, 9, 7)] == said_of_small(acknowledged, 0.1)


def test_writer_that_welcomed_it_without_the_watermark(acknowledged: ProducerProtocol) -> None:
    """The last acknowledgement of the writer before it came after the Hello: another one is due."""
    acknowledged.receive(Welcome(STREAM, LATER, 99, 0, 0, WINDOW), 0.1)
    acknowledged.sent(small(10, 1), 0.1)
    assert [Hello(STREAM, DATABASE, 9, 7)] == said_of_small(acknowledged, 0.1)


def test_nothing_to_tell_when_the_journal_has_it(acknowledged: ProducerProtocol) -> None:
    """An ordinary loss is answered with the jobs and nothing else."""
    acknowledged.receive(Resend(STREAM, EPOCH, 10, acknowledged.rewind), 0.1)
    assert (9, 900) == acknowledged.position
    assert [] == said_of_small(acknowledged, 0.1)
