"""Every table of every producer speaks both databases' SQL, and is what SQLite makes of it."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Table

import producers
from telemetry_bus.tables import definitions, insert_job, upsert_job


def tables() -> Iterator[Table]:
    for module in pkgutil.walk_packages(producers.__path__, "producers."):
        if module.name.endswith(".tables"):
            yield from importlib.import_module(module.name).METADATA.sorted_tables


TABLES = list(tables())
each_table = pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])


def test_each_name_stands_once() -> None:
    """No two producers claim one table, or one name of an index."""
    names = [table.name for table in TABLES] + [str(index.name) for table in TABLES for index in table.indexes]
    assert sorted(set(names)) == sorted(names)
    assert TABLES


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@each_table
def test_compiles(table: Table, dialect: Any) -> None:
    """Definitions, an insert and an upsert of all columns, with a placeholder for each."""
    row = dict.fromkeys(table.c.keys())
    for job in (insert_job(table, row, dialect=dialect), upsert_job(table, row, dialect=dialect)):
        (statement,) = job.statements
        assert len(row) == statement.sql.count("?") == len(statement.rows[0])
        assert definitions(table, dialect) == job.ensure
        assert [] == [text for text in job.ensure if "?" in text]


@each_table
def test_sqlite_takes_it(table: Table) -> None:
    """The table has its columns, in order, and its indexes; parents may come later."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for definition in definitions(table):
            if not definition.startswith("ALTER TABLE"):
                connection.execute(definition)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
        assert [column.name for column in table.columns] == columns
        indexes = {row[1] for row in connection.execute(f"PRAGMA index_list({table.name})")}
        assert {str(index.name) for index in table.indexes} <= indexes
