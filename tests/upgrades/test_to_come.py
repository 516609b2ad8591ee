"""What versions to come leave behind or say, or old ones that are read no more, and a writer of today: nothing is read
by guess, nothing thrown away, everything told of; and a writer that understands it finishes it."""

from __future__ import annotations

import re
import signal
import struct
from zlib import crc32

import msgpack
import pytest

from telemetry_bus.cli import main as cli
from telemetry_bus.protocol.messages import VERSION

from ..support.bus import Bus
from ..support.clock import wait_until
from .recordings import (
    RECORDINGS,
    REFUSED_JOURNALS,
    REFUSED_MESSAGES,
    Message,
    Recording,
    leave_journals,
    player,
    tables,
)

pytestmark = pytest.mark.integration

JOBS = 100

#: Makes a program one of the next version, in what it says and in its journal.
NEXT = """
from telemetry_bus.journal import layout as journal_file
from telemetry_bus.protocol import messages
messages.VERSION += 1
magic = journal_file._MAGIC
journal_file._MAGIC = magic[:-1] + bytes([magic[-1] + 1])
"""
NEXT_WRITER = (
    NEXT
    + """
import sys
from writer_daemon.__main__ import main
sys.exit(main())
"""
)


class Next(Recording):
    """A recording as if the next version had made it."""

    @property
    def version(self) -> int:
        return super().version + 1

    def journals(self) -> dict[str, bytes]:
        return {
            name: content[:7] + bytes([content[7] + 1]) + content[8:] for name, content in super().journals().items()
        }

    def conversation(self, database: str) -> list[Message]:
        return [_of_the_next_version(message) for message in super().conversation(database)]


def _of_the_next_version(message: Message) -> Message:
    """The same in another version, its checksum mended."""
    if message.to == "control":
        version, *rest = msgpack.unpackb(message.frames[0])
        return Message("control", [msgpack.packb([version + 1, *rest])])
    header, definitions, records = message.frames
    (version,) = struct.unpack_from(">H", header, 2)
    header = header[:2] + struct.pack(">H", version + 1) + header[4:-4]
    checksum = crc32(records, crc32(definitions, crc32(header)))
    return Message("jobs", [header + struct.pack(">I", checksum), definitions, records])


def each_of(refused: frozenset[int]) -> pytest.MarkDecorator:
    foreign = [Next(RECORDINGS[-1].folder), *(recording for recording in RECORDINGS if recording.version in refused)]
    return pytest.mark.parametrize("recording", foreign, ids=lambda recording: f"version {recording.version}")


@each_of(REFUSED_MESSAGES)
def test_messages(bus: Bus, recording: Recording) -> None:
    """Hello, jobs and all the rest are refused: what can be answered is, naming both versions; each is counted, the log
    names the versions, nothing is applied, and others are served."""
    writer = bus.answering_writer()
    said = f"version {recording.version}, this is version {VERSION}"
    messages = recording.conversation(bus.database.identity)
    with player(bus) as producer:
        for message in messages:
            producer.say(message)
        wait_until(lambda: bus.status()["malformed"] == len(messages), "each is counted")
        answers = producer.listen()
    assert sum(message.to == "control" for message in messages) == len(answers)
    for version, kind, ok, text in answers:
        assert (VERSION, "answer", False) == (version, kind, ok)
        assert said in text
    assert {} == tables(bus)
    assert said in bus.errors(writer)
    bus.another_job()
    bus.sound()


def test_jobs_alone(bus: Bus) -> None:
    """Also a message of jobs in a form of which only its first bytes are known names its version."""
    writer = bus.answering_writer()
    with player(bus) as producer:
        producer.say(Message("jobs", [b"TB" + struct.pack(">H", 77) + b"whatever follows", b"in", b"other", b"frames"]))
        wait_until(lambda: bus.status()["malformed"] == 1, "it is counted")
    assert f"version 77, this is version {VERSION}" in bus.errors(writer)


@each_of(REFUSED_JOURNALS)
def test_journals(bus: Bus, recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    """They stay where they are, byte by byte; the log says so once, the status as long as they are there, and `flush`
    does not call them done. Other journals are adopted."""
    contents = recording.journals()
    paths = leave_journals(bus, contents)
    writer = bus.answering_writer()
    wait_until(lambda: bus.status()["journals_unread"] == len(paths), "all are seen")
    bus.run('store = TelemetryStore(database); event(store, "p", 1); os._exit(0)')
    wait_until(lambda: {"p": [1]} == bus.numbers(), "another journal is adopted")
    assert 1 == cli(["status", "--database", bus.database.url])
    its = next(iter(contents.values()))[:8].decode()
    assert f"not a journal of this version: it is {its}, this reads TBUSJRN" in capsys.readouterr().out
    assert 0 != cli(["flush", "--timeout", "0.2", "--database", bus.database.url])
    assert "not a journal of this version" in capsys.readouterr().err
    writer.send_signal(signal.SIGTERM)
    bus.finish(writer)
    for path, content in zip(paths, contents.values(), strict=True):
        assert content == path.read_bytes()
        assert 1 == bus.errors(writer).count(f"{path.name} is left to a writer of its version")
    assert not bus.folder.quarantine.exists()


def test_a_producer_of_the_next_version(bus: Bus) -> None:
    """With a writer of today its `flush` names the versions. When it has died its journal waits, through any number of
    such writers; the first one that understands it writes everything, once."""
    writer = bus.answering_writer()
    output = bus.run(
        NEXT
        + f"""
from telemetry_bus import FlushTimeout
store = TelemetryStore(database, spawn=False)
for number in range(1, {JOBS} + 1):
    pair(store, "p", number)
for _ in range(100):
    try:
        store.flush(0.3)
    except FlushTimeout as error:
        if "version" in str(error):
            print(error, flush=True)
            break
os._exit(0)
"""
    )
    assert f"version {VERSION}, this is version {VERSION + 1}" in output
    for again in (True, False):
        wait_until(lambda: bus.status()["journals_unread"] == 1, "the journal is seen")
        writer.send_signal(signal.SIGTERM)
        bus.finish(writer)
        assert {} == bus.numbers()
        if again:
            writer = bus.answering_writer()
    program = bus.home / "next_writer.py"
    program.write_text(NEXT_WRITER)
    next_writer = bus.start_command(str(program), "--database", bus.database.url)
    bus.settle()
    wait_until(lambda: re.search(f"adopted {JOBS} jobs", bus.errors(next_writer)), "it has adopted")
    assert {"p": list(range(1, JOBS + 1))} == bus.numbers("events") == bus.numbers("details")
    next_writer.send_signal(signal.SIGTERM)  # nobody of today can ask it
    bus.finish(next_writer)
    bus.sound()
