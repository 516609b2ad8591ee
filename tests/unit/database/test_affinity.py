"""Two declared types are one if SQLite stores every value alike: asked of SQLite itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import combinations_with_replacement

import pytest

from telemetry_bus.database.sqlite.connection import SqliteDialect

TYPES = [
    "INTEGER",
    "bigint",
    "POINT",
    "TEXT",
    "VARCHAR(9)",
    "CLOB",
    "BLOB",
    "",
    "REAL",
    "DOUBLE PRECISION",
    "FLOAT",
    "NUMERIC",
    "BOOLEAN",
    "TIMESTAMP",
    "STRING",
    "CHARINT",
    "FLOATBLOB",
]
#: Between them they tell all affinities apart, but for INTEGER and NUMERIC, which differ in a CAST only.
VALUES = ("'7'", "7", "7.5", "7.0", "'7.0'", "x'37'")


def stored(kind: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (a {kind})")
        for value in VALUES:
            connection.execute(f"INSERT INTO t VALUES ({value})")
        return connection.execute("SELECT a, typeof(a) FROM t ORDER BY rowid").fetchall()


@pytest.mark.parametrize(("one", "other"), [*combinations_with_replacement(TYPES, 2)])
def test_same_types_store_alike(one: str, other: str) -> None:
    """What is called the same is stored the same, and what is stored the same is called so."""
    same = SqliteDialect().same_type(one, other)
    alike = stored(one) == stored(other)
    assert alike or not same
    if alike and not same:
        assert {"INTEGER", "NUMERIC"} == {"INTEGER" if "INT" in kind.upper() else "NUMERIC" for kind in (one, other)}
