"""Extractions of articles: what was tried on each, how long it took, what it found and which HTTP errors came."""

from .metrics import ExtractionMetrics
from .proxy import (
    PROXY_STATUS_BYPASSED,
    PROXY_STATUS_DISABLED,
    PROXY_STATUS_FAILED,
    PROXY_STATUS_SUCCESS,
    proxy_status_to_int,
)
from .recorder import ComprehensiveExtractionTelemetry
from .rows import extraction_job

__all__ = [
    "PROXY_STATUS_BYPASSED",
    "PROXY_STATUS_DISABLED",
    "PROXY_STATUS_FAILED",
    "PROXY_STATUS_SUCCESS",
    "ComprehensiveExtractionTelemetry",
    "ExtractionMetrics",
    "extraction_job",
    "proxy_status_to_int",
]
