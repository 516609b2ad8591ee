"""The tables of byline cleaning as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(schema.SESSIONS, schema.STEPS)

SESSIONS = METADATA.tables[schema.SESSIONS.name]
STEPS = METADATA.tables[schema.STEPS.name]
