"""Failures of sites: which kind each is, and what they have in common. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ..values import number, plain_text
from .enums import FailureType
from .records import SiteFailure

#: So much of a message tells one failure from another.
_PATTERN_LENGTH = 100
#: So many patterns stand in a report.
_PATTERNS_SHOWN = 5

#: Words of a message and status codes, and what they mean. The first that applies counts.
_RULES: tuple[tuple[FailureType, tuple[str, ...], tuple[int, ...]], ...] = (
    (FailureType.NETWORK_ERROR, ("connection", "network", "dns", "hostname", "resolve"), ()),
    (FailureType.SSL_ERROR, ("ssl", "tls", "certificate", "handshake"), ()),
    (FailureType.TIMEOUT, ("timeout", "timed out"), ()),
    (
        FailureType.CLOUDFLARE_PROTECTION,
        ("cloudflare", "checking your browser", "ddos protection", "503 service temporarily unavailable"),
        (),
    ),
    (FailureType.RATE_LIMITED, ("rate limit", "too many requests", "429"), (429,)),
    (
        FailureType.AUTHENTICATION_ERROR,
        ("unauthorized", "forbidden", "authentication", "401", "403"),
        (401, 403),
    ),
    (FailureType.HTTP_ERROR, (), tuple(range(400, 600))),
    (
        FailureType.PARSING_ERROR,
        ("parse", "parsing", "invalid", "malformed", "decode", "encoding", "html", "xml", "feed"),
        (),
    ),
    (FailureType.CONTENT_ERROR, ("content", "empty", "no articles", "no data"), ()),
)


def categorize(error: object, http_status: object = None) -> FailureType:
    """What kind of failure an error, or its message, is."""
    message = plain_text(error).lower()
    status = number(http_status)
    for kind, words, statuses in _RULES:
        if status in statuses or any(word in message for word in words):
            if kind is FailureType.PARSING_ERROR and ("feed" in message or "rss" in message):
                return FailureType.RSS_ERROR
            return kind
    return FailureType.UNKNOWN


def failure_of(error: object, http_status: int | None, **known: Any) -> SiteFailure:
    """The record of an error that has just happened."""
    message = plain_text(error)
    details = {
        "exception_type": type(error).__name__,
        "exception_module": type(error).__module__,
        "traceback": message,
    }
    return SiteFailure(
        failure_type=categorize(error, http_status),
        error_message=message,
        http_status=http_status,
        error_details=details,
        **known,
    )


def summarize(failures: Sequence[SiteFailure]) -> dict[str, Any]:
    """How many, of which types, at which sites, and after how many retries."""
    types = Counter(plain_text(failure.failure_type) for failure in failures)
    retries = sum(failure.retry_count or 0 for failure in failures)
    return {
        "total_failures": len(failures),
        "failure_types": dict(types),
        "failed_sites": [failure.site_url for failure in failures],
        "total_retries": retries,
        "average_retries": retries / len(failures) if failures else 0,
        "most_common_failure": types.most_common(1)[0][0] if types else None,
    }


def patterns(failures: Sequence[SiteFailure]) -> list[dict[str, Any]]:
    """The failures of one type whose messages begin alike, the largest group first.

    The response time, in milliseconds, is the average of those that are known, 0 without any.
    """
    groups: dict[tuple[str, str], list[SiteFailure]] = defaultdict(list)
    for failure in failures:
        groups[plain_text(failure.failure_type), plain_text(failure.error_message)[:_PATTERN_LENGTH]].append(failure)
    found = [_pattern(kind, text, group) for (kind, text), group in groups.items()]
    return sorted(found, key=lambda pattern: -pattern["count"])


def _pattern(kind: str, text: str, group: Sequence[SiteFailure]) -> dict[str, Any]:
    times = [time for failure in group if (time := number(failure.response_time_ms)) is not None]
    statuses = [failure.http_status for failure in group if failure.http_status is not None]
    return {
        "failure_type": kind,
        "error_pattern": text,
        "count": len(group),
        "sites": [failure.site_url for failure in group],
        "avg_response_time": sum(times) / len(times) if times else 0,
        "http_statuses": list(dict.fromkeys(statuses)),
    }


def report(operation_id: str, failures: Sequence[SiteFailure]) -> str:
    """The failures of an operation as text for people."""
    if not failures:
        return f"No site failures recorded for operation {operation_id}."
    summary = summarize(failures)
    lines = [
        f"Site failure report for operation {operation_id}",
        "",
        f"Total failures: {summary['total_failures']}",
        f"Most common failure type: {summary['most_common_failure']}",
        f"Total retries: {summary['total_retries']}",
        f"Average retries per failure: {summary['average_retries']:.1f}",
        "",
        "Failure types:",
    ]
    types = sorted(summary["failure_types"].items(), key=lambda item: -item[1])
    lines += [f"  {kind}: {count} ({count / len(failures) * 100:.1f}%)" for kind, count in types]
    lines += ["", "Common failure patterns:"]
    for index, pattern in enumerate(patterns(failures)[:_PATTERNS_SHOWN], 1):
        lines += _pattern_lines(index, pattern)
    return "\n".join(lines)


def _pattern_lines(index: int, pattern: dict[str, Any]) -> list[str]:
    lines = [
        f"  {index}. {pattern['failure_type']} ({len(pattern['sites'])} sites)",
        f"     Pattern: {pattern['error_pattern']}",
    ]
    if pattern["avg_response_time"] > 0:
        lines.append(f"     Average response time: {pattern['avg_response_time']:.0f} ms")
    if pattern["http_statuses"]:
        lines.append(f"     HTTP statuses: {', '.join(map(str, pattern['http_statuses']))}")
    return lines
