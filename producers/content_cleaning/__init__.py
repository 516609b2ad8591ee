"""Telemetry of content cleaning: a domain's sessions, what they found, and the library of boilerplate patterns."""

from .recorder import ContentCleaningTelemetry

__all__ = ["ContentCleaningTelemetry"]
