"""The tables of the extractions as SQLAlchemy's. What records does without: see `schema`."""

from __future__ import annotations

from .. import verification
from ..alchemy import metadata_of
from . import schema

METADATA = metadata_of(schema.EXTRACTIONS, schema.HTTP_ERRORS, schema.DETECTIONS, verification.VERIFICATIONS)

EXTRACTIONS = METADATA.tables[schema.EXTRACTIONS.name]
HTTP_ERRORS = METADATA.tables[schema.HTTP_ERRORS.name]
DETECTIONS = METADATA.tables[schema.DETECTIONS.name]
VERIFICATIONS = METADATA.tables[verification.VERIFICATIONS.name]
