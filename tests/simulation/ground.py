"""What survives every process: a database in memory, and the writer's core over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from telemetry_bus.database import ledger
from telemetry_bus.database.applier import Settled
from telemetry_bus.errors import DatabaseFault, LedgerMoved
from telemetry_bus.jobs import Failure, Run, Template

if TYPE_CHECKING:
    from .stage import Stage

POISON = "poison"


class Violation(AssertionError):
    """A promise of the bus was broken."""


class Ground:
    """The committed rows, the ledger, the dead letters; and what a backup of them would hold."""

    def __init__(self) -> None:
        self.ledger: dict[bytes, int] = defaultdict(int)
        self.applied: dict[bytes, list[tuple[int, Template, Any]]] = defaultdict(list)
        self.letters: dict[bytes, dict[int, str]] = defaultdict(dict)
        #: The highest number that was ever committed, whatever was restored since.
        self.ever: dict[bytes, int] = defaultdict(int)
        #: What a restored backup did not have, unless it was applied again.
        self.gone: dict[bytes, set[int]] = defaultdict(set)
        #: What a restored backup ever did not have.
        self.taken_back: dict[bytes, set[int]] = defaultdict(set)
        #: Streams that are over, as the ledger knows.
        self.ended: set[bytes] = set()
        #: How many jobs writers have said to be gone, and whether that can be.
        self.told_gone = 0
        self.restored = False
        self._backup: tuple[dict[bytes, int], dict[bytes, int], set[bytes]] = ({}, {}, set())

    def commit(self, stream: bytes, sequence: int, template: Template, payload: Any) -> None:
        if sequence != self.ledger[stream] + 1:
            raise Violation(f"job {sequence} of {stream!r} is applied after job {self.ledger[stream]}")
        self.ledger[stream] = sequence
        self.ended.discard(stream)
        self.ever[stream] = max(self.ever[stream], sequence)
        self.gone[stream].discard(sequence)
        self.applied[stream].append((sequence, template, payload))
        if _is_poison(template, payload):
            self.letters[stream][sequence] = f"failure {sequence}"

    def own_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """The ledger's own statements, as a `Connection` runs them; the rows of jobs come behind them."""
        match sql:
            case ledger._ADVANCE:
                return sum(self.ledger.get(stream, 0) == first > 0 for _, _, stream, first in rows)
            case ledger._BEGIN:
                return sum(self.ledger.get(stream, 0) == 0 for _, _, stream in rows)
            case ledger._END:
                self.ended.update(stream for _, stream in rows)
            case ledger._DELETE:
                for (stream,) in rows:
                    self.ledger.pop(stream, None)
                    self.ended.discard(stream)
        return len(rows)

    def own(self, sql: str, row: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Either raises the ledger, or asks for streams that have been over for long, which are all that are over. (A
        defect may ask for all that are old.)"""
        if sql == ledger._RAISE:
            stream, sequence, _ = row
            self.ledger[stream] = max(sequence, self.ledger.get(stream, 0))
            return []
        old = self.ended if "ended = 1" in sql else self.ledger
        return [(stream,) for stream in sorted(old)]

    def back_up(self) -> None:
        lengths = {stream: len(jobs) for stream, jobs in self.applied.items()}
        self._backup = dict(self.ledger), lengths, set(self.ended)

    def restore(self) -> int:
        """Put the backup in the place of everything. The number of jobs that are not in it."""
        ledger, lengths, ended = self._backup
        lost = 0
        self.ended = set(ended)
        self.restored |= bool(self.ever)
        for stream, jobs in self.applied.items():
            self.ledger[stream] = ledger.get(stream, 0)
            missing = [sequence for sequence, _, _ in jobs[lengths.get(stream, 0) :]]
            lost += len(missing)
            self.gone[stream].update(missing)
            self.taken_back[stream].update(missing)
            del jobs[lengths.get(stream, 0) :]
            for sequence in missing:
                self.letters[stream].pop(sequence, None)
        return lost


class GroundWriter:
    """Stands in for `Writer`: the same promises, over a `Ground` instead of a database.

    `passes` is told of each moment, and may end the process.
    """

    behind = False
    commit_seconds = 0.0

    def __init__(self, stage: Stage, passes: Callable[[str], None]) -> None:
        self._stage = stage
        self._ground = stage.ground
        self._passes = passes
        self._in_doubt: dict[bytes, int] = {}

    def settle(self, runs: Sequence[Run]) -> Settled:
        """All or nothing, or (when a batch is replayed) a part first; and now and then no more than a part. A fault may
        strike before, between and after the commits; afterwards the ledger is read first."""
        cut = self._stage.rng.randrange(1, len(runs)) if len(runs) > 1 and self._stage.rng.random() < 0.2 else len(runs)
        return Settled(self._apply(runs[:cut]), list(runs[cut:]))

    def _apply(self, runs: Sequence[Run]) -> list[Failure]:
        self._passes("before the commit")
        self._fault("before the commit")
        ground = self._ground
        jobs = [
            (run.stream, sequence, run.template, payload)
            for run in runs
            for sequence, payload in enumerate(run.payloads, run.first)
        ]
        left = [job for job in jobs if job[1] > self._in_doubt.get(job[0], 0) or job[1] > ground.ledger[job[0]]]
        for stream, sequence, _, _ in left:
            self._in_doubt[stream] = max(sequence, self._in_doubt.get(stream, 0))
        self._at_fence(left)
        if len(left) > 1 and self._stage.misfortune("between two commits"):
            for job in left[: self._stage.rng.randrange(1, len(left))]:
                ground.commit(*job)
            raise DatabaseFault("between two commits")
        self._passes("inside the commit")
        for job in left:
            ground.commit(*job)
        self._passes("after the commit")
        self._fault("after the commit")
        for stream, sequence, _, _ in jobs:
            if sequence >= self._in_doubt.get(stream, 0):
                self._in_doubt.pop(stream, None)
        return [
            self._failure(stream, sequence) for stream, sequence, _, _ in jobs if sequence in ground.letters[stream]
        ]

    def _at_fence(self, jobs: Sequence[tuple[bytes, int, Template, Any]]) -> None:
        """The real ledger's own. Raises `LedgerMoved`."""
        connection: Any = self._ground
        try:
            runs = [Run(stream, number, template, [payload]) for stream, number, template, payload in jobs]
            ledger.Ledger(connection).advance(ledger.moves(runs))
        except LedgerMoved:
            self._stage.tally["batch that met the fence"] += 1
            raise

    def written_by_others(self) -> bool:
        return self._stage.rng.random() < 0.3

    def maintain(self, *, idle: bool) -> None:
        self._fault("looking after the database")

    def checkpoint(self, *, idle: bool) -> None:
        self._fault("writing the log back")

    def end_streams(self, streams: Collection[bytes]) -> None:
        self._fault("ending a stream")
        connection: Any = self._ground
        ledger.Ledger(connection).end(streams)

    def prune_ledger(self, keep: Collection[bytes]) -> int:
        connection: Any = self._ground
        return ledger.Ledger(connection).prune(keep, 0.0, 1000)

    def last_sequences(self, streams: Collection[bytes]) -> dict[bytes, int]:
        self._passes("reading the ledger")
        self._fault("reading the ledger")
        return {stream: self._ground.ledger.get(stream, 0) for stream in streams}

    def raise_watermark(self, stream: bytes, sequence: int) -> None:
        self._fault("raising a watermark", often=4)
        ground = self._ground
        missing = set(range(ground.ledger[stream] + 1, sequence + 1))
        if not missing <= ground.gone[stream]:
            raise Violation(f"the ledger is said to stand behind the watermark {sequence} of {stream!r}")
        known = self._stage.acknowledged(stream)
        if known is not None and known < sequence:
            raise Violation(f"jobs up to {sequence} of {stream!r} are given up, up to {known} are acknowledged")
        connection: Any = ground
        ledger.Ledger(connection).raise_to(stream, sequence)
        self._stage.tally["watermark raised"] += 1

    def failures_after(self, stream: bytes, sequence: int, limit: int = 100) -> list[Failure]:
        self._fault("reading failures")
        above = [number for number in sorted(self._ground.letters[stream]) if number > sequence]
        return [self._failure(stream, number) for number in above[:limit]]

    def _failure(self, stream: bytes, sequence: int) -> Failure:
        return Failure(stream, sequence, "IntegrityError", self._ground.letters[stream][sequence], "INSERT")

    def _fault(self, what: str, often: int = 1) -> None:
        if self._stage.misfortune(what, often):
            raise DatabaseFault(what)


def _is_poison(template: Template, payload: Any) -> bool:
    part = payload if len(template.statements) == 1 else payload[0]
    row = part[0] if template.statements[0][1] else part
    return bool(row[0] == POISON)
