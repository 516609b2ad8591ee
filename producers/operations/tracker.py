"""Tracks operations, the requests they make, and what they find."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from ..destination import Destination
from ..values import plain, plain_text, text_or_none, utc_now
from ..verification import VerificationRecorder
from . import discovery, effectiveness, failures, upserts
from .context import OperationContext
from .enums import DiscoveryMethod, DiscoveryMethodStatus, FailureType, OperationStatus, OperationType
from .figures import real, text, whole, whole_or_none
from .memory import Entry, OperationMemory
from .outcomes import DiscoveryResult
from .posting import BackgroundPoster
from .records import HTTPStatusTracking, OperationEvent, OperationMetrics, SiteFailure, snapshot
from .rows import operation_job
from .schema import EFFECTIVENESS
from .stores import store_for

logger = logging.getLogger(__name__)


class OperationTracker(VerificationRecorder):
    """Operations with their progress and end, failures of their sites, outcomes of discovery, HTTP statuses, and how
    well each method of discovery works.

    `store`: a store, or a SQLAlchemy engine, whose database is then written to synchronously; else the shared store of
    `database_url`, opened at the first use. `telemetry_reporter` is told of operations in a thread of its own, and
    never waited for. Nothing that records raises: what cannot be recorded is logged and counted in `failures`.
    From any thread; a forked child goes on with what was known at the fork.

    `active_operations` holds what is known of each operation by its id: those that run, and the last thousand that
    have ended.
    """

    def __init__(self, store: Any = None, *, telemetry_reporter: Any = None, database_url: str | None = None) -> None:
        self.logger = logger
        self.telemetry_reporter = telemetry_reporter
        own = store_for(store, logger=logger)
        self._database_url = getattr(own, "database_url", None) or database_url
        self._destination = Destination(own, database_url, logger=logger)
        self._memory = OperationMemory()
        self._poster = BackgroundPoster()

    @property
    def database_url(self) -> str:
        """Of the store that it writes to."""
        return str(self._database_url or getattr(self._destination.store, "database_url", ""))

    @property
    def active_operations(self) -> dict[str, Entry]:
        return self._memory.entries

    @property
    def failures(self) -> int:
        """How much could not be recorded."""
        return self._destination.failures

    def flush(self) -> None:
        """Return when everything recorded is in the database. Raises what the store raises."""
        self._destination.flush()

    def close(self) -> None:
        """Send what the reporter has not sent yet, within two seconds, and end its thread. The store stays open."""
        self._poster.close()

    # Operations

    @contextmanager
    def track_operation(self, operation_type: OperationType, **kwargs: Any) -> Iterator[OperationContext]:
        """An operation from the beginning of the `with` block to its end; it fails when anything is raised there, an
        interrupt too. `kwargs` as in `start_operation`."""
        operation_id = str(uuid4())
        self._start(operation_id, operation_type, kwargs)
        try:
            yield OperationContext(self, operation_id)
        except BaseException as error:
            self.fail_operation(operation_id, plain_text(error) or type(error).__name__)
            raise
        self.complete_operation(operation_id)

    def start_operation(self, operation_id: str, operation_type: OperationType, **kwargs: Any) -> None:
        """Record the start. Stored of `kwargs` are `user_id`, `session_id` and `parameters`; for the job also
        `job_name`, `commit_sha`, `environment`, `artifact_paths`, `logs_path`, and all others as its parameters when
        there is no `parameters`."""
        self._start(operation_id, operation_type, kwargs)

    def update_progress(self, operation_id: str, metrics: OperationMetrics | None) -> None:
        """Record how far it is. One that has ended takes the metrics and stays ended."""
        with self._destination.guarded():
            entry = self._memory.progress(operation_id, metrics)
            known = metrics if entry is None else entry["metrics"]
            self._write(operation_id, entry, OperationStatus.IN_PROGRESS, metrics=None if metrics is None else known)
            reporter = self.telemetry_reporter
            if reporter is not None and known is not None:
                self._poster.post(partial(reporter.send_progress_update, operation_id, snapshot(known)))

    def complete_operation(self, operation_id: str, result_summary: Mapping[str, Any] | None = None) -> None:
        """Record the end of one that has done its work."""
        self._finish(
            operation_id,
            OperationStatus.COMPLETED,
            "operation completed",
            details=result_summary,
            summary=result_summary,
        )

    def fail_operation(
        self, operation_id: str, error_message: str, error_details: Mapping[str, Any] | None = None
    ) -> None:
        """Record the end of one that could not; the details are stored beside the `message`, or in its place."""
        error = {"message": plain_text(error_message), **_details(error_details)}
        self._finish(operation_id, OperationStatus.FAILED, plain_text(error_message), error=error)

    def cancel_operation(self, operation_id: str, reason: str | None = None) -> None:
        """Record the end of one that was called off."""
        error = {"message": plain_text(reason)} if reason else None
        message = plain_text(reason) if reason else "operation cancelled"
        self._finish(operation_id, OperationStatus.CANCELLED, message, error=error)

    def get_operation_status(self, operation_id: str) -> Entry | None:
        """The live entry of an operation that runs or has ended lately; None for any other."""
        return self._memory.get(operation_id)

    def list_active_operations(self) -> list[Entry]:
        """Those that have not ended, each with its `operation_id`."""
        return self._memory.active()

    def _start(self, operation_id: str, operation_type: OperationType, known: dict[str, Any]) -> None:
        with self._destination.guarded():
            entry = self._memory.start(operation_id, operation_type, known)
            self._write(operation_id, entry, OperationStatus.STARTED)
            self._announce(operation_id, entry, OperationStatus.STARTED, "operation started", known)

    def _finish(
        self,
        operation_id: str,
        status: OperationStatus,
        message: str,
        *,
        details: Any = None,
        error: dict[str, Any] | None = None,
        summary: Any = None,
    ) -> None:
        with self._destination.guarded():
            entry = self._memory.finish(operation_id, status)
            metrics = self._memory.take_unwritten(operation_id)
            self._write(operation_id, entry, status, metrics=metrics, error=error, summary=summary)
            self._announce(operation_id, entry, status, message, details, error=error)

    def _write(self, operation_id: str, entry: Entry | None, status: OperationStatus, **given: Any) -> None:
        dialect = self._destination.dialect
        self._destination.offer(operation_job(operation_id, entry, status, utc_now(), dialect=dialect, **given))

    def _announce(
        self,
        operation_id: str,
        entry: Entry | None,
        status: OperationStatus,
        message: str,
        details: Any,
        *,
        error: dict[str, Any] | None = None,
    ) -> None:
        reporter = self.telemetry_reporter
        if reporter is None:
            return
        known = entry or {}
        metrics = known.get("metrics")
        event = OperationEvent(
            event_id=str(uuid4()),
            operation_id=operation_id,
            operation_type=known.get("operation_type") or OperationType.LOAD_SOURCES,
            status=status,
            timestamp=utc_now(),
            user_id=known.get("user_id"),
            session_id=known.get("session_id"),
            message=message,
            details=_details(plain(details)),
            metrics=None if metrics is None else snapshot(metrics),
            error_details=plain(error),
        )
        self._poster.post(partial(reporter.send_operation_event, event))

    # Failures of sites

    def record_site_failure(
        self,
        operation_id: str,
        site_url: str,
        error: Exception | str,
        site_name: str | None = None,
        discovery_method: str | None = None,
        http_status: int | None = None,
        response_time_ms: float | None = None,
        retry_count: int = 0,
    ) -> None:
        """Add a failure to the metrics of an operation, which are stored at its next progress and at its end."""
        with self._destination.guarded():
            failure = failures.failure_of(
                error,
                http_status,
                site_url=site_url,
                site_name=site_name,
                failure_time=utc_now(),
                retry_count=whole(retry_count),
                response_time_ms=response_time_ms,
                discovery_method=discovery_method,
            )
            known = self._memory.add_failure(operation_id, failure)
            self.logger.log(
                logging.INFO if known else logging.WARNING,
                "%s of %s%s: %s",
                failure.failure_type.value,
                site_url,
                "" if known else f" (unknown operation {operation_id})",
                failure.error_message,
            )

    def categorize_failure_type(self, error: Exception | str, http_status: int | None = None) -> FailureType:
        """What kind of failure it is, by the words of its message, then by the status."""
        return failures.categorize(error, http_status)

    def get_site_failures(self, operation_id: str) -> list[SiteFailure]:
        """A copy of the list."""
        return self._memory.failures(operation_id)

    def get_failure_summary(self, operation_id: str) -> dict[str, Any]:
        """`total_failures`, `failure_types`, `failed_sites`, `total_retries`, `average_retries`,
        `most_common_failure`."""
        return failures.summarize(self.get_site_failures(operation_id))

    def identify_common_failures(self, operation_id: str) -> list[dict[str, Any]]:
        """Failures of one type whose messages begin alike: `failure_type`, `error_pattern`, `count`, `sites`,
        `avg_response_time` in milliseconds of those that are known, `http_statuses`. The most frequent first."""
        return failures.patterns(self.get_site_failures(operation_id))

    def generate_failure_report(self, operation_id: str) -> str:
        """The same for people, in several lines."""
        return failures.report(operation_id, self.get_site_failures(operation_id))

    # Discovery

    def record_discovery_outcome(
        self,
        operation_id: str,
        source_id: str,
        source_name: str,
        source_url: str,
        discovery_result: DiscoveryResult | Any,
    ) -> None:
        """Record what came of looking for articles at a source. Tables of the crawler itself are not touched: that a
        discovery was attempted is told by this row."""
        if not isinstance(discovery_result, DiscoveryResult):
            self.logger.warning("a %s is no DiscoveryResult: not recorded", type(discovery_result).__name__)
            return
        with self._destination.guarded():
            self._destination.submit(
                discovery.outcome_job(
                    operation_id, source_id, source_name, source_url, discovery_result, self._destination.dialect
                )
            )

    def get_discovery_outcomes_report(self, operation_id: str | None = None, hours_back: float = 24) -> dict[str, Any]:
        """`summary`, `outcome_breakdown` and the ten `top_performing_sources` of an operation, else of the last
        hours; rates in percent. Only `error`, with its message, when it cannot be read."""
        try:
            from . import reads  # with SQLAlchemy, which recording does without

            return reads.outcomes_report(self._destination, operation_id, hours_back)
        except Exception as error:
            self.logger.warning("the outcomes of discovery cannot be read: %s", error, exc_info=True)
            return {"error": plain_text(error)}

    # HTTP statuses and methods

    def track_http_status(
        self,
        operation_id: str,
        source_id: str,
        source_url: str,
        discovery_method: DiscoveryMethod,
        attempted_url: str,
        status_code: int,
        response_time_ms: float,
        error_message: str | None = None,
        content_length: int | None = None,
    ) -> None:
        """Record one request and its answer; a status from 400 on is logged, too."""
        with self._destination.guarded():
            code = whole(status_code)
            tracked = HTTPStatusTracking(
                source_id=text(source_id),
                source_url=text(source_url),
                discovery_method=discovery_method,
                attempted_url=text(attempted_url),
                status_code=code,
                status_category=effectiveness.category_of(code),
                response_time_ms=real(response_time_ms),
                timestamp=utc_now(),
                operation_id=text(operation_id),
                error_message=text_or_none(error_message),
                content_length=whole_or_none(content_length),
            )
            if code >= 400:
                self.logger.warning("HTTP status %d from %s", code, tracked.attempted_url)
            self._destination.submit(effectiveness.http_status_job(tracked, self._destination.dialect))

    def update_discovery_method_effectiveness(
        self,
        source_id: str,
        source_url: str,
        discovery_method: DiscoveryMethod,
        status: DiscoveryMethodStatus,
        articles_found: int,
        response_time_ms: float,
        status_codes: Iterable[int] | None,
        notes: str | None = None,
    ) -> None:
        """Add one attempt to what is known of a source and a method. It is a success with the status SUCCESS and at
        least one article; with SKIPPED it leaves the rate as it was."""
        with self._destination.guarded():
            attempt = effectiveness.attempt(
                source_id, source_url, discovery_method, status, articles_found, response_time_ms, status_codes, notes
            )
            job = effectiveness.effectiveness_job(attempt, self._destination.dialect)
            self._destination.submit(job, upserted=(EFFECTIVENESS, upserts.EFFECTIVENESS))

    def get_effective_discovery_methods(self, source_id: str) -> list[DiscoveryMethod]:
        """The methods that found articles in more than half of at least two attempts, the best first; none for a
        source that is not known, and all when it cannot be read."""
        try:
            return effectiveness.effective_methods(self._destination, source_id)
        except Exception as error:
            self.logger.warning("the methods of discovery cannot be read: %s", error, exc_info=True)
            return list(DiscoveryMethod)

    def has_historical_data(self, source_id: str) -> bool:
        """Whether any method was ever tried at the source."""
        try:
            return effectiveness.has_history(self._destination, source_id)
        except Exception as error:
            self.logger.warning("the methods of discovery cannot be read: %s", error, exc_info=True)
            return False


def _details(details: Any) -> dict[str, Any]:
    """What is told beside a message, under names."""
    if not details:
        return {}
    return dict(details) if isinstance(details, Mapping) else {"details": details}
