"""A TCP proxy before a PostgreSQL server that decides what becomes of the next COMMIT."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

#: `lose`: the server gets it, and its answer is lost with the connection. `cut`: both sides are cut, and the server
#: never gets it. `hold`: the client is cut; the server's side stays open until `release` delivers the COMMIT, or
#: `close` does not.
Fate = Literal["lose", "cut", "hold"]

#: As the writer says it, which also says READ COMMITTED.
_COMMIT = b"; COMMIT"


class CommitProxy:
    """Passes everything on, but for one COMMIT each time that it is told to."""

    def __init__(self, port: int) -> None:
        """To a server on this port of the loopback."""
        self._to = port
        self._fate: Fate | None = None
        self._held: list[tuple[socket.socket, bytes]] = []
        self._open: list[socket.socket] = []
        self.met = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def arm(self, fate: Fate) -> None:
        """The next COMMIT has this fate; `met` is set then."""
        self.met.clear()
        self._fate = fate

    def release(self) -> None:
        """Deliver what is held; its answer goes nowhere."""
        while self._held:
            server, data = self._held.pop()
            with suppress(OSError):
                server.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open, *(server for server, _ in self._held)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open += [client, server]
            self._start(self._forward, client, server)
            self._start(self._backward, server, client)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._fate is not None and _COMMIT in data:
                    self._meet(client, server, data)
                    return
                server.sendall(data)
        _shut(server)

    def _backward(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _shut(client)

    def _meet(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        fate, self._fate = self._fate, None
        _shut(client)  # whatever the server answers from now on is lost
        if fate == "lose":
            server.sendall(data)
        elif fate == "cut":
            _shut(server)
        else:
            self._held.append((server, data))
        self.met.set()


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
