"""The record of one extraction, filled while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from producers.values import parse_moment, plain_text, text_or_none, utc_now

from .proxy import masked_text, masked_url, proxy_status_to_int

FIELDS = ("title", "author", "content", "publish_date")

#: A text of more characters counts as an article's, with or without a title.
MIN_CONTENT_LENGTH = 100
MAX_ALTERNATIVE_LENGTH = 200
MAX_PROXY_ERROR_LENGTH = 500

#: What a failure without a status is called.
NO_RESPONSE_TYPE = "no_response"
_ERROR_CLASSES = ((500, "5xx_server_error"), (400, "4xx_client_error"), (300, "3xx_redirect"))


@dataclass(eq=False)
class ExtractionMetrics:
    """What happens while one article is extracted: methods tried, their times in ms, fields, HTTP, errors.

    Nothing but memory: `ComprehensiveExtractionTelemetry.record_extraction` stores it. All attributes may be assigned
    to. While a method runs, `method_timings` holds the wall clock of its start in seconds; such an entry is not stored.
    """

    operation_id: Any
    article_id: Any
    url: Any
    publisher: Any
    host: str = field(init=False)
    start_time: datetime = field(init=False)
    end_time: datetime | None = field(default=None, init=False)
    total_duration_ms: float = field(default=0, init=False)
    http_status_code: int | None = field(default=None, init=False)
    http_error_type: str | None = field(default=None, init=False)
    response_size_bytes: int = field(default=0, init=False)
    response_time_ms: float = field(default=0, init=False)
    methods_attempted: list[str] = field(default_factory=list, init=False)
    method_timings: dict[str, float] = field(default_factory=dict, init=False)
    method_success: dict[str, bool] = field(default_factory=dict, init=False)
    method_errors: dict[str, str] = field(default_factory=dict, init=False)
    successful_method: str | None = field(default=None, init=False)
    field_extraction: dict[str, dict[str, bool]] = field(default_factory=dict, init=False)
    extracted_fields: dict[str, bool] = field(init=False)
    final_field_attribution: dict[str, Any] = field(default_factory=dict, init=False)
    alternative_extractions: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    content_length: int = field(default=0, init=False)
    is_success: bool = field(default=False, init=False)
    error_message: str | None = field(default=None, init=False)
    error_type: str | None = field(default=None, init=False)
    proxy_used: bool = field(default=False, init=False)
    proxy_url: str | None = field(default=None, init=False, repr=False)
    proxy_authenticated: bool = field(default=False, init=False)
    proxy_status: int | None = field(default=None, init=False)
    proxy_error: str | None = field(default=None, init=False)
    content_type_detection: Mapping[str, Any] | None = field(default=None, init=False)

    _started: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.host = _host(self.url)
        self.start_time = utc_now().replace(tzinfo=None)
        self.extracted_fields = dict.fromkeys(FIELDS, False)

    def start_method(self, method_name: str) -> None:
        """A method begins. Listed once, however often it is tried; its time is that of the last try."""
        name = plain_text(method_name)
        if name not in self.methods_attempted:
            self.methods_attempted.append(name)
        self.method_timings[name] = self._started[name] = time.time()

    def end_method(self, method_name: str, success: bool, error: Any = None, extracted_fields: Any = None) -> None:
        """A method ends: its time in ms if it was started, its success, its error if there is one.

        The first method that succeeds becomes `successful_method`. From `extracted_fields`: which of title, author,
        content and publish_date were found; from its `metadata`, unless they are known already, `http_status` and
        the `proxy_…` values.
        """
        name = plain_text(method_name)
        if name in self._started:
            self.method_timings[name] = (time.time() - self._started.pop(name)) * 1000
        self.method_success[name] = bool(success)
        if error:
            self.method_errors[name] = plain_text(error)
        if success and not self.successful_method:
            self.successful_method = name
        if extracted_fields is not None:
            found = _mapping(extracted_fields)
            self.field_extraction[name] = _found(found)
            self._take_metadata(_mapping(found.get("metadata")))

    def record_alternative_extraction(
        self, method_name: str, field_name: str, alternative_value: Any, current_value: Any
    ) -> None:
        """Another method's value for a field that has one. 200 characters of each are kept."""
        alternative, current = text_or_none(alternative_value), text_or_none(current_value)
        self.alternative_extractions.setdefault(plain_text(method_name), {})[plain_text(field_name)] = {
            "alternative_value": alternative and alternative[:MAX_ALTERNATIVE_LENGTH],
            "current_value": current and current[:MAX_ALTERNATIVE_LENGTH],
            "values_differ": alternative != current,
        }

    def set_http_metrics(self, status_code: Any, response_size: Any, response_time_ms: Any) -> None:
        """The response: its status, its size in bytes, its time in ms. A status below 300 leaves an earlier
        `http_error_type` in place."""
        self.http_status_code = status_code
        self.response_size_bytes = response_size
        self.response_time_ms = response_time_ms
        self.http_error_type = error_class(status_code) or self.http_error_type

    def set_proxy_metrics(
        self,
        proxy_used: bool,
        proxy_url: Any = None,
        proxy_authenticated: bool = False,
        proxy_status: Any = None,
        proxy_error: Any = None,
    ) -> None:
        """The proxy. Its credentials are masked, in the error too; 500 characters of the error are kept.

        `proxy_status` is one of the `PROXY_STATUS_…` numbers or its name; an empty error leaves an earlier one.
        """
        self.proxy_used = bool(proxy_used)
        url = text_or_none(proxy_url)
        self.proxy_url = url and masked_url(url)
        self.proxy_authenticated = bool(proxy_authenticated)
        self.proxy_status = proxy_status if isinstance(proxy_status, int) else proxy_status_to_int(proxy_status)
        if proxy_error:
            self.proxy_error = masked_text(plain_text(proxy_error), url)[:MAX_PROXY_ERROR_LENGTH]

    def set_content_type_detection(self, detection: Mapping[str, Any] | None) -> None:
        """What kind of page it is: `status`, `confidence` (a label), `confidence_score`, `reason`, `evidence`,
        `version`, `detected_at`."""
        self.content_type_detection = detection

    def finalize(self, final_result: Any) -> None:
        """The end, in time and with the result: a success with a title, or with more than 100 characters of content.

        An empty result sets only the times.
        """
        now, started = utc_now(), parse_moment(self.start_time)
        self.end_time = now.replace(tzinfo=None)
        if started is not None:
            self.total_duration_ms = (now - started) / timedelta(milliseconds=1)
        result = _mapping(final_result)
        if not result:
            return
        self.extracted_fields = _found(result)
        self.final_field_attribution = (
            _mapping(result.get("metadata")).get("extraction_methods") or self.final_field_attribution
        )
        self.content_length = len(text_or_none(result.get("content")) or "")
        self.is_success = self.extracted_fields["title"] or self.content_length > MIN_CONTENT_LENGTH

    def finished_timings(self) -> dict[str, float]:
        """`method_timings` without the methods that are not at their end."""
        return {name: ms for name, ms in self.method_timings.items() if self._started.get(name) != ms}

    def _take_metadata(self, metadata: Mapping[str, Any]) -> None:
        if (status := metadata.get("http_status")) and not self.http_status_code:
            self.set_http_metrics(status, 0, 0)
        if "proxy_used" in metadata and not self._has_proxy:
            names = ("proxy_used", "proxy_url", "proxy_authenticated", "proxy_status", "proxy_error")
            known: dict[str, Any] = {name: metadata[name] for name in names if name in metadata}
            self.set_proxy_metrics(**known)

    @property
    def _has_proxy(self) -> bool:
        return bool(self.proxy_used or self.proxy_url or self.proxy_error) or self.proxy_status is not None


def _host(url: object) -> str:
    """The host with its port, without credentials; empty for what is not a URL."""
    try:
        return urlsplit(text_or_none(url) or "").netloc.rpartition("@")[2]
    except ValueError:  # such as an open bracket
        return ""


def error_class(status_code: Any) -> str | None:
    """The class of an HTTP status from 300 on."""
    try:
        status = int(status_code)
    except (TypeError, ValueError, OverflowError):
        return None
    return next((name for least, name in _ERROR_CLASSES if status >= least), None)


def _found(values: Mapping[str, Any]) -> dict[str, bool]:
    return {name: bool(values.get(name)) for name in FIELDS}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
