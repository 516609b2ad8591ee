"""The writer's sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from telemetry_bus.config import parse_database
from telemetry_bus.runtime.folder import BusFolder
from writer_daemon.sockets import Sockets

MESSAGES, MESSAGE_BYTES = 60, 1024 * 1024


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[tuple[BusFolder, Sockets]]:
    folder = BusFolder.of(parse_database(tmp_path / "telemetry.db"), environ={})
    folder.prepare()
    with closing(Sockets(folder)) as found:
        yield folder, found
    folder.close()


@pytest.mark.slow
def test_what_is_not_read_is_bounded(sockets: tuple[BusFolder, Sockets]) -> None:
    """A process that sends large messages and minds no window has to keep most of them itself: ZeroMQ counts messages,
    and would take a thousand, of 8 MiB each."""
    folder, _ = sockets
    sent = 0
    with zmq.Context(io_threads=1) as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.SNDHWM, 1)
        push.setsockopt(zmq.LINGER, 0)
        push.connect(folder.endpoint("jobs"))
        while sent < MESSAGES and push.poll(2000, zmq.POLLOUT):
            push.send(bytes(MESSAGE_BYTES))
            sent += 1
    assert 0 < sent < MESSAGES
