"""What `scripts/fuzz` gives its inputs to: each part of the bus that reads what others wrote, with its oracle."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Protocol, cast

import zmq

from telemetry_bus import Job, Statement, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.database import Writer
from telemetry_bus.encoding.records import Definitions, read_runs, scan
from telemetry_bus.encoding.values import (
    pack_job,
    pack_rows,
    packer,
    text_of_extension,
    unpack,
    unpack_job,
    unpack_sequence,
)
from telemetry_bus.errors import JournalCorrupt, ProtocolError, TelemetryError
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.protocol.messages import Command, decode_control
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock
from telemetry_bus.runtime.waker import Waker
from telemetry_bus.writer.intake import BatchLimits
from writer_daemon.daemon import Daemon
from writer_daemon.options import WriterOptions
from writer_daemon.signals import Signals
from writer_daemon.sockets import Sockets

from . import hostile
from .hostile import Input, Peer

#: An honest job comes after so many inputs.
HONEST_EVERY = 20
#: A writer process may take so long to answer, or to end.
ANSWER_S = 30.0

TABLE = "CREATE TABLE IF NOT EXISTS honest (id INTEGER PRIMARY KEY, number INTEGER NOT NULL)"
INSERT = "INSERT INTO honest (number) VALUES (?)"
#: Identity of the database of a `Bench`.
MEMORY = parse_database(":memory:").identity


class Wrong(Exception):
    """What the oracle found."""


class Target(Protocol):
    """Something that reads what others wrote.

    `take` says whether it refused the input; `judge` how many it refused that `take` did not know of.
    """

    def take(self, given: Input) -> bool: ...
    def judge(self) -> int: ...
    def peak_mib(self) -> int: ...


class InProcess:
    """Nothing to judge between the inputs."""

    def judge(self) -> int:
        return 0

    def peak_mib(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Codec(InProcess):
    """Whatever turns bytes into values: one input to each of them."""

    def __init__(self, folder: Path, life: ExitStack) -> None:
        self._pack = packer().pack
        self._chance = Random(0)

    def take(self, given: Input) -> bool:
        (data,) = given.frames
        refused = 0
        definitions = Definitions()
        attempts: tuple[Callable[[], object], ...] = (
            lambda: unpack(data),
            lambda: unpack_job(data),
            lambda: unpack_sequence(3, data),
            lambda: list(scan(data, 1)),
            lambda: definitions.extend(1, 1 + len(data) % 3, data),
            lambda: read_runs(bytes(16), 1, 1 + len(data) % 2, data, definitions),
            lambda: decode_control(data),
        )
        for attempt in attempts:
            try:
                attempt()
            except (ProtocolError, JournalCorrupt, KeyError):
                refused += 1
        self._round_trip()
        return refused == len(attempts)

    def _round_trip(self) -> None:
        job = hostile.job(self._chance)
        if unpack_job(pack_job(job)) != job:
            raise Wrong(f"not the same job afterwards: {job}")
        rows = [(1, None, "x")]
        if unpack(pack_rows(self._pack, rows), ext_hook=text_of_extension) != [[1, None, "x"]]:
            raise Wrong("not the same rows afterwards")


class Queue:
    """Stands in for a socket: what lies in it is received, what is sent is dropped."""

    def __init__(self) -> None:
        self.frames: deque[list[bytes]] = deque()

    def recv_multipart(self, flags: int = 0) -> list[bytes]:
        if not self.frames:
            raise zmq.Again
        return self.frames.popleft()

    def send_multipart(self, frames: list[bytes], flags: int = 0) -> None:
        assert all(isinstance(frame, bytes) for frame in frames)


class QueueSockets:
    """Stands in for the writer's sockets."""

    def __init__(self) -> None:
        self.jobs = Queue()
        self.control = Queue()


class Bench(InProcess):
    """A whole daemon with a real writer and database in memory, but without a network, and an honest stream."""

    def __init__(self, folder: Path, life: ExitStack) -> None:
        self.folder = BusFolder(folder / "bus")
        self.folder.prepare()
        self._waker = Waker()
        life.callback(self._waker.close)
        lock = InstanceLock.acquire(self.folder.writer_lock)
        assert lock is not None
        self._lock = lock
        life.callback(lock.release)
        self._begin()
        life.callback(lambda: self._writer.close())

    def _begin(self) -> None:
        """A new writer with a new database."""
        database = parse_database(":memory:")
        self.sockets = QueueSockets()
        self._writer = Writer(database, statement_timeout=2.0)
        options = WriterOptions(database, 0.0, BatchLimits(), "full", None, "info", "text", spawned=False)
        self.daemon = Daemon(
            options,
            self.folder,
            self._lock,
            self._writer,
            cast(Sockets, self.sockets),
            Signals(self._waker),
            self._waker,
        )
        self._honest = Peer(b"an honest stream")
        self._submitted = 0
        self._taken = 0

    def turn(self) -> None:
        """One turn of the daemon's loop; an operator may have asked it to leave."""
        self.daemon._turn()
        self.daemon.leaving = False
        self._taken += 1
        if self._taken % HONEST_EVERY == 0:
            self._submitted += 1
            message = self._honest.message(self._submitted, [Job((Statement(INSERT, [(self._submitted,)]),), (TABLE,))])
            self.sockets.jobs.frames.append(message.encode())
            self.daemon._turn()
            if self.daemon.intake.protocol.received(self._honest.stream) != self._submitted:
                raise Wrong(f"job {self._submitted} of an honest producer was not taken")
            if self.daemon.intake.fault:
                raise self.daemon.intake.fault

    def judge(self) -> int:
        self.daemon._turn()
        connection = self._writer.driver_connection
        connection.set_authorizer(None)
        if self._submitted:
            found = [number for (number,) in connection.execute("SELECT number FROM honest ORDER BY id")]
            if found != list(range(1, self._submitted + 1)):
                raise Wrong(f"of {self._submitted} honest jobs {len(found)} rows are there, or in another order")
        letters = "SELECT error FROM telemetry_bus_dead_letters WHERE stream = ?"
        if failed := connection.execute(letters, (self._honest.stream,)).fetchall():
            raise Wrong(f"an honest job failed: {failed}")
        if (state := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            raise Wrong(f"integrity check: {state[:3]}")
        self.daemon.adopter.close()
        self._writer.close()
        self._begin()
        return 0


class Messages(Bench):
    """What arrives at one of the two sockets."""

    def __init__(self, folder: Path, life: ExitStack) -> None:
        super().__init__(folder, life)
        self._count = 0

    def take(self, given: Input) -> bool:
        before = self.daemon.intake.malformed
        self._put(given.frames)
        self.turn()
        malformed = self.daemon.intake.malformed - before
        if given.malformed and malformed != 1:
            raise Wrong(f"a malformed message was counted {malformed} times")
        return malformed > 0

    def _put(self, frames: list[bytes]) -> None:
        self.sockets.jobs.frames.append(frames)


class ControlMessages(Messages):
    def _put(self, frames: list[bytes]) -> None:
        self._count += 1
        self.sockets.control.frames.append([str(self._count % 50).encode(), *frames])


class Journals(Bench):
    """What a dead producer may have left: read, then adopted."""

    def take(self, given: Input) -> bool:
        stream = given.frames[0][8:24].ljust(16, b"\0")  # a journal has the name of its stream
        path = self.folder.journals / f"{stream.hex()}.journal"
        path.write_bytes(given.frames[0])
        try:
            journal = OrphanJournal.claim(path)
        except JournalCorrupt:
            refused = True
        else:
            assert journal is not None
            refused = self._read(journal, given.records)
        adopter = self.daemon.adopter
        adopter.scan()
        for _ in range(1000):
            self.turn()
            if not adopter.busy:
                break
        if left := set(self.folder.journal_paths()) - adopter.unread:
            raise Wrong(f"{len(left)} journals are neither deleted nor put into quarantine")
        for path in adopter.unread:  # of another version, it says
            refused = True
            path.unlink()
        if self.folder.quarantine.exists():
            refused = True
            shutil.rmtree(self.folder.quarantine)
        return refused

    def _read(self, journal: OrphanJournal, intact: dict[int, bytes] | None) -> bool:
        try:
            for first, count, data in journal.chunks():
                start = 0
                for number, end in enumerate(scan(data, first), first):
                    if intact is not None and intact.get(number) != data[start:end]:
                        raise Wrong(f"job {number} was read and is not what was written")
                    start = end
                if number != first + count - 1:
                    raise Wrong("a chunk has not as many jobs as it says")
            return journal.damage is not None
        finally:
            journal.close()


class RealSockets:
    """A writer process with its sockets, while an honest producer works."""

    def __init__(self, folder: Path, life: ExitStack) -> None:
        self._database = parse_database(folder / "telemetry.db")
        self._folder = BusFolder.of(self._database, environ={})
        life.callback(self._folder.close)
        with (folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "writer_daemon", "--database", self._database.url],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                env={"PYTHONPATH": str(Path(__file__).parents[2])},
            )
        life.callback(self._end)
        self._errors = folder / "errors"
        self._store = TelemetryStore(self._database.url, spawn=False)
        life.callback(self._store.shutdown)
        self._store.execute(INSERT, (1,), ensure=[TABLE])
        self._submitted = 1
        self._store.flush(ANSWER_S)
        context = zmq.Context()
        life.callback(context.destroy, linger=0)
        self._raw = {}
        for kind, name in ((zmq.PUSH, "jobs"), (zmq.DEALER, "control")):
            raw = self._raw[name] = context.socket(kind)
            raw.sndtimeo = round(ANSWER_S * 1000)
            raw.connect(self._folder.endpoint(name))
        self._sent = 0
        self._refused = 0

    def take(self, given: Input) -> bool:
        """Nobody can tell here which were refused; the writer counts them."""
        name = "control" if len(given.frames) < 3 else "jobs"
        raw = self._raw[name]
        if not _stops(given.frames):
            raw.send_multipart(given.frames)
        while name == "control" and raw.poll(0):
            raw.recv_multipart()
        self._sent += 1
        if self._sent % HONEST_EVERY == 0:
            self._submitted += 1
            self._store.execute(INSERT, (self._submitted,), ensure=[TABLE])
        return False

    def judge(self) -> int:
        self._store.flush(ANSWER_S)
        if self._process.poll() is not None:
            raise Wrong(f"the writer ended with {self._process.returncode}: {self._errors.read_text()[-3000:]}")
        status = ask(self._folder, "status", ANSWER_S)
        if status["pid"] != self._process.pid or (self._sent > 100 and not status["malformed"]):
            raise Wrong(f"a strange status: {status}")
        with self._store.connection() as connection:
            found = [number for (number,) in connection.execute("SELECT number FROM honest ORDER BY id")]
        if found != list(range(1, self._submitted + 1)):
            raise Wrong(f"of {self._submitted} honest jobs {len(found)} rows are there, or in another order")
        refused, self._refused = status["malformed"] - self._refused, status["malformed"]
        return int(refused)

    def peak_mib(self) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
        return 0

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _stops(frames: list[bytes]) -> bool:
    """Whether an operator may rightly ask this, and the writer would leave."""
    with suppress(TelemetryError):
        message = decode_control(frames[0])
        return isinstance(message, Command) and message.name == "stop"
    return False
