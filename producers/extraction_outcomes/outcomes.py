"""The outcomes of an extraction, and the result that a crawler hands in. Nothing here touches a database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class ExtractionOutcome(Enum):
    """How an extraction ended."""

    CONTENT_EXTRACTED = "content_extracted"
    PARTIAL_CONTENT = "partial_content"
    NO_CONTENT_FOUND = "no_content_found"
    EMPTY_RESPONSE = "empty_response"
    PAYWALL_DETECTED = "paywall_detected"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    SSL_ERROR = "ssl_error"
    DNS_ERROR = "dns_error"
    CLOUDFLARE_BLOCKED = "cloudflare_blocked"
    CAPTCHA_REQUIRED = "captcha_required"
    BOT_PROTECTION = "bot_protection"
    RATE_LIMITED = "rate_limited"
    PARSING_ERROR = "parsing_error"
    ENCODING_ERROR = "encoding_error"
    JAVASCRIPT_REQUIRED = "javascript_required"
    DATABASE_ERROR = "database_error"
    UNKNOWN_ERROR = "unknown_error"


_SUCCESSES = frozenset({ExtractionOutcome.CONTENT_EXTRACTED, ExtractionOutcome.PARTIAL_CONTENT})
_TECHNICAL_FAILURES = frozenset(
    {
        ExtractionOutcome.HTTP_ERROR,
        ExtractionOutcome.TIMEOUT,
        ExtractionOutcome.CONNECTION_ERROR,
        ExtractionOutcome.SSL_ERROR,
        ExtractionOutcome.DNS_ERROR,
        ExtractionOutcome.DATABASE_ERROR,
        ExtractionOutcome.PARSING_ERROR,
        ExtractionOutcome.ENCODING_ERROR,
        ExtractionOutcome.UNKNOWN_ERROR,
    }
)
_BOT_PROTECTIONS = frozenset(
    {
        ExtractionOutcome.CLOUDFLARE_BLOCKED,
        ExtractionOutcome.CAPTCHA_REQUIRED,
        ExtractionOutcome.BOT_PROTECTION,
        ExtractionOutcome.RATE_LIMITED,
    }
)


@dataclass
class ExtractionResult:
    """One extraction: its outcome, times, what was found, and what is wrong with it.

    Sizes in bytes, lengths in characters, times in milliseconds. The lists of quality issues are None when nothing
    was looked at.
    """

    url: str
    article_id: int
    operation_id: str
    outcome: ExtractionOutcome
    extraction_time_ms: int
    start_time: datetime
    end_time: datetime
    http_status_code: int | None = None
    response_size_bytes: int | None = None
    has_title: bool = False
    has_content: bool = False
    has_author: bool = False
    has_publish_date: bool = False
    content_length: int | None = None
    title_length: int | None = None
    author_count: int | None = None
    title_quality_issues: list[str] | None = None
    content_quality_issues: list[str] | None = None
    author_quality_issues: list[str] | None = None
    publish_date_quality_issues: list[str] | None = None
    overall_quality_score: float = 1.0
    error_message: str | None = None
    error_type: str | None = None
    extracted_content: dict[str, object] | None = None

    @property
    def is_success(self) -> bool:
        """Something was extracted."""
        return self.outcome in _SUCCESSES

    @property
    def is_content_success(self) -> bool:
        """Title and content were extracted."""
        return self.outcome is ExtractionOutcome.CONTENT_EXTRACTED

    @property
    def is_technical_failure(self) -> bool:
        """The network, the server or the parser failed."""
        return self.outcome in _TECHNICAL_FAILURES

    @property
    def is_bot_protection(self) -> bool:
        """The site keeps crawlers out."""
        return self.outcome in _BOT_PROTECTIONS

    @property
    def content_quality_score(self) -> float:
        """The share of title, content, author and date that were found; 0.0 unless something was extracted."""
        found = (self.has_title, self.has_content, self.has_author, self.has_publish_date)
        return sum(map(bool, found)) / len(found) if self.is_success else 0.0
