"""Every ZeroMQ socket of a producer: journal to writer, acknowledgements back."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil

import zmq

from ..config import Database
from ..errors import JournalUnavailable, ProtocolError
from ..jobs import Failure
from ..protocol.messages import MAX_CONTROL_BYTES, Control, Hello, decode_control, encode_control
from ..protocol.producer import ProducerProtocol, full_bytes
from ..runtime.folder import BusFolder
from ..runtime.limits import need_for_sockets
from ..runtime.spawn import Spawner
from ..runtime.throttle import Pace
from ..runtime.waker import Waker
from ..views import WriterView
from .outbox import NEVER, Outbox
from .requests import Requests

logger = logging.getLogger("telemetry_bus")

#: ZeroMQ tries to reach a writer that is not there at this pace (milliseconds).
_RECONNECT_MS, _RECONNECT_LIMIT_MS = 10, 200
#: A goodbye may take so long to leave; losing it costs nothing.
_LINGER_MS = 50
#: Somebody may have removed the bus folder: while there is work, the journal's file is looked for so often.
_LOOK_FOR_JOURNAL_S = 1.0


class Transport:
    """What the thread of a `Sender` runs: the sockets, and the loop over them, for one outbox."""

    def __init__(
        self,
        outbox: Outbox,
        waker: Waker,
        folder: BusFolder,
        database: Database,
        spawner: Spawner,
        requests: Requests,
        pace: Pace,
        linger_s: float = 0.0,
    ) -> None:
        self._outbox = outbox
        self._waker = waker
        self._pipe = waker.fileno()
        self._folder = folder
        self._spawner = spawner
        self._requests = requests
        self._protocol = ProducerProtocol(
            outbox.journal.stream,
            database.identity,
            os.getpid(),
            linger_s=linger_s,
            full_bytes=full_bytes(outbox.journal.ring_bytes),
        )
        self._known = False  # whether the spawner knows that a writer has answered
        self._database = database
        self._look_at = 0.0
        self._readable = False  # whether the poll has found that the writer has said something
        self._blocked = False  # whether the poll looks for room in the queue of messages
        self._misunderstood = ""
        self._pace = pace

    def run(self) -> None:
        """Until the sender is told to stop. May be called again after an exception."""
        with self._sockets() as (push, control):
            self._loop(push, control)

    @property
    def resent(self) -> int:
        return self._protocol.resent

    @property
    def answering(self) -> bool:
        return self._protocol.welcomed

    def writer(self) -> WriterView:
        """The writer as far as it is known."""
        protocol = self._protocol
        return WriterView(protocol.writer_pid, protocol.epoch.hex(), protocol.welcomed)

    def known(self) -> str:
        """What the writer has told of itself, for an error's text; empty when it has not."""
        if (refusal := self._protocol.refused) is not None:
            return refusal.text
        if self._misunderstood and not self._protocol.welcomed:
            return f"one answers and is not understood: {self._misunderstood}"
        if self._protocol.welcomed:
            return f"process {self._protocol.writer_pid} answers; see telemetry-bus status"
        return ""

    @contextmanager
    def _sockets(self) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
        """A context of our own, so that the program's ZeroMQ is not our concern, nor ours the program's."""
        need_for_sockets()
        context = zmq.Context(io_threads=1)
        try:
            push, control = context.socket(zmq.PUSH), context.socket(zmq.DEALER)
            for socket in (push, control):
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
                socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_LIMIT_MS)
                socket.setsockopt(zmq.IMMEDIATE, 1)  # queue for a connected writer only
            control.setsockopt(zmq.MAXMSGSIZE, MAX_CONTROL_BYTES)
            if secret := self._outbox.journal.secret:
                control.setsockopt(zmq.ROUTING_ID, secret)
            push.connect(self._folder.endpoint("jobs"))
            control.connect(self._folder.endpoint("control"))
            yield push, control
        finally:
            context.destroy(linger=_LINGER_MS if self._requests.goodbye else 0)

    def _loop(self, push: zmq.Socket[bytes], control: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        self._blocked = False
        poller.register(self._pipe, zmq.POLLIN)
        poller.register(control, zmq.POLLIN)
        while not self._requests.stopping:
            self._turn(push, control, poller)
        self._outbox.keep_journal(self._folder, self._pace)
        if self._requests.goodbye and self._protocol.welcomed:
            _say(control, self._protocol.bye())

    def _turn(self, push: zmq.Socket[bytes], control: zmq.Socket[bytes], poller: zmq.Poller) -> None:
        """Hear, send, say, sleep. What the journal holds is looked at once; what comes later makes another turn."""
        protocol, outbox = self._protocol, self._outbox
        now = time.monotonic()
        self._receive(control, now)
        protocol.look(outbox.journal.end, now, outbox.wanted)
        blocked = False
        while not blocked and (part := protocol.next_slice()) is not None:
            try:
                message = outbox.read(part)
                push.send_multipart(message.encode(), zmq.NOBLOCK)
            except zmq.Again:  # ZeroMQ's queue is full
                blocked = True
                protocol.hindered(now)
            except JournalUnavailable:
                self._look_at, blocked = now, True
            else:
                protocol.sent(message, now)
        if self._requests.ask:
            self._requests.ask = False
            protocol.ask()
        for word in protocol.due(now):
            if isinstance(word, Hello):
                word = replace(word, database=self._database.name_now)
            if not _say(control, word):
                protocol.unreachable()
        behind = NEVER if blocked else protocol.wake_behind()
        deadline = protocol.deadline()
        if blocked != self._blocked:
            self._blocked = blocked
            poller.register(push, zmq.POLLOUT if blocked else 0)
        self._see_to_writer(now)
        self._sleep(poller, control, behind, deadline)

    def _receive(self, control: zmq.Socket[bytes], now: float) -> None:
        """Take what the writer has said; the outbox learns what is settled."""
        protocol = self._protocol
        failures: list[Failure] = []
        heard = False
        while self._readable:
            try:
                data = control.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            heard = True
            try:
                failures += protocol.receive(decode_control(data), now)
            except ProtocolError as error:
                if self._misunderstood != str(error):  # it is repeated as often as the writer is asked
                    logger.warning("dropped a message of the writer: %s", error)
                self._misunderstood = str(error)
        if heard:
            self._outbox.settle(protocol.acknowledged, protocol.committed, failures)
            self._requests.heard.set()

    def _see_to_writer(self, now: float) -> None:
        """Have a writer started while jobs wait for one, and the journal looked for while it holds any."""
        if not self._protocol.welcomed:
            self._known = False
            if self._protocol.waits:
                self._spawner.ensure()
            if self._spawner.refused:
                self._spawner.refused = False
                self._outbox.refuse()
        elif not self._known:
            self._known = True
            self._spawner.settled()
        if now >= self._look_at:
            self._look_at = now + _LOOK_FOR_JOURNAL_S
            self._outbox.tell_dropped()
            self._outbox.keep_journal(self._folder, self._pace)

    def _sleep(self, poller: zmq.Poller, control: zmq.Socket[bytes], behind: float, deadline: float | None) -> None:
        """Until there is something to do. Looks for it once more when those who wake know of the sleeper."""
        self._waker.sleeping = True
        self._outbox.wake_at = behind
        timeout = self._timeout(deadline)
        if (
            self._requests.stopping
            or self._requests.ask
            or self._outbox.journal.end[1] > behind
            or self._outbox.wanted > self._protocol.wanted
        ):
            timeout = 0
        readable = dict(poller.poll(timeout))
        self._outbox.wake_at = NEVER
        self._waker.sleeping = False
        if self._pipe in readable:
            self._waker.clear()
        self._readable = control in readable

    def _timeout(self, deadline: float | None) -> int | None:
        """Milliseconds until a time, rounded up."""
        return None if deadline is None else ceil(max(0.0, deadline - time.monotonic()) * 1000)


def _say(control: zmq.Socket[bytes], message: Control) -> bool:
    """Send, if somebody is connected; whether so. What is not said now is said again when its time has come."""
    try:
        control.send(encode_control(message), zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True
