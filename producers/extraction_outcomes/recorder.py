"""Records extraction outcomes, and tells the crawler's own table how an article ended."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..destination import Destination, Store
from ..schema import insert_job
from ..values import finite, parse_utc, plain_text, whole
from .host import HostArticles
from .outcomes import ExtractionResult
from .schema import EXTRACTION_OUTCOMES

_logger = logging.getLogger(__name__)

_ISSUES = ("title", "content", "author", "publish_date")


class ExtractionTelemetry:
    """Records what became of each article.

    `store` is used if given; else a store of its own on the file `db_path`, which writes at once unless
    `async_writes`; else the shared store of the configured database, opened at the first use.
    """

    def __init__(
        self, db_path: str | Path | None = None, *, store: Store | None = None, async_writes: bool | None = None
    ) -> None:
        if store is None and db_path is not None:
            self._destination = Destination.of_file(db_path, async_writes=bool(async_writes), logger=_logger)
        else:
            self._destination = Destination(store, logger=_logger)
        self._articles = HostArticles(self._destination)

    def record_extraction_outcome(
        self, operation_id: str, article_id: int | str, url: str, extraction_result: object
    ) -> None:
        """Record one outcome under these three names, whatever the result's own say.

        Then the row of the article in the crawler's table `articles`, where there is one with the columns `status`
        and `processed_at`, becomes `extracted` or `error`. That is a job of its own: it can fail without losing the
        outcome.

        Anything but an `ExtractionResult` is reported and left out. Raises what the store raises at `submit`.
        """
        if not isinstance(extraction_result, ExtractionResult):
            _logger.warning("no ExtractionResult for %s: %s", url, type(extraction_result).__name__)
            return
        if article_id is not None and not isinstance(article_id, int):
            article_id = plain_text(article_id)  # a UUID for example
        row = _row(operation_id, article_id, url, extraction_result)
        self._destination.submit(insert_job(EXTRACTION_OUTCOMES, row, dialect=self._destination.dialect))
        self._articles.processed(article_id, "extracted" if extraction_result.is_success else "error")
        _logger.info("extraction outcome of article %s: %s", article_id, row["outcome"])

    def get_extraction_stats(self, operation_id: str | None = None) -> list[dict[str, Any]]:
        """Per outcome, of one operation or of all: how often, how long (ms), how good; empty if it cannot be read."""
        try:
            from . import reads  # with SQLAlchemy, which recording does without

            return reads.outcome_stats(self._destination, operation_id)
        except Exception:
            _logger.exception("extraction outcomes cannot be read")
            return []

    def flush(self) -> None:
        """Return when everything recorded before is in the database."""
        self._destination.flush()


def _row(operation_id: str, article_id: int | str, url: str, result: ExtractionResult) -> dict[str, Any]:
    issues = {field: getattr(result, f"{field}_quality_issues") or [] for field in _ISSUES}
    return {
        "operation_id": operation_id,
        "article_id": article_id,
        "url": url,
        "outcome": getattr(result.outcome, "value", result.outcome),
        "extraction_time_ms": finite(result.extraction_time_ms) or 0.0,
        "start_time": parse_utc(result.start_time),
        "end_time": parse_utc(result.end_time),
        "http_status_code": whole(result.http_status_code),
        "response_size_bytes": whole(result.response_size_bytes),
        "has_title": bool(result.has_title),
        "has_content": bool(result.has_content),
        "has_author": bool(result.has_author),
        "has_publish_date": bool(result.has_publish_date),
        "content_length": whole(result.content_length),
        "title_length": whole(result.title_length),
        "author_count": whole(result.author_count),
        "content_quality_score": result.content_quality_score,
        "error_message": result.error_message,
        "error_type": result.error_type,
        "is_success": result.is_success,
        "is_content_success": result.is_content_success,
        "is_technical_failure": result.is_technical_failure,
        "is_bot_protection": result.is_bot_protection,
        "metadata": result.extracted_content or None,
        **{f"{field}_quality_issues": found for field, found in issues.items()},
        "overall_quality_score": finite(result.overall_quality_score),
        **{f"{field}_has_issues": bool(found) for field, found in issues.items()},
    }
