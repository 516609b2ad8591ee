"""The words of operations, discovery and HTTP status, as they are stored."""

from __future__ import annotations

from enum import StrEnum


class OperationType(StrEnum):
    LOAD_SOURCES = "load_sources"
    CRAWL_DISCOVERY = "crawl_discovery"
    CONTENT_EXTRACTION = "content_extraction"
    ML_ANALYSIS = "ml_analysis"
    DATA_EXPORT = "data_export"


class OperationStatus(StrEnum):
    STARTED = "started"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: What an operation does not come back from.
FINAL = (OperationStatus.COMPLETED, OperationStatus.FAILED, OperationStatus.CANCELLED)


class DiscoveryMethod(StrEnum):
    RSS_FEED = "rss_feed"
    NEWSPAPER4K = "newspaper4k"
    STORYSNIFFER = "storysniffer"


class HTTPStatusCategory(StrEnum):
    SUCCESS = "2xx"
    REDIRECT = "3xx"
    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"


class DiscoveryMethodStatus(StrEnum):
    SUCCESS = "success"
    NO_FEED = "no_feed"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PARSE_ERROR = "parse_error"
    BLOCKED = "blocked"
    SERVER_ERROR = "server_error"
    SKIPPED = "skipped"


class FailureType(StrEnum):
    NETWORK_ERROR = "network_error"
    CLOUDFLARE_PROTECTION = "cloudflare_protection"
    PARSING_ERROR = "parsing_error"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    SSL_ERROR = "ssl_error"
    CONTENT_ERROR = "content_error"
    RSS_ERROR = "rss_error"
    AUTHENTICATION_ERROR = "authentication_error"
    RATE_LIMITED = "rate_limited"
    UNKNOWN = "unknown"
