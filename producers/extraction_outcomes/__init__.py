"""What became of each article's extraction: one row per attempt, with its outcome and the quality of what was found."""

from .outcomes import ExtractionOutcome, ExtractionResult
from .recorder import ExtractionTelemetry

__all__ = ["ExtractionOutcome", "ExtractionResult", "ExtractionTelemetry"]
