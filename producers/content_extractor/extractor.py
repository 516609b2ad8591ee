"""An extractor that says what came of each page, and never raises."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from ..extraction_outcomes import ExtractionOutcome, ExtractionResult
from ..extras import import_requests
from ..values import plain_text, utc_now
from .fetching import FetchFailed, Page, fetch
from .quality import MISSING, judge

if TYPE_CHECKING:
    from requests import Session

_USER_AGENT = "TelemetryContentExtractor/1.0"


class Extractor(Protocol):
    """What is wrapped: an extractor that turns a page into a dict of its fields."""

    def extract_content(self, url: str, html: str) -> dict[str, Any] | None: ...


class TelemetryContentExtractor:
    """Fetches pages and extracts them with `extractor`, and describes each in an `ExtractionResult`.

    `timeout` of a request in seconds. Requests need the extra `http`.
    """

    def __init__(
        self, timeout: float = 20, user_agent: str | None = None, *, extractor: Extractor | None = None
    ) -> None:
        self.timeout = timeout
        self.user_agent = user_agent or _USER_AGENT
        self.extractor = extractor
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session of all requests, made at its first use."""
        if self._session is None:
            self._session = import_requests("TelemetryContentExtractor").Session()
            self._session.headers["User-Agent"] = self.user_agent
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._session = session

    def extract_content_with_telemetry(
        self, url: str, article_id: int, operation_id: str, html: str | None = None
    ) -> ExtractionResult:
        """Fetch the page, unless its `html` is given, and extract it. Failures are outcomes, not exceptions.

        Raises `ImportError` when a page is to be fetched and the extra `http` is not installed.
        """
        session = self.session if html is None else None
        began, start = monotonic(), utc_now()
        result = ExtractionResult(url, article_id, operation_id, ExtractionOutcome.UNKNOWN_ERROR, 0, start, start)
        try:
            page = Page(html or "") if session is None else fetch(session, url, self.timeout)
        except FetchFailed as failed:
            result = replace(
                result,
                outcome=failed.outcome,
                error_message=str(failed),
                error_type=failed.error_type,
                http_status_code=failed.status,
                response_size_bytes=failed.size,
            )
        except Exception as error:
            result = _failed(result, ExtractionOutcome.CONNECTION_ERROR, error)
        else:
            known = replace(result, http_status_code=page.status, response_size_bytes=page.size)
            result = self._extracted(known, page)
        return replace(result, extraction_time_ms=int((monotonic() - began) * 1000), end_time=utc_now())

    def _extracted(self, result: ExtractionResult, page: Page) -> ExtractionResult:
        try:
            if self.extractor is None:
                raise TypeError("no extractor was given")
            article = self.extractor.extract_content(result.url, page.html)
            return _described(result, article)
        except Exception as error:
            return _failed(result, ExtractionOutcome.PARSING_ERROR, error)


def _described(result: ExtractionResult, article: dict[str, Any] | None) -> ExtractionResult:
    if not article:
        return replace(result, outcome=ExtractionOutcome.NO_CONTENT_FOUND, error_message="nothing could be extracted")
    quality = judge(article)
    has_title, has_content, has_author, has_date = (
        issues != MISSING
        for issues in (quality.title_issues, quality.content_issues, quality.author_issues, quality.date_issues)
    )
    return replace(
        result,
        outcome=_BY_FOUND[has_title + has_content],
        has_title=has_title,
        has_content=has_content,
        has_author=has_author,
        has_publish_date=has_date,
        title_length=quality.title_length,
        content_length=quality.content_length,
        author_count=quality.author_count,
        title_quality_issues=quality.title_issues,
        content_quality_issues=quality.content_issues,
        author_quality_issues=quality.author_issues,
        publish_date_quality_issues=quality.date_issues,
        overall_quality_score=quality.score,
        extracted_content=article,
    )


#: By the number of title and content that were found.
_BY_FOUND = (
    ExtractionOutcome.NO_CONTENT_FOUND,
    ExtractionOutcome.PARTIAL_CONTENT,
    ExtractionOutcome.CONTENT_EXTRACTED,
)


def _failed(result: ExtractionResult, outcome: ExtractionOutcome, error: Exception) -> ExtractionResult:
    return replace(result, outcome=outcome, error_message=plain_text(error), error_type=type(error).__name__)
