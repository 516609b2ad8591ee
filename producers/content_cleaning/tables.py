"""The tables of content cleaning as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(schema.SESSIONS, schema.SEGMENTS, schema.WIRE_EVENTS, schema.LOCALITY_EVENTS, schema.PATTERNS)

SESSIONS = METADATA.tables[schema.SESSIONS.name]
SEGMENTS = METADATA.tables[schema.SEGMENTS.name]
WIRE_EVENTS = METADATA.tables[schema.WIRE_EVENTS.name]
LOCALITY_EVENTS = METADATA.tables[schema.LOCALITY_EVENTS.name]
PATTERNS = METADATA.tables[schema.PATTERNS.name]
PATTERN_KEY = next(index for index in PATTERNS.indexes if index.name == "idx_persistent_patterns_hash")
