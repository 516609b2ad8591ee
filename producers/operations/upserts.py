"""What becomes of a row that is there already. Every expression sees the row as it was before.

Nobody reads a row to write it: what is given is one attempt, one progress, one end, so that any number of processes
may work on one row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, String, and_, case, cast, func, literal, not_, or_

from .enums import FINAL, DiscoveryMethodStatus
from .status_codes import LastStatusCodes

#: The name of a job of which nothing else is known.
UNNAMED = "operation"

_FINAL = [literal(status.value, String()) for status in FINAL]


def operation_update(stored: Any, given: Any) -> dict[str, Any]:
    """An operation that has ended is not opened again; what is known stays where nothing is given."""
    late = and_(stored.status.in_(_FINAL), not_(given.status.in_(_FINAL)))
    return {
        "operation_type": _first_known(stored.operation_type, given.operation_type, ""),
        "status": case((late, stored.status), else_=given.status),
        "updated_at": given.updated_at,
        "completed_at": func.coalesce(given.completed_at, stored.completed_at),
        "user_id": _first_known(stored.user_id, given.user_id, ""),
        "session_id": _first_known(stored.session_id, given.session_id, ""),
        "parameters": _first_known(stored.parameters, given.parameters, "", "{}"),
        **{name: func.coalesce(given[name], stored[name]) for name in ("metrics", "error_details", "result_summary")},
    }


def job_update(stored: Any, given: Any) -> dict[str, Any]:
    """End and counters are taken where they are given, everything else where it is not known yet."""
    ends = ("finished_at", "exit_status", "records_processed", "records_created", "records_updated", "errors_count")
    facts = ("commit_sha", "environment", "artifact_paths", "logs_path")
    return {
        "job_type": _first_known(stored.job_type, given.job_type, ""),
        "job_name": _first_known(stored.job_name, given.job_name, "", UNNAMED),
        "params": _first_known(stored.params, given.params, "", "{}"),
        **{name: func.coalesce(given[name], stored[name]) for name in ends},
        **{name: func.coalesce(stored[name], given[name]) for name in facts},
    }


def effectiveness_update(stored: Any, given: Any) -> dict[str, Any]:
    """One attempt more. The rate is the share of successes among all attempts; one that was skipped leaves it alone."""
    skipped = given.status == literal(DiscoveryMethodStatus.SKIPPED.value, String())
    attempts = stored.attempt_count + given.attempt_count
    # rows of before have no count of successes, but their rate tells it
    successes = func.coalesce(stored.success_count, stored.success_rate * stored.attempt_count / 100.0)
    rate = cast(100.0, Float) * (successes + given.success_count) / attempts
    time = stored.avg_response_time_ms * stored.attempt_count + given.avg_response_time_ms
    return {
        "status": given.status,
        "articles_found": case(
            (given.articles_found > stored.articles_found, given.articles_found), else_=stored.articles_found
        ),
        "success_rate": case((skipped, stored.success_rate), else_=rate),
        # after a skip the rate is what is known
        "success_count": case((skipped, None), else_=stored.success_count + given.success_count),
        "last_attempt": given.last_attempt,
        "attempt_count": attempts,
        "avg_response_time_ms": time / attempts,
        "last_status_codes": LastStatusCodes(stored.last_status_codes, given.last_status_codes),
        "notes": func.coalesce(given.notes, stored.notes),
        "updated_at": given.updated_at,
    }


def _first_known(stored: Any, given: Any, *unknown: str) -> Any:
    """The stored value, unless it is NULL or one of those that say nothing."""
    blank = or_(stored.is_(None), stored.in_([literal(each, String()) for each in unknown]))
    return case((blank, func.coalesce(given, stored)), else_=stored)
