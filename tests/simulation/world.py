"""A small world that one seed decides: producers, writers that come and go, a network that loses, doubles, delays
and reorders, a database that fails, journals that survive.

Everything but the network, the clock, the processes and the database is the real thing: outbox, journal, both
halves of the protocol, intake, adoption, the locks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from telemetry_bus.journal.layout import UNFINISHED_SUFFIX

from . import producer as producers
from . import writer as writers
from .ground import GroundWriter, Violation
from .producer import Producer
from .stage import Stage
from .verdict import judge, judge_economy, judge_told
from .writer import WriterProcess

STEPS = 100
#: A healed world needs two dozens of turns.
ENOUGH_TURNS = 150
MOST_PRODUCERS = 3


class World(Stage):
    """See the module."""

    def __init__(
        self, seed: int, folder: Path, tell: Callable[[str], None] | None = None, *, only_loss: bool = False
    ) -> None:
        """`tell` is told of every step. With `only_loss` messages are lost, and nothing else goes wrong."""
        super().__init__(seed, folder)
        self._tell = tell
        self._only_loss = only_loss
        if only_loss:
            self.network.heal()
            self.network.loss = 0.1
            self.faults = 0.0

    def run(self, steps: int = STEPS) -> Counter[str]:
        """Live, then heal everything: all that was submitted must end up applied. What happened, and how often.

        Raises `Violation` when a promise is broken.
        """
        try:
            self._live(steps)
            self._act(self._heal)
            self._act(self._end)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"a process ends by itself: {error!r}") from error
        finally:
            self.close()
        return self.tally

    def _live(self, steps: int) -> None:
        self._writer_starts()
        for _ in range(self.rng.randrange(MOST_PRODUCERS)):
            self._producer_starts()
        actions = self._actions()
        for action in self.rng.choices([*actions], [*actions.values()], k=steps):
            self._act(action)

    def _actions(self) -> dict[Callable[[], None], int]:
        """What may happen, and how often. Each world has its own troubles, so that some come together often."""
        work = {
            self._submit: 10,
            self._producers_turn: 6,
            self._network_delivers: 10,
            self._writer_turn: 6,
            self._round: 30,
            self._time_passes: 6,
            self._scan: 2,
            self._writer_starts: 6,
            self._producer_starts: 4,
            self._writer_goes_on: 3,
            self._producers_go_on: 3,
            self._child_wakes: 2,
            self._process_waits: 3,
            self._operator_looks: 1,
        }
        if self._only_loss:
            return work
        trouble = {
            self._late_message: 3,
            self._expire: 2,
            self._writer_crashes: 1,
            self._writer_doomed: 6,
            self._writer_leaves: 1,
            self._writer_stops: 1,
            self._producer_dies: 1,
            self._producer_doomed: 4,
            self._producer_leaves: 1,
            self._producer_stops: 1,
            self._producer_dies_early: 1,
            self._producer_forks: 1,
        }
        if self.rng.random() < 0.4:
            trouble |= {self._back_up: 2, self._database_restored: 2, self._restored_under_a_writer: 6}
        if self.rng.random() < 0.5:
            often = self.rng.choice((1, 3, 6))
            trouble |= {self._folder_removed: 4 * often, self._zombie_goes_on: 10 * often}
        if self.rng.random() < 0.3:
            trouble |= {self._journals_taken_away: 2, self._journals_come_back: 1, self._weeks_pass: 2}
        elif self.rng.random() < 0.4:
            trouble |= {self._journals_taken_away: 2, self._journals_copied: 3, self._another_folder: 4}
            trouble |= {self._journals_come_back: 3}
        return work | {action: weight * self.rng.choice((0, 1, 1, 2)) for action, weight in trouble.items()}

    # Work

    def _submit(self) -> None:
        if producer := self.any_producer():
            jobs = self.rng.choice((1, 1, 3, 10))
            self.have_producer(producer, lambda producer: producer.submit(jobs))

    def _process_waits(self) -> None:
        if producer := self.any_producer():
            self.have_producer(producer, Producer.wait)

    def _operator_looks(self) -> None:
        self.have_writer(lambda writer: writer.intake.protocol.call())

    def _producers_turn(self) -> None:
        for producer in [each for each in self.producers if not each.stopped]:
            self.have_producer(producer, Producer.turn)

    def _network_delivers(self) -> None:
        for _ in range(self.rng.choice((1, 3, 8))):
            self.network.step()

    def _writer_turn(self) -> None:
        self.have_writer(WriterProcess.turn)

    def _round(self) -> None:
        """There and back."""
        self.now += 0.001 if self._only_loss else self.rng.choice((0.001, 0.05, 0.5))
        self._producers_turn()
        self.network.deliver_some()
        if self.rng.random() < 0.1:
            self._scan()
        self._writer_turn()
        self.network.deliver_some()

    def _time_passes(self) -> None:
        self.now += 0.001 if self._only_loss else self.rng.choice((0.01, 0.1, 1.0, 10.0))

    def _scan(self) -> None:
        self.have_writer(lambda writer: writer.adopter.scan())

    def _writer_starts(self) -> None:
        self.start_writer()

    def _writer_goes_on(self) -> None:
        if self.writer:
            self.writer.stopped = False

    def _producer_starts(self) -> None:
        if len(self.producers) < MOST_PRODUCERS:
            self.tally["producer started"] += 1
            self.producers.append(Producer(self, self.name()))

    def _producers_go_on(self) -> None:
        for producer in self.producers:
            producer.stopped = False

    def _child_wakes(self) -> None:
        """It lets go of its parent's journal, and begins a stream of its own."""
        if self.children:
            self.children.pop(0).abandon()
            self._producer_starts()

    # Trouble

    def _late_message(self) -> None:
        self.network.late_step()

    def _expire(self) -> None:
        """So much time passes that the writer forgets whoever was silent."""
        if self.writer_runs:
            self.tally["writer forgot the silent"] += 1
            self.have_writer(lambda writer: writer.intake.protocol.expire(float("inf")))

    def _writer_crashes(self) -> None:
        how = "while it was stopped" if self.writer and self.writer.stopped else "between turns"
        self.end_writer(f"writer killed {how}")

    def _writer_doomed(self) -> None:
        if self.writer and not self.writer.moment:
            self.writer.moment = self.rng.choice(writers.MOMENTS)
            self.writer.times = self.rng.choice((0, 0, 1, 2))

    def _writer_leaves(self) -> None:
        """In good order: what is pending is committed, if that is possible."""
        if self.writer_runs:
            self.have_writer(lambda writer: writer.turn(leaving=True))
            self.end_writer("writer left")

    def _writer_stops(self) -> None:
        if self.writer_runs and self.writer:
            self.tally["writer stopped"] += 1
            self.writer.stopped = True

    def _producer_dies(self) -> None:
        if producer := self.any_producer(stopped_too=True):
            self.bury(producer, "while it was stopped" if producer.stopped else "between turns")

    def _producer_doomed(self) -> None:
        if producer := self.any_producer():
            producer.doom(self.rng.choice(producers.MOMENTS))

    def _producer_dies_early(self) -> None:
        """In the midst of making its journal."""
        self.tally["producer killed making its journal"] += 1
        path = self.folder.journals / (self.name().hex() + UNFINISHED_SUFFIX)
        path.write_bytes(self.rng.randbytes(10))
        if self.rng.random() < 0.5:
            os.utime(path, (0, 0))

    def _producer_leaves(self) -> None:
        if producer := self.any_producer():
            self.tally["producer left, jobs pending" if producer.outbox.pending else "producer left"] += 1
            self.producers.remove(producer)
            self.say_goodbye(producer)

    def _producer_stops(self) -> None:
        if producer := self.any_producer():
            self.tally["producer stopped"] += 1
            producer.stopped = True

    def _producer_forks(self) -> None:
        """As long as the child has not used the store it holds on to its parent's lock."""
        if producer := self.any_producer():
            self.tally["producer forked"] += 1
            self.children.append(producer.fork())

    def _back_up(self) -> None:
        self.ground.back_up()

    def _database_restored(self) -> None:
        """While no writer runs. What the backup does not have is gone, unless a producer still has it."""
        self._writer_crashes()
        self.tally["database restored"] += 1
        self.tally["job that the backup did not have"] += self.ground.restore()

    def _restored_under_a_writer(self) -> None:
        """As by `.restore`: the file stays, and its content changes."""
        self.tally["database restored under a writer"] += self.writer_runs
        self.tally["job that the backup did not have"] += self.ground.restore()

    def _folder_removed(self) -> None:
        """Often producers have just sent something, and another writer comes at once."""
        self._producers_turn()
        self.network.deliver_some()
        self.remove_folder()
        if self.rng.random() < 0.7:
            self._writer_starts()
            for producer in self.producers:
                producer.protocol.unreachable()

    def _zombie_goes_on(self) -> None:
        self.zombie_goes_on(ends=self.rng.random() < 0.4)

    def _journals_taken_away(self) -> None:
        self.take_journals_away()

    def _journals_come_back(self) -> None:
        self.bring_journals_back()

    def _journals_copied(self) -> None:
        """As a copy of the bus folder has them. It is no journal any more when the ledger has forgotten its stream."""
        self.copy_journals()

    def _another_folder(self) -> None:
        self.visit()

    def _weeks_pass(self) -> None:
        """Nothing is on its way any more, and no writer stands still; one of another folder forgets what it may."""
        self.network.forget()
        while self.zombies:
            self.zombie_goes_on(ends=True)
        if self.writer and self.writer.stopped:
            self._writer_crashes()
        self._expire()
        visitor = GroundWriter(self, lambda moment: None)
        self.tally["ledger row pruned"] += visitor.prune_ledger(keep=())

    # The end

    def _heal(self) -> None:
        """From now on everything works. All that is pending must be done in bounded time."""
        self.network.heal()
        self.faults = 0.0
        while self.zombies:
            self.zombie_goes_on(ends=True)
        self.bring_journals_back()
        self._writer_goes_on()
        self._producers_go_on()
        for producer in self.producers:
            producer.pardon()
        while self.children:
            self.children.pop().abandon()
        self._writer_starts()
        assert self.writer is not None
        self.writer.moment = ""
        self.network.deliver_late(0.5)
        for turn in range(ENOUGH_TURNS):
            self.now += 0.25
            self._producers_turn()
            self.network.deliver_all()
            self._writer_turn()
            if turn % 2:
                self._scan()
            if self._quiet():
                return
        waiting = [(producer.name, producer.outbox.pending) for producer in self.producers]
        left = [path.name for path in self.folder.journal_paths()]
        raise Violation(f"it never ends: {waiting} jobs are pending, journals {left}")

    def _quiet(self) -> bool:
        alive = {producer.journal.path for producer in self.producers}
        return all(not producer.outbox.pending for producer in self.producers) and alive.issuperset(
            self.folder.journal_paths()
        )

    def _end(self) -> None:
        """All say goodbye. What is on its way since long ago changes nothing any more, for this writer and the next."""
        assert self.writer is not None
        if self._only_loss:
            judge_economy(self.network.lost, self.writer, self.producers)
        for producer in self.producers:
            judge_told(self.ground, producer)
            self.say_goodbye(producer)
        self.producers.clear()
        self._writer_hears_all()
        self.network.deliver_late(0.5)
        self._writer_hears_all()
        self.end_writer("writer left")
        self._writer_starts()
        self.network.deliver_late()
        self._writer_hears_all()
        self._judge_quarantine()
        judge(self.ground, self.submitted, self.limbo)
        self.tally["job applied"] += sum(map(len, self.ground.applied.values()))

    def _judge_quarantine(self) -> None:
        """A copy that is older than the ledger is kept there: its end may have been lost in a power cut."""
        kept = {path.stem for path in self.folder.quarantine.glob("*")}
        self.tally["old copy put into quarantine"] += len(kept & self.old)
        if kept - self.old:
            raise Violation("an intact journal was taken for a damaged one")

    def _writer_hears_all(self) -> None:
        self.network.deliver_all()
        for _ in range(ENOUGH_TURNS):
            if not (self.writer and (self.writer.jobs or self.writer.control)):
                return
            self._writer_turn()
            self.now += 0.25  # a database at fault is tried again when its time has come
        raise Violation("the writer never reads what has come")

    def _act(self, action: Callable[[], None]) -> None:
        if self._tell:
            self._tell(f"{self.now:8.2f} {action.__name__.strip('_').replace('_', ' ')} {dict(self.ground.ledger)}")
        action()
