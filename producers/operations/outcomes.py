"""What came of looking for articles at a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .records import replace_none


class DiscoveryOutcome(Enum):
    NEW_ARTICLES_FOUND = "new_articles_found"
    DUPLICATES_ONLY = "duplicates_only"
    EXPIRED_ONLY = "expired_only"
    MIXED_RESULTS = "mixed_results"
    NO_ARTICLES_FOUND = "no_articles_found"
    RSS_MISSING = "rss_missing"
    CONTENT_BLOCKED = "content_blocked"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PARSING_ERROR = "parsing_error"
    CLOUDFLARE_BLOCKED = "cloudflare_blocked"
    DATABASE_ERROR = "database_error"
    UNKNOWN_ERROR = "unknown_error"


#: The source answered, whether there was something new or not.
SUCCESSES = frozenset(
    {
        DiscoveryOutcome.NEW_ARTICLES_FOUND,
        DiscoveryOutcome.DUPLICATES_ONLY,
        DiscoveryOutcome.EXPIRED_ONLY,
        DiscoveryOutcome.MIXED_RESULTS,
    }
)
_CONTENT_SUCCESSES = frozenset({DiscoveryOutcome.NEW_ARTICLES_FOUND, DiscoveryOutcome.MIXED_RESULTS})
_TECHNICAL_FAILURES = frozenset(
    {
        DiscoveryOutcome.HTTP_ERROR,
        DiscoveryOutcome.TIMEOUT,
        DiscoveryOutcome.CONNECTION_ERROR,
        DiscoveryOutcome.PARSING_ERROR,
        DiscoveryOutcome.CLOUDFLARE_BLOCKED,
        DiscoveryOutcome.DATABASE_ERROR,
        DiscoveryOutcome.UNKNOWN_ERROR,
    }
)


@dataclass
class DiscoveryResult:
    """An outcome and its figures. `metadata` may hold `methods_attempted` (a list) and `discovery_time_ms`."""

    outcome: DiscoveryOutcome
    articles_found: int = 0
    articles_new: int = 0
    articles_duplicate: int = 0
    articles_expired: int = 0
    error_details: str | None = None
    http_status: int | None = None
    method_used: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        replace_none(self, metadata=dict)

    @property
    def is_success(self) -> bool:
        """The source answered, whether there was something new or not."""
        return self.outcome in SUCCESSES

    @property
    def is_content_success(self) -> bool:
        """There was something new."""
        return self.outcome in _CONTENT_SUCCESSES and (self.articles_new or 0) > 0

    @property
    def is_technical_failure(self) -> bool:
        """Something broke on the way."""
        return self.outcome in _TECHNICAL_FAILURES

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, the metadata on top of it."""
        return {
            "outcome": getattr(self.outcome, "value", self.outcome),
            "articles_found": self.articles_found,
            "articles_new": self.articles_new,
            "articles_duplicate": self.articles_duplicate,
            "articles_expired": self.articles_expired,
            "error_details": self.error_details,
            "http_status": self.http_status,
            "method_used": self.method_used,
            "is_success": self.is_success,
            "is_content_success": self.is_content_success,
            "is_technical_failure": self.is_technical_failure,
            **self.metadata,
        }
