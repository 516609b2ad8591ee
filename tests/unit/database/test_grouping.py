"""Grouping against plain execution in order, on a real SQLite."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.jobs import Run, Template

from ..writing import Stream

TABLES = """
CREATE TABLE plain (id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
CREATE TABLE keyed (id INTEGER PRIMARY KEY AUTOINCREMENT, k INTEGER UNIQUE, v TEXT NOT NULL);
CREATE TABLE lenient (k INTEGER UNIQUE ON CONFLICT REPLACE, v TEXT);
CREATE TABLE counted (k INTEGER PRIMARY KEY, hits INTEGER NOT NULL, v TEXT);
CREATE TABLE parent (id INTEGER PRIMARY KEY, v TEXT);
CREATE TABLE child (parent INTEGER REFERENCES parent (id) ON DELETE CASCADE, v TEXT);
CREATE TABLE egg (id INTEGER PRIMARY KEY, hen INTEGER REFERENCES hen (id));
CREATE TABLE hen (id INTEGER PRIMARY KEY, egg INTEGER REFERENCES egg (id));
CREATE TABLE watched (k INTEGER, v TEXT);
CREATE TABLE log (id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
CREATE TRIGGER watching AFTER INSERT ON watched BEGIN
    INSERT INTO log (k, v) SELECT new.k, count(*) FROM plain;
END;
CREATE VIEW seen AS SELECT k, v FROM plain;
"""
NAMES = ("plain", "keyed", "lenient", "counted", "parent", "child", "egg", "hen", "watched", "log")

#: Each takes a small integer and a text.
STATEMENTS = (
    "INSERT INTO plain (k, v) VALUES (?, ?)",
    "insert into PLAIN (k, v) values (?, ?)",
    "INSERT INTO plain (v, k) VALUES ('fixed', ?), (?, 0)",
    "INSERT INTO keyed (k, v) VALUES (?, ?)",
    "INSERT OR IGNORE INTO keyed (k, v) VALUES (?, ?)",
    "INSERT OR REPLACE INTO keyed (k, v) VALUES (?, ?)",
    "INSERT INTO lenient (k, v) VALUES (?, ?)",
    "INSERT INTO counted (k, hits, v) VALUES (?, 1, ?) ON CONFLICT (k) DO UPDATE SET hits = hits + 1, v = excluded.v",
    "INSERT INTO counted (k, hits, v) VALUES (?, 1, ?) ON CONFLICT DO NOTHING",
    "INSERT INTO parent (id, v) VALUES (?, ?)",
    "INSERT OR REPLACE INTO parent (id, v) VALUES (?, ?)",
    "INSERT INTO child (parent, v) VALUES (?, ?)",
    "INSERT INTO egg (id, hen) VALUES (?, nullif(?, ''))",
    "INSERT INTO hen (id, egg) VALUES (?, ?)",
    "INSERT INTO watched (k, v) VALUES (?, ?)",
    "INSERT INTO log (k, v) VALUES (?, ?)",
    "INSERT INTO log (k, v) SELECT k, ?2 FROM plain WHERE k = ?1",
    "INSERT INTO log (k, v) VALUES (? + last_insert_rowid(), ?)",
    "INSERT INTO log (k, v) VALUES (?, ?) RETURNING id",
    "UPDATE plain SET v = ?2 WHERE k = ?1",
    "UPDATE keyed SET k = k + ? WHERE v = ?",
    "DELETE FROM keyed WHERE k = ? AND v <> ?",
    "DELETE FROM parent WHERE id = ? AND v <> ?",
    "INSERT INTO nowhere (k, v) VALUES (?, ?)",
    "INSERT INTO seen (k, v) VALUES (?, ?)",
    "INSERT OR ROLLBACK INTO keyed (k, v) VALUES (?, ?)",
)

ROWS = st.tuples(st.integers(0, 3) | st.none(), st.sampled_from(["", "x", "y"]) | st.none()).map(list)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    statements = draw(st.lists(st.tuples(st.sampled_from(STATEMENTS), st.booleans()), min_size=1, max_size=3))
    if any("last_insert_rowid" in sql for sql, _ in statements):  # without an insert before it in the job it is noise
        statements.insert(0, (STATEMENTS[0], False))
    return Template((), tuple(statements))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Run]]:
    """Batches of runs of two streams, made of a few templates, so that runs meet again and again."""
    known = draw(st.lists(templates(), min_size=1, max_size=4))
    streams = (Stream("a"), Stream("b"))

    def run() -> Run:
        jobs: Template = draw(st.sampled_from(known))
        payloads = [_payload(draw, jobs) for _ in range(draw(st.integers(1, 4)))]
        stream: Stream = draw(st.sampled_from(streams))
        return stream.run(jobs, *payloads)

    return [[run() for _ in range(draw(st.integers(1, 5)))] for _ in range(draw(st.integers(1, 3)))]


def _payload(draw: st.DrawFn, jobs: Template) -> Any:
    parts = [draw(st.lists(ROWS, max_size=3) if many else ROWS) for _, many in jobs.statements]
    return parts[0] if len(parts) == 1 else parts


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches())
def test_grouping_does_not_change_what_jobs_mean(work: list[list[Run]]) -> None:
    """Tables and failures are those of one job after the other, each alone in its transaction."""
    model = _memory()
    with closing(Writer(parse_database(":memory:"))) as writer, closing(model):
        writer.driver_connection.set_authorizer(None)
        writer.driver_connection.executescript(TABLES)
        for runs in work:
            failed = {(failure.stream, failure.sequence) for failure in writer.apply(runs)}
            found = _contents(writer.driver_connection)
            expected, expected_failed = _one_by_one(model, runs)
            assert failed == expected_failed
            assert _contents(expected) == found
            model.close()
            model = expected
        model.close()


def _one_by_one(start: sqlite3.Connection, runs: list[Run]) -> tuple[sqlite3.Connection, set[tuple[bytes, int]]]:
    connection, failed = _memory(start), set()
    for run, sequence, payload in _jobs(runs):
        connection.execute("BEGIN")
        try:
            _run(connection, run.template, payload)
            connection.execute("COMMIT")
        except sqlite3.Error:
            failed.add((run.stream, sequence))
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return connection, failed


def _jobs(runs: list[Run]) -> Iterator[tuple[Run, int, Any]]:
    return ((run, run.first + i, payload) for run in runs for i, payload in enumerate(run.payloads))


def _run(connection: sqlite3.Connection, jobs: Template, payload: Any) -> None:
    for sql, rows in jobs.fill(payload):
        for row in rows:
            connection.execute(sql, row).fetchall()


def _memory(start: sqlite3.Connection | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if start is None:
        connection.executescript(TABLES)
    else:
        start.backup(connection)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _contents(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {name: connection.execute(f"SELECT rowid, * FROM {name} ORDER BY rowid").fetchall() for name in NAMES}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_of_the_property_is_tried(statement: str) -> None:
    """Each takes two values, as the property test supposes."""
    meant_to_fail = r"no such table: nowhere|is a view|FOREIGN KEY"
    with closing(_memory()) as connection:
        if re.search("nowhere|seen|child|egg|hen", statement):
            with pytest.raises(sqlite3.Error, match=meant_to_fail):
                connection.execute(statement, [1, "x"])
        else:
            connection.execute(statement, [1, "x"]).fetchall()
