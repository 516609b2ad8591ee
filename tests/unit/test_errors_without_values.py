"""What a log has of a database's error: SQLite's words, those of the statement, and no value of a row."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from telemetry_bus.errors import without_values

SECRET = "hunter2canary"
SCHEMA = """
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c CHECK (length(c) < 5));
CREATE VIRTUAL TABLE f5 USING fts5 (body);
CREATE VIRTUAL TABLE f4 USING fts4 (body);
CREATE VIRTUAL TABLE r USING rtree (id, low, high);
INSERT INTO t VALUES (1, 'x', 1);
"""
#: Statements with one value, which is the secret or has it in it.
STATEMENTS = {
    "INSERT INTO t (b) SELECT body FROM f5 WHERE f5 MATCH ?": f"{SECRET}:x",
    "INSERT INTO t (b) SELECT body FROM f5 WHERE body MATCH ?": f"{SECRET} AND",
    "INSERT INTO t (b) SELECT body FROM f5 WHERE f5 = ?": f'"{SECRET}',
    "INSERT INTO t (b) SELECT body FROM f4 WHERE f4 MATCH ?": f'"{SECRET} NEAR',
    "INSERT INTO f5 (f5) VALUES (?)": SECRET,
    "INSERT INTO f5 (f5, rank) VALUES (?, 1)": SECRET,
    "INSERT INTO t (b) VALUES (json_extract('{}', ?))": SECRET,
    "INSERT INTO t (b) VALUES (json(?))": SECRET,
    "INSERT INTO t (a) VALUES (?)": SECRET,
    "INSERT INTO t (c) VALUES (?)": SECRET,
    "INSERT INTO r VALUES (?, 2, 1)": SECRET,
    "INSERT INTO t (b) SELECT 1 WHERE ? REGEXP '('": SECRET,
}


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_sqlite_says_of_a_value(sql: str) -> None:
    """In whatever way it names it, in quotes or without."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        try:
            connection.execute(sql, (STATEMENTS[sql],))
        except sqlite3.Error as error:
            text = f"{error}\nTraceback (most recent call last):\n  File\nsqlite3.{type(error).__name__}: {error}\n"
            assert SECRET not in "".join(without_values(text, sql))
            assert "".join(without_values(text, sql)).count("…") < 5


@pytest.mark.parametrize(
    ("message", "sql"),
    [
        ("UNIQUE constraint failed: events.name, events.day", "INSERT OR ABORT INTO x DEFAULT VALUES"),
        ("CHECK constraint failed: size > 0", ""),
        ('near "SELEC": syntax error', "SELEC 1"),
        ("no such table: events", "INSERT INTO events VALUES (1)"),
        ("table events has no column named size", "INSERT INTO events (size) VALUES (1)"),
        ("database is locked", ""),
        ("attempt to write a readonly database", ""),
    ],
)
def test_what_is_said_of_the_statement_stays(message: str, sql: str) -> None:
    """And names in a failed constraint."""
    assert (message, "") == without_values(message, sql)


def test_a_message_of_a_trigger() -> None:
    """It may have been made of a row."""
    assert ("… for …", "") == without_values(f"price {SECRET} 4711 for {SECRET}", "INSERT INTO t VALUES (?)")
