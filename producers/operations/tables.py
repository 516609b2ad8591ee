"""The tables of operations and discovery as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(
    schema.OPERATIONS, schema.JOBS, schema.DISCOVERY_OUTCOMES, schema.HTTP_STATUSES, schema.EFFECTIVENESS
)

OPERATIONS = METADATA.tables[schema.OPERATIONS.name]
JOBS = METADATA.tables[schema.JOBS.name]
DISCOVERY_OUTCOMES = METADATA.tables[schema.DISCOVERY_OUTCOMES.name]
HTTP_STATUSES = METADATA.tables[schema.HTTP_STATUSES.name]
EFFECTIVENESS = METADATA.tables[schema.EFFECTIVENESS.name]
