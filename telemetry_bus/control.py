"""Asking the writer something: one question over its control socket, one answer."""

from __future__ import annotations

import json
import os
from typing import Any

import zmq

from .errors import ProtocolError, WriterAbsent, WriterError
from .protocol.messages import MAX_CONTROL_BYTES, Answer, Command, decode_control, encode_control
from .runtime.files import open_inside
from .runtime.folder import BusFolder
from .runtime.limits import need_for_sockets

#: A writer that works answers within milliseconds; one long transaction may keep it this long.
ANSWER_S = 3.0


#: Where a group shares the bus: a file that those may read who may write the database, and what its content is sent as.
KEY_NAME, KEY = "operator.key", "key"


def ask(folder: BusFolder, name: str, timeout: float, **arguments: Any) -> Any:
    """Send a command to the writer and return its answer, decoded from JSON.

    Raises `WriterAbsent` when none answers within `timeout` seconds, `WriterError` when it refuses, and `OSError` where
    the limits of this process leave no room for a socket.
    """
    need_for_sockets()
    context = zmq.Context(io_threads=1)
    try:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_CONTROL_BYTES)
        socket.connect(folder.endpoint("control"))
        socket.send(encode_control(Command(name, json.dumps({**arguments, **_key_of(folder)}))))
        if not socket.poll(round(timeout * 1000)):
            raise WriterAbsent(
                f"no writer answers within {timeout:g} s",
                operation=name,
                subject=str(folder.path),
                hint="telemetry-bus status tells more",
            )
        answer = decode_control(socket.recv())
    finally:
        context.destroy(linger=0)
    if not isinstance(answer, Answer):
        raise ProtocolError(f"an answer was expected, not {answer.kind!r}", operation=name)
    if not answer.ok:
        raise WriterError(answer.result, operation=name, subject=str(folder.path))
    return json.loads(answer.result)


def _key_of(folder: BusFolder) -> dict[str, str]:
    """The key that orders have to show, where there is one and we may read it."""
    try:
        with open(open_inside(folder.path / KEY_NAME, os.O_RDONLY), "rb") as file:
            return {KEY: file.read(64).decode(errors="replace")}
    except OSError:
        return {}
