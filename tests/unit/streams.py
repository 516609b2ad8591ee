"""What the tests of the writer's side share: messages as a producer makes them, and a ledger in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from telemetry_bus.database.applier import Settled
from telemetry_bus.encoding.records import Encoder, seal
from telemetry_bus.errors import DatabaseFault
from telemetry_bus.jobs import Failure, Run
from telemetry_bus.protocol.messages import Jobs

INSERT = "INSERT INTO t VALUES (?)"


class Sender:
    """One stream's messages, made by hand. Job number n has the value n."""

    def __init__(self, name: str = "a") -> None:
        self.stream = name.encode().ljust(16, b".")
        self.definitions: list[bytes] = []
        self._encoder = Encoder(self._define)

    def message(self, first: int, last: int, *, rewind: int = 0, after: int = 0, sql: str = INSERT) -> Jobs:
        """Jobs `first` … `last`; `after` definitions have been sent before."""
        records = b"".join(seal(self._encoder.row(sql, (n,), ()), n) for n in range(first, last + 1))
        definitions = self.definitions[after:]
        return Jobs(
            self.stream, rewind, first, last - first + 1, after + 1, len(definitions), b"".join(definitions), records
        )

    def _define(self, definition: bytes) -> int:
        self.definitions.append(seal(definition, len(self.definitions) + 1))
        return len(self.definitions)


class MemoryWriter:
    """Stands in for `Writer`: a list of what was applied, and a ledger. It fails as long as `fault` is set."""

    def __init__(self) -> None:
        self.ledger: dict[bytes, int] = {}
        self.applied: list[tuple[bytes, int, Any]] = []
        self.batches = 0
        self.attempts = 0
        self.poison: set[int] = set()
        self.letters: list[Failure] = []
        self.fault: DatabaseFault | None = None
        self.behind = False
        self.commit_seconds = 0.0
        self.checkpoints = 0
        self.at_most: int | None = None
        self.ended: set[bytes] = set()

    def settle(self, runs: Sequence[Run]) -> Settled:
        """All of them, or the first `at_most`."""
        jobs = [run._replace(first=n, payloads=[p]) for run in runs for n, p in enumerate(run.payloads, run.first)]
        return Settled(self.apply(jobs[: self.at_most]), jobs[len(jobs[: self.at_most]) :])

    def apply(self, runs: Sequence[Run]) -> list[Failure]:
        self._maybe_fail()
        self.batches += 1
        failures = []
        for run in runs:
            for sequence, payload in enumerate(run.payloads, run.first):
                assert self.ledger.get(run.stream, 0) + 1 == sequence
                self.ledger[run.stream] = sequence
                self.applied.append((run.stream, sequence, *payload))
                if payload[0] in self.poison:
                    failures.append(Failure(run.stream, sequence, "IntegrityError", f"no {payload[0]}\ntrace", "SQL"))
        self.letters += failures
        return failures

    def last_sequences(self, streams: Collection[bytes]) -> dict[bytes, int]:
        self._maybe_fail()
        return {stream: self.ledger.get(stream, 0) for stream in streams}

    def raise_watermark(self, stream: bytes, sequence: int) -> None:
        self._maybe_fail()
        self.ledger[stream] = max(self.ledger.get(stream, 0), sequence)

    def failures_after(self, stream: bytes, sequence: int, limit: int = 100) -> list[Failure]:
        self._maybe_fail()
        return [letter for letter in self.letters if letter.stream == stream and letter.sequence > sequence][:limit]

    def written_by_others(self) -> bool:
        return False

    def end_streams(self, streams: Collection[bytes]) -> None:
        self.ended |= set(streams)

    def checkpoint(self, *, idle: bool) -> None:
        self._maybe_fail()
        self.checkpoints += 1

    def maintain(self, *, idle: bool) -> None:
        self._maybe_fail()

    def numbers(self, stream: bytes) -> list[int]:
        """The jobs of a stream that were applied, in that order. Each carries its own number."""
        assert all(sequence == value for _, sequence, value in self.applied)
        return [sequence for name, sequence, _ in self.applied if name == stream]

    def _maybe_fail(self) -> None:
        if self.fault is not None:
            self.attempts += 1
            raise self.fault
