"""Stands in for the writer while a producer is recorded: takes what it says, and answers when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import zmq

from telemetry_bus.jobs import Failure
from telemetry_bus.protocol.messages import Ack, Bye, Confirm, Hello, Jobs, Welcome, decode_control, encode_control
from telemetry_bus.runtime.folder import BusFolder

_EPOCH, _PID, _WINDOW = b"recorded", 4711, 16 * 1024 * 1024
_LIMIT_S = 60.0


class Peer:
    """Bound in a bus folder in a writer's place. `heard` has each message once: where it came in, its frames, and
    the number of the last job in it.

    A producer sends what has gathered when it is welcomed; later, what there is when something is acknowledged. So that
    messages do not depend on who is faster, it is welcomed in `take`, when all jobs of that message are submitted.
    """

    def __init__(self, folder: BusFolder) -> None:
        folder.prepare()
        self._folder = folder
        self.heard: list[tuple[str, list[bytes], int]] = []
        self._received = self._committed = 0
        self._jobs, self._control = self._bound(zmq.PULL, "jobs"), self._bound(zmq.ROUTER, "control")
        self._asked = False
        self._answered = -1
        self._route = b""
        self._stream = b""

    def take(self, last: int) -> None:
        """Until job number `last` has come."""
        self._until(lambda: self._received >= last)

    def acknowledge(self, failures: Sequence[Failure] = ()) -> None:
        """All that was taken is committed; `failures` are those that failed, which the producer confirms."""
        self._committed = self._received
        self._say(Ack, list(failures))
        if failures:
            self._until(lambda: self._heard_of(Confirm))

    def acknowledge_and_hold(self, welcomed: Callable[[], bool]) -> None:
        """All that was taken is committed, and nothing is sent before the next `take`: the producer has found nobody
        when it asked, so that it is no longer `welcomed`, and hears of what is committed alone."""
        self._control.context.destroy(linger=1000)
        deadline = time.monotonic() + _LIMIT_S
        while welcomed():
            assert time.monotonic() < deadline, "the producer does not ask"
            time.sleep(0.01)
        self._control = self._bound(zmq.ROUTER, "control")
        assert self._control.poll(int(1000 * _LIMIT_S)), "the producer is silent"
        self._listen()
        self._answered = -1
        self.acknowledge()

    def part(self) -> None:
        """Until the producer has said goodbye."""
        self._until(lambda: self._heard_of(Bye))

    def close(self) -> None:
        for socket in (self._jobs, self._control):
            socket.context.destroy(linger=1000)

    def _bound(self, kind: int, name: str) -> zmq.Socket[bytes]:
        """In a context of its own: when that is destroyed, the socket's file has gone too."""
        socket: zmq.Socket[bytes] = zmq.Context().socket(kind)
        socket.bind(self._folder.endpoint(name))
        return socket

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "the producer is silent"
            zmq.select([self._jobs, self._control], [], [], 0.1)
            while self._control.poll(0):
                self._listen()
            while self._jobs.poll(0):
                self._fetch()
            if self._asked and self._answered != self._received:  # told the same twice, it sends again
                self._answered = self._received
                self._say(Welcome, [])
            self._asked = False

    def _listen(self) -> None:
        self._route, frame = self._control.recv_multipart()
        message = decode_control(frame)
        if not isinstance(message, Hello) or not self._heard_of(Hello):  # it is repeated when an answer takes long
            self.heard.append(("control", [frame], 0))
        if isinstance(message, Hello):
            self._stream = message.stream
            self._asked = True

    def _fetch(self) -> None:
        frames = self._jobs.recv_multipart()
        message = Jobs.decode(frames)
        if message.last > self._received:
            self.heard.append(("jobs", frames, message.last))
            self._received = message.last

    def _say(self, kind: type[Ack], failures: list[Failure]) -> None:
        message = kind(self._stream, _EPOCH, _PID, self._received, self._committed, _WINDOW, failures)
        self._control.send_multipart([self._route, encode_control(message)])

    def _heard_of(self, kind: type) -> bool:
        said = [decode_control(frames[0]) for place, frames, _ in self.heard if place == "control"]
        return any(isinstance(message, kind) for message in said)
