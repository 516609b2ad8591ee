"""Who is there in a simulated world, how they reach each other, how they come and how they go."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from telemetry_bus.config import Database
from telemetry_bus.journal.layout import lock_file
from telemetry_bus.journal.ring import Journal
from telemetry_bus.protocol.messages import encode_control
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock

from .death import Death
from .ground import Ground, Violation
from .network import Network
from .producer import Known, Producer
from .writer import MOMENTS, WriterProcess


class Stage:
    """`tally` counts what has happened."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = Random(seed)
        self.tally: Counter[str] = Counter()
        self.folder = _empty(BusFolder(folder))
        #: Another bus folder of the database: journals lie there for a while, out of the writer's sight.
        self.elsewhere = _empty(BusFolder(folder / "elsewhere"))
        #: Those there that are copies of journals here.
        self.copies: set[Path] = set()
        #: Names of copies that have come back, when the ledger may know of more than they have.
        self.old: set[str] = set()
        self.database = Database("sqlite:////simulated.db", "sqlite", Path("/simulated.db"))
        self.ground = Ground()
        self.network = Network(self.rng, self.tally)
        self.faults = self.rng.choice((0.0, 0.0, 0.05, 0.2))
        self.now = 1000.0
        self.submitted: dict[bytes, list[Known]] = {}
        #: Jobs whose producer was killed when they were in the journal, and not published: they may be applied.
        self.limbo: dict[bytes, Known] = {}
        self.writer: WriterProcess | None = None
        #: Writers whose folder was removed, and who do not know it yet.
        self.zombies: list[WriterProcess] = []
        self.life = 0  # of how many writers this is the last
        self.producers: list[Producer] = []
        self.children: list[Journal] = []  # what forked children hold that have not used their store yet
        self.adopted: set[bytes] = set()
        self._left: set[bytes] = set()
        self._streams = 0

    # How they reach each other

    def producer(self, name: bytes) -> Callable[[bytes], None]:
        """How to reach a producer; after its death nobody is there."""

        def deliver(data: bytes) -> None:
            for producer in self.producers:
                if producer.name == name:
                    producer.deliver(data)

        return deliver

    def writer_jobs(self, message: tuple[bytes, int, list[bytes]]) -> None:
        if self.zombies and self.rng.random() < 0.5:  # a connection outlives the name of its socket
            self.rng.choice(self.zombies).jobs.append(message[2])
        elif self.writer:
            stream, life, frames = message
            if stream in self._left:
                self.tally["late: of a stream that said goodbye"] += 1
            elif stream in self.adopted:
                self.tally["late: of an adopted stream"] += 1
            elif life != self.life:
                self.tally["late: for an earlier writer"] += 1
            self.writer.jobs.append(frames)

    def writer_control(self, message: tuple[bytes, bytes]) -> None:
        if self.zombies and self.rng.random() < 0.5:
            self.rng.choice(self.zombies).control.append(message)
        elif self.writer:
            self.writer.control.append(message)

    def acknowledged(self, name: bytes) -> int | None:
        """Up to where a producer that lives has trimmed its journal."""
        return next((each.journal.trimmed[0] for each in self.producers if each.name == name), None)

    def misfortune(self, what: str, often: int = 1) -> bool:
        """Whether the database fails here; `often` is for what comes seldom."""
        if self.rng.random() < often * self.faults:
            self.tally[f"database fault {what}"] += 1
            return True
        return False

    # The writer

    @property
    def writer_runs(self) -> bool:
        return self.writer is not None and not self.writer.stopped

    def start_writer(self) -> None:
        """Nothing comes of it while another lives, be it stopped: it holds the lock."""
        if self.writer_runs:
            return
        lock = InstanceLock.acquire(self.folder.writer_lock)
        if lock is None:
            self.tally["writer refused, the lock is held"] += 1
        elif self.writer is not None:
            lock.release()
            raise Violation("a second writer has the lock")
        else:
            self.tally["writer started"] += 1
            self.life += 1
            self.writer = WriterProcess(self, lock, self.folder)
            self.writer.adopter.scan()

    def have_writer(self, do: Callable[[WriterProcess], object]) -> None:
        """It may die of it."""
        if self.writer is not None and not self.writer.stopped:
            try:
                do(self.writer)
            except Death as death:
                self.end_writer(f"writer killed {death.moment}")

    def end_writer(self, how: str) -> None:
        if self.writer is not None:
            self.tally[how] += 1
            self.writer.die()
            self.writer = None

    def remove_folder(self) -> None:
        """The lock and the journals that have an owner who makes them again; the writer does not know it yet."""
        if self.writer is None:
            return
        self.tally["folder removed under a writer"] += 1
        self.folder.writer_lock.unlink()
        for producer in self.producers:
            if not producer.stopped and self.rng.random() < 0.8:
                producer.lose_journal()
        self.zombies.append(self.writer)
        self.writer = None

    def zombie_goes_on(self, *, ends: bool) -> None:
        """A turn of a writer that is none any more, which it may end by noticing that."""
        if self.zombies:
            zombie = self.zombies.pop(0)
            zombie.stopped = False
            self.tally["turn of a writer that is none any more"] += 1
            try:
                zombie.turn()
                zombie.intake.maintain(idle=False)
            except Death:
                ends = True
            if ends:
                zombie.die()
            else:
                self.zombies.append(zombie)

    def take_journals_away(self) -> None:
        """Those of the dead, to another folder; the ledger must know them when they come back."""
        for path in self.folder.journal_paths():
            if (fd := lock_file(path)) is not None:
                self.tally["journal taken away"] += 1
                os.rename(path, self.elsewhere.journals / path.name)
                self.copies.discard(self.elsewhere.journals / path.name)
                os.close(fd)

    def copy_journals(self) -> None:
        """Those of the living, too: to another folder."""
        for path in self.folder.journal_paths():
            if self.rng.random() < 0.7:
                self.tally["journal copied"] += 1
                self.copies.add(Path(shutil.copy(path, self.elsewhere.journals)))

    def bring_journals_back(self) -> None:
        """A copy, too, where no journal of its name is there (any more)."""
        for path in self.elsewhere.journal_paths():
            if path not in self.copies:
                os.rename(path, self.folder.journals / path.name)
            elif not (self.folder.journals / path.name).exists():
                self.tally["copy of a journal came back"] += 1
                self.old.add(path.name)
                os.rename(path, self.folder.journals / path.name)

    def visit(self) -> None:
        """A short life of a writer in the other folder, beside the one here."""
        lock = InstanceLock.acquire(self.elsewhere.writer_lock)
        assert lock is not None
        visitor = WriterProcess(self, lock, self.elsewhere)
        visitor.moment = self.rng.choice(("", "", *MOMENTS))
        visitor.adopter.scan()
        try:
            for _ in range(self.rng.choice((1, 3, 10))):
                self.tally["turn of a writer in another folder"] += 1
                visitor.turn()
        except Death:
            pass
        visitor.die()

    # Producers

    def name(self) -> bytes:
        """Of a new stream."""
        self._streams += 1
        return b"stream %9d" % self._streams

    def any_producer(self, *, stopped_too: bool = False) -> Producer | None:
        able = self.producers if stopped_too else [each for each in self.producers if not each.stopped]
        return able[int(self.rng.random() * len(able))] if able else None

    def have_producer(self, producer: Producer, do: Callable[[Producer], None]) -> None:
        """It may die of it."""
        try:
            do(producer)
        except Death as death:
            self.bury(producer, death.moment)

    def bury(self, producer: Producer, how: str) -> None:
        self.tally[f"producer killed {how}"] += 1
        self.producers.remove(producer)
        producer.die()

    def say_goodbye(self, producer: Producer) -> None:
        """In good order: a word to the writer, and no journal left, when nothing is pending."""
        producer.pardon()
        producer.outbox.close()
        if not producer.outbox.pending:
            self._left.add(producer.name)
            self.network.send(self.writer_control, (producer.name, encode_control(producer.protocol.bye())))
        producer.outbox.release()

    def close(self) -> None:
        """Let go of every file."""
        for writer in (self.writer, *self.zombies):
            if writer:
                writer.die()
        for producer in self.producers:
            producer.die()
        for child in self.children:
            child.abandon()


def _empty(folder: BusFolder) -> BusFolder:
    """Worlds may have one folder, one after the other."""
    for part in (folder.journals, folder.quarantine):
        shutil.rmtree(part, ignore_errors=True)
    folder.journals.mkdir(parents=True)
    return folder
