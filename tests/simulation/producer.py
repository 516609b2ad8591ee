"""One stream in one process of the simulated world: outbox, journal and protocol are the real ones."""

from __future__ import annotations

import copy
import os
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from telemetry_bus.encoding.records import scan
from telemetry_bus.errors import JournalFull
from telemetry_bus.jobs import Failure, Job, Statement, Template
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer.outbox import Outbox
from telemetry_bus.protocol.messages import Ack, Jobs, decode_control, encode_control
from telemetry_bus.protocol.producer import ProducerProtocol

from .death import IN_JOURNAL, Death, doom, pardon
from .ground import POISON, Violation
from .scale import CHUNK_BYTES, FULL_BYTES, RING_BYTES, WINDOW_BYTES

if TYPE_CHECKING:
    from .stage import Stage

TABLE = "CREATE TABLE t (a)"
#: Together they do not fit into the room for definitions.
STATEMENTS = [f"INSERT INTO {'x' * length} VALUES (?)" for length in (1, 2, 3, 20, 40, 60, 80, 100)]


class Known(NamedTuple):
    """A job, and in which form it must reach the database."""

    job: Job
    template: Template
    payload: Any
    poison: bool


def _known(rng: Random) -> Known:
    statements = tuple(
        Statement(rng.choice(STATEMENTS), tuple(_row(rng) for _ in range(rng.choice([1, 1, 1, 2]))))
        for _ in range(rng.choice([1, 1, 1, 2]))
    )
    job = Job(statements, rng.choice([(), (TABLE,)]))
    template = Template(job.ensure, tuple((statement.sql, len(statement.rows) != 1) for statement in statements))
    parts = [[list(row) for row in statement.rows] for statement in statements]
    forms: list[Any] = [rows if len(rows) != 1 else rows[0] for rows in parts]
    return Known(job, template, forms[0] if len(forms) == 1 else forms, statements[0].rows[0][0] == POISON)


def _even(number: int) -> Known:
    sql, text = STATEMENTS[0], f"{number:020}"
    return Known(Job((Statement(sql, ((text,),)),)), Template((), ((sql, False),)), [text], False)


def _row(rng: Random) -> tuple[str]:
    return (POISON if rng.random() < 0.2 else f"{rng.randrange(1000)} " * rng.choice([1, 3, 30]),)


#: Made once, for making them takes longer than everything else. Few are equal, so that one in the place of another
#: is seen.
JOBS = [_known(chance) for chance in (Random(0),) for _ in range(500)]
#: Jobs of one length, and a ring of which it is a tenth: what is appended lies where another was a lap ago.
EVEN_JOBS = [_even(number) for number in range(500)]
EVEN_RING_BYTES = 10 * 28

#: Where a producer's process may be killed, besides between its turns. What it seldom comes to stands here again.
MOMENTS = (*IN_JOURNAL, "watermark torn", "watermark torn", "message sent", "message not sent")


class Producer:
    """One stream in one process."""

    def __init__(self, stage: Stage, name: bytes) -> None:
        rng = stage.rng
        self.name = name
        self.submitted: list[Known] = stage.submitted.setdefault(name, [])
        even = rng.random() < 0.2
        self._jobs = EVEN_JOBS if even else JOBS
        ring_bytes = EVEN_RING_BYTES if even else rng.randint(*RING_BYTES)
        self.journal = Journal(stage.folder.journals, name, ring_bytes, stage.database.identity)
        on_full: Any = rng.choice(["raise", "drop"])
        self.outbox = Outbox(self.journal, lambda: None, on_full=on_full, timeout=0, log_failures=False)
        linger_s = rng.choice((0.0, 0.02, 0.2, 2.0))
        self.protocol = ProducerProtocol(
            name, stage.database.identity, os.getpid(), linger_s=linger_s, full_bytes=rng.choice(FULL_BYTES)
        )
        self.inbox: list[bytes] = []
        self.stopped = False
        self._moment = ""
        self._stage = stage
        self._random = rng.random

    def submit(self, jobs: int) -> None:
        for _ in range(jobs):
            self._submit_one()

    def wait(self) -> None:
        """A process waits for what has been submitted so far."""
        self.outbox.hurry(self.outbox.last)

    def turn(self) -> None:
        """As the sender's loop: hear, push, say."""
        stage, protocol = self._stage, self.protocol
        now, network = stage.now, stage.network
        messages = [decode_control(data) for data in self.inbox]
        self.inbox.clear()
        for message in messages:
            if isinstance(message, Ack) and message.kind == "ack" and message.epoch != protocol.epoch:
                stage.tally["late: from an earlier writer"] += 1
        rewind = protocol.rewind
        failures: list[Failure] = []
        for message in messages:
            failures += protocol.receive(message, now)
        self.outbox.settle(protocol.acknowledged, protocol.committed, failures)
        if self.journal.trimmed != protocol.acknowledged:
            raise Violation(f"the journal of {self.name!r} keeps what is settled")
        stage.tally["gone back"] += protocol.rewind - rewind
        ever = stage.ground.ever[self.name]
        if max(self.outbox.committed, self.journal.trimmed[0]) > ever:
            raise Violation(f"job {self.outbox.committed} of {self.name!r} is acknowledged and not committed")
        protocol.look(self.journal.end, now, self.outbox.wanted)
        while (part := protocol.next_slice()) is not None:
            jobs = self.outbox.read(part)
            stage.tally["patient jobs sent" if jobs.patient else "jobs sent that are waited for"] += jobs.count
            self._check(jobs)
            self._passes("message not sent")
            network.send(stage.writer_jobs, (jobs.stream, stage.life, jobs.encode()))
            self._passes("message sent")
            protocol.sent(jobs, now)
        self._check_waited_for()
        for message in protocol.due(now):
            network.send(stage.writer_control, (self.name, encode_control(message)))
        if stage.writer is None and protocol.welcomed and self._random() < 0.3:
            protocol.unreachable()

    def deliver(self, data: bytes) -> None:
        self.inbox.append(data)

    def doom(self, moment: str) -> None:
        """The next time that it comes to this moment, its process is killed."""
        self.pardon()
        if moment in IN_JOURNAL:
            doom(self.journal, moment, self._random)
        else:
            self._moment = moment

    def pardon(self) -> None:
        self._moment = ""
        pardon(self.journal)

    def lose_journal(self) -> None:
        """Its file is removed, and made again."""
        assert self.journal.path is not None
        self.pardon()
        self.journal.path.unlink()
        if not self.journal.lost():
            raise Violation("a removed journal counts as there")
        self.outbox.renew_journal()

    def fork(self) -> Journal:
        """The child's copy of the journal, which holds on to the lock until the child lets go."""
        inherited = copy.copy(self.journal)
        inherited._lock_fd = os.dup(self.journal._lock_fd)
        inherited._words = inherited._definitions = inherited._ring = memoryview(b"")  # it lets go of its own views
        return inherited

    def die(self) -> None:
        """What it had said stays in flight; its journal stays, and its lock is free."""
        self.journal.close()

    def _submit_one(self) -> None:
        known = self._jobs[int(self._random() * len(self._jobs))]
        job = known.job
        try:
            if len(job.statements) == 1 and len(job.statements[0].rows) == 1:
                (statement,) = job.statements
                number = self.outbox.put_row(statement.sql, statement.rows[0], job.ensure)
            else:
                number = self.outbox.put(job)
        except JournalFull:
            number = 0
        except Death as death:
            if death.moment == "record published":
                self.submitted.append(known)
            elif death.moment == "record not published":
                self._stage.limbo[self.name] = known
            raise
        if number:
            self.submitted.append(known)
            if number != len(self.submitted):
                raise Violation(f"job {len(self.submitted)} was given number {number}")
        else:
            self._stage.tally["journal full"] += 1

    def _check(self, jobs: Jobs) -> None:
        *inner, _ = scan(jobs.records, jobs.first)
        if inner and inner[-1] >= CHUNK_BYTES:
            raise Violation(f"a message of {len(jobs.records)} bytes is longer than a chunk and one job")
        if self._in_flight >= WINDOW_BYTES:
            raise Violation(f"{self._in_flight} bytes are in flight, and another message is sent")
        if jobs.patient and self.outbox.wanted >= jobs.first:
            raise Violation(f"job {jobs.first} is sent as if no process waited for it")

    @property
    def _in_flight(self) -> int:
        return self.protocol.position[1] - self.protocol.acknowledged[1]

    def _check_waited_for(self) -> None:
        protocol = self.protocol
        left = min(self.outbox.wanted, self.journal.end[0]) - protocol.position[0]
        if left > 0 and protocol.welcomed and self._in_flight < protocol._window:
            raise Violation(f"{left} jobs that a process waits for are not sent")

    def _passes(self, moment: str) -> None:
        if moment == self._moment:
            raise Death(moment)
