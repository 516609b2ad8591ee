"""A member of the group speaks for another's stream, whose name it sees: nothing of that stream is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import zmq

from telemetry_bus import TelemetryStore
from telemetry_bus.config import Database, parse_database
from telemetry_bus.control import ask
from telemetry_bus.database import Writer
from telemetry_bus.encoding.records import Encoder, seal
from telemetry_bus.encoding.stream_names import new_secret, stream_of
from telemetry_bus.errors import ProtocolError
from telemetry_bus.journal.layout import DEFINITIONS_BYTES, PAGE_BYTES, Header, write_watermark
from telemetry_bus.journal.ring import Journal
from telemetry_bus.protocol.messages import Bye, Confirm, Control, Hello, Jobs, encode_control
from telemetry_bus.protocol.writer import WriterProtocol
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake
from writer_daemon.ownership import Ownership

from ..support.clock import wait_until

INSERT, TABLE = "INSERT INTO t VALUES (?)", "CREATE TABLE IF NOT EXISTS t (a)"
FAR = 10**9


@dataclass
class Ledger:
    """What the writer's protocol asks of a database."""

    last: int = 5

    def last_sequences(self, streams: object) -> dict[bytes, int]:
        return dict.fromkeys(streams, self.last)  # type: ignore[call-overload,no-any-return]

    def raise_watermark(self, stream: bytes, sequence: int) -> None:
        self.last = sequence

    def failures_after(self, stream: bytes, sequence: int, limit: int = 0) -> list[object]:
        return []


@pytest.fixture
def folder(database: Path) -> Iterator[BusFolder]:
    folder = BusFolder.of(parse_database(database), environ={})
    folder.prepare()
    yield folder
    folder.close()


def hello(stream: bytes, trimmed: int = FAR) -> Hello:
    return Hello(stream, "x", trimmed, 1)


def test_who_is_heard(folder: BusFolder) -> None:
    """The one with the secret alone; of a stream without one anybody, and no further than the journal says."""
    protocol: WriterProtocol[bytes] = WriterProtocol(b"e" * 8, 1, Database("x", "sqlite"), Ledger())  # type: ignore[arg-type]
    ownership = Ownership(folder, protocol)
    secret, stranger = new_secret(), b"stranger"
    stream = stream_of(secret)
    words: list[Control] = [hello(stream), hello(stream, 0), Confirm(stream, FAR), Bye(stream)]
    assert [None] * 4 == [ownership.heard(stranger, word) for word in words]
    assert words == [ownership.heard(secret, word) for word in words]
    older = os.urandom(16)
    assert hello(older, 0) == ownership.heard(stranger, hello(older))
    journal = Journal(folder.journals, older, 64 * 1024, "x")
    journal.trim((7, 700))
    assert hello(older, 7) == ownership.heard(stranger, hello(older))
    journal.remove()


def forged(message: Jobs, secret: bytes) -> Jobs:
    return replace(message, records=seal(b"\x01\x91\x07", message.first), secret=secret)


def test_a_forged_message_of_jobs_is_not_read() -> None:
    """Without the stream's secret, or with another one, whatever else is right; of a stream that has none it is."""
    secret = new_secret()
    honest = Jobs(stream_of(secret), 0, 1, 1, 1, 0, b"", seal(b"\x01\x91\x01", 1), secret=secret)
    assert honest == Jobs.decode(honest.encode())
    for another in (b"", new_secret(), bytes(len(secret)), secret[:-1]):
        with pytest.raises(ProtocolError):
            Jobs.decode(forged(honest, another).encode())
    older = replace(forged(honest, b""), stream=os.urandom(16))
    assert older == Jobs.decode(older.encode())


def test_a_journal_that_speaks_of_another_stream(folder: BusFolder, database: Path) -> None:
    """It is put aside, and the ledger of that stream stays as it is."""
    victim = os.urandom(16)
    page = bytearray(Header(victim, 64 * 1024, DEFINITIONS_BYTES, 1, "x").pack().ljust(PAGE_BYTES, b"\0"))
    index, slot = write_watermark(1, (FAR, FAR))
    page[index : index + len(slot)] = slot
    path = folder.journals / f"{'f' * 32}.journal"
    path.write_bytes(bytes(page) + bytes(DEFINITIONS_BYTES + 64 * 1024))
    target = parse_database(database)
    with closing(Writer(target)) as writer:
        intake: Intake[object] = Intake(writer, target, BatchLimits())
        adopter = Adopter(folder, intake)
        adopter.scan()
        adopter.step()
        assert {victim: 0} == writer.last_sequences([victim])
    assert [] == folder.journal_paths()
    assert 1 == adopter.quarantined


@pytest.mark.integration
@pytest.mark.usefixtures("no_writer_left")
def test_forged_jobs_take_the_place_of_none(database: Path) -> None:
    """With a real writer: jobs in the name of a stream, at the number that comes next, before its producer's own."""
    folder = BusFolder.of(parse_database(database), environ={})
    with TelemetryStore(database, timeout=60) as store:
        store.execute(INSERT, (1,), ensure=[TABLE])
        store.flush()
        stream = bytes.fromhex(Path(store.stats().journal or "").stem)
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.PUSH)
        socket.connect(folder.endpoint("jobs"))
        for first in range(2, 12):
            row = Encoder(lambda definition: 2).row(INSERT, (-first,), ())
            socket.send_multipart(Jobs(stream, 0, first, 1, 1, 0, b"", seal(row, first)).encode())
        wait_until(lambda: 10 == ask(folder, "status", 10.0)["malformed"], "the messages have come")
        context.destroy(linger=0)
        for number in range(2, 100):
            store.execute(INSERT, (number,))
        store.flush()
        with store.connection() as connection:
            assert [(99, 1, 99)] == connection.execute("SELECT count(*), min(a), max(a) FROM t").fetchall()
    folder.close()


@pytest.mark.integration
@pytest.mark.usefixtures("no_writer_left")
def test_a_forged_hello_acknowledges_nothing(database: Path) -> None:
    """With a real writer: before and after a word of another process each job of the producer is committed."""
    folder = BusFolder.of(parse_database(database), environ={})
    with TelemetryStore(database, timeout=60) as store:
        store.execute(INSERT, (1,), ensure=[TABLE])
        store.flush()
        stream = bytes.fromhex(Path(store.stats().journal or "").stem)
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.DEALER)
        socket.connect(folder.endpoint("control"))
        identity = parse_database(database).identity
        for word in (Hello(stream, identity, FAR, 1), Confirm(stream, FAR), Bye(stream)):
            socket.send(encode_control(word))
        wait_until(lambda: 3 == ask(folder, "status", 10.0)["malformed"], "the words have come")
        context.destroy(linger=0)
        for number in range(2, 100):
            store.execute(INSERT, (number,))
        store.flush()
        assert 0 == ask(folder, "status", 10.0)["jobs_gone"]
        with store.connection() as connection:
            assert [(99, 99)] == connection.execute("SELECT count(*), max(a) FROM t").fetchall()
    folder.close()
