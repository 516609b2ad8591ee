"""The table of extraction outcomes as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(schema.EXTRACTION_OUTCOMES)

EXTRACTION_OUTCOMES = METADATA.tables[schema.EXTRACTION_OUTCOMES.name]
