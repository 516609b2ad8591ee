"""One session of cleaning a domain: it and what it found as dictionaries, by the columns of their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from ..cleaning import new_id
from ..values import json_text, number, stable_hash64, text_or_none


def new_session(
    telemetry_id: str,
    session_id: str,
    now: datetime,
    *,
    domain: object,
    article_count: object,
    min_occurrences: object,
    min_boundary_score: object,
) -> dict[str, Any]:
    """A session that begins. The totals are known at its end."""
    return {
        "telemetry_id": telemetry_id,
        "session_id": session_id,
        "domain": text_or_none(domain),
        "article_count": _whole(article_count),
        "min_occurrences": _whole(min_occurrences),
        "min_boundary_score": number(min_boundary_score),
        "start_time": now,
        "processing_time_ms": None,
        "rough_candidates_found": None,
        "segments_detected": None,
        "total_removable_chars": None,
        "removal_percentage": None,
    }


def finish(
    session: dict[str, Any],
    now: datetime,
    *,
    rough_candidates_found: object,
    segments_detected: object,
    total_removable_chars: object,
    removal_percentage: object,
    processing_time_ms: object,
) -> None:
    """Set the totals of a session that is over."""
    session.update(
        rough_candidates_found=_whole(rough_candidates_found),
        segments_detected=_whole(segments_detected),
        total_removable_chars=_whole(total_removable_chars),
        removal_percentage=number(removal_percentage),
        processing_time_ms=number(processing_time_ms),
        end_time=now,
    )


def new_segment(
    session: Mapping[str, Any],
    detection_number: int,
    now: datetime,
    *,
    segment_text: object,
    boundary_score: object,
    occurrences: object,
    pattern_type: object,
    position_consistency: object,
    segment_length: object,
    article_ids: object,
    was_removed: object,
    removal_reason: object,
) -> dict[str, Any]:
    """A segment of text that may be boilerplate."""
    text, articles = text_or_none(segment_text), _listed(article_ids)
    return {
        "id": new_id(),
        "telemetry_id": session["telemetry_id"],
        "detection_number": detection_number,
        "segment_text": text,
        "segment_text_hash": _hash(text),
        "boundary_score": number(boundary_score),
        "occurrences": _whole(occurrences),
        "pattern_type": text_or_none(pattern_type),
        "position_consistency": number(position_consistency),
        "segment_length": _whole(segment_length),
        "affected_article_count": len(articles),
        "was_removed": _flag(was_removed),
        "removal_reason": text_or_none(removal_reason),
        "timestamp": now,
        "article_ids_json": json_text(articles),
    }


def new_wire_event(
    session: Mapping[str, Any],
    now: datetime,
    *,
    provider: object,
    detection_method: object,
    pattern_text: object,
    confidence: object,
    detection_stage: object,
    article_ids: object,
    domain: object,
    extra_metadata: object,
) -> dict[str, Any]:
    """Articles that were found to come from a wire service."""
    text = text_or_none(pattern_text)
    return {
        **_event(session, domain, provider, detection_method),
        "detection_stage": text_or_none(detection_stage),
        "confidence": number(confidence),
        "pattern_text": text,
        "pattern_text_hash": _hash(text),
        "article_ids_json": json_text(_listed(article_ids)),
        "metadata_json": json_text({} if extra_metadata is None else extra_metadata),
        "timestamp": now,
    }


def new_locality_event(
    session: Mapping[str, Any],
    now: datetime,
    *,
    provider: object,
    detection_method: object,
    article_id: object,
    domain: object,
    locality: Mapping[str, Any],
    source_context: object,
) -> dict[str, Any]:
    """A wire service's article that was judged local, or not."""
    return {
        **_event(session, domain, provider, detection_method),
        "article_id": text_or_none(article_id),
        "is_local": bool(locality.get("is_local")),
        "confidence": number(locality.get("confidence")),
        "raw_score": number(locality.get("raw_score")),
        "threshold": number(locality.get("threshold")),
        "signals_json": json_text(_listed(locality.get("signals"))),
        "locality_json": json_text(locality),
        "source_context_json": json_text({} if source_context is None else source_context),
        "timestamp": now,
    }


def new_assessment(text: object, score: object, score_breakdown: object, detected_patterns: object) -> dict[str, Any]:
    """How the boundaries of a text were judged."""
    plain = text_or_none(text) or ""
    return {
        "text": text,
        "final_score": score,
        "score_breakdown": score_breakdown,
        "detected_patterns": detected_patterns,
        "text_length": len(plain),
        "starts_uppercase": plain[:1].isupper(),
        "ends_with_punctuation": plain.endswith((".", "!", "?")),
    }


def _event(session: Mapping[str, Any], domain: object, provider: object, detection_method: object) -> dict[str, Any]:
    return {
        "id": new_id(),
        "telemetry_id": session["telemetry_id"],
        "session_id": session["session_id"],
        "domain": _domain(domain) or session["domain"],
        "provider": text_or_none(provider),
        "detection_method": text_or_none(detection_method),
    }


def _domain(value: object) -> str | None:
    """None for what names none: the session's counts then."""
    text = text_or_none(value or None)
    return None if text is None or text.isspace() else text


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def _whole(value: object) -> int | None:
    known = number(value)
    return int(known) if known is not None and isfinite(known) else None


def _hash(text: str | None) -> int | None:
    return None if text is None else stable_hash64(text)


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)
