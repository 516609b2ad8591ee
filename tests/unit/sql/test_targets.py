"""Which table a text is about."""

from __future__ import annotations

import pytest

from telemetry_bus.sql.targets import table_of


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("INSERT INTO t VALUES (1)", "t"),
        ('insert or rollback into main."T 1" (a) VALUES (1)', "T 1"),
        ("REPLACE INTO [t] VALUES (1)", "t"),
        ("UPDATE OR IGNORE t SET a = 1", "t"),
        ("DELETE FROM t", "t"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "t"),
        ("/* INTO x */ INSERT INTO t SELECT * FROM u", "t"),
        ("CREATE TABLE IF NOT EXISTS t (a)", "t"),
        ("CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a)", "t"),
        ("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END", "t"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "t"),
        ("CREATE VIEW v AS SELECT 1", "v"),
        ("ALTER TABLE t ADD COLUMN b", "t"),
        ("DROP TABLE IF EXISTS main.t", "t"),
        ("DROP INDEX i", None),
        ("SELECT 1", None),
        ("CREATE", None),
        ("", None),
    ],
)
def test_the_table_of_a_statement(sql: str, table: str | None) -> None:
    """The one that is written to, or defined, as it is written there."""
    assert table == table_of(sql)
