"""What the tests of `top` share: reports as `status` gives them, without a writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STATE: dict[str, Any] = {
    "state": "running",
    "pid": 4321,
    "version": "1.0",
    "epoch": "e1",
    "uptime_s": 10.0,
    "database": "sqlite:////x.db",
    "jobs_committed": 0,
    "rows_committed": 0,
    "batches": 0,
    "dead_letters": 0,
    "jobs_failed": 0,
    "duplicates_dropped": 0,
    "resends_requested": 0,
    "commit_ms": {"p50": 0.0, "p99": 0.0},
    "ddl_cached": 0,
    "drift": [],
    "inherited": [],
    "wal_bytes": 0,
    "last_error": None,
    "pending_jobs": 0,
    "damaged_journals": [],
    "jobs_dropped": 0,
}
#: As when nobody answers.
SILENT = dict.fromkeys(
    (
        "version",
        "epoch",
        "uptime_s",
        "jobs_committed",
        "rows_committed",
        "batches",
        "jobs_failed",
        "duplicates_dropped",
        "resends_requested",
        "ddl_cached",
    )
) | {"state": "degraded", "commit_ms": {"p50": None, "p99": None}}


def stream(name: str, acknowledged: int = 0, pending_bytes: int = 0, *, alive: bool = True) -> dict[str, Any]:
    return {
        "stream": name,
        "pid": 77,
        "alive": alive,
        "pending_jobs": pending_bytes // 10,
        "pending_bytes": pending_bytes,
        "acknowledged_jobs": acknowledged,
    }


def report(*streams: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A running writer's report, with changes."""
    pending: Sequence[int] = [stream["pending_jobs"] for stream in streams]
    return {**STATE, "streams": list(streams), "pending_jobs": sum(pending), **changes}
