"""The library of boilerplate: which segments enter it, and as what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ..cleaning import new_id
from ..values import stable_hash

#: What stays the same on a domain for months; models may be trained on it.
PERSISTENT = frozenset({"subscription", "navigation", "footer", "social_share_header"})
#: What changes with the news of the day.
DYNAMIC = frozenset({"sidebar", "trending", "other"})

MIN_BOUNDARY_SCORE = 0.5


def pattern_rows(domain: str | None, segments: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[dict[str, Any]]:
    """The rows of those segments that enter the library of a domain, in order."""
    for segment in segments:
        if domain and _enters(segment):
            yield {
                "id": new_id(),
                "domain": domain,
                "pattern_type": segment["pattern_type"],
                "text_content": segment["segment_text"],
                "text_hash": stable_hash(segment["segment_text"]),
                "confidence_score": segment["boundary_score"],
                "occurrences_total": segment["occurrences"],
                "first_seen": now,
                "last_seen": now,
                "removal_reason": segment["removal_reason"],
                "is_active": True,
                "is_ml_training_eligible": segment["pattern_type"] in PERSISTENT,
            }


def _enters(segment: Mapping[str, Any]) -> bool:
    return bool(
        segment["was_removed"]
        and segment["segment_text"] is not None
        and (segment["boundary_score"] or 0.0) >= MIN_BOUNDARY_SCORE
        and segment["pattern_type"] in PERSISTENT | DYNAMIC
    )
