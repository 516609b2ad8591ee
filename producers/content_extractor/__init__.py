"""Wraps a crawler's extractor: fetches a page, extracts it, and says what came of it."""

from .extractor import TelemetryContentExtractor

__all__ = ["TelemetryContentExtractor"]
