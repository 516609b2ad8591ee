"""A writer that asks for what has left the journal is told so at once, or the two would go round in circles."""

from __future__ import annotations

import pytest

from telemetry_bus.protocol.messages import Ack, Hello, Resend, Welcome
from telemetry_bus.protocol.producer import ProducerProtocol

STREAM, DATABASE = b"s" * 16, "sqlite:////x.db"
EPOCH, LATER = b"epoch one", b"epoch two"
WINDOW = 1000


@pytest.fixture
def protocol() -> ProducerProtocol:
    """Jobs 1 to 9 are acknowledged, 10 is under way; it was all said and sent at 0.0."""
    protocol = ProducerProtocol(STREAM, DATABASE, 7)
    protocol.receive(Welcome(STREAM, EPOCH, 99, 0, 0, WINDOW), 0.0)
    for end in ((9, 900), (10, 1000)):
        protocol.sent(end, (0, 0), 0.0)
    protocol.receive(Ack(STREAM, EPOCH, 99, 10, 9, WINDOW), 0.0)
    assert [] == [*protocol.due(0.0, waiting=True)]
    return protocol


def test_resend_from_before_the_watermark(protocol: ProducerProtocol) -> None:
    """The database has lost jobs of it. Whatever it sends the writer misses them, and it must hear the watermark,
    although there is always something that looks like progress."""
    protocol.receive(Resend(STREAM, EPOCH, 1, protocol.rewind), 0.1)
    protocol.sent((10, 1000), (0, 0), 0.1)
    assert [Hello(STREAM, DATABASE, 9, 7)] == [*protocol.due(0.1, waiting=True)]


def test_writer_that_welcomed_it_without_the_watermark(protocol: ProducerProtocol) -> None:
    """The last acknowledgement of the writer before it came after the Hello: another one is due."""
    protocol.receive(Welcome(STREAM, LATER, 99, 0, 0, WINDOW), 0.1)
    protocol.sent((10, 1000), (0, 0), 0.1)
    assert [Hello(STREAM, DATABASE, 9, 7)] == [*protocol.due(0.1, waiting=True)]


def test_nothing_to_tell_when_the_journal_has_it(protocol: ProducerProtocol) -> None:
    """An ordinary loss is answered with the jobs and nothing else."""
    protocol.receive(Resend(STREAM, EPOCH, 10, protocol.rewind), 0.1)
    assert (9, 900) == protocol.position
    assert [] == [*protocol.due(0.1, waiting=True)]
