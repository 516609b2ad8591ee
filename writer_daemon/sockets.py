"""The writer's two sockets: jobs in, and the conversation with producers and operators."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

import zmq

from telemetry_bus.encoding.records import CHUNK_BYTES
from telemetry_bus.errors import WriterError
from telemetry_bus.protocol.messages import MAX_CONTROL_BYTES, MAX_FRAME_BYTES
from telemetry_bus.protocol.writer import MAX_WINDOW_BYTES
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.limits import need_for_sockets, way_out

logger = logging.getLogger("telemetry_bus.writer")

#: At the end, acknowledgements may take so long to leave; a lost one costs a question.
_LINGER_MS = 200
#: Messages of one connection that ZeroMQ holds before they are read: as many full ones as the window lets a producer
#: send. It counts messages and not bytes, and its default of 1,000 is 8 GB of the largest.
_UNREAD_MESSAGES = MAX_WINDOW_BYTES // CHUNK_BYTES


class Sockets:
    """PULL on `jobs.sock`, ROUTER on `control.sock`. Open them under the instance lock only: a second bind on a
    unix socket's path succeeds, and takes over its connections."""

    def __init__(self, folder: BusFolder) -> None:
        self._folder = folder
        try:
            need_for_sockets()
        except OSError as error:
            raise WriterError(
                error.strerror or str(error), operation="open sockets", subject=str(folder.path), hint=way_out(error)
            ) from error
        self._context = zmq.Context(io_threads=1)
        self.open()

    def open(self) -> None:
        """Bind, whatever files stand there: they are a dead writer's."""
        self.jobs = self._bind(zmq.PULL, "jobs", MAX_FRAME_BYTES)
        self.control = self._bind(zmq.ROUTER, "control", MAX_CONTROL_BYTES)
        self._files = self._inodes()

    def shut(self) -> None:
        """Close both; connected producers keep trying to reach the next ones at the same place."""
        for socket in (self.jobs, self.control):
            socket.close(linger=_LINGER_MS)
        for name in ("jobs", "control"):
            with suppress(FileNotFoundError):
                self._folder.socket_path(name).unlink()

    def close(self) -> None:
        self.shut()
        self._context.term()

    def in_place(self) -> bool:
        """Whether the files are still those that were bound."""
        return self._inodes() == self._files

    def _bind(self, kind: int, name: str, limit: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, limit)
        if kind == zmq.PULL:
            socket.setsockopt(zmq.RCVHWM, _UNREAD_MESSAGES)
        if kind == zmq.ROUTER:  # a producer that connects again may come before its old connection is seen to end
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        with suppress(FileNotFoundError):
            self._folder.socket_path(name).unlink()
        socket.bind(self._folder.endpoint(name))
        if self._folder.group is not None:
            self._folder.socket_path(name).chmod(0o660)
        return socket

    def _inodes(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for name in ("jobs", "control"):
            try:
                stat = os.stat(self._folder.socket_path(name), follow_symlinks=False)
                found.append((stat.st_dev, stat.st_ino))
            except FileNotFoundError:
                found.append(None)
        return found
