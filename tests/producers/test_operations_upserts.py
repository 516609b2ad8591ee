"""The upserts as text: for both databases, with nothing but a row's values to bind."""

from __future__ import annotations

from typing import Any

import pytest

from producers.operations import upserts
from producers.operations.schema import EFFECTIVENESS, JOBS, OPERATIONS
from producers.schema import upsert_job


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("table", "upsert"),
    [(OPERATIONS, upserts.OPERATION), (JOBS, upserts.JOB), (EFFECTIVENESS, upserts.EFFECTIVENESS)],
    ids=["operations", "jobs", "effectiveness"],
)
def test_one_statement_for_each(table: Any, upsert: Any, dialect: Any) -> None:
    """One text per table and database, a placeholder for each column, in words that the database knows; what is never
    changed by an update is not named in it."""
    row = dict.fromkeys(table.columns)
    (statement,) = upsert_job(table, row, upsert=upsert, dialect=dialect).statements
    assert len(row) == statement.sql.count("?") == len(statement.rows[0])
    changes = statement.sql.partition(" DO UPDATE SET ")[2]
    assert [] == [name for name in ("id", "created_at", "started_at", "source_url") if f" {name} = " in f" {changes}"]
    assert (table is EFFECTIVENESS and dialect == "sqlite") == ("json_each" in changes)
    assert (table is EFFECTIVENESS and dialect == "postgresql") == ("jsonb_array_elements" in changes)
