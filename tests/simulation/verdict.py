"""What must be true at the end of a world, of every job ever submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .ground import Ground, Violation
from .producer import Known, Producer
from .writer import WriterProcess


def judge(ground: Ground, submitted: Mapping[bytes, Sequence[Known]], limbo: Mapping[bytes, Known]) -> None:
    """Every job exactly once, in order, whole. One in limbo may be there or not. What a restored backup has taken was
    told, and nothing else."""
    if ground.told_gone and not ground.restored:
        raise Violation(f"{ground.told_gone} jobs are said to be gone, and none is")
    for name, jobs in submitted.items():
        applied, gone = ground.applied[name], ground.gone[name]
        if name in limbo and ground.ever[name] > len(jobs):
            jobs = [*jobs, limbo[name]]
        expected = [
            (number, known.template, known.payload) for number, known in enumerate(jobs, 1) if number not in gone
        ]
        if expected != applied:
            raise Violation(f"{len(expected)} jobs of {name!r} must be applied, {len(applied)} are, not the same")
        poisoned = {number for number, known in enumerate(jobs, 1) if known.poison and number not in gone}
        if poisoned != set(ground.letters[name]):
            raise Violation(f"dead letters of {name!r}: {sorted(poisoned)} expected")


def judge_told(ground: Ground, producer: Producer) -> None:
    """A producer that has lived on was told of each failure once."""
    told, letters = producer.outbox.counts().failed, len(ground.letters[producer.name])
    # Of what a restored backup does not have it may have been told before; or it was acknowledged too late, when
    # its dead letter was gone, and applied once more by a writer that still had it.
    unsure = len(ground.taken_back[producer.name])
    if not letters - unsure <= told <= letters + unsure:
        raise Violation(f"{letters} jobs of {producer.name!r} failed, it was told of {told}")


def judge_economy(lost: int, writer: WriterProcess, producers: Sequence[Producer]) -> None:
    """Only a loss makes anybody ask for a resend or go back, and each does so once."""
    asked = writer.intake.protocol.resends
    # Each begins with one, and with another when the writer was slow to answer.
    rewinds = sum(producer.protocol.rewind - 2 for producer in producers)
    if max(asked, rewinds) > lost:
        raise Violation(f"{lost} messages were lost, {asked} resends asked, {rewinds} times gone back")
