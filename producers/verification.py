"""Batches of verified URLs, which more than one recorder takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from telemetry_bus import Job
from telemetry_bus.config import DialectName

from .destination import Destination
from .kinds import INTEGER, JSON, REAL, TEXT
from .schema import Column, Index, Table, defaults_to_now, insert_job, serial_id
from .values import finite, utc_now, whole

VERIFICATIONS = Table(
    "verification_telemetry",
    serial_id(),
    Column("job_name", TEXT),
    Column("batch_size", INTEGER, required=True),
    Column("verified_articles", INTEGER, required=True),
    Column("verified_non_articles", INTEGER, required=True),
    Column("verification_errors", INTEGER, required=True),
    Column("total_processed", INTEGER, required=True),
    Column("batch_time_seconds", REAL, required=True),
    Column("avg_verification_time_ms", REAL, required=True),
    Column("total_time_ms", REAL, required=True),
    Column("sources_processed", JSON),
    defaults_to_now("timestamp"),
    defaults_to_now("created_at"),
    indexes=(
        Index("ix_verification_telemetry_job_name", ("job_name",)),
        Index("ix_verification_telemetry_timestamp", ("timestamp",)),
    ),
)

#: Where `verification_telemetry` is a table of another purpose.
VERIFICATIONS_APART = VERIFICATIONS.renamed("article_verification_telemetry")

_COUNTS = ("batch_size", "verified_articles", "verified_non_articles", "verification_errors", "total_processed")
_TIMES = ("batch_time_seconds", "avg_verification_time_ms", "total_time_ms")


def verifications(destination: Destination) -> Table:
    """The table that holds them in this database, for those who write and for those who read."""
    return VERIFICATIONS_APART if destination.serves_another(VERIFICATIONS) else VERIFICATIONS


def verification_job(table: Table, batch: Mapping[str, Any], *, dialect: DialectName = "sqlite") -> Job:
    """The job that stores a batch, given by the names of its columns. Numbers that are missing are 0."""
    row = {
        "job_name": batch["job_name"],
        **{name: whole(batch[name]) or 0 for name in _COUNTS},
        **{name: finite(batch[name]) or 0.0 for name in _TIMES},
        "sources_processed": _list(batch["sources_processed"]),
        "timestamp": utc_now(),
    }
    return insert_job(table, row, dialect=dialect)


class VerificationRecorder:
    """What a recorder with a destination gets by inheriting from it."""

    _destination: Destination

    def record_verification_batch(
        self,
        *,
        job_name: Any,
        batch_size: Any,
        verified_articles: Any,
        verified_non_articles: Any,
        verification_errors: Any,
        total_processed: Any,
        batch_time_seconds: Any,
        avg_verification_time_ms: Any,
        total_time_ms: Any,
        sources_processed: Iterable[Any] | None,
    ) -> None:
        """Store the figures of one batch of verified URLs. Numbers that are missing are 0."""
        batch = {
            "job_name": job_name,
            "batch_size": batch_size,
            "verified_articles": verified_articles,
            "verified_non_articles": verified_non_articles,
            "verification_errors": verification_errors,
            "total_processed": total_processed,
            "batch_time_seconds": batch_time_seconds,
            "avg_verification_time_ms": avg_verification_time_ms,
            "total_time_ms": total_time_ms,
            "sources_processed": sources_processed,
        }
        with self._destination.guarded():
            table = verifications(self._destination)
            self._destination.submit(verification_job(table, batch, dialect=self._destination.dialect))


def _list(value: object) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
