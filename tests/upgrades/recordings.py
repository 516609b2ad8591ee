"""What earlier versions left behind (see `record.py`), and playing it to a writer of today."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from ..support.bus import Bus
from ..support.clock import wait_until

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Message:
    """What a producer said, and on which socket; of jobs the last one's number."""

    to: str
    frames: list[bytes]
    last: int = 0


@dataclass(frozen=True)
class Recording:
    """One version's folder."""

    folder: Path

    @property
    def version(self) -> int:
        return int(self.folder.name)

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())
        return found

    def rows(self, of: str) -> dict[str, list[tuple[Any, ...]]]:
        """The tables that must come of it."""
        return {
            table: [
                tuple(bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value for value in row)
                for row in rows
            ]
            for table, rows in self.expected[of]["rows"].items()
        }

    def journals(self) -> dict[str, bytes]:
        """The journals' contents by the names that their files had."""
        return {
            name: gzip.decompress((self.folder / f"{scene}.journal.gz").read_bytes())
            for scene, name in self.expected["journals"]["files"].items()
        }

    def conversation(self, database: str) -> list[Message]:
        """What a producer of this database said."""
        lines = gzip.decompress((self.folder / "conversation.jsonl.gz").read_bytes()).splitlines()
        named = msgpack.packb(self.expected["identity"]), msgpack.packb(database)
        messages = []
        for line in map(json.loads, lines):
            frames = [base64.b64decode(frame) for frame in line["frames"]]
            messages.append(Message(line["to"], [frame.replace(*named) for frame in frames], line["last"]))
        return messages

    def load_database(self, path: Path) -> None:
        """Make the database that the writer of that version left behind."""
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(gzip.decompress((self.folder / "database.sql.gz").read_bytes()).decode())


#: Versions whose messages or journals today's writer refuses on purpose: that too is tried, in `test_to_come.py`.
REFUSED_MESSAGES: frozenset[int] = frozenset()
REFUSED_JOURNALS: frozenset[int] = frozenset()

#: All that there are; one version at least.
RECORDINGS = [Recording(path) for path in sorted(RECORDED.iterdir(), key=lambda path: int(path.name))]


def leave_journals(bus: Bus, journals: dict[str, bytes]) -> list[Path]:
    """Put journals where their dead owners left them."""
    bus.folder.prepare()
    for name, content in journals.items():
        (bus.folder.journals / name).write_bytes(content)
    return [bus.folder.journals / name for name in journals]


def tables(bus: Bus) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but the bus's own."""
    names = [name for (name,) in bus.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {
        name: bus.rows(f"SELECT * FROM {name} ORDER BY id") for name in names if not name.startswith("telemetry_bus_")
    }


class Player:
    """A producer of another version, as far as its messages go."""

    def __init__(self, bus: Bus, context: zmq.Context[Any]) -> None:
        self._sockets = {"jobs": context.socket(zmq.PUSH), "control": context.socket(zmq.DEALER)}
        for name, socket in self._sockets.items():
            socket.connect(bus.folder.endpoint(name))
        self.answers: list[list[Any]] = []

    def say(self, message: Message) -> None:
        self._sockets[message.to].send_multipart(message.frames)

    def listen(self) -> list[list[Any]]:
        """Everything that was answered so far."""
        while self._sockets["control"].poll(10):
            self.answers.append(msgpack.unpackb(self._sockets["control"].recv()))
        return self.answers


@contextmanager
def player(bus: Bus) -> Iterator[Player]:
    context: zmq.Context[Any] = zmq.Context()
    try:
        yield Player(bus, context)
    finally:
        context.destroy(linger=1000)


def _committed(producer: Player, committed: int, last: int) -> bool:
    return any(answer[committed] >= last for answer in producer.listen())


def play(bus: Bus, messages: list[Message], committed: int) -> list[list[Any]]:
    """Say everything as its producer did: each thing when what came before it is answered. The answers; `committed` is
    the field in which these tell how many jobs are."""
    with player(bus) as producer:
        for message in messages:
            producer.say(message)
            if message.last or not producer.answers:
                wait_until(partial(_committed, producer, committed, message.last), f"job {message.last} is committed")
        return producer.listen()
