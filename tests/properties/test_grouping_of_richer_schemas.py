"""Grouping against execution in order, where tables have more to say: cascades, checks, partial indexes, generated
columns, triggers of every kind, and schemas that change in the middle of a batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.jobs import Run, Template

TABLES = """
CREATE TABLE sites (id INTEGER PRIMARY KEY, v TEXT, CHECK (v IS NOT 'y'));
CREATE TABLE pages (id INTEGER PRIMARY KEY, site INTEGER REFERENCES sites (id) ON DELETE SET NULL ON UPDATE CASCADE,
    v TEXT);
CREATE TABLE words (page INTEGER REFERENCES pages (id) ON DELETE CASCADE, v TEXT, UNIQUE (page, v));
CREATE TABLE notes (id INTEGER PRIMARY KEY, word INTEGER REFERENCES pages (id) DEFERRABLE INITIALLY DEFERRED, v TEXT);
CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree (id) ON DELETE CASCADE, v TEXT);
CREATE TABLE pairs (k INTEGER, v TEXT, hits INTEGER DEFAULT 1, PRIMARY KEY (k, v)) WITHOUT ROWID;
CREATE TABLE partly (k INTEGER, v TEXT);
CREATE UNIQUE INDEX only_x ON partly (k) WHERE v = 'x';
CREATE TABLE made (k INTEGER, v TEXT COLLATE NOCASE UNIQUE, twice INTEGER GENERATED ALWAYS AS (2 * k) STORED);
CREATE TABLE counted (k INTEGER, v TEXT);
CREATE TABLE tally (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, k INTEGER);
CREATE TRIGGER inserted AFTER INSERT ON counted BEGIN INSERT INTO tally (what, k) VALUES ('in', new.k); END;
CREATE TRIGGER updated BEFORE UPDATE ON counted BEGIN INSERT INTO tally (what, k) VALUES ('up', old.k); END;
CREATE TRIGGER deleted AFTER DELETE ON counted BEGIN 
    INSERT INTO tally (what, k) SELECT 'out', count(*) FROM partly; END;
CREATE TRIGGER refused BEFORE INSERT ON counted WHEN new.k = 3 BEGIN SELECT RAISE(ABORT, 'no three'); END;
CREATE TRIGGER skipped BEFORE INSERT ON counted WHEN new.k = 2 BEGIN SELECT RAISE(IGNORE); END;
CREATE VIEW both AS SELECT k, v FROM partly;
CREATE TRIGGER through INSTEAD OF INSERT ON both BEGIN INSERT INTO partly (k, v) VALUES (new.k, new.v || '!'); END;
"""

#: Each takes a small integer and a text.
STATEMENTS = (
    "INSERT INTO sites (id, v) VALUES (?, ?)",
    "INSERT INTO sites (id, v) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET v = v || excluded.v WHERE v <> 'x'",
    "UPDATE OR REPLACE sites SET id = id + 1 WHERE id = ? AND v <> ?",
    "DELETE FROM sites WHERE id = ? AND v IS NOT ?",
    "INSERT INTO pages (site, v) VALUES (?, ?)",
    "INSERT OR REPLACE INTO pages (id, v) VALUES (?, ?)",
    "INSERT INTO words (page, v) VALUES (?, ?)",
    "INSERT OR IGNORE INTO words (page, v) VALUES (?, ?)",
    "REPLACE INTO words (page, v) VALUES (?, ?)",
    "INSERT INTO notes (word, v) VALUES (?, ?)",
    "INSERT INTO tree (id, v) VALUES (?, ?)",
    "INSERT INTO tree (up, v) VALUES (?, ?)",
    "DELETE FROM tree WHERE id = ? AND v IS NOT ?",
    "INSERT INTO pairs (k, v) VALUES (?, ?) ON CONFLICT (k, v) DO UPDATE SET hits = hits + 1",
    "INSERT INTO pairs (k, v) VALUES (?, ?)",
    "INSERT INTO pairs (k, v, hits) SELECT ?, ?, count(*) FROM partly",
    "INSERT INTO partly (k, v) VALUES (?, ?)",
    "INSERT OR FAIL INTO partly (k, v) VALUES (?, ?)",
    "INSERT INTO partly (k, v) VALUES (?, ?) ON CONFLICT (k) WHERE v = 'x' DO UPDATE SET k = k + 4",
    "UPDATE partly SET v = ?2 WHERE k = ?1",
    "INSERT INTO made (k, v) VALUES (?, ?)",
    "INSERT INTO made (k, v) VALUES (?, upper(?)) ON CONFLICT (v) DO UPDATE SET k = excluded.k",
    "INSERT INTO counted (k, v) VALUES (?, ?)",
    "UPDATE counted SET v = ?2 WHERE k = ?1",
    "DELETE FROM counted WHERE k = ? AND v IS NOT ?",
    "INSERT INTO tally (k, what) VALUES (?, ?)",
    "INSERT INTO tally (k, what) VALUES (? + changes(), ?)",
    "INSERT INTO both (k, v) VALUES (?, ?)",
    "WITH w (k, v) AS (VALUES (?, ?)) INSERT INTO partly (k, v) SELECT k, v FROM w",
    "INSERT INTO extra (k, v) VALUES (?, ?)",
    "INSERT INTO partly (k, more) VALUES (?, ?)",
)

#: What changes the schema in the middle of a batch, as a definition or as a statement. Nothing is dropped that a
#: definition makes: definitions run once in a writer's life, and again only when a job misses something.
DEFINITIONS = (
    "CREATE TABLE IF NOT EXISTS extra (k INTEGER UNIQUE, v TEXT REFERENCES sites (v))",
    "CREATE TABLE IF NOT EXISTS extra (k INTEGER, v TEXT)",
    "ALTER TABLE partly ADD COLUMN more TEXT DEFAULT 'd'",
    "CREATE TRIGGER IF NOT EXISTS late AFTER INSERT ON made BEGIN "
    "INSERT INTO tally (what, k) VALUES ('made', new.k); END",
    "CREATE UNIQUE INDEX IF NOT EXISTS late_index ON tally (k, what)",
    "CREATE INDEX IF NOT EXISTS nonsense ON nowhere (k)",
)
CHANGES = (
    *DEFINITIONS,
    "DROP TRIGGER IF EXISTS inserted",
    "DROP INDEX IF EXISTS only_x",
    "DROP VIEW IF EXISTS both",
)

ROWS = st.tuples(st.integers(0, 3) | st.none(), st.sampled_from(["", "x", "y", "X"]) | st.none()).map(list)


@st.composite
def templates(draw: st.DrawFn, few: list[str]) -> Template:
    if draw(st.integers(0, 9)) == 0:
        return Template((), ((draw(st.sampled_from(CHANGES)), False),))
    statements = draw(st.lists(st.tuples(st.sampled_from(few), st.booleans()), min_size=1, max_size=3))
    if any("changes()" in sql for sql, _ in statements):  # without an insert before it in the job it is noise
        statements.insert(0, (STATEMENTS[16], False))
    ensure = draw(st.sampled_from([(), (), (), *((text,) for text in DEFINITIONS), DEFINITIONS[:3]]))
    return Template(ensure, tuple(statements))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Run]]:
    """Batches of runs of two streams, made of a few templates, so that runs meet again and again."""
    start = draw(st.integers(0, len(STATEMENTS) - 4))  # neighbours in the list have to do with each other
    few = list(STATEMENTS[start : start + 4])
    known = draw(st.lists(templates(few), min_size=1, max_size=5))
    last = {b"a" * 16: 0, b"b" * 16: 0}

    def run() -> Run:
        jobs: Template = draw(st.sampled_from(known))
        payloads = [_payload(draw, jobs) for _ in range(draw(st.integers(1, 4)))]
        stream = draw(st.sampled_from(sorted(last)))
        first = last[stream] + 1
        last[stream] += len(payloads)
        return Run(stream, first, jobs, payloads)

    return [[run() for _ in range(draw(st.integers(1, 5)))] for _ in range(draw(st.integers(1, 3)))]


def _payload(draw: st.DrawFn, jobs: Template) -> Any:
    rows = [ROWS if "?" in sql else st.just([]) for sql, _ in jobs.statements]
    parts = [
        draw(st.lists(row, max_size=3) if many else row) for row, (_, many) in zip(rows, jobs.statements, strict=True)
    ]
    return parts[0] if len(parts) == 1 else parts


@pytest.mark.slow
@settings(max_examples=120)
@given(batches())
def test_grouping_means_what_order_means(work: list[list[Run]]) -> None:
    """Schema, tables and failures are those of one job after the other, each alone in its transaction."""
    model = _memory()
    with closing(Writer(parse_database(":memory:"))) as writer:
        writer.driver_connection.set_authorizer(None)
        writer.driver_connection.executescript(TABLES)
        for runs in work:
            failed = {(failure.stream, failure.sequence) for failure in writer.apply(runs)}
            expected, expected_failed = _one_by_one(model, runs)
            assert failed == expected_failed
            model.close()
            model = expected
            assert _contents(model) == _contents(writer.driver_connection)
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
    for sql in jobs.ensure:
        try:
            connection.execute(sql)
        except sqlite3.OperationalError as error:
            if "duplicate column" not in str(error):
                raise
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


def _contents(connection: sqlite3.Connection) -> dict[str, Any]:
    schema = connection.execute(
        "SELECT name, type, sql FROM sqlite_master WHERE name NOT LIKE '%telemetry_bus%' ORDER BY name"
    ).fetchall()
    found: dict[str, Any] = {name: sql for name, _, sql in schema}
    for name, kind, _ in schema:
        if kind == "table":
            order = "1, 2" if name == "pairs" else "rowid"
            found[name] = connection.execute(f"SELECT {order}, * FROM {name} ORDER BY {order}").fetchall()
    return found


@pytest.mark.parametrize("sql", [*STATEMENTS, *CHANGES])
def test_every_statement_of_the_property_can_work(sql: str) -> None:
    """Each takes two values or none, as the property test supposes, and succeeds where what it needs is there."""
    with closing(_memory()) as connection:
        for definition in DEFINITIONS[1:4]:
            if definition != sql:
                connection.execute(definition)
        for table, values in (("sites", "1, 'a'"), ("pages", "1, 1, 'a'"), ("tree", "1, NULL, 'a'")):
            connection.execute(f"INSERT INTO {table} VALUES ({values})")
        row = [5 if "sites" in sql or "INSERT INTO tree (id" in sql else 1, "a"] if "?" in sql else []
        if "nowhere" in sql:
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                connection.execute(sql, row)
        else:
            connection.execute(sql, row).fetchall()
