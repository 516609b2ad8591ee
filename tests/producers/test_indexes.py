"""The indexes that readers count on, by their names and columns, as SQLite has them."""

from __future__ import annotations

import importlib
import sqlite3
from contextlib import closing

import pytest

from telemetry_bus.tables import definitions

#: Table, index and its columns; "unique" where two rows of one key would break an upsert.
INDEXES = """
byline.tables byline_transformation_steps idx_byline_steps_telemetry telemetry_id
content_cleaning.tables content_cleaning_sessions idx_content_cleaning_domain domain
content_cleaning.tables content_cleaning_segments idx_content_segments_telemetry telemetry_id
content_cleaning.tables content_cleaning_segments idx_content_segments_pattern pattern_type
content_cleaning.tables content_cleaning_segments idx_content_segments_boundary_score boundary_score
content_cleaning.tables persistent_boilerplate_patterns idx_persistent_patterns_domain domain,is_active
content_cleaning.tables persistent_boilerplate_patterns idx_persistent_patterns_hash domain,text_hash unique
content_cleaning.tables persistent_boilerplate_patterns idx_persistent_patterns_type pattern_type,confidence_score
content_cleaning.tables persistent_boilerplate_patterns idx_persistent_patterns_ml_eligible \
is_ml_training_eligible,domain
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_operation_id operation_id
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_article_id article_id
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_url url
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_publisher publisher
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_host host
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_successful_method successful_method
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_is_success is_success
extraction.tables extraction_telemetry_v2 ix_extraction_telemetry_v2_created_at created_at
extraction_outcomes.tables extraction_outcomes idx_extraction_operation operation_id
extraction_outcomes.tables extraction_outcomes idx_extraction_article article_id
extraction_outcomes.tables extraction_outcomes idx_extraction_outcome outcome
extraction_outcomes.tables extraction_outcomes idx_extraction_success is_success
extraction_outcomes.tables extraction_outcomes idx_extraction_content_success is_content_success
extraction_outcomes.tables extraction_outcomes idx_extraction_timestamp timestamp
extraction_outcomes.tables extraction_outcomes idx_extraction_url url
extraction_outcomes.tables extraction_outcomes idx_extraction_quality content_quality_score
operations.tables discovery_outcomes idx_discovery_operation operation_id
operations.tables discovery_outcomes idx_discovery_source source_id
operations.tables discovery_outcomes idx_discovery_outcome outcome
operations.tables discovery_outcomes idx_discovery_success is_success
operations.tables discovery_outcomes idx_discovery_content_success is_content_success
operations.tables discovery_outcomes idx_discovery_timestamp timestamp
operations.tables discovery_outcomes idx_discovery_source_outcome source_id,outcome
operations.tables http_status_tracking idx_http_source_method source_id,discovery_method
operations.tables http_status_tracking idx_http_status_code status_code
operations.tables http_status_tracking idx_http_timestamp timestamp
operations.tables discovery_method_effectiveness idx_effectiveness_source_method source_id,discovery_method unique
operations.tables discovery_method_effectiveness idx_effectiveness_source source_id
operations.tables discovery_method_effectiveness idx_effectiveness_method discovery_method
operations.tables discovery_method_effectiveness idx_effectiveness_success_rate success_rate
operations.tables discovery_method_effectiveness idx_effectiveness_last_attempt last_attempt
"""
EACH = [line.split() for line in INDEXES.strip().splitlines()]


@pytest.mark.parametrize(
    ("module", "table", "index", "columns", "unique"),
    [(module, table, index, columns, bool(unique)) for module, table, index, columns, *unique in EACH],
    ids=[name for _, _, name, *_ in EACH],
)
def test_an_index(module: str, table: str, index: str, columns: str, unique: bool) -> None:
    """The table's definitions make it: on these columns in this order, and unique where that is said."""
    made = importlib.import_module(f"producers.{module}").METADATA.tables[table]
    with closing(sqlite3.connect(":memory:")) as connection:
        for definition in definitions(made):
            if not definition.startswith("ALTER TABLE"):
                connection.execute(definition)
        assert columns.split(",") == [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
        listed = {row[1]: bool(row[2]) for row in connection.execute(f"PRAGMA index_list({table})")}
    assert unique == listed[index]
