"""A small world that one seed decides: producers, writers that come and go, a network that loses, doubles, delays
and reorders, a database that fails, journals that survive.

Everything but the network, the clock, the processes and the database is the real thing: outbox, journal, both
halves of the protocol, intake, adoption.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from telemetry_bus import adoption, journal, orphan
from telemetry_bus.adoption import Adopter
from telemetry_bus.config import Database
from telemetry_bus.errors import DatabaseFault, JournalFull, ProtocolError
from telemetry_bus.intake import BatchLimits, Intake
from telemetry_bus.jobs import Failure, Job, Run, Statement
from telemetry_bus.journal import Journal
from telemetry_bus.link import Link
from telemetry_bus.outbox import Outbox
from telemetry_bus.paths import BusFolder
from telemetry_bus.protocol import writer as writer_protocol
from telemetry_bus.protocol.messages import Jobs, decode_control, encode_control
from telemetry_bus.records import scan

#: Bounds so small that a few dozen jobs meet every one of them.
RING_BYTES = (1500, 3000)
CHUNK_BYTES, WINDOW_BYTES = 200, 1000
ENOUGH_TURNS = 3000
POISON = "poison"
TABLE = "CREATE TABLE t (a)"
#: Together they do not fit into the room for definitions.
STATEMENTS = [f"INSERT INTO {'x' * length} VALUES (?)" for length in (1, 2, 3, 20, 40, 60, 80, 100)]


class Violation(AssertionError):
    """A promise of the bus was broken."""


@contextmanager
def small_world() -> Iterator[None]:
    """Tight limits, no waiting for the disk, no log."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (journal, "CHUNK_BYTES", CHUNK_BYTES), (journal, "DEFINITIONS_BYTES", 400),
            (orphan, "CHUNK_BYTES", 250), (orphan, "_PIECE_BYTES", 300),
            (writer_protocol, "TOTAL_WINDOW_BYTES", 1500), (writer_protocol, "MIN_WINDOW_BYTES", 300),
            (writer_protocol, "MAX_WINDOW_BYTES", WINDOW_BYTES), (writer_protocol, "MAX_REPORTS", 2),
        ):
            patch.setattr(module, name, value)
        for module in (journal, orphan, adoption):
            patch.setattr(module, "sync_folder", lambda folder: None)
        logger = logging.getLogger("telemetry_bus")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@dataclass
class Ground:
    """What survives every process: the committed rows, the ledger, the dead letters."""

    ledger: dict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    applied: dict[bytes, list[Job]] = field(default_factory=lambda: defaultdict(list))
    letters: dict[bytes, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))


class GroundWriter:
    """Stands in for `Writer`: the same promises, over a `Ground` instead of a database."""

    def __init__(self, ground: Ground, misfortune: Callable[[str], bool]) -> None:
        self._ground = ground
        self._misfortune = misfortune
        self._in_doubt = False

    def apply(self, runs: Sequence[Run]) -> list[Failure]:
        """All or nothing. A fault may strike before or after the commit; afterwards the ledger is read first."""
        self._fault("before commit")
        jobs = [
            (run.stream, sequence, run.template.job(payload))
            for run in runs for sequence, payload in enumerate(run.payloads, run.first)
        ]
        failures = []
        for stream, sequence, job in jobs:
            ground = self._ground
            if sequence > ground.ledger[stream] or not self._in_doubt:
                if sequence != ground.ledger[stream] + 1:
                    raise Violation(f"job {sequence} of {stream!r} is applied after job {ground.ledger[stream]}")
                ground.ledger[stream] = sequence
                ground.applied[stream].append(job)
                if job.statements[0].rows[0][0] == POISON:
                    ground.letters[stream][sequence] = f"failure {sequence}"
            if sequence in ground.letters[stream]:
                failures.append(self._failure(stream, sequence))
        self._in_doubt = True
        self._fault("after commit")
        self._in_doubt = False
        return failures

    def last_sequences(self, streams: Collection[bytes]) -> dict[bytes, int]:
        self._fault("reading the ledger")
        return {stream: self._ground.ledger[stream] for stream in streams}

    def raise_watermark(self, stream: bytes, sequence: int) -> None:
        raise Violation(f"the ledger is said to stand behind the watermark {sequence} of {stream!r}")

    def failures_after(self, stream: bytes, sequence: int, limit: int = 100) -> list[Failure]:
        self._fault("reading failures")
        above = [number for number in sorted(self._ground.letters[stream]) if number > sequence]
        return [self._failure(stream, number) for number in above[:limit]]

    def _failure(self, stream: bytes, sequence: int) -> Failure:
        return Failure(stream, sequence, "IntegrityError", self._ground.letters[stream][sequence], "INSERT")

    def _fault(self, what: str) -> None:
        if self._misfortune(what):
            raise DatabaseFault(what)


class Producer:
    """One stream in one process."""

    def __init__(self, world: World, name: bytes) -> None:
        ring_bytes = world.rng.randint(*RING_BYTES)
        self.name = name
        self.submitted = world.submitted.setdefault(name, [])
        self.journal = Journal(world.folder.journals, name, ring_bytes, world.database.identity)
        on_full: Any = world.rng.choice(["raise", "drop"])
        self.outbox = Outbox(self.journal, lambda: None, on_full=on_full, timeout=0, log_failures=False)
        self.link = Link(self.outbox, world.database)
        self.inbox: list[bytes] = []
        self._world = world

    def submit(self) -> None:
        rng = self._world.rng
        statements = tuple(
            Statement(rng.choice(STATEMENTS), tuple(self._row() for _ in range(rng.choice([1, 1, 1, 2]))))
            for _ in range(rng.choice([1, 1, 1, 2]))
        )
        job = Job(statements, rng.choice([(), (TABLE,)]))
        try:
            number = self.outbox.put(job)
        except JournalFull:
            return
        if number:
            self.submitted.append(job)
            if number != len(self.submitted):
                raise Violation(f"job {len(self.submitted)} was given number {number}")

    def turn(self) -> None:
        """As the sender's loop: hear, push, say."""
        now, network = self._world.now, self._world.network
        messages = [decode_control(data) for data in self.inbox]
        self.inbox.clear()
        self.link.receive(messages, now)
        stream, ground = self.name, self._world.ground
        if self.outbox.committed > ground.ledger[stream]:
            raise Violation(f"job {self.outbox.committed} of {stream!r} is acknowledged and not committed")
        while (jobs := self.link.next()) is not None:
            *inner, _ = scan(jobs.records, jobs.first)
            if inner and inner[-1] >= CHUNK_BYTES:
                raise Violation(f"a message of {len(jobs.records)} bytes is longer than a chunk and one job")
            under_way = self.link.protocol.position[1] - self.link.protocol.acknowledged[1]
            if under_way >= WINDOW_BYTES:
                raise Violation(f"{under_way} bytes are under way, and another message is sent")
            self.link.sent(now)
            network.send(self._world.writer_jobs, jobs.encode())
        for message in self.link.due(now):
            network.send(self._world.writer_control, (stream, encode_control(message)))

    def deliver(self, data: bytes) -> None:
        self.inbox.append(data)

    def _row(self) -> tuple[Any, ...]:
        rng = self._world.rng
        return (POISON,) if rng.random() < 0.05 else (rng.choice(["", "some text", "a longer text " * 5]),)


class WriterProcess:
    """One life of a writer."""

    def __init__(self, world: World) -> None:
        writer: Any = GroundWriter(world.ground, world.misfortune)
        limits = BatchLimits(jobs=world.rng.choice([3, 20]), bytes=world.rng.choice([500, 5000]))
        self.intake: Intake[bytes] = Intake(writer, world.database, limits, clock=lambda: world.now)
        self.intake.protocol.epoch = world.rng.randbytes(8)
        self.adopter = Adopter(world.folder, self.intake)
        self.jobs: list[list[bytes]] = []
        self.control: list[tuple[bytes, bytes]] = []
        self._world = world

    def turn(self, crash_at: str = "") -> None:
        """As the daemon's loop. Raises `Crash` where it is told to."""
        world, intake = self._world, self.intake
        for route, data in self.control:
            intake.control(route, decode_control(data))
        self.control.clear()
        while self.jobs and intake.room:
            try:
                intake.jobs(Jobs.decode(self.jobs.pop(0)))
            except ProtocolError as error:
                raise Violation(f"an honest message is malformed: {error}") from error
        self.adopter.step()
        _maybe_crash(crash_at, "before commit")
        if intake.due_in() == 0:
            intake.commit()
        _maybe_crash(crash_at, "after commit")
        for route, message in intake.replies():
            world.network.send(world.producer(route), encode_control(message))
            _maybe_crash(crash_at, "between answers")
        if intake.malformed:
            raise Violation("an honest message is malformed")

    def die(self) -> None:
        self.adopter.close()


class Crash(Exception):
    pass


class Network:
    """Messages under way. Any may be lost, doubled, or overtaken."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._under_way: list[tuple[Callable[[Any], None], Any]] = []
        self.lost = 0
        self.loss = rng.choice([0.0, 0.1, 0.3])
        self.doubling = rng.choice([0.0, 0.1, 0.3])
        self.disorder = rng.choice([0.0, 0.1, 0.5])

    def send(self, to: Callable[[Any], None], message: Any) -> None:
        self._under_way.append((to, message))

    def step(self) -> None:
        """Deliver one message, or not."""
        if not self._under_way:
            return
        rng = self._rng
        index = rng.randrange(len(self._under_way)) if rng.random() < self.disorder else 0
        to, message = self._under_way.pop(index)
        if rng.random() < self.doubling:
            self._under_way.append((to, message))
        if rng.random() < self.loss:
            self.lost += 1
        else:
            to(message)

    def heal(self) -> None:
        self.loss = self.doubling = self.disorder = 0.0

    def deliver_all(self) -> None:
        while self._under_way:
            self.step()


class World:
    """See the module. `run` raises `Violation` when a promise is broken."""

    def __init__(
        self, seed: int, folder: Path, tell: Callable[[str], None] | None = None, *, only_loss: bool = False
    ) -> None:
        """`tell` is told of every step. With `only_loss` messages are lost, and nothing else goes wrong."""
        self.rng = Random(seed)
        self.folder = BusFolder(folder)
        self.folder.journals.mkdir(parents=True)
        self.database = Database("sqlite:////simulated.db", "sqlite", Path("/simulated.db"))
        self.ground = Ground()
        self.network = Network(self.rng)
        self.submitted: dict[bytes, list[Job]] = {}
        self.now = 1000.0
        self._tell = tell
        self._faults = self.rng.choice([0.0, 0.0, 0.1, 0.3])
        self._only_loss = only_loss
        if only_loss:
            self.network.heal()
            self.network.loss = 0.1
            self._faults = 0.0
        self._writer: WriterProcess | None = None
        self._producers: list[Producer] = []
        self._streams = 0

    def run(self, steps: int) -> None:
        """Live, then heal everything: all that was submitted must end up applied."""
        actions = {
            self._submit: 30, self._producer_turn: 25, self._network_step: 40, self._writer_turn: 25,
            self._time_passes: 10, self._scan: 3, self._expire: 1, self._writer_crashes: 2, self._writer_starts: 6,
            self._producer_starts: 2, self._producer_dies: 1, self._producer_leaves: 1,
        }
        if self._only_loss:
            for trouble in (self._expire, self._writer_crashes, self._producer_dies, self._producer_leaves):
                del actions[trouble]
        for action in self.rng.choices([*actions], [*actions.values()], k=steps):
            self._act(action)
        self._heal()
        self._check()

    # What may happen

    def _submit(self) -> None:
        if producer := self._any_producer():
            for _ in range(self.rng.choice([1, 1, 3, 10])):
                producer.submit()

    def _producer_turn(self) -> None:
        if producer := self._any_producer():
            producer.turn()

    def _network_step(self) -> None:
        for _ in range(self.rng.choice([1, 3])):
            self.network.step()

    def _writer_turn(self) -> None:
        if self._writer:
            crash = ["", "before commit", "after commit", "between answers"]
            often = 0 if self._only_loss else 1
            try:
                self._writer.turn(self.rng.choices(crash, [30, often, often, often])[0])
            except Crash:
                self._writer_crashes()

    def _time_passes(self) -> None:
        self.now += 0.001 if self._only_loss else self.rng.choice([0.01, 0.1, 1.0, 10.0])

    def _scan(self) -> None:
        if self._writer:
            self._writer.adopter.scan()

    def _expire(self) -> None:
        """So much time passes that the writer forgets whoever was silent."""
        if self._writer:
            self._writer.intake.protocol.expire(float("inf"))

    def _writer_crashes(self) -> None:
        if self._writer:
            self._writer.die()
            self._writer = None

    def _writer_starts(self) -> None:
        if self._writer is None:
            self._writer = WriterProcess(self)
            self._writer.adopter.scan()

    def _producer_starts(self) -> None:
        if len(self._producers) < 3:
            self._streams += 1
            self._producers.append(Producer(self, b"stream %9d" % self._streams))

    def _producer_dies(self) -> None:
        """What it had said stays under way; its journal stays, and its lock is free."""
        if producer := self._any_producer():
            self._producers.remove(producer)
            producer.journal.close()

    def _producer_leaves(self) -> None:
        """In good order: a goodbye when nothing is pending."""
        if producer := self._any_producer():
            self._producers.remove(producer)
            self._say_goodbye(producer)

    # The end

    def _heal(self) -> None:
        """From now on everything works. All that is pending must be done in bounded time."""
        self.network.heal()
        self._faults = 0.0
        self._writer_starts()
        assert self._writer is not None
        for _ in range(ENOUGH_TURNS):
            self.now += 0.25
            for producer in self._producers:
                producer.turn()
            self.network.deliver_all()
            self._writer.turn()
            self._writer.adopter.scan()
            if self._quiet():
                break
        else:
            waiting = [(producer.name, producer.outbox.pending) for producer in self._producers]
            left = [path.name for path in self.folder.journal_paths()]
            raise Violation(f"it never ends: {waiting} jobs are pending, journals {left}")
        for producer in self._producers:
            told = producer.outbox.counts().failed
            expected = len(self.ground.letters[producer.name])
            if told != expected:
                raise Violation(f"{expected} jobs of {producer.name!r} failed, it was told of {told}")
            self._say_goodbye(producer)
        self.network.deliver_all()
        self._writer.turn()
        self._writer.die()
        if self._only_loss:
            self._check_economy(self._writer)

    def _check_economy(self, writer: WriterProcess) -> None:
        """Only a loss makes anybody ask for a resend or go back, and each does so once."""
        asked = writer.intake.protocol.resends
        # Each begins with one, and with another when the writer was slow to answer.
        rewinds = sum(producer.link.protocol.rewind - 2 for producer in self._producers)
        if max(asked, rewinds) > self.network.lost:
            raise Violation(f"{self.network.lost} messages were lost, {asked} resends asked, {rewinds} times gone back")

    def _quiet(self) -> bool:
        alive = {producer.journal.path for producer in self._producers}
        return all(not producer.outbox.pending for producer in self._producers) and alive.issuperset(
            self.folder.journal_paths()
        )

    def _check(self) -> None:
        """Every job exactly once, in order, whole."""
        if self.folder.quarantine.exists():
            raise Violation("an intact journal was taken for a damaged one")
        for name, jobs in self.submitted.items():
            applied = [_with_tuples(job) for job in self.ground.applied[name]]
            if jobs != applied:
                raise Violation(f"{len(jobs)} jobs of {name!r} were submitted, {len(applied)} applied, not the same")
            poisoned = {number for number, job in enumerate(jobs, 1) if job.statements[0].rows[0][0] == POISON}
            if poisoned != set(self.ground.letters[name]):
                raise Violation(f"dead letters of {name!r}: {sorted(poisoned)} expected")

    # Who is where

    def producer(self, name: bytes) -> Callable[[bytes], None]:
        """How to reach a producer; after its death nobody is there."""

        def deliver(data: bytes) -> None:
            for producer in self._producers:
                if producer.name == name:
                    producer.deliver(data)

        return deliver

    def writer_jobs(self, frames: list[bytes]) -> None:
        if self._writer:
            self._writer.jobs.append(frames)

    def writer_control(self, message: tuple[bytes, bytes]) -> None:
        if self._writer:
            self._writer.control.append(message)

    def misfortune(self, what: str) -> bool:
        return self.rng.random() < self._faults

    def _any_producer(self) -> Producer | None:
        return self.rng.choice(self._producers) if self._producers else None

    def _say_goodbye(self, producer: Producer) -> None:
        producer.outbox.close()
        if not producer.outbox.pending:
            self.network.send(
                self.writer_control, (producer.name, encode_control(producer.link.protocol.bye()))
            )
        producer.outbox.release()

    def _act(self, action: Callable[[], None]) -> None:
        if self._tell:
            self._tell(f"{self.now:8.2f} {action.__name__.strip('_').replace('_', ' ')} {dict(self.ground.ledger)}")
        action()


def _maybe_crash(at: str, here: str) -> None:
    if at == here:
        raise Crash


def _with_tuples(job: Job) -> Job:
    return Job(tuple(Statement(s.sql, tuple(tuple(row) for row in s.rows)) for s in job.statements), job.ensure)
