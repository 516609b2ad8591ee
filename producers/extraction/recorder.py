"""Records extractions and verification batches, and reads what was recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from producers.destination import Destination, Store
from producers.verification import VerificationRecorder

from .metrics import ExtractionMetrics
from .rows import extraction_job, has_http_error
from .schema import COUNT_ERROR, HTTP_ERRORS

logger = logging.getLogger(__name__)


class ComprehensiveExtractionTelemetry(VerificationRecorder):
    """Extractions with everything that was tried, into `extraction_telemetry_v2` and the tables around it.

    `store` is used as it is; else a store of its own on the file `db_path`, whose folder is made, which writes before
    a call returns; else the shared store of the configured database, opened at the first use. Recording never raises:
    what cannot be recorded is logged. Reading raises what the database says; with `days` it looks at no older rows.
    """

    def __init__(self, db_path: str | Path | None = None, store: Store | None = None) -> None:
        if store is None and db_path is not None:
            self._destination = Destination.of_file(db_path, logger=logger)
        else:
            self._destination = Destination(store, logger=logger)

    @property
    def store(self) -> Store:
        return self._destination.store

    def record_extraction(self, metrics: ExtractionMetrics) -> None:
        """Store the extraction as it is now, with its HTTP error and its content-type detection, as one job.

        It counts as a success when `is_success` is set, or any method succeeded. The HTTP error of its host is counted
        when the status is 300 or above and an error type is set.
        """
        with self._destination.guarded():
            job = extraction_job(metrics, dialect=self._destination.dialect)
            self._destination.submit(job, upserted=(HTTP_ERRORS, COUNT_ERROR) if has_http_error(metrics) else None)

    def flush(self) -> None:
        """Return when everything recorded before is in the database."""
        self._destination.flush()

    def get_error_summary(self, days: float = 7) -> list[dict[str, Any]]:
        """HTTP errors last seen within `days`: `host, status_code, error_type, count, last_seen`, most frequent
        first."""
        return list(_reads().error_summary(self._destination, days))

    def get_error_counts(self, days: float | None = None) -> list[dict[str, Any]]:
        """What failed within `days`, by host and status, as `get_error_summary` has it: every status from 300 on, and
        as `no_response` without one what failed and has no status, such as a timeout. Most frequent first."""
        return list(_reads().error_counts(self._destination, days))

    def get_method_effectiveness(self, publisher: str | None = None, days: float | None = None) -> list[dict[str, Any]]:
        """Per method that came to its end: `method_type` and `successful_method` (both its name), `count`,
        `avg_duration` in ms, `success_rate` from 0 to 1; most frequent first."""
        return list(_reads().method_effectiveness(self._destination, publisher, days))

    def get_publisher_stats(self, days: float | None = None) -> list[dict[str, Any]]:
        """Per publisher and host: `publisher, host, total_attempts, successful, avg_duration_ms,
        most_common_method, p95_duration_ms`, most attempts first. The method is the one that succeeded most often, the
        first by name of equals; None when none did."""
        return list(_reads().publisher_stats(self._destination, days))

    def get_field_extraction_stats(
        self, publisher: str | None = None, method: str | None = None, days: float | None = None
    ) -> list[dict[str, Any]]:
        """Per method that was tried: `method, count` and how often it found each field, from 0 to 1, as
        `title_success_rate, author_success_rate, content_success_rate, date_success_rate`; most frequent first."""
        return list(_reads().field_extraction_stats(self._destination, publisher, method, days))

    def get_content_type_detections(
        self, *, limit: int = 200, statuses: Iterable[str] | None = None, days: float | None = None
    ) -> list[dict[str, Any]]:
        """Detections, newest first: the columns of `content_type_detection_telemetry` from `article_id` to
        `created_at`, `evidence` decoded, or as text where it is not JSON. `days` looks at `created_at`."""
        return list(_reads().content_type_detections(self._destination, limit, statuses, days))


def _reads() -> Any:
    """The module, loaded with the first reading: it brings SQLAlchemy, which recording does without."""
    from . import reads

    return reads
