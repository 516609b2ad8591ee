"""What each step of a job's way costs by itself, beside the least that it could: CPU µs of one thread per row.

One job for each row, in one process, with the collector set as in the writer. What a floor leaves out is what the step
is about: it only calls the function of C that the step cannot do without.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any
from zlib import crc32

import msgpack
import zmq

from telemetry_bus import TelemetryStore
from telemetry_bus.config import Database, parse_database
from telemetry_bus.database.sqlite.multi_row import MAX_CHUNK_ROWS
from telemetry_bus.database.writer import Writer
from telemetry_bus.encoding.records import Encoder, seal
from telemetry_bus.jobs import Job
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer.outbox import Outbox
from telemetry_bus.protocol.messages import Hello, Jobs, decode_control, encode_control
from telemetry_bus.protocol.producer import ProducerProtocol, Slice
from telemetry_bus.writer.intake import BatchLimits, Intake
from writer_daemon.__main__ import COLLECT_AFTER

from .rows import FETCHES, Row, chunks, fetches
from .setting import Figures, Measure, Setting

#: As often each step is repeated; the quickest counts.
TRIES = 5
RING_BYTES = 64 * 1024 * 1024
MOST_ROWS = 200_000


def stages(setting: Setting) -> Figures:
    """Every step, in the order of the way."""
    rows = fetches(min(setting.rows, MOST_ROWS))
    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        messages, figures = _producer(setting, rows)
        return {**figures, **_network(setting, messages), **_writer(setting, rows, messages), **_insert_floor(rows)}
    finally:
        gc.set_threshold(*before)


def _producer(setting: Setting, rows: Sequence[Row]) -> tuple[list[list[bytes]], dict[str, float]]:
    """The steps in the caller and in the sender; the frames of the messages that come of it."""
    database = parse_database(str(setting.database))
    encoder = Encoder(lambda definition: 1)
    pack = msgpack.Packer().pack
    record = encoder.row(FETCHES.sql, rows[0], ())
    sealed = seal(record, 1)
    memory = memoryview(bytearray(len(sealed)))
    figures = {
        "encode": _each(rows, lambda row: encoder.row(FETCHES.sql, row, ())),
        "encode_floor": _each(rows, pack),
        "seal": _each(rows, lambda row: seal(record, 1)),
        "seal_floor": _each(rows, lambda row: crc32(record)),
        "copy_floor": _each(rows, lambda row: memory.__setitem__(slice(0, len(sealed)), sealed)),
    }
    with closing(Journal(None, os.urandom(16), TRIES * RING_BYTES, database.identity)) as journal:
        figures["journal"] = _each(rows, lambda row: journal.append(record))
    with TelemetryStore(database.url, mode="daemon", spawn=False, journal_bytes=TRIES * RING_BYTES) as store:
        figures["execute"] = _each(rows, lambda row: store.execute(FETCHES.sql, row))
        store.shutdown()
    outbox = _outbox(database)
    for row in rows:
        outbox.put_row(FETCHES.sql, row, ())
    began = time.thread_time()
    frames = [message.encode() for message in _cut(outbox)]
    figures["cut"] = (time.thread_time() - began) / len(rows) * 1e6
    outbox.journal.close()
    return frames, figures


def _outbox(database: Database) -> Outbox:
    outbox = Outbox(
        Journal(None, os.urandom(16), RING_BYTES, database.identity), lambda: None, on_full="raise", timeout=0
    )
    outbox.put(Job((), (FETCHES.ddl,)))
    return outbox


def _cut(outbox: Outbox) -> list[Jobs]:
    messages: list[Jobs] = []
    position = defined = (0, 0)
    while position != outbox.journal.end:
        message = outbox.read(Slice(position, None, defined, 0))
        position = (message.last, position[1] + len(message.records))
        defined = (defined[0] + message.definitions_count, defined[1] + len(message.definitions))
        messages.append(message)
    return messages


def _network(setting: Setting, messages: Sequence[list[bytes]]) -> dict[str, float]:
    """PUSH to PULL within one process, the threads of ZeroMQ included."""
    jobs = sum(Jobs.decode(frames).count for frames in messages)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.bind(f"ipc://{setting.folder}/network.sock")
        push.connect(f"ipc://{setting.folder}/network.sock")
        began = time.process_time()
        for frames in messages:
            push.send_multipart(frames)
            pull.recv_multipart()
        return {"network": (time.process_time() - began) / jobs * 1e6}


def _writer(setting: Setting, rows: Sequence[Row], messages: Sequence[list[bytes]]) -> dict[str, float]:
    """The steps in the writer, and the acknowledgement in the producer."""
    database = parse_database(str(setting.database))
    clock = _Clock()
    with closing(Writer(database)) as writer:
        writer.failpoint = clock.passes
        intake: Intake[bytes] = Intake(writer, database, BatchLimits())
        outbox = _outbox(database)
        stream = Jobs.decode(messages[0]).stream
        protocol = ProducerProtocol(stream, database.identity, 1)

        def acknowledge() -> None:
            for _, answer in intake.replies():
                failures = protocol.receive(decode_control(encode_control(answer)), 0.0)
                outbox.settle(protocol.acknowledged, protocol.committed, failures)

        intake.control(b"route", Hello(stream, database.identity, 0, 1))
        for number, frames in enumerate(messages, 1):
            message = clock.times("decode", partial(Jobs.decode, frames))
            clock.times("unpack", partial(intake.jobs, message))
            if not intake.room or number == len(messages):
                clock.times("apply", intake.commit)
                clock.times("acknowledge", acknowledge)
    FETCHES.check(setting.database, len(rows))
    body = messages[-1][2]
    count = Jobs.decode(messages[-1]).count
    array = b"\xdd" + (3 * count).to_bytes(4, "big") + body
    floor = min(_timed(lambda: msgpack.unpackb(array)) for _ in range(20)) / count * 1e6
    return {**{name: spent / len(rows) * 1e6 for name, spent in clock.spent.items()}, "unpack_floor": floor}


def _insert_floor(rows: Sequence[Row]) -> dict[str, float]:
    """The multi-row statement with its values in one list already, by the standard driver, into memory."""
    head, _, group = FETCHES.sql.partition(" VALUES ")
    sql = f"{head} VALUES {','.join([group] * MAX_CHUNK_ROWS)}"
    flat = [list(chain.from_iterable(part)) for part in chunks(rows, MAX_CHUNK_ROWS) if len(part) == MAX_CHUNK_ROWS]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(FETCHES.ddl)
        connection.execute("BEGIN")
        spent = _timed(lambda: [connection.execute(sql, values) for values in flat])
    return {"insert_floor": spent / (len(flat) * MAX_CHUNK_ROWS) * 1e6}


class _Clock:
    """CPU seconds of this thread by step."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(("decode", "unpack", "apply", "insert", "commit", "acknowledge"), 0.0)
        self._since = 0.0

    def times(self, step: str, work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = work()
        self.spent[step] += time.thread_time() - began
        return result

    def passes(self, place: str) -> None:
        """A place in the writer, at which it may be killed in a test; here it is told the time."""
        now = time.thread_time()
        if place == "in-batch":
            self.spent["insert"] += now - self._since
        elif place == "after-commit":
            self.spent["commit"] += now - self._since
        self._since = now


def _each(rows: Sequence[Row], work: Callable[[Row], object]) -> float:
    """CPU µs per row of a step that is done for each row by itself."""
    return min(_timed(lambda: [work(row) for row in rows]) for _ in range(TRIES)) / len(rows) * 1e6


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


MEASURES = (Measure("stages", "each step of a job's way by itself", stages, rare=True),)
