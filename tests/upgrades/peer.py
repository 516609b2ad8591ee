"""Stands in for the writer while a producer is recorded: takes what it says, and answers when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import zmq

from telemetry_bus.paths import BusFolder
from telemetry_bus.protocol.messages import (
    Ack,
    Bye,
    Confirm,
    Hello,
    Jobs,
    Report,
    Welcome,
    decode_control,
    encode_control,
)

_EPOCH, _PID, _WINDOW = b"recorded", 4711, 16 * 1024 * 1024
_LIMIT_S = 60.0


class Peer:
    """Bound in a bus folder in a writer's place. `heard` has each message once: where it came in, its frames, and
    the number of the last job in it."""

    def __init__(self, folder: BusFolder) -> None:
        folder.prepare()
        self.heard: list[tuple[str, list[bytes], int]] = []
        self._received = self._committed = 0
        self._context = zmq.Context()
        self._jobs, self._control = self._context.socket(zmq.PULL), self._context.socket(zmq.ROUTER)
        self._jobs.bind(folder.endpoint("jobs"))
        self._control.bind(folder.endpoint("control"))
        self._poller = zmq.Poller()
        self._poller.register(self._jobs, zmq.POLLIN)
        self._poller.register(self._control, zmq.POLLIN)
        self._route = b""
        self._stream = b""

    def take(self, last: int) -> None:
        """Until job number `last` has come."""
        self._until(lambda: self._received >= last)

    def acknowledge(self, reports: Sequence[Report] = ()) -> None:
        """All that was taken is committed; `reports` failed, which the producer confirms."""
        self._committed = self._received
        self._say(Ack, list(reports))
        if reports:
            self._until(lambda: self._heard_of(Confirm))

    def part(self) -> None:
        """Until the producer has said goodbye."""
        self._until(lambda: self._heard_of(Bye))

    def close(self) -> None:
        self._context.destroy(linger=1000)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "the producer is silent"
            ready = dict(self._poller.poll(100))
            if self._control in ready:
                self._listen()
            if self._jobs in ready:
                self._fetch()

    def _listen(self) -> None:
        self._route, frame = self._control.recv_multipart()
        message = decode_control(frame)
        if not isinstance(message, Hello) or not self._heard_of(Hello):  # it is repeated when an answer takes long
            self.heard.append(("control", [frame], 0))
        if isinstance(message, Hello):
            self._stream = message.stream
            self._say(Welcome, [])

    def _fetch(self) -> None:
        frames = self._jobs.recv_multipart()
        message = Jobs.decode(frames)
        if message.last > self._received:
            self.heard.append(("jobs", frames, message.last))
            self._received = message.last

    def _say(self, kind: type[Ack], reports: list[Report]) -> None:
        message = kind(self._stream, _EPOCH, _PID, self._received, self._committed, _WINDOW, reports)
        self._control.send_multipart([self._route, encode_control(message)])

    def _heard_of(self, kind: type) -> bool:
        said = [decode_control(frames[0]) for place, frames, _ in self.heard if place == "control"]
        return any(isinstance(message, kind) for message in said)
