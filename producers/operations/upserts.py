"""What becomes of a row that is there already. Every expression sees the row as it was before.

Nobody reads a row to write it: what is given is one attempt, one progress, one end, so that any number of processes
may work on one row.
"""

from __future__ import annotations

from telemetry_bus.config import DialectName

from ..moments import comparable, later
from ..schema import Upsert
from .enums import FINAL, DiscoveryMethodStatus
from .status_codes import last_status_codes

#: The name of a job of which nothing else is known.
UNNAMED = "operation"

_FINAL = ", ".join(f"'{status.value}'" for status in FINAL)


def _operation_update(dialect: DialectName) -> dict[str, str]:
    """An operation that has ended is not opened again; what is known stays where nothing is given."""
    late = f"stored.status IN ({_FINAL}) AND excluded.status NOT IN ({_FINAL})"
    return {
        "operation_type": _first_known("operation_type", ""),
        "status": f"CASE WHEN {late} THEN stored.status ELSE excluded.status END",
        "updated_at": "excluded.updated_at",
        "completed_at": _latest("completed_at"),
        "user_id": _first_known("user_id", ""),
        "session_id": _first_known("session_id", ""),
        "parameters": _first_known("parameters", "", "{}"),
        **{name: _latest(name) for name in ("metrics", "error_details", "result_summary", "duration_ms")},
    }


def _job_update(dialect: DialectName) -> dict[str, str]:
    """End and counters are taken where they are given, everything else where it is not known yet."""
    ends = ("finished_at", "exit_status", "records_processed", "records_created", "records_updated", "errors_count")
    facts = ("commit_sha", "environment", "artifact_paths", "logs_path")
    return {
        "job_type": _first_known("job_type", ""),
        "job_name": _first_known("job_name", "", UNNAMED),
        "params": _first_known("params", "", "{}"),
        **{name: _latest(name) for name in ends},
        **{name: f"coalesce(stored.{name}, excluded.{name})" for name in facts},
    }


def _effectiveness_update(dialect: DialectName) -> dict[str, str]:
    """One attempt more. The rate is the share of successes among all attempts; one that was skipped leaves it alone."""
    skipped = f"excluded.status = '{DiscoveryMethodStatus.SKIPPED.value}'"
    attempts = "(stored.attempt_count + excluded.attempt_count)"
    # rows of before have no count of successes, but their rate tells it
    successes = "coalesce(stored.success_count, stored.success_rate * stored.attempt_count / 100.0)"
    time = "stored.avg_response_time_ms * stored.attempt_count + excluded.avg_response_time_ms"
    return {
        "status": "excluded.status",
        "articles_found": "CASE WHEN excluded.articles_found > stored.articles_found "
        "THEN excluded.articles_found ELSE stored.articles_found END",
        "success_rate": f"CASE WHEN {skipped} THEN stored.success_rate "
        f"ELSE CAST(100.0 AS FLOAT) * ({successes} + excluded.success_count) / {attempts} END",
        # after a skip the rate is what is known
        "success_count": f"CASE WHEN {skipped} THEN NULL ELSE stored.success_count + excluded.success_count END",
        "last_attempt": later("last_attempt", dialect),
        "attempt_count": attempts,
        "avg_response_time_ms": f"({time}) / {attempts}",
        "last_status_codes": last_status_codes("stored.last_status_codes", "excluded.last_status_codes", dialect),
        "notes": _latest("notes"),
        "updated_at": "excluded.updated_at",
    }


def _attempts_united(dialect: DialectName) -> dict[str, str]:
    """Of rows that have a mean each, the mean over all attempts."""
    mean = "coalesce(sum({0} * attempt_count) / nullif(sum(attempt_count), 0), 0.0)"
    return {
        "attempt_count": "sum(attempt_count)",
        "success_rate": mean.format("success_rate"),
        "avg_response_time_ms": mean.format("avg_response_time_ms"),
        "success_count": "CASE WHEN count(success_count) = count(*) THEN sum(success_count) END",
        "articles_found": "max(articles_found)",
        "last_attempt": f"max({comparable('last_attempt', dialect)})",
    }


OPERATION = Upsert(("id",), _operation_update)
JOB = Upsert(("id",), _job_update)
EFFECTIVENESS = Upsert(("source_id", "discovery_method"), _effectiveness_update, united=_attempts_united)


def _latest(name: str) -> str:
    return f"coalesce(excluded.{name}, stored.{name})"


def _first_known(name: str, *unknown: str) -> str:
    """The stored value, unless it is NULL or one of those that say nothing."""
    blank = ", ".join(f"'{each}'" for each in unknown)
    return f"CASE WHEN stored.{name} IS NULL OR stored.{name} IN ({blank}) THEN {_latest(name)} ELSE stored.{name} END"
