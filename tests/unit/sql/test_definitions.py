"""What a definition makes, and whether that is what was there when it failed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from telemetry_bus.sql.definitions import Definition, defined_by, is_there

THERE = """
CREATE TABLE t (a, Straße); CREATE VIEW v AS SELECT 1; CREATE INDEX i ON t (a);
CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; CREATE VIRTUAL TABLE f USING fts5 (body);
CREATE TABLE taken_data (a); CREATE TABLE other (a);
"""


@pytest.mark.parametrize(
    ("sql", "made"),
    [
        ("CREATE TABLE IF NOT EXISTS main . [a b] (x)", Definition("table", "a b", schema="main")),
        ("create unique index i on t (a)", Definition("index", "i", on="t")),
        ("CREATE /* */ VIRTUAL TABLE 'f' USING fts5 (x)", Definition("table", "f", True)),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", Definition("trigger", "g", on="t")),
        (
            'CREATE TRIGGER g BEFORE UPDATE OF a, "on" ON [my t] WHEN 1 BEGIN SELECT 1; END',
            Definition("trigger", "g", on="my t"),
        ),
        ("CREATE INDEX i", Definition("index", "i", on="")),
        ('ALTER TABLE "t" ADD COLUMN b TEXT', Definition("table", "t", column="b")),
        ("ALTER TABLE t ADD b", Definition("table", "t", column="b")),
        ("ALTER TABLE t RENAME TO u", None),
        ("DROP TABLE IF EXISTS t", None),
        ("", None),
    ],
)
def test_what_is_made(sql: str, made: Definition | None) -> None:
    """By whatever name, in whatever quotes."""
    assert made == defined_by(sql)


@pytest.mark.parametrize(
    ("sql", "there"),
    [
        ("CREATE TABLE T (a)", True),
        ("CREATE VIEW V AS SELECT 2", True),
        ("CREATE INDEX I ON t (a)", True),
        ("CREATE TRIGGER G AFTER INSERT ON t BEGIN SELECT 1; END", True),
        ("CREATE VIRTUAL TABLE F USING fts5 (body)", True),
        ("ALTER TABLE T ADD COLUMN A", True),
        ("CREATE TABLE addresses (address, Address)", False),
        ("CREATE VIRTUAL TABLE taken USING fts5 (body)", False),
        ("CREATE VIRTUAL TABLE t USING fts5 (body)", False),
        ("CREATE TABLE f (a)", False),
        ("CREATE TABLE v (a)", False),
        ("CREATE VIEW t AS SELECT 1", False),
        ("CREATE INDEX t ON t (a)", False),
        ("CREATE TABLE i (a)", False),
        ("CREATE INDEX i ON other (a)", False),
        ("CREATE TRIGGER g AFTER INSERT ON other BEGIN SELECT 1; END", False),
        ("CREATE UNIQUE INDEX I ON T (a)", True),
        ("CREATE TABLE sqlite_own (a)", False),
        ("ALTER TABLE missing ADD COLUMN a", False),
    ],
)
def test_what_sqlite_refuses(sql: str, there: bool) -> None:
    """Only this very thing counts, of the same kind."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(THERE)
        with pytest.raises(sqlite3.Error) as refused:
            connection.execute(sql)
        assert there == is_there(connection.execute, sql, str(refused.value))
