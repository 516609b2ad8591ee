"""One life of a writer in the simulated world: intake and adoption are the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telemetry_bus.errors import ProtocolError
from telemetry_bus.protocol.messages import Jobs, decode_control, encode_control
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake

from .death import Death
from .ground import GroundWriter, Violation

if TYPE_CHECKING:
    from .stage import Stage

#: Where a writer's process may be killed, besides between its turns. What it seldom comes to stands here again.
MOMENTS = (
    *2 * ("in mid adoption", "before the unlink", "after the unlink"),
    "between messages",
    "reading the ledger",
    "before the commit",
    "inside the commit",
    "after the commit",
    "between answers",
)


class WriterProcess:
    """One life of a writer."""

    def __init__(self, stage: Stage, lock: InstanceLock, folder: BusFolder) -> None:
        rng = stage.rng
        writer: Any = GroundWriter(stage, self.passes)
        limits = BatchLimits(
            rng.choice((3, 20)),
            rng.choice((500, 5000)),
            rng.choice((0.0, 0.1, 1.0)),
            step_s=rng.choice((0.0, 0.005, 0.5)),
        )
        self.intake: Intake[bytes] = Intake(writer, stage.database, limits, clock=lambda: stage.now)
        self.intake.protocol.epoch = rng.randbytes(8)
        self.adopter = _MortalAdopter(self, stage, folder)
        self._at_once = limits.delay_s == 0
        self.jobs: list[list[bytes]] = []
        self.control: list[tuple[bytes, bytes]] = []
        self.stopped = False
        #: The moment at which it is killed, when it has come to it so many times more.
        self.moment, self.times = "", 0
        self._lock = lock
        self._stage = stage

    def turn(self, *, leaving: bool = False) -> None:
        """As the daemon's loop. Raises `Death` at its moment."""
        stage, intake = self._stage, self.intake
        for route, data in self.control:
            intake.control(route, decode_control(data))
        self.control.clear()
        waited_for = False
        while self.jobs and intake.room and not leaving:
            try:
                jobs = Jobs.decode(self.jobs.pop(0))
            except ProtocolError as error:
                raise Violation(f"an honest message is malformed: {error}") from error
            intake.jobs(jobs)
            waited_for |= not jobs.patient and bool(intake.protocol.pending)
            self.passes("between messages")
        if waited_for and self._at_once and intake.fault is None and intake.due_in():
            raise Violation("jobs that a process waits for are gathered")
        self.adopter.step()
        if leaving or intake.due_in() == 0:
            intake.commit()
        if stage.rng.random() < 0.2:
            intake.maintain(idle=False)
        for route, message in intake.replies(lazy=not leaving and stage.rng.random() < 0.5):
            stage.network.send(stage.producer(route), encode_control(message))
            self.passes("between answers")
        if intake.malformed:
            raise Violation("an honest message is malformed")

    def passes(self, moment: str) -> None:
        if moment == self.moment:
            self.times -= 1
            if self.times < 0:
                raise Death(moment)

    def die(self) -> None:
        """Nothing of it is left but what is in the database, and on its way."""
        self._stage.ground.told_gone += self.intake.protocol.jobs_gone
        self._stage.tally["duplicates dropped"] += self.intake.protocol.duplicates
        self._stage.tally["resend asked for"] += self.intake.protocol.resends
        self._stage.tally["journal adopted"] += self.adopter.adopted
        self.adopter.close()
        self._lock.release()


class _MortalAdopter(Adopter):
    """Dies where the writer does."""

    def __init__(self, writer: WriterProcess, stage: Stage, folder: BusFolder) -> None:
        super().__init__(folder, writer.intake)
        self._passes = writer.passes
        self._tell = stage.adopted.add
        self._claimed: Any = None

    def close(self) -> None:
        super().close()
        if self._claimed is not None:
            self._claimed.close()

    def _begin(self, journal: Any) -> bool:
        self._claimed = journal
        return super()._begin(journal)

    def _feed(self, adoption: Any) -> None:
        super()._feed(adoption)
        self._passes("in mid adoption")

    def _finish(self, adoption: Any) -> None:
        self._passes("before the unlink")
        super()._finish(adoption)
        self._tell(adoption.journal.stream)
        self._passes("after the unlink")
