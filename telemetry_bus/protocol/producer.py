"""The producer's half of the protocol: go-back-N with one message of state, driven by its caller.

The one owner of what is sent and what is acknowledged. Its caller says what time it is, how far the journal reaches
(`look`) and what arrived; asks which slice of the journal to send and what to say; and says what was sent. It resends
only when it knows that something is lost: a writer with another epoch, a Resend, or two answers in a row that show no
progress.

Nothing is in a hurry that no process waits for: it is safe in the journal. So jobs are gathered (`linger_s`), and
sent when the interval is over, when a message is full, or when a process waits for one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from ..encoding.records import CHUNK_BYTES, Position
from ..jobs import Failure
from .messages import Ack, Bye, Confirm, Control, Hello, Jobs, Refusal, Resend, Welcome

#: Seconds without progress after which the writer is asked; the interval doubles up to the limit.
ASK_AFTER_S = 0.5
ASK_LIMIT_S = 5.0
#: The same where jobs are gathered: the writer acknowledges what no process waits for about once a second.
ASK_PATIENTLY_AFTER_S = 3.0
#: So many questions without an answer, and the writer is taken for gone.
UNANSWERED_LIMIT = 2
#: A writer forgets a stream that is silent for twice as long: say again who it is.
INTRODUCE_AFTER_S = 300.0
#: As long as no writer has answered, it is asked more often.
KNOCK_AFTER_S = 0.02
KNOCK_LIMIT_S = 0.1


def full_bytes(ring_bytes: int) -> int:
    """When a message of a journal of this size is full: no later than when the journal is a quarter full."""
    return min(CHUNK_BYTES, ring_bytes // 4)


class Slice(NamedTuple):
    """A message to send: the jobs behind `start`, up to `end`, or where the journal ends the message if that is None;
    with the definitions behind `definitions`. `patient` when no process waits for it."""

    start: Position
    end: Position | None
    definitions: Position
    rewind: int
    patient: bool = False


class ProducerProtocol:
    """One stream as its producer sees it.

    `acknowledged` is the end of the last message that is settled as a whole: the journal may be trimmed to it.
    `committed` counts jobs and may be ahead of it.
    """

    def __init__(
        self, stream: bytes, database: str, pid: int, *, linger_s: float = 0.0, full_bytes: int = CHUNK_BYTES
    ) -> None:
        """Jobs are gathered for `linger_s` at most, or until there is a message of `full_bytes`."""
        self.stream = stream
        self.acknowledged: Position = (0, 0)
        self.committed = 0
        self.resent = 0
        self.welcomed = False
        self.epoch = b""
        self.writer_pid = 0
        self.refused: Refusal | None = None
        self._linger_s = linger_s
        self._full_bytes = full_bytes
        self._tail: Position = (0, 0)
        self.wanted = 0
        self._send_at: float | None = None  # until then jobs are gathered; None: the next one begins to gather
        self._due_to = 0.0 if linger_s else inf  # the last job that has been gathered for long enough
        self._hello = (database, pid)
        self._rewind = 0
        self._window = 0
        #: Ends of the messages cut so far that are not acknowledged; the first `_sent` of them are in flight.
        self._ends: deque[Position] = deque()
        self._sent = 0
        self._hasty_to = 0  # the last job sent that the writer acknowledges at once
        self._confirmed = 0
        self._definitions_sent: Position = (0, 0)
        self._outbox: deque[Control] = deque()
        self._asked_received: int | None = None
        self._asked = False  # the next Welcome is an answer
        self._called = False  # the writer asks for what is gathered
        self._called_to = 0  # the last job that was gathered then
        self._unanswered = 0
        self._interval = KNOCK_AFTER_S
        self._ask_at = 0.0
        self._spoke_at = 0.0

    # What to send

    @property
    def position(self) -> Position:
        """Where the next message begins."""
        return self._ends[self._sent - 1] if self._sent else self.acknowledged

    @property
    def rewind(self) -> int:
        return self._rewind

    def look(self, tail: Position, now: float, wanted: int = 0) -> None:
        """Begin a turn: the journal ends at `tail`, and a process waits until job number `wanted` is settled.

        Decides what may be sent in this turn (`next_slice`), and what happens next if nothing else does (`deadline`,
        `wake_behind`).
        """
        self._tail = tail
        self._want(wanted, now)
        waiting = tail[0] > self.position[0]
        if waiting and now - self._spoke_at > INTRODUCE_AFTER_S:
            self._introduce_again(now)
        if not self._linger_s:
            return
        if self._send_at is None:
            self._send_at = self._tick(now) if waiting else None
        elif now >= self._send_at:  # one more interval without being woken, where jobs come in every one
            self._due_to = tail[0]
            self._send_at = self._tick(now) if tail[0] > self.position[0] + 1 else None

    def next_slice(self) -> Slice | None:
        """What to send now; None: nothing. Tell `sent` when it is on its way."""
        start = self.position
        if self._tail[1] <= self._sends_behind():
            return None
        end = self._ends[self._sent] if self._sent < len(self._ends) else None
        few = self._tail[1] - self.acknowledged[1] < self._full_bytes  # or the window, or the journal, would be full
        patient = self._linger_s > 0 and self.wanted <= start[0] and few
        return Slice(start, end, self._definitions_sent, self._rewind, patient)

    def sent(self, message: Jobs, now: float) -> None:
        """The message of the last slice is on its way."""
        number, offset = self.position
        self._spoke_at = now
        if not self._sent:
            self._calm(now)
        if self._sent == len(self._ends):
            self._ends.append((number + message.count, offset + len(message.records)))
        else:
            self.resent += message.count
        self._sent += 1
        if not message.patient:
            self._hasty_to = number + message.count
        number, offset = self._definitions_sent
        self._definitions_sent = (number + message.definitions_count, offset + len(message.definitions))

    def _want(self, wanted: int, now: float) -> None:
        """A process waits until job number `wanted` is settled; a writer that calls waits for all that is gathered."""
        if self._called:
            self._called, self._called_to = False, self._tail[0]
        wanted = max(wanted, self._called_to)
        if self._linger_s and wanted > max(self.wanted, self.committed):
            sent = wanted <= self.position[0]  # with no word that a process waits for it
            self._ask_at = 0.0 if sent else min(self._ask_at, now + ASK_AFTER_S)
        self.wanted = wanted

    def _introduce_again(self, now: float) -> None:
        """The writer may have forgotten the stream, and its definitions."""
        self._spoke_at = now
        if self.welcomed and not self._ends:
            self._definitions_sent = (0, 0)
            self._outbox.append(self._introduction())

    def _tick(self, now: float) -> float:
        """When the jobs that are gathered now are sent: all processes of a machine have the same clock, and send at
        the same multiples of the interval, so that the writer can commit them together."""
        return (now // self._linger_s + 1) * self._linger_s

    def _sends_behind(self) -> float:
        """Behind which place in the journal it must end for a message to be sent; `inf` when none may be.

        While jobs are gathered only a full message is sent; so it is while an acknowledgement is to come at once
        (Nagle's algorithm, RFC 896): that is the moment to send what has gathered since, and under load messages grow
        by themselves. What a process waits for, and what is sent again, goes at once.
        """
        if not self.welcomed or (self.refused and self.refused.fatal):
            return inf
        number, offset = self.position
        if self._sent and offset - self.acknowledged[1] >= self._window:
            return inf
        if self._sent < len(self._ends) or self.wanted > number:
            return offset
        return offset + self._full_bytes - 1 if self._gathers or self._owed else offset

    @property
    def _gathers(self) -> bool:
        """Whether the next job to send is one that may still be gathered."""
        return self.position[0] >= self._due_to

    @property
    def _owed(self) -> bool:
        """Whether an acknowledgement is in flight, or will be as soon as the writer has committed."""
        return self._sent > 0 and self._hasty_to > self.committed

    # What happens next

    def wake_behind(self) -> float:
        """Behind which place in the journal a job makes something to do, if nothing else happens; `inf`: nowhere.

        While jobs keep coming, none wakes the sender but the one that makes a message full.
        """
        if self._send_at is None and not self._owed and self._tail[0] <= self.position[0]:
            return self._tail[1]
        return self._sends_behind()

    def deadline(self) -> float | None:
        """When there will be something to send or to say if nothing happens until then, 0: now; None: never."""
        if self._outbox:
            return 0.0
        ask_at = self._ask_at if self.waits else None
        return min((at for at in (self._send_at, ask_at) if at is not None), default=None)

    @property
    def waits(self) -> bool:
        """Whether a job waits for the writer: to be sent or to be acknowledged, and not to be gathered."""
        return bool(self._ends) or (self._tail[0] > self.position[0] and not (self._gathers and self.welcomed))

    # What to say

    def due(self, now: float) -> Iterator[Control]:
        """The control messages to send now."""
        if self.waits and now >= self._ask_at:
            if self._unanswered >= UNANSWERED_LIMIT:
                self.welcomed = False
            self._unanswered += 1
            self._asked = True
            limit = ASK_LIMIT_S if self.welcomed else KNOCK_LIMIT_S
            self._interval = min(2 * self._interval, limit)
            self._ask_at = now + self._interval
            yield self._introduction()
        while self._outbox:
            yield self._outbox.popleft()

    def ask(self) -> None:
        """Have `due` ask the writer now."""
        self._ask_at = 0.0

    def hindered(self, now: float) -> None:
        """A message could not be sent: see soon whether the writer still lives."""
        self._ask_at = min(self._ask_at, now + ASK_AFTER_S)

    def unreachable(self) -> None:
        """Nobody is connected: the writer is gone. Knock as at the beginning."""
        if self.welcomed:
            self.welcomed = False
            self._interval = KNOCK_AFTER_S
            self._ask_at = 0.0

    def bye(self) -> Bye:
        return Bye(self.stream)

    # What arrives

    def receive(self, message: Control, now: float) -> list[Failure]:
        """Take a message; returns the failures that were not known before."""
        if getattr(message, "stream", self.stream) != self.stream:
            return []
        if isinstance(message, Refusal) or (isinstance(message, Ack) and message.epoch == self.epoch):
            self._unanswered = 0
        if isinstance(message, Welcome):
            return self._welcome(message, now)
        if isinstance(message, Ack) and message.epoch == self.epoch:
            return self._advance(message, now)
        if isinstance(message, Resend) and message.epoch == self.epoch and message.rewind == self._rewind:
            self._go_back(message.first - 1, now)
        elif isinstance(message, Refusal):
            self.refused = message
        return []

    def _welcome(self, message: Welcome, now: float) -> list[Failure]:
        self.refused = None
        self.welcomed = True
        self.writer_pid = message.pid
        self._unanswered = 0
        asked, self._asked = self._asked, False
        if message.epoch != self.epoch:
            self.epoch = message.epoch
            failures = self._advance(message, now)
            self._go_back(message.received, now)
            return failures
        failures = self._advance(message, now)
        if not asked:
            self._called = True
        elif message.received < self.position[0]:
            if message.received == self._asked_received:
                self._go_back(message.received, now)
            else:
                self._asked_received = message.received
                self._ask_at = now + ASK_AFTER_S
        return failures

    def _advance(self, message: Ack, now: float) -> list[Failure]:
        self._window = message.window
        if message.committed > self.committed:
            self.committed = message.committed
            self.refused = None
            self._calm(now)
        while self._ends and self._ends[0][0] <= message.committed:
            self.acknowledged = self._ends.popleft()
            self._sent = max(0, self._sent - 1)
        news = [failure for failure in message.failures if failure.sequence > self._confirmed]
        if message.failures:
            self._confirmed = max(self._confirmed, message.failures[-1].sequence)
            self._outbox.append(Confirm(self.stream, self._confirmed))
        return news

    def _go_back(self, received: int, now: float) -> None:
        """Everything after job number `received` is sent again, definitions from the first."""
        self._rewind += 1
        self._definitions_sent = (0, 0)
        self._sent = sum(1 for end in self._ends if end[0] <= received)
        self._hasty_to = 0
        self._calm(now)
        if received < self.acknowledged[0]:  # the database has lost what left the journal: say up to where
            self._outbox.append(self._introduction())

    def _introduction(self) -> Hello:
        database, pid = self._hello
        return Hello(self.stream, database, self.acknowledged[0], pid)

    def _calm(self, now: float) -> None:
        self._asked_received = None
        self._interval = ASK_AFTER_S
        patient = self._linger_s and self.wanted <= self.committed
        self._ask_at = now + (ASK_PATIENTLY_AFTER_S if patient else ASK_AFTER_S)
