"""Telemetry of byline cleaning: each byline's session, and the steps that it went through."""

from .recorder import BylineCleaningTelemetry, telemetry

__all__ = ["BylineCleaningTelemetry", "telemetry"]
