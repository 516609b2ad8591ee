"""Jobs that reach for the bus's own tables, other files, the transaction or the connection: refused, whoever helps."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.jobs import Run, Template

STREAM = b"a hostile stream"
EVENTS = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, name TEXT)"
EVENT = Template((EVENTS,), (("INSERT INTO events (name) VALUES (?)", False),))

#: Each a job of its own, run one behind the other in one batch; the last one is refused.
REFUSED: dict[str, tuple[str, ...]] = {
    "another schema's name": ("UPDATE main.telemetry_bus_ledger SET last_sequence = 9",),
    "a name in brackets": ("DELETE FROM [Telemetry_Bus_Ledger]",),
    "a name that is a string": ("DELETE FROM 'telemetry_bus_ledger'",),
    "behind a table expression": ("WITH w AS (SELECT 1) INSERT INTO telemetry_bus_ledger SELECT x'00', 1, '' FROM w",),
    "a trigger of a job on its own table": (
        "CREATE TRIGGER g AFTER INSERT ON events BEGIN DELETE FROM telemetry_bus_ledger; END",
    ),
    "a view of a job": ("CREATE VIEW v AS SELECT * FROM telemetry_bus_dead_letters",),
    "a foreign key into the bus": (
        "CREATE TABLE child (s REFERENCES telemetry_bus_ledger (stream) ON DELETE CASCADE)",
    ),
    "a table renamed away": ("ALTER TABLE telemetry_bus_dead_letters RENAME TO mine",),
    "a table renamed into the bus": ("CREATE TABLE mine (a)", "ALTER TABLE mine RENAME TO telemetry_bus_mine"),
    "an index dropped": ("DROP TABLE IF EXISTS telemetry_bus_ledger",),
    "the schema by hand": ("UPDATE sqlite_master SET sql = 'x' WHERE name = 'telemetry_bus_ledger'",),
    "the schema deleted": ("DELETE FROM sqlite_schema",),
    "writable schema": ("PRAGMA writable_schema=ON",),
    "writable schema as a table": ("INSERT INTO events (name) SELECT * FROM pragma_writable_schema",),
    "foreign keys off": ("PRAGMA foreign_keys=OFF",),
    "another journal mode": ("PRAGMA journal_mode=DELETE",),
    "memory of the connection": ("PRAGMA hard_heap_limit=1",),
    "attach a file": ("ATTACH 'elsewhere.db' AS elsewhere",),
    "vacuum into a file": ("VACUUM INTO 'elsewhere.db'",),
    "an extension": ("INSERT INTO events (name) SELECT load_extension('/tmp/x')",),
    "an extension in a default": (
        "CREATE TABLE d (a DEFAULT (load_extension('x')))",
        "INSERT INTO d DEFAULT VALUES",
    ),
    "a file read": ("INSERT INTO events (name) SELECT readfile('/etc/passwd')",),
    "a file written": ("INSERT INTO events (name) SELECT writefile('elsewhere.db', 'x')",),
    "pages of the file": ("INSERT INTO events (name) SELECT data FROM sqlite_dbpage",),
    "a temporary table": ("CREATE TEMP TABLE events (a)",),
    "a table of the temporary schema": ("CREATE TABLE temp.events (id INTEGER PRIMARY KEY, name TEXT)",),
    "a copy in the temporary schema": ("CREATE TABLE TEMP.events AS SELECT * FROM main.events",),
    "a full-text table of the temporary schema": ("CREATE VIRTUAL TABLE temp.events USING fts5 (name)",),
    "a view of the temporary schema": ("CREATE VIEW temp.events AS SELECT 1 AS id, 'x' AS name",),
    "a trigger of the temporary schema": (
        "CREATE TRIGGER temp.g AFTER INSERT ON main.events BEGIN DELETE FROM main.events; END",
    ),
    "a temporary view": ("CREATE TEMPORARY VIEW v AS SELECT 1",),
    "a temporary trigger": ("CREATE TEMP TRIGGER g AFTER INSERT ON main.events BEGIN SELECT 1; END",),
    "a commit behind a comment": ("/* x */ COMMIT -- y",),
    "a savepoint of ours": ("ROLLBACK TO job",),
    "two statements": ("INSERT INTO events (name) VALUES ('evil'); COMMIT",),
    "a rollback by conflict": ("INSERT OR ROLLBACK INTO events (id) VALUES (1), (1)",),
    "a rollback by a trigger": (
        "CREATE TRIGGER g BEFORE INSERT ON events WHEN new.name = 'evil' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "INSERT INTO events (name) VALUES ('evil')",
    ),
    "a rollback by a constraint": (
        "CREATE TABLE strict_one (a UNIQUE ON CONFLICT ROLLBACK)",
        "INSERT INTO strict_one VALUES (1), (1)",
    ),
    "our own statement, letter by letter": ("SELECT count(*) FROM telemetry_bus_dead_letters",),
    "our own BEGIN": ("BEGIN IMMEDIATE",),
}


def apply(writer: Writer, first: int, jobs: list[tuple[Template, Any]]) -> list[int]:
    """The numbers of those that failed, in one batch, beginning with `first`."""
    runs = [Run(STREAM, number, template, [payload]) for number, (template, payload) in enumerate(jobs, first)]
    return [failure.sequence for failure in writer.apply(runs)]


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_its_neighbours_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The job is a dead letter; the jobs before and behind it in the same batch are there once, in order; ledger and
    dead letters are as they should be; no file was made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    writer = Writer(parse_database(tmp_path / "data" / "telemetry.db"))
    try:
        assert [] == apply(writer, 1, [(EVENT, ["first"])])
        *harmless, refused = REFUSED[name]
        jobs = [(EVENT, ["before"])] + [(Template((), ((sql, False),)), []) for sql in (*harmless, refused)]
        jobs.append((EVENT, ["behind"]))
        last = 1 + len(jobs)
        assert [last - 1] == apply(writer, 2, jobs)
        assert [] == apply(writer, last + 1, [(EVENT, ["last"])])
        assert {STREAM: last + 1} == writer.last_sequences([STREAM])
        assert [last - 1] == [letter.sequence for letter in writer.dead_letters()]
    finally:
        writer.close()
    with sqlite3.connect(tmp_path / "data" / "telemetry.db") as reader:
        found = [row for (row,) in reader.execute("SELECT name FROM events ORDER BY id")]
        settings = [reader.execute(f"PRAGMA {pragma}").fetchone() for pragma in ("journal_mode", "integrity_check")]
    reader.close()
    assert ["first", "before", "behind", "last"] == found
    assert [("wal",), ("ok",)] == settings
    assert [tmp_path / "data"] == list(tmp_path.iterdir())
    assert {"telemetry.db"} == {path.name for path in (tmp_path / "data").iterdir()}


def test_a_retried_dead_letter_is_guarded_too(tmp_path: Path) -> None:
    """What was refused is refused again, and does not take its letter along."""
    writer = Writer(parse_database(tmp_path / "telemetry.db"))
    try:
        forbidden = Template((), (("DELETE FROM telemetry_bus_dead_letters", False),))
        assert [1] == apply(writer, 1, [(forbidden, [])])
        assert [True] == [error != "" for _, error in writer.retry()]
        assert [1] == [letter.sequence for letter in writer.dead_letters()]
    finally:
        writer.close()
