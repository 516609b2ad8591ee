"""The tables of the extractions as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from .. import verification
from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(
    schema.EXTRACTIONS, schema.HTTP_ERRORS, schema.DETECTIONS, *schema.ROLLUP_TABLES, verification.VERIFICATIONS
)

EXTRACTIONS = METADATA.tables[schema.EXTRACTIONS.name]
HTTP_ERRORS = METADATA.tables[schema.HTTP_ERRORS.name]
DETECTIONS = METADATA.tables[schema.DETECTIONS.name]
VERIFICATIONS = METADATA.tables[verification.VERIFICATIONS.name]
ROLLUPS = METADATA.tables[schema.ROLLUPS.name]
DURATION_ROLLUPS = METADATA.tables[schema.DURATION_ROLLUPS.name]
METHOD_ROLLUPS = METADATA.tables[schema.METHOD_ROLLUPS.name]
