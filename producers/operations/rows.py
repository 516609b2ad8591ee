"""The rows of one operation, from what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from telemetry_bus import Job
from telemetry_bus.config import DialectName

from ..schema import upsert_job
from ..values import number, plain_text
from .enums import FINAL, OperationStatus
from .records import OperationMetrics, plain_record
from .schema import JOBS, OPERATIONS
from .upserts import JOB, OPERATION, UNNAMED

#: So many site failures, the latest, stand in a row's metrics: a row is written at every progress.
FAILURES_STORED = 100

_EXIT_STATUS = {
    OperationStatus.COMPLETED: "success",
    OperationStatus.FAILED: "failed",
    OperationStatus.CANCELLED: "cancelled",
}
_NAMES = ("job_name", "operation_name", "source_name")
_CONTEXT = ("commit_sha", "environment", "artifact_paths", "logs_path")
#: What an operation is started with and that is no parameter of its work: it has columns of its own.
_NO_PARAMETERS = frozenset({"user_id", "session_id", "parameters", "job_name", *_CONTEXT})
#: What its entry in memory has besides.
_OWN = frozenset({"operation_type", "status", "start_time", "end_time", "metrics"})


def operation_job(
    operation_id: str,
    entry: Mapping[str, Any] | None,
    status: OperationStatus,
    now: datetime,
    *,
    metrics: OperationMetrics | None = None,
    error: object = None,
    summary: object = None,
    dialect: DialectName,
) -> Job:
    """The job that writes everything known to both tables. `entry` is the one in memory, None when there is none."""
    known = entry or {}
    kind = plain_text(known.get("operation_type") or "")
    started = known.get("start_time") or now
    ended = now if status in FINAL else None
    operation = {
        "id": operation_id,
        "operation_type": kind,
        "status": status,
        "created_at": started,
        "updated_at": now,
        "completed_at": ended,
        "user_id": known.get("user_id"),
        "session_id": known.get("session_id"),
        "parameters": known.get("parameters") or {},
        "metrics": None if metrics is None else _stored_metrics(metrics),
        "error_details": error or None,
        "result_summary": summary or None,
        "duration_ms": None if ended is None else (ended - started) / timedelta(milliseconds=1),
    }
    job = {
        "id": operation_id,
        "job_type": kind,
        "job_name": next((known[name] for name in _NAMES if known.get(name)), kind or UNNAMED),
        "started_at": started,
        "finished_at": ended,
        "exit_status": _EXIT_STATUS.get(status),
        "params": known.get("parameters") or _parameters(known),
        **{name: known.get(name) for name in _CONTEXT},
        **_counters(metrics),
    }
    return upsert_job(OPERATIONS, operation, upsert=OPERATION, dialect=dialect) + upsert_job(
        JOBS, job, upsert=JOB, dialect=dialect
    )


def _stored_metrics(metrics: OperationMetrics) -> dict[str, Any]:
    fields = {**vars(metrics), "site_failures": metrics.site_failures[-FAILURES_STORED:]}
    if not metrics.success_rate:
        fields["success_rate"] = _success_rate(metrics)
    return {name: plain_record(value) for name, value in fields.items()}


def _success_rate(metrics: OperationMetrics) -> float:
    """The share of processed items that did not fail, in percent."""
    processed, failed = number(metrics.processed_items) or 0.0, number(metrics.failed_items) or 0.0
    return max(processed - failed, 0.0) / processed * 100 if processed > 0 else 0.0


def _parameters(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name not in _NO_PARAMETERS and name not in _OWN}


def _counters(metrics: OperationMetrics | None) -> dict[str, int | None]:
    if metrics is None:
        return dict.fromkeys(("records_processed", "records_created", "records_updated", "errors_count"))
    processed, failed = (int(number(each) or 0) for each in (metrics.processed_items, metrics.failed_items))
    return {
        "records_processed": processed,
        "records_created": max(processed - failed, 0),
        "records_updated": 0,
        "errors_count": failed,
    }
