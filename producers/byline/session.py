"""One byline's cleaning: its session and its steps as dictionaries, by the columns of their tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..cleaning import new_id
from ..values import json_text, number, plain_text, text_or_none


def new_session(telemetry_id: str, raw_byline: object, now: datetime, **references: object) -> dict[str, Any]:
    """A session that begins. `references` say what the byline belongs to."""
    raw = text_or_none(raw_byline)
    return {
        "telemetry_id": telemetry_id,
        **{name: text_or_none(value) for name, value in references.items()},
        "raw_byline": raw,
        "raw_byline_length": len(raw or ""),
        "raw_byline_words": len((raw or "").split()),
        "extraction_timestamp": now,
        "confidence_score": 0.0,
        "has_wire_service": False,
        "has_email": False,
        "has_title": False,
        "has_organization": False,
        "source_name_removed": False,
        "duplicates_removed_count": 0,
        "cleaning_errors": [],
        "parsing_warnings": [],
    }


def new_step(telemetry_id: str, step_number: int, now: datetime, took_ms: float, **values: object) -> dict[str, Any]:
    """A step; `values` are its texts, and `confidence_delta`."""
    delta = number(values.pop("confidence_delta"))
    return {
        "id": new_id(),
        "telemetry_id": telemetry_id,
        "step_number": step_number,
        **{name: text_or_none(value) for name, value in values.items()},
        "confidence_delta": delta,
        "processing_time_ms": took_ms,
        "timestamp": now,
    }


def take_in(session: dict[str, Any], step: dict[str, Any]) -> None:
    """Update the session with what a step says about it."""
    session["confidence_score"] += step["confidence_delta"] or 0.0
    removed = step["removed_content"]
    match step["step_name"]:
        case "email_removal" if removed:
            session["has_email"] = True
        case "source_removal" if removed:
            session["source_name_removed"] = True
        case "wire_service_detection" if "wire service" in (step["notes"] or "").lower():
            session["has_wire_service"] = True
        case "duplicate_removal" if removed:
            session["duplicates_removed_count"] += sum(1 for part in removed.split(",") if part.strip())


def new_remark(message: object, kind: object, now: datetime, step: int) -> dict[str, Any]:
    """An error or a warning, and the number of the step after which it came."""
    return {
        "type": text_or_none(kind),
        "message": text_or_none(message),
        "timestamp": now.isoformat(),
        "step": step,
    }


def finished_row(
    session: dict[str, Any], final_authors: object, took_ms: float, **judgements: object
) -> dict[str, Any]:
    """The row of a session that is over."""
    row = dict(session)
    row["id"] = row.pop("telemetry_id")
    authors = _authors(final_authors)
    return {
        **row,
        **judgements,
        "cleaning_errors": json_text(session["cleaning_errors"]),
        "parsing_warnings": json_text(session["parsing_warnings"]),
        "final_authors_json": json_text(authors),
        "final_authors_count": len(authors),
        "final_authors_display": ", ".join(plain_text(author) for author in authors if author is not None),
        "processing_time_ms": took_ms,
    }


def _authors(value: object) -> list[object]:
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    return list(value)
