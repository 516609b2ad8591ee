"""Nonsense on both sockets: counted, logged now and then, and nobody is hurt."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import msgpack
import pytest
import zmq

from telemetry_bus.protocol.messages import (
    MAX_CONTROL_BYTES,
    MAX_FRAME_BYTES,
    VERSION,
    Ack,
    Answer,
    Command,
    Confirm,
    Hello,
    Jobs,
    encode_control,
)

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

STREAM = bytes(range(16))
NOISE = random.Random(7)

#: The good producer beside it.
PROGRAM = (
    Notes.OPEN
    + """
store = TelemetryStore(database)
number = 0
while not noted[0]:
    number += 1
    pair(store, "p", number)
    noted[1] = number
    time.sleep(0.0005)
store.flush()
"""
)


def sealed(header: bytes, definitions: bytes, records: bytes) -> list[bytes]:
    """A message whose checksum is right, whatever the rest is."""
    checksum = crc32(records, crc32(definitions, crc32(header)))
    return [header + struct.pack(">I", checksum), definitions, records]


def good() -> list[bytes]:
    """A message that is well formed: one record, with its template in the payload."""
    record = msgpack.packb(0) + msgpack.packb([[[], [["INSERT INTO t VALUES (1)", False]]], []]) + b"\xce" + bytes(4)
    return Jobs(STREAM, 0, 1, 1, 1, 0, b"", record).encode()


def broken_jobs() -> dict[str, list[bytes]]:
    """Messages to the jobs socket that no producer sends."""
    header, definitions, records = good()
    bomb = b"\xdd" + (1 << 20).to_bytes(4, "big") + b"\x90" * (1 << 20)
    deep = b"\x91" * 100_000 + b"\xc0"
    return {
        "empty": [b""],
        "noise": [NOISE.randbytes(500)],
        "noise in three parts": [NOISE.randbytes(len(header)), NOISE.randbytes(30), NOISE.randbytes(300)],
        "one part": [header],
        "two parts": [header, definitions],
        "four parts": [header, definitions, records, b""],
        "a thousand parts": [header] * 1000,
        "header cut off": [header[:-1], definitions, records],
        "header too long": [header + b"x", definitions, records],
        "wrong checksum": [header[:-4] + b"\0\0\0\0", definitions, records],
        "bit flipped in the header": [header[:20] + bytes([header[20] ^ 1]) + header[21:], definitions, records],
        "bit flipped in the body": [header, definitions, records[:5] + bytes([records[5] ^ 1]) + records[6:]],
        "wrong magic": sealed(b"XX" + header[2:-4], definitions, records),
        "another version": sealed(header[:2] + b"\x7f\xff" + header[4:-4], definitions, records),
        "no jobs": Jobs(STREAM, 0, 1, 0, 1, 0, b"", records).encode(),
        "more jobs than bytes": Jobs(STREAM, 0, 1, 1 << 31, 1, 0, b"", records).encode(),
        "sequence zero": Jobs(STREAM, 0, 0, 1, 1, 0, b"", records).encode(),
        "more definitions than bytes": Jobs(STREAM, 0, 1, 1, 1, 1 << 31, b"xy", records).encode(),
        "garbage body": Jobs(STREAM, 0, 1, 1, 1, 0, b"", NOISE.randbytes(300)).encode(),
        "garbage definitions": Jobs(STREAM, 0, 1, 1, 1, 3, NOISE.randbytes(300), records).encode(),
        "definitions of other types": Jobs(STREAM, 0, 1, 1, 1, 1, b"\x05\x05", records).encode(),
        "a bomb": Jobs(STREAM, 0, 1, 1, 1, 0, b"", bomb).encode(),
        "many bombs": Jobs(STREAM, 0, 1, 8, 1, 0, b"", bomb * 8).encode(),
        "a deep bomb": Jobs(STREAM, 0, 1, 1, 1, 0, b"", deep).encode(),
        "a bomb of definitions": Jobs(STREAM, 0, 1, 1, 1, 1, bomb, records).encode(),
        "fewer jobs than announced": Jobs(STREAM, 0, 1, 2, 1, 0, b"", records).encode(),
        "more jobs than announced": Jobs(STREAM, 0, 1, 1, 1, 0, b"", records * 2).encode(),
    }


def broken_control() -> dict[str, list[bytes]]:
    """Messages to the control socket that nobody sends."""
    hello = encode_control(Hello(STREAM, "sqlite:////x", 0, 1))
    return {
        "empty": [b""],
        "noise": [NOISE.randbytes(500)],
        "two parts": [hello, hello],
        "cut off": [hello[:-1]],
        "too long": [hello + b"\0"],
        "another version": [msgpack.packb([VERSION + 1, "hello", STREAM, "x", 0, 1])],
        "a version that is no number": [msgpack.packb([["x"], "hello", STREAM, "x", 0, 1])],
        "unknown kind": [msgpack.packb([VERSION, "nonsense" * 1000])],
        "a kind that is no text": [msgpack.packb([VERSION, 7])],
        "too few fields": [msgpack.packb([VERSION, "hello", STREAM])],
        "wrong types": [msgpack.packb([VERSION, "hello", "x" * 16, b"x", "0", None])],
        "a short stream": [msgpack.packb([VERSION, "confirm", b"short", 1])],
        "a negative number": [msgpack.packb([VERSION, "confirm", STREAM, -1])],
        "a map": [msgpack.packb({"version": VERSION})],
        "a bomb": [b"\xdd" + (1 << 19).to_bytes(4, "big") + b"\x90" * (1 << 19)],
        "a deep bomb": [b"\x91" * 100_000 + b"\xc0"],
        "an array that is not there": [b"\xdd\xff\xff\xff\xff"],
        "what only a writer says": [encode_control(Ack(STREAM, bytes(8), 1, 1, 1, 1))],
        "an answer": [encode_control(Answer(True, "{}"))],
    }


@contextmanager
def socket(bus: Bus, kind: int, name: str) -> Iterator[zmq.Socket[bytes]]:
    """A raw socket of our own, connected to the writer's."""
    context = zmq.Context()
    try:
        raw = context.socket(kind)
        raw.connect(bus.folder.endpoint(name))
        yield raw
    finally:
        context.destroy(linger=10_000)


def is_counted(bus: Bus, count: int, what: str = "the last") -> None:
    wait_until(lambda: bus.status()["malformed"] >= count, f"{count} malformed messages are counted, with {what}")
    assert count == bus.status()["malformed"]


def logged(bus: Bus) -> int:
    """How many lines of the log tell of malformed messages."""
    return bus.log().count("malformed message")


@pytest.mark.parametrize("place", ["jobs", "control"])
def test_every_malformed_message_is_counted(bus: Bus, place: str) -> None:
    """Each kind of nonsense by itself, many times over, beside a good producer: the writer counts each, says so in
    the log a few times only, lives, and the producer's rows are all there."""
    messages = broken_jobs() if place == "jobs" else broken_control()
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[1] > 100, "the producer is under way")
    pid = wait_until(bus.status_or_none, "the writer answers")["pid"]
    with socket(bus, zmq.PUSH if place == "jobs" else zmq.DEALER, place) as raw:
        for sent, (name, frames) in enumerate(messages.items(), start=1):
            raw.send_multipart(frames)
            is_counted(bus, sent, name)
        cheap = [frames for frames in messages.values() if sum(map(len, frames)) < 10_000]
        for _ in range(100):
            for frames in cheap:
                raw.send_multipart(frames)
        is_counted(bus, len(messages) + 100 * len(cheap))  # before the end: a closing socket may lose some
    bus.notes[0] = 1
    bus.finish(producer)
    assert pid == bus.status()["pid"]
    assert 1 <= logged(bus) <= 10
    assert {"p": list(range(1, bus.notes[1] + 1))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


@pytest.mark.parametrize(
    ("kind", "place", "size"), [(zmq.PUSH, "jobs", MAX_FRAME_BYTES), (zmq.DEALER, "control", MAX_CONTROL_BYTES)]
)
def test_a_message_over_the_limit_costs_its_sender_the_connection(bus: Bus, kind: int, place: str, size: int) -> None:
    """It is not even read; others do not notice."""
    bus.answering_writer()
    with socket(bus, kind, place) as raw:
        monitor = raw.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        raw.send(bytes(size + 1))
        wait_until(lambda: monitor.poll(10), "the connection is closed")
    bus.next_comes()
    assert 0 == bus.status()["malformed"]


ODD_COMMANDS = {
    "unknown": Command("nonsense"),
    "unknown and long": Command("x" * 100_000),
    "no JSON": Command("status", "{"),
    "no object": Command("status", "[1]"),
    "unknown argument": Command("stop", '{"now": true}'),
    "deep JSON": Command("status", "[" * 200_000),
    "ids that are texts": Command("dead-letters retry", '{"ids": ["x"]}'),
    "ids that are lists": Command("dead-letters retry", '{"ids": [[1], {}]}'),
    "ids that are too large": Command("dead-letters retry", '{"ids": [99999999999999999999]}'),
    "ids that are no list": Command("dead-letters purge", '{"ids": 5}'),
    "large ids to delete": Command("dead-letters purge", '{"ids": [99999999999999999999]}'),
    "lists to delete": Command("dead-letters purge", '{"ids": [[1]]}'),
    "a number that is none": Command("dead-letters purge", '{"ids": [NaN]}'),
}


@pytest.mark.parametrize("name", ODD_COMMANDS)
def test_an_odd_command_gets_an_answer(bus: Bus, name: str) -> None:
    """Whatever an operator asks, the writer answers that it cannot, and goes on."""
    writer = bus.answering_writer()
    with socket(bus, zmq.DEALER, "control") as raw:
        raw.send(encode_control(ODD_COMMANDS[name]))
        wait_until(lambda: raw.poll(10) or writer.poll() is not None, "an answer, or the writer's end")
        assert writer.poll() is None, bus.errors(writer)
        version, kind, ok, result = msgpack.unpackb(raw.recv())
    assert (VERSION, "answer") == (version, kind)
    assert not ok or all(not one["ok"] for one in json.loads(result))
    bus.next_comes()


LARGE = (1 << 64) - 1


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([Hello(STREAM, "", LARGE, LARGE)], id="watermark"),
        pytest.param([Hello(STREAM, "", 0, 1), Confirm(STREAM, LARGE), Hello(STREAM, "", 0, 1)], id="confirmation"),
    ],
)
def test_numbers_that_no_database_can_hold(bus: Bus, messages: list[Hello | Confirm]) -> None:
    """A forged message with the largest numbers does not end the writer, nor harm other streams."""
    writer = bus.answering_writer()
    with socket(bus, zmq.DEALER, "control") as raw:
        for message in messages:
            text = encode_control(message)
            if isinstance(message, Hello):
                text = encode_control(Hello(message.stream, bus.database.identity, message.trimmed, message.pid))
            raw.send(text)
        bus.next_comes()
    assert writer.poll() is None, bus.errors(writer)
    assert writer.pid == bus.status()["pid"]


def test_thousands_of_connections_that_say_nothing_sensible(bus: Bus) -> None:
    """Peers that come, talk nonsense and go, over and over: the writer keeps no descriptor of theirs."""
    writer = bus.answering_writer()
    descriptors = f"/proc/{writer.pid}/fd"
    before = len(os.listdir(descriptors))
    context = zmq.Context()
    try:
        for _ in range(300):
            for kind, name in ((zmq.PUSH, "jobs"), (zmq.DEALER, "control")):
                raw = context.socket(kind)
                raw.connect(bus.folder.endpoint(name))
                raw.send(b"nonsense")
                raw.close(linger=10_000)
    finally:
        context.term()
    is_counted(bus, 600)
    bus.next_comes()
    wait_until(lambda: len(os.listdir(descriptors)) <= before + 5, "the descriptors are closed")
