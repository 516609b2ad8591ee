"""Cleanings of bylines as people look at them: what was changed, was it right; and what they say of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, or_, select

from telemetry_bus import Job, Statement

from ..columns import Moment
from ..destination import Destination
from ..schema import definitions
from ..values import utc_now, utc_text
from . import schema
from .tables import SESSIONS, STEPS

#: What may be said of a cleaning.
LABELS = ("correct", "incorrect", "unclear")
MOST = 100
_LISTED = (
    *("id", "source_name", "raw_byline", "final_authors_display", "confidence_score", "extraction_timestamp"),
    "requires_manual_review",
)
_STEP = ("step_number", "step_name", "input_text", "output_text", "removed_content", "added_content", "notes")


def cleanings(destination: Destination, *, waiting: bool) -> list[dict[str, Any]]:
    """The newest; with `waiting` those that need a look and have no label yet."""
    row = SESSIONS.c
    query = (
        select(*(row[name] for name in _LISTED)).order_by(Moment(row.extraction_timestamp).desc(), row.id).limit(MOST)
    )
    if waiting:
        query = query.where(func.coalesce(row.requires_manual_review, False))
        if destination.has_columns(schema.SESSIONS, "human_label"):
            query = query.where(or_(row.human_label.is_(None), row.human_label == ""))
    return destination.read_dicts(query)


def cleaning(destination: Destination, id: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """One, with its label if it has one, and its steps in order; None when it is not there."""
    row, step = SESSIONS.c, STEPS.c
    names = [name for name in schema.SESSIONS.columns if destination.has_columns(schema.SESSIONS, name)]
    found = destination.read_dicts(select(*(row[name] for name in names)).where(row.id == id)) if names else []
    if not found:
        return None
    steps = select(*(step[name] for name in _STEP)).where(step.telemetry_id == id).order_by(step.step_number)
    return found[0], destination.read_dicts(steps)


def label(destination: Destination, id: str, given: str, notes: str, by: str) -> None:
    """Keep what is said of a cleaning; it is stored when this returns. Raises what the store raises."""
    table = schema.SESSIONS.name
    change = f"UPDATE {table} SET human_label = ?, human_notes = ?, reviewed_by = ?, reviewed_at = ? WHERE id = ?"
    said = Statement(change, ((given, notes, by, utc_text(utc_now()), id),))
    destination.submit(Job((said,), definitions(schema.SESSIONS, destination.dialect)))
    destination.flush()
