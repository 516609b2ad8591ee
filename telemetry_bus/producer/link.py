"""An outbox joined with the producer's half of the protocol: what goes out next, and what comes back."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from ..config import Database
from ..journal.layout import CHUNK_BYTES, Position
from ..protocol.messages import Control, Jobs
from ..protocol.producer import ProducerProtocol
from .outbox import NEVER, Outbox

logger = logging.getLogger("telemetry_bus")


class Link:
    """For one thread: the sender's, or the writer thread's in thread mode."""

    def __init__(self, outbox: Outbox, database: Database) -> None:
        self.outbox = outbox
        self.protocol = ProducerProtocol(outbox.journal.stream, database.identity, os.getpid())
        self._ends: tuple[Position, Position] | None = None  # of the message and the definitions last looked at

    @property
    def waiting(self) -> bool:
        """Whether the journal holds a job that is not under way."""
        return self.outbox.last > self.protocol.position[0]

    @property
    def ready(self) -> bool:
        """Whether there is a message that may go out now.

        While something is under way only a whole one is (Nagle's algorithm, RFC 896): the acknowledgement is the
        moment to send what has gathered since, and under load messages grow by themselves.
        """
        protocol = self.protocol
        return (
            self.waiting
            and protocol.may_send()
            and (not protocol.under_way or protocol.recut() is not None or self.outbox.journal.end[1] >= self._whole_at)
        )

    @property
    def wake_at(self) -> float:
        """From which place in the journal on a job makes something `ready`, or is the first: see `Outbox.wake_at`."""
        if not self.waiting and not self.protocol.under_way:
            return 0
        return self._whole_at - 1 if self.protocol.may_send() else NEVER

    @property
    def _whole_at(self) -> int:
        """Where in the journal the next message is as large as it gets."""
        return self.protocol.position[1] + CHUNK_BYTES

    def next(self) -> Jobs | None:
        """The next message, None when none is `ready`. Say `sent` when it is under way."""
        protocol = self.protocol
        if not self.ready:
            return None
        found = self.outbox.next_message(
            protocol.position, protocol.recut(), protocol.definitions_sent, protocol.rewind
        )
        if found is None:
            return None
        message, *ends = found
        self._ends = (ends[0], ends[1])
        return message

    def sent(self, now: float) -> None:
        """The message that `next` gave is on its way."""
        assert self._ends is not None
        logger.debug("send jobs %d to %d", self.protocol.position[0] + 1, self._ends[0][0])
        self.protocol.sent(*self._ends, now)

    def due(self, now: float) -> Iterator[Control]:
        """What to say to the writer now."""
        return self.protocol.due(now, self.waiting)

    def receive(self, messages: list[Control], now: float) -> None:
        """Take what the writer said; the outbox learns what is decided."""
        news = [failure for message in messages for failure in self.protocol.receive(message, now)]
        if news or self.protocol.committed > self.outbox.committed:
            self.outbox.decided(self.protocol.acknowledged, self.protocol.committed, news)
