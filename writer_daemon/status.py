"""The state of the writer at one moment: what `telemetry-bus status`, the metrics and the service manager are told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from telemetry_bus import __version__
from telemetry_bus.config import Database
from telemetry_bus.database.stats import HistogramSnapshot, WriterSnapshot
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import Intake

from . import inheritance


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """Counters since the writer began; `taken` and `pending_since` are monotonic."""

    taken: float
    uptime_s: float
    database: Database
    pid: int
    epoch: bytes
    leaving: bool
    #: What is wrong with the database now, and what went wrong last, with it or with a job.
    fault: str | None
    last_error: str | None
    written: WriterSnapshot
    streams: int
    pending_jobs: int
    pending_bytes: int
    pending_since: float | None
    duplicates: int
    resends: int
    jobs_gone: int
    malformed: int
    refused: int
    faults: int
    #: By the type of the error.
    failures: Mapping[str, int]
    #: By result: `ok`, `held_up`, `failed`.
    checkpoints: Mapping[str, int]
    batch_jobs: HistogramSnapshot
    commit_seconds: HistogramSnapshot
    #: Whether the journals of dead producers are being read, and the stream of the one that is.
    adopting: bool
    adopting_stream: bytes | None
    journals_adopted: int
    journals_quarantined: int
    journals_unread: int
    #: What the process that started the writer has left to it: limits, a priority, fewer processors.
    inherited: tuple[str, ...]

    @property
    def degraded(self) -> bool:
        """The database is at fault, or it has lost what was committed."""
        return self.fault is not None or self.jobs_gone > 0

    @property
    def progress(self) -> tuple[int, ...]:
        """Another value when a job was committed or dropped, or a journal adopted."""
        return self.written.batches, self.duplicates, self.journals_adopted

    def report(self) -> dict[str, Any]:
        """The writer's part of `telemetry-bus status --json`."""
        written = self.written
        return {
            "state": "degraded" if self.degraded else "running",
            "pid": self.pid,
            "version": __version__,
            "epoch": self.epoch.hex(),
            "uptime_s": round(self.uptime_s, 3),
            "database": self.database.masked,
            "jobs_committed": written.jobs_committed,
            "rows_committed": written.rows_committed,
            "batches": written.batches,
            "dead_letters": written.dead_letters,
            "jobs_failed": sum(self.failures.values()),
            "duplicates_dropped": self.duplicates,
            "resends_requested": self.resends,
            "malformed": self.malformed,
            "jobs_gone": self.jobs_gone,
            "journals_adopted": self.journals_adopted,
            "journals_quarantined": self.journals_quarantined,
            "commit_ms": {"p50": written.commit_ms_p50, "p99": written.commit_ms_p99},
            "journals_unread": self.journals_unread,
            "ddl_cached": written.ddl_cached,
            "drift": list(written.drift),
            "wal_bytes": written.wal_bytes,
            "inherited": list(self.inherited),
            "last_error": self.last_error,
            "leaving": self.leaving,
        }

    def line(self) -> str:
        """For the service manager."""
        state = f"degraded: {self.fault}" if self.fault else "adopting journals" if self.adopting else "running"
        return f"{self.written.jobs_committed} jobs committed, {self.pending_jobs} pending, {state}"


def take_status(
    intake: Intake[Any], adopter: Adopter, database: Database, *, uptime_s: float, leaving: bool
) -> WriterStatus:
    """The state now. It asks the database: for the writer's own loop."""
    protocol = intake.protocol
    fault = None if intake.fault is None else str(intake.fault)
    return WriterStatus(
        taken=time.monotonic(),
        uptime_s=uptime_s,
        database=database,
        pid=protocol.pid,
        epoch=protocol.epoch,
        leaving=leaving,
        fault=fault,
        last_error=fault or intake.last_failure,
        written=intake.writer.snapshot(),
        streams=intake.streams,
        pending_jobs=protocol.pending_jobs,
        pending_bytes=protocol.pending_bytes,
        pending_since=intake.pending_since,
        duplicates=protocol.duplicates,
        resends=protocol.resends,
        jobs_gone=protocol.jobs_gone,
        malformed=intake.malformed,
        refused=intake.refused,
        faults=intake.faults,
        failures=dict(intake.failures),
        checkpoints={result: intake.checkpoints[result] for result in ("ok", "held_up", "failed")},
        batch_jobs=intake.batch_jobs.snapshot(),
        commit_seconds=intake.commit_seconds.snapshot(),
        adopting=adopter.busy,
        adopting_stream=protocol.adopting,
        journals_adopted=adopter.adopted,
        journals_quarantined=adopter.quarantined,
        journals_unread=len(adopter.unread),
        inherited=inheritance.what_is_left(),
    )
