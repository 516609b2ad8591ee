"""What a response, or a failed request, says about a page: the rules in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..extraction_outcomes import ExtractionOutcome

if TYPE_CHECKING:
    from requests import Response, Session

#: Any of them in a page, in any letter case, whatever the status, means that crawlers are kept out.
_BLOCKING = (
    "checking your browser",
    "cloudflare ray id",
    "ddos protection by cloudflare",
    "access denied",
    "blocked by",
    "captcha",
    "bot protection",
    "security check",
    "please enable javascript",
    "please wait while we verify",
    "under attack mode",
    "browser check",
)
_PAYWALL = (
    "subscribe to continue",
    "paywall",
    "premium content",
    "sign up to read",
    "subscribe for full access",
    "login to continue",
    "this article is for subscribers",
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that may hold an article; size in bytes. Without a request status and size are unknown."""

    html: str
    status: int | None = None
    size: int | None = None


class FetchFailed(Exception):
    """There is no page to extract from: the outcome says why. `error_type` names the kind of error."""

    def __init__(
        self,
        outcome: ExtractionOutcome,
        message: str,
        *,
        status: int | None = None,
        size: int | None = None,
        error_type: str = "FetchFailed",
    ) -> None:
        super().__init__(f"{outcome.name}: {message}")
        self.outcome = outcome
        self.status = status
        self.size = size
        self.error_type = error_type


def fetch(session: Session, url: str, timeout: float) -> Page:
    """Get a page. Raises `FetchFailed` for whatever keeps an article from being there."""
    from requests import exceptions

    try:
        response = session.get(url, timeout=timeout)
        size, text = len(response.content), response.text
    except exceptions.Timeout as error:
        raise _failed(ExtractionOutcome.TIMEOUT, error) from error
    except exceptions.SSLError as error:  # before the connection errors, of which it is one
        raise _failed(ExtractionOutcome.SSL_ERROR, error) from error
    except exceptions.ConnectionError as error:
        raise _failed(ExtractionOutcome.CONNECTION_ERROR, error) from error
    except exceptions.RequestException as error:
        is_dns = "dns" in str(error).lower()
        raise _failed(ExtractionOutcome.DNS_ERROR if is_dns else ExtractionOutcome.HTTP_ERROR, error) from error
    except Exception as error:
        raise _failed(ExtractionOutcome.CONNECTION_ERROR, error) from error
    if fault := _fault(response, text):
        raise FetchFailed(*fault, status=response.status_code, size=size)
    return Page(text, response.status_code, size)


def _fault(response: Response, text: str) -> tuple[ExtractionOutcome, str] | None:
    """The first rule that says that this is no article, and what it saw."""
    lower, status = text.lower(), response.status_code
    if phrase := _first_of(_BLOCKING, lower):
        if "cloudflare" in lower:
            return ExtractionOutcome.CLOUDFLARE_BLOCKED, phrase
        if "captcha" in lower:
            return ExtractionOutcome.CAPTCHA_REQUIRED, phrase
        return ExtractionOutcome.BOT_PROTECTION, phrase
    if status == 429:
        return ExtractionOutcome.RATE_LIMITED, "status 429"
    if status >= 400:
        return ExtractionOutcome.HTTP_ERROR, f"status {status}"
    if not text.strip():
        return ExtractionOutcome.NO_CONTENT_FOUND, "the page is blank"
    if phrase := _first_of(_PAYWALL, lower):
        return ExtractionOutcome.PAYWALL_DETECTED, phrase
    return None


def _first_of(phrases: tuple[str, ...], text: str) -> str | None:
    return next((phrase for phrase in phrases if phrase in text), None)


def _failed(outcome: ExtractionOutcome, error: Exception) -> FetchFailed:
    return FetchFailed(outcome, str(error), error_type=type(error).__name__)
