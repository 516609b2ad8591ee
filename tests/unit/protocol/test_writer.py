"""The writer's half of the protocol, one rule at a time. (All of them together: tests/simulation.)"""

from __future__ import annotations

from dataclasses import replace

import pytest

from telemetry_bus.config import Database
from telemetry_bus.errors import DatabaseFault, ProtocolError
from telemetry_bus.jobs import Failure
from telemetry_bus.protocol.messages import (
    MAX_CONTROL_BYTES,
    Ack,
    Bye,
    Confirm,
    Control,
    Hello,
    Refusal,
    Resend,
    Welcome,
    encode_control,
)
from telemetry_bus.protocol.writer import (
    FORGET_AFTER_S,
    MAX_FAILURES,
    MAX_WINDOW_BYTES,
    MIN_WINDOW_BYTES,
    TOTAL_WINDOW_BYTES,
    WriterProtocol,
)

from ..streams import MemoryWriter, Sender

DATABASE = "sqlite:////x.db"
EPOCH = b"an epoch"


class Conversation:
    """A protocol over a ledger in memory. The route of a stream is its name."""

    def __init__(self) -> None:
        self.ledger = MemoryWriter()
        self.protocol: WriterProtocol[bytes] = WriterProtocol(EPOCH, 99, Database(DATABASE, "sqlite"), self.ledger)

    def hello(self, sender: Sender, trimmed: int = 0, database: str = DATABASE) -> list[Control]:
        self.protocol.control(sender.stream, Hello(sender.stream, database, trimmed, 7), 0.0)
        return self.replies()

    def replies(self, *, lazy: bool = False) -> list[Control]:
        return [message for _, message in self.protocol.replies(lazy=lazy)]

    def commit(self, *, lazy: bool = False) -> list[Control]:
        self.protocol.decided(self.ledger.apply(self.protocol.pending), self.protocol.pending)
        return self.replies(lazy=lazy)

    def pending(self) -> list[int]:
        return [n for run in self.protocol.pending for n in range(run.first, run.last + 1)]


@pytest.fixture
def writer() -> Conversation:
    return Conversation()


@pytest.fixture
def sender() -> Sender:
    return Sender()


def state(reply: Control) -> tuple[int, int]:
    assert isinstance(reply, Ack)
    return reply.received, reply.committed


def test_nothing_is_acknowledged_before_it_is_committed(writer: Conversation, sender: Sender) -> None:
    """Nor is anything said of it: what is received is told to a producer that asks."""
    assert [(0, 0)] == [state(reply) for reply in writer.hello(sender)]
    writer.protocol.jobs(sender.message(1, 3), 0.0)
    assert [] == writer.replies()
    assert [(3, 0)] == [state(reply) for reply in writer.hello(sender)]
    assert [(3, 3)] == [state(reply) for reply in writer.commit()]
    assert [] == writer.replies()


def test_duplicates_are_dropped(writer: Conversation, sender: Sender) -> None:
    """Pending or committed, a job is taken once; frames may overlap, skipping is per job; each is acknowledged."""
    writer.hello(sender)
    for first, last in ((1, 3), (1, 3), (2, 5), (1, 2)):
        writer.protocol.jobs(sender.message(first, last), 0.0)
    assert [1, 2, 3, 4, 5] == writer.pending()
    assert [(5, 5)] == [state(reply) for reply in writer.commit()]
    writer.protocol.jobs(sender.message(1, 5), 0.0)
    assert [] == writer.pending()
    assert [(5, 5)] == [state(reply) for reply in writer.replies()]
    assert 3 + 2 + 2 + 5 == writer.protocol.duplicates


def test_patient_jobs_are_acknowledged_lazily(writer: Conversation, sender: Sender) -> None:
    """Not at each commit, and then together."""
    writer.hello(sender)
    for number in (1, 2):
        writer.protocol.jobs(replace(sender.message(number, number), patient=True), 0.0)
        assert [] == writer.commit(lazy=True)
    assert [(2, 2)] == [state(reply) for reply in writer.replies()]
    assert [] == writer.replies()


def test_what_is_waited_for_is_not_acknowledged_lazily(writer: Conversation, sender: Sender) -> None:
    """A process waits for a job, or its producer asks while jobs are pending, or sends again what was committed."""
    writer.hello(sender)
    first, second, third = (replace(sender.message(number, number), patient=True) for number in (1, 2, 3))
    writer.protocol.jobs(replace(first, patient=False), 0.0)
    assert [(1, 1)] == [state(reply) for reply in writer.commit(lazy=True)]
    writer.protocol.jobs(second, 0.0)
    writer.hello(sender)
    assert [(2, 2)] == [state(reply) for reply in writer.commit(lazy=True)]
    writer.protocol.jobs(second, 0.0)
    assert [(2, 2)] == [state(reply) for reply in writer.replies(lazy=True)]
    writer.protocol.jobs(third, 0.0)
    assert [] == writer.commit(lazy=True)


def test_failures_are_not_told_lazily(writer: Conversation, sender: Sender) -> None:
    """A program learns of a job that failed as soon as it has."""
    writer.hello(sender)
    writer.ledger.poison.add(1)
    writer.protocol.jobs(replace(sender.message(1, 1), patient=True), 0.0)
    (reply,) = writer.commit(lazy=True)
    assert isinstance(reply, Ack)
    assert [1] == [failure.sequence for failure in reply.failures]


def test_a_call_reaches_all_producers(writer: Conversation, sender: Sender) -> None:
    """Each is welcomed once without having asked; one that has never spoken cannot be told."""
    other = Sender("other")
    writer.hello(sender)
    writer.protocol.jobs(other.message(1, 1), 0.0)
    writer.protocol.call()
    assert [(sender.stream, Welcome)] == [(to, type(told)) for to, told in writer.protocol.replies(lazy=True)]
    assert [] == writer.replies()


def test_the_ledger_decides(writer: Conversation, sender: Sender) -> None:
    """A writer that has just started takes up where the ledger stands."""
    writer.ledger.ledger[sender.stream] = 4
    writer.protocol.jobs(sender.message(3, 6), 0.0)
    assert [5, 6] == writer.pending()


def test_a_gap_is_not_applied_and_answered_once(writer: Conversation, sender: Sender) -> None:
    """All messages behind a gap make one question; after a rewind there may be another."""
    writer.hello(sender)
    writer.protocol.jobs(sender.message(1, 2), 0.0)
    for first in (4, 5, 6):
        writer.protocol.jobs(sender.message(first, first), 0.0)
    assert [1, 2] == writer.pending()
    assert [Resend(sender.stream, EPOCH, 3, 0)] == [r for r in writer.replies() if isinstance(r, Resend)]
    writer.protocol.jobs(sender.message(7, 7), 0.0)
    assert [] == [r for r in writer.replies() if isinstance(r, Resend)]
    writer.protocol.jobs(sender.message(5, 5, rewind=1), 0.0)
    assert [Resend(sender.stream, EPOCH, 3, 1)] == [r for r in writer.replies() if isinstance(r, Resend)]
    assert 2 == writer.protocol.resends


def test_missing_definitions_are_a_gap(writer: Conversation, sender: Sender) -> None:
    """Jobs whose definitions were lost are asked for again, and taken with them: never a poison job."""
    writer.hello(sender)
    sender.message(1, 1)
    late = sender.message(1, 2, after=2)
    assert (3, 0) == (late.definitions_first, late.definitions_count)
    writer.protocol.jobs(late, 0.0)
    assert [Resend(sender.stream, EPOCH, 1, 0)] == writer.replies()
    writer.protocol.jobs(replace(late, definitions_first=1), 0.0)  # says that there are none, and uses one
    assert [] == writer.pending()
    writer.protocol.jobs(sender.message(1, 2, rewind=1), 0.0)
    assert [1, 2] == writer.pending()


def test_definitions_of_duplicates_count(writer: Conversation, sender: Sender) -> None:
    """A message whose jobs are known may bring definitions that the next one needs."""
    writer.ledger.ledger[sender.stream] = 2
    writer.protocol.jobs(sender.message(1, 2), 0.0)
    writer.protocol.jobs(sender.message(3, 3, after=2), 0.0)
    assert [3] == writer.pending()


@pytest.mark.parametrize("records", [b"\xc1" * 30, b"\x01\xc0\xc0" * 10])
def test_malformed_records_change_nothing(writer: Conversation, sender: Sender, records: bytes) -> None:
    """A message that cannot be read is an error, and counts as lost."""
    writer.hello(sender)
    with pytest.raises(ProtocolError):
        writer.protocol.jobs(replace(sender.message(1, 2), records=records), 0.0)
    assert ([], 0) == (writer.pending(), writer.protocol.received(sender.stream))
    writer.protocol.jobs(sender.message(1, 2), 0.0)
    assert [1, 2] == writer.pending()


def test_ledger_that_cannot_be_read(writer: Conversation, sender: Sender) -> None:
    """Without the ledger nothing is taken, and nothing is answered by guess."""
    writer.ledger.fault = DatabaseFault("locked")
    with pytest.raises(DatabaseFault):
        writer.protocol.jobs(sender.message(1, 2), 0.0)
    with pytest.raises(DatabaseFault):
        writer.hello(sender)
    assert ([], []) == (writer.pending(), writer.replies())
    writer.ledger.fault = None
    writer.protocol.jobs(sender.message(1, 2), 0.0)
    assert [1, 2] == writer.pending()


def test_streams_do_not_mix(writer: Conversation) -> None:
    """Each stream has a sequence, definitions and acknowledgements of its own."""
    one, two = Sender("one"), Sender("two")
    for sender in (one, two):
        writer.hello(sender)
        sender.message(1, 1, sql=f"INSERT INTO {sender.stream.decode()} VALUES (?)")
    writer.protocol.jobs(one.message(1, 2), 0.0)
    writer.protocol.jobs(two.message(1, 1), 0.0)
    writer.protocol.jobs(one.message(3, 3), 0.0)
    replies = writer.commit()
    assert {one.stream: (3, 3), two.stream: (1, 1)} == {
        reply.stream: state(reply) for reply in replies if isinstance(reply, Ack)
    }


def test_wrong_database(writer: Conversation, sender: Sender) -> None:
    """A producer of another database is refused, and gets no acknowledgement."""
    (refusal,) = writer.hello(sender, database="sqlite:////other.db")
    assert isinstance(refusal, Refusal)
    assert refusal.fatal
    assert "/other.db" in refusal.text
    writer.protocol.jobs(sender.message(1, 1), 0.0)
    assert [] == writer.commit()


def test_database_that_went_back(writer: Conversation, sender: Sender) -> None:
    """A ledger behind the watermark: those jobs are gone. It is said once, counted, and work goes on behind it."""
    writer.ledger.ledger[sender.stream] = 3
    refusal, answer = writer.hello(sender, trimmed=10)
    assert isinstance(refusal, Refusal)
    assert not refusal.fatal
    assert "7 jobs" in refusal.text
    assert (10, 10) == state(answer)
    assert (7, 10) == (writer.protocol.jobs_gone, writer.ledger.ledger[sender.stream])
    writer.protocol.jobs(sender.message(11, 12), 0.0)
    assert [11, 12] == writer.pending()
    assert [(12, 10)] == [state(reply) for reply in writer.hello(sender, trimmed=10) if isinstance(reply, Welcome)]
    assert 7 == writer.protocol.jobs_gone


def test_watermark_behind_the_ledger(writer: Conversation, sender: Sender) -> None:
    """The usual case: the ledger is ahead of what the producer knows, and stays where it is."""
    writer.ledger.ledger[sender.stream] = 10
    assert [(10, 10)] == [state(reply) for reply in writer.hello(sender, trimmed=3)]
    assert (0, 10) == (writer.protocol.jobs_gone, writer.ledger.ledger[sender.stream])


def fail(writer: Conversation, sender: Sender, *numbers: int) -> list[Control]:
    """Job numbers up to the last of these are committed, these are dead letters."""
    writer.ledger.poison = set(numbers)
    writer.protocol.jobs(sender.message(writer.protocol.received(sender.stream) + 1, max(numbers)), 0.0)
    return writer.commit()


def reported(replies: list[Control]) -> list[int]:
    return [report.sequence for reply in replies if isinstance(reply, Ack) for report in reply.failures]


def test_failures_are_repeated_until_confirmed(writer: Conversation, sender: Sender) -> None:
    """An acknowledgement may be lost: each carries all failures that the producer has not confirmed."""
    writer.hello(sender)
    (answer,) = fail(writer, sender, 2, 4)
    assert isinstance(answer, Ack)
    assert answer.failures == [
        Failure(sender.stream, number, "IntegrityError", f"no {number}\ntrace", "SQL") for number in (2, 4)
    ]
    assert [2, 4, 6] == reported(fail(writer, sender, 6))
    writer.protocol.control(sender.stream, Confirm(sender.stream, 4), 0.0)
    assert [6] == reported(writer.replies())
    writer.protocol.control(sender.stream, Confirm(sender.stream, 6), 0.0)
    writer.protocol.control(sender.stream, Confirm(sender.stream, 2), 0.0)
    assert [] == reported(writer.replies())


def test_many_failures(writer: Conversation, sender: Sender) -> None:
    """No more are acknowledged than are reported: the others follow when these are confirmed."""
    writer.hello(sender)
    total = 2 * MAX_FAILURES + 3
    replies = fail(writer, sender, *range(1, total + 1))
    told: list[int] = []
    while numbers := reported(replies):
        (answer,) = replies
        assert (total, numbers[-1]) == state(answer)
        told += numbers
        writer.protocol.control(sender.stream, Confirm(sender.stream, numbers[-1]), 0.0)
        replies = writer.replies()
    assert [*range(1, total + 1)] == told


def test_acknowledgement_fits_its_frame(writer: Conversation, sender: Sender) -> None:
    """The longest errors and statements, in the widest characters, are cut: an acknowledgement always arrives."""
    writer.hello(sender)
    wide = "\U0001f600" * 1_000_000
    writer.ledger.letters = [Failure(sender.stream, n, "T", wide, wide) for n in range(1, 100)]
    writer.ledger.ledger[sender.stream] = 99
    writer.protocol.forget(sender.stream)
    (answer,) = writer.hello(sender)
    assert MAX_FAILURES == len(reported([answer]))
    assert MAX_CONTROL_BYTES > len(encode_control(answer))


def test_failures_of_an_earlier_writer(writer: Conversation, sender: Sender) -> None:
    """A new writer reports in its welcome the dead letters above the producer's watermark, not those below."""
    writer.ledger.ledger[sender.stream] = 9
    writer.ledger.letters = [Failure(sender.stream, n, "T", "e", None) for n in (2, 5, 8)]
    assert [5, 8] == reported(writer.hello(sender, trimmed=4))


def test_failures_that_cannot_be_read(writer: Conversation, sender: Sender) -> None:
    """What was not told because of the database is told the next time."""
    writer.hello(sender)
    writer.ledger.poison = {1}
    writer.protocol.jobs(sender.message(1, 1), 0.0)
    writer.protocol.decided(writer.ledger.apply(writer.protocol.pending), writer.protocol.pending)
    writer.ledger.fault = DatabaseFault("locked")
    with pytest.raises(DatabaseFault):
        writer.replies()
    writer.ledger.fault = None
    assert [1] == reported(writer.replies())


def test_bye(writer: Conversation, sender: Sender) -> None:
    """A stream that said goodbye is forgotten; the ledger still knows it when a late message comes."""
    writer.hello(sender)
    writer.protocol.jobs(sender.message(1, 3), 0.0)
    writer.commit()
    writer.protocol.control(sender.stream, Bye(sender.stream), 0.0)
    assert 0 == writer.protocol.received(sender.stream)
    writer.protocol.jobs(sender.message(1, 3), 0.0)
    assert [] == writer.pending()


def test_what_is_pending_is_not_forgotten(writer: Conversation, sender: Sender) -> None:
    """Neither a goodbye nor silence drops a stream of which something is pending; nor one that is being adopted."""
    writer.protocol.jobs(sender.message(1, 3), 0.0)
    writer.protocol.control(sender.stream, Bye(sender.stream), 0.0)
    writer.protocol.expire(2 * FORGET_AFTER_S)
    assert 3 == writer.protocol.received(sender.stream)
    assert not writer.protocol.settled(sender.stream)
    writer.commit()
    writer.protocol.adopting = sender.stream
    writer.protocol.expire(2 * FORGET_AFTER_S)
    assert 3 == writer.protocol.received(sender.stream)
    writer.protocol.adopting = None
    writer.protocol.expire(FORGET_AFTER_S)
    assert 3 == writer.protocol.received(sender.stream)
    writer.protocol.expire(2 * FORGET_AFTER_S)
    assert 0 == writer.protocol.received(sender.stream)
    assert writer.protocol.settled(sender.stream)


def test_window_is_shared(writer: Conversation) -> None:
    """The more streams, the less each may have under way, within bounds: the writer's memory is bounded."""
    windows = []
    for number in range(100):
        (answer,) = writer.hello(Sender(str(number)))
        assert isinstance(answer, Welcome)
        windows.append(answer.window)
    assert MAX_WINDOW_BYTES == windows[0]
    assert MIN_WINDOW_BYTES == windows[-1]
    assert sorted(windows, reverse=True) == windows
    assert all(window * number <= TOTAL_WINDOW_BYTES for number, window in enumerate(windows[:60], 1))


@pytest.mark.parametrize("message", [Resend(b"s" * 16, b"", 1, 1), Ack(b"s" * 16, b"", 1, 1, 1, 1)])
def test_what_a_producer_does_not_say(writer: Conversation, message: Control) -> None:
    """A message of the writer's own is malformed when a producer sends it."""
    with pytest.raises(ProtocolError, match="a producer does not say"):
        writer.protocol.control(b"route", message, 0.0)


def test_confirmation_of_an_unknown_stream(writer: Conversation, sender: Sender) -> None:
    """A late confirmation of somebody who is gone makes no stream."""
    writer.protocol.control(sender.stream, Confirm(sender.stream, 3), 0.0)
    assert [] == writer.replies()


def test_size_of_the_batch(writer: Conversation, sender: Sender) -> None:
    """What is pending is counted in jobs and bytes, and is nothing after the commit."""
    message = sender.message(1, 3)
    writer.protocol.jobs(message, 0.0)
    assert (3, len(message.records)) == (writer.protocol.pending_jobs, writer.protocol.pending_bytes)
    writer.protocol.jobs(sender.message(3, 4), 0.0)
    assert 4 == writer.protocol.pending_jobs
    writer.commit()
    assert (0, 0) == (writer.protocol.pending_jobs, writer.protocol.pending_bytes)


def test_what_is_not_read_is_not_missing(writer: Conversation, sender: Sender) -> None:
    """As long as messages of a stream wait, a Hello is answered with what is committed, which no producer takes for a
    loss. One that is not known yet is welcomed."""

    def ask(unread: bool) -> Control:
        writer.protocol.control(sender.stream, Hello(sender.stream, DATABASE, 0, 7), 0.0, unread=unread)
        (reply,) = writer.replies()
        return reply

    assert Welcome is type(ask(unread=True))
    assert Ack is type(ask(unread=True))
    assert Welcome is type(ask(unread=False))


def test_a_portion_is_of_few_streams(writer: Conversation) -> None:
    """Half of it of the one that came first, the rest of those that have the least; what is left comes next, in
    order."""
    first, many, few = Sender("first"), Sender("many"), Sender("few")
    writer.protocol.jobs(first.message(1, 50), 0.0)
    writer.protocol.jobs(many.message(1, 30), 0.0)
    writer.protocol.jobs(first.message(51, 100, after=2), 0.0)
    writer.protocol.jobs(few.message(1, 3), 0.0)
    order: dict[bytes, list[int]] = {sender.stream: [] for sender in (first, many, few)}
    portions = []
    while writer.protocol.pending:
        runs = writer.protocol.portion(20)
        for run in runs:
            order[run.stream] += range(run.first, run.last + 1)
        portions.append([len(order[sender.stream]) for sender in (first, many, few)])
        writer.protocol.decided(writer.ledger.apply(runs), runs)
    assert [[10, 7, 3], [20, 17, 3], [30, 27, 3], [47, 30, 3], [67, 30, 3], [87, 30, 3], [100, 30, 3]] == portions
    assert [list(range(1, last + 1)) for last in (100, 30, 3)] == list(order.values())
    assert (0, 0) == (writer.protocol.pending_jobs, writer.protocol.pending_bytes)


def test_the_smallest_portion_is_a_job_of_two_streams(writer: Conversation) -> None:
    """Where each job is slow, one with little to say does not wait for all of one with much."""
    many, few = Sender("many"), Sender("few")
    writer.protocol.jobs(many.message(1, 50), 0.0)
    writer.protocol.jobs(few.message(1, 3), 0.0)
    assert [(many.stream, 1), (few.stream, 1)] == [
        (run.stream, len(run.payloads)) for run in writer.protocol.portion(1)
    ]
    assert [(few.stream, 1)] == [(run.stream, len(run.payloads)) for run in writer.protocol.portion(1, {few.stream})]
    assert [] == writer.protocol.portion(1, {b"unknown"})


def test_what_is_left_of_a_batch_is_not_acknowledged(writer: Conversation, sender: Sender) -> None:
    """It stays pending, and comes next."""
    writer.hello(sender)
    writer.protocol.jobs(sender.message(1, 10), 0.0)
    runs = writer.protocol.pending
    rest = [runs[0]._replace(first=5, payloads=runs[0].payloads[4:])]
    writer.protocol.decided([], runs, rest)
    assert [(10, 4)] == [state(reply) for reply in writer.replies()]
    assert [*range(5, 11)] == writer.pending()
    assert 6 == writer.protocol.pending_jobs
    assert not writer.protocol.settled(sender.stream)
