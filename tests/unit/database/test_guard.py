"""What jobs may do, and what they may not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.database.dialects import Settings
from telemetry_bus.database.sqlite.connection import SqliteDialect
from telemetry_bus.database.sqlite.guard import Guard, allowed_functions

from ..writing import EVENT, EVENTS, Stream, database, execute, opened, rows, template

ALLOWED = (
    "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT DEFAULT (lower('X')), c INTEGER CHECK (c > 0))",
    "CREATE TABLE copied AS SELECT name FROM events",
    "CREATE INDEX i ON events (name, size DESC) WHERE size > 1",
    "CREATE VIEW v AS SELECT name FROM events",
    "CREATE TRIGGER g AFTER INSERT ON events BEGIN UPDATE events SET size = 0 WHERE id = new.id; END",
    "ALTER TABLE events ADD COLUMN extra TEXT",
    "ALTER TABLE events RENAME COLUMN size TO bytes",
    "ALTER TABLE events RENAME TO happenings",
    "ALTER TABLE events DROP COLUMN size",
    "DROP TABLE events",
    "DROP TABLE IF EXISTS missing",
    "CREATE VIRTUAL TABLE f USING fts5 (body)",
    "CREATE VIRTUAL TABLE f USING rtree (id, low, high)",
    "ANALYZE events",
    "REINDEX events",
    "WITH n (a) AS (VALUES ('q')) INSERT INTO events (name) SELECT a FROM n",
    "INSERT INTO events (name, size) VALUES ('q', abs(-1)) ON CONFLICT (name) DO UPDATE SET size = excluded.size",
    "UPDATE events SET size = (SELECT count(*) FROM sqlite_master)",
    "DELETE FROM events",
    "REPLACE INTO events (name) VALUES ('telemetry_bus_ledger')",
    "ANALYZE",
    "REINDEX",
    "CREATE TABLE t (telemetry_bus_a TEXT, b TEXT DEFAULT 'telemetry_bus_ledger')",
    "ALTER TABLE events ADD COLUMN telemetry_bus_a TEXT",
    "ALTER TABLE events RENAME COLUMN size TO telemetry_bus_size",
    "UPDATE events SET name = 'telemetry_bus_ledger' WHERE name = 'telemetry_bus_a'",
    "INSERT INTO events (name) SELECT name || 'x' AS telemetry_bus_a FROM events ORDER BY telemetry_bus_a",
    "INSERT INTO events (name) SELECT json_extract('[1]', '$[0]') || printf('%s', group_concat(name)) FROM events",
    "INSERT INTO events (name) SELECT row_number() OVER (ORDER BY id) FROM events WHERE name REGEXP 'x|y'",
)

DENIED = (
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT job",
    "SAVEPOINT mine",
    "RELEASE job",
    "ROLLBACK TO job",
    "PRAGMA synchronous=OFF",
    "PRAGMA schema_version",
    "PRAGMA foreign_keys=ON",
    "PRAGMA page_size=512",
    "ATTACH 'elsewhere.db' AS elsewhere",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'elsewhere.db'",
    "SELECT load_extension('evil')",
    "SELECT fts3_tokenizer('simple', x'4141414141414141')",
    "SELECT FTS3_Tokenizer('simple')",
    "INSERT INTO events (name) SELECT sqlite_log(1, 'forged')",
    "INSERT INTO events (name) SELECT sql FROM sqlite_stmt",
    "CREATE VIRTUAL TABLE f USING dbstat",
    "CREATE VIRTUAL TABLE f USING fts3tokenize ('simple')",
    "CREATE TABLE child (s REFERENCES 'telemetry_bus_ledger')",
    "CREATE TABLE child (s, FOREIGN KEY (s) REFERENCES /* */ [Telemetry_Bus_Ledger] (stream))",
    "ALTER TABLE events ADD COLUMN s REFERENCES `telemetry_bus_dead_letters`",
    "ALTER TABLE events RENAME TO 'telemetry_bus_events'",
    "CREATE TEMP TABLE t (a)",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE TEMP TRIGGER g AFTER INSERT ON events BEGIN DELETE FROM events; END",
    "INSERT INTO telemetry_bus_ledger VALUES (x'00', 1, '')",
    "UPDATE telemetry_bus_ledger SET last_sequence = 1000",
    "UPDATE Telemetry_Bus_Ledger SET last_sequence = 1000",
    'DELETE FROM "telemetry_bus_dead_letters"',
    "DROP TABLE telemetry_bus_ledger",
    "ALTER TABLE telemetry_bus_ledger ADD COLUMN a",
    "ALTER TABLE events RENAME TO telemetry_bus_events",
    "CREATE TABLE telemetry_bus_more (a)",
    "CREATE TABLE Telemetry_Bus_More (a)",
    "CREATE INDEX i ON telemetry_bus_ledger (updated_at)",
    "CREATE TRIGGER g AFTER INSERT ON telemetry_bus_ledger BEGIN DELETE FROM events; END",
    "INSERT INTO events (name) SELECT hex(stream) FROM telemetry_bus_ledger",
    "INSERT INTO events (name) VALUES ((SELECT max(updated_at) FROM telemetry_bus_ledger))",
    "INSERT INTO events (name) SELECT name FROM pragma_table_info('events')",
)


@pytest.mark.parametrize("sql", ALLOWED)
def test_data_and_schema_are_the_jobs_own(tmp_path: Path, sql: str) -> None:
    """Ordinary definitions and statements go through."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["x", 1])])
        assert [] == writer.apply([stream.run(template(sql), [])])


@pytest.mark.parametrize("sql", DENIED)
def test_the_transaction_and_the_bus_are_out_of_reach(tmp_path: Path, sql: str) -> None:
    """Such a job is a dead letter; its neighbours in the batch, before and behind it, are applied."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, ["first", 1])])
        runs = [stream.run(EVENT, ["x", 1]), stream.run(template(sql), []), stream.run(EVENT, ["y", 2])]
        failures = writer.apply(runs)
        assert [3] == [failure.sequence for failure in failures]
        assert [("first",), ("x",), ("y",)] == rows(tmp_path, "SELECT name FROM events ORDER BY id")
        assert {stream.id: 4} == writer.last_sequences([stream.id])
        assert not (tmp_path / "elsewhere.db").exists()


PARTS = (
    "INSERT INTO notes_content VALUES (7, 'x')",
    "INSERT INTO main.'notes_content' VALUES (7, 'x')",
    'INSERT OR REPLACE INTO "Notes_Data" VALUES (1, zeroblob(100))',
    "WITH n (a) AS (VALUES (1)) DELETE FROM [notes_data] WHERE id IN (SELECT a FROM n)",
    "UPDATE OR IGNORE notes_data SET block = zeroblob(100)",
    "DROP TABLE notes_idx",
    "ALTER TABLE notes_docsize ADD COLUMN a",
    "UPDATE places_node SET data = zeroblob(100)",
    "CREATE TRIGGER g AFTER INSERT ON events BEGIN DELETE FROM notes_data; END",
)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="SQLite does not tell which tables these are")
@pytest.mark.parametrize("sql", PARTS)
def test_the_parts_of_a_virtual_table_are_out_of_reach(tmp_path: Path, sql: str) -> None:
    """In the next statement that uses the table SQLite would read what the job has written. The table itself, and
    another one that is called like a part, can be written to."""
    stream = Stream()
    with opened(tmp_path) as writer:
        for definition in (
            "CREATE VIRTUAL TABLE notes USING fts5 (body)",
            "CREATE VIRTUAL TABLE places USING rtree (id, low, high)",
            "CREATE TABLE page_content (body)",
        ):
            assert [] == writer.apply([stream.run(template(definition), [])])
        writer.apply([stream.run(EVENT, ["first", 1])])
        for harmless in (
            "INSERT INTO notes (body) VALUES ('word')",
            "INSERT INTO places VALUES (1, 0, 1)",
            "INSERT INTO page_content SELECT c0 FROM notes_content",
        ):
            assert [] == writer.apply([stream.run(template(harmless), [])])
        # only a trigger may do its harm later, where SQLite's own switch stands in its way
        failures = writer.apply([stream.run(template(sql), []), stream.run(EVENT, ["second", 2])])
        assert failures
        assert [(1,)] == rows(tmp_path, "SELECT count(*) FROM notes WHERE notes MATCH 'word'")
        assert [(1,)] == rows(tmp_path, "SELECT count(*) FROM places")


@pytest.mark.parametrize("sql", [sql for sql in DENIED if "RENAME TO" not in sql and "REFERENCES" not in sql])
def test_the_authorizer_denies_it_without_looking_at_the_text(tmp_path: Path, sql: str) -> None:
    """The look at the text is the second lock, not the first one. (But it alone knows what a table is renamed to, and
    what a foreign key refers to.)"""
    dialect = SqliteDialect()
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, ["x", 1])])
    connection = dialect.open(database(tmp_path), Settings())
    try:
        with pytest.raises(dialect.errors):
            connection.driver.execute(sql).fetchall()
    finally:
        connection.close(clean=True)


def test_extensions_are_denied_even_where_the_driver_allows_them() -> None:
    """The driver's own switch is another lock."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("brought", 0, int)
        guard = Guard(allowed_functions(connection))
    for name in ("Load_Extension", "fts3_tokenizer", "brought", "readfile"):
        assert sqlite3.SQLITE_DENY == guard.authorize(sqlite3.SQLITE_FUNCTION, None, name, None, None)
    for name in ("lower", "Max", "->>", "snippet"):
        assert sqlite3.SQLITE_OK == guard.authorize(sqlite3.SQLITE_FUNCTION, None, name, None, None)


def test_a_view_or_trigger_is_no_way_around(tmp_path: Path) -> None:
    """Nothing is denied when they are made, but when they would touch the bus."""
    stream = Stream()
    execute(
        tmp_path,
        EVENTS,
        "CREATE TABLE telemetry_bus_ledger (stream BLOB PRIMARY KEY, last_sequence, updated_at)",
        "CREATE VIEW v AS SELECT * FROM telemetry_bus_ledger",
        "CREATE TRIGGER g AFTER INSERT ON events BEGIN UPDATE telemetry_bus_ledger SET last_sequence = 0; END",
    )
    with opened(tmp_path) as writer:
        by_view = stream.run(template("INSERT INTO events (name) SELECT hex(stream) FROM v"), [])
        by_trigger = stream.run(EVENT, ["x", 1])
        assert [1, 2] == [failure.sequence for failure in writer.apply([by_view, by_trigger])]
        assert {stream.id: 2} == writer.last_sequences([stream.id])


def test_drift_that_only_a_refused_job_meets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A table was changed after its definition was executed: the jobs that cannot be applied any more tell of it,
    together once."""
    events = template("INSERT INTO events (name, size) VALUES (?, ?)", ensure=(EVENTS,))
    stream = Stream()
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(events, ["x", 1])])
        execute(tmp_path, "ALTER TABLE events RENAME COLUMN size TO bytes")
        for _ in range(3):
            failures = writer.apply([stream.run(events, ["y", 2], ["z", 3])])
            assert 2 == len(failures)
        assert ("events: missing size",) == writer.snapshot().drift
        assert 1 == caplog.text.count("schema drift")


def test_no_drift_of_a_table_that_was_never_made(tmp_path: Path) -> None:
    """Jobs that make one and miss another are undone as a whole."""
    vists = template("INSERT INTO vists (name) VALUES (?)", ensure=(EVENTS,))
    stream = Stream()
    with opened(tmp_path) as writer:
        assert 2 == len(writer.apply([stream.run(vists, ["x"], ["y"])]))
        assert () == writer.snapshot().drift
