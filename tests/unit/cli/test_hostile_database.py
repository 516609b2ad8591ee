"""A database that another program has made, in the hands of an operator: told in a line, and in bounded time."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import main, survey
from telemetry_bus.cli.deadletters import letters
from telemetry_bus.cli.survey import Bus

COLUMNS = "id INTEGER PRIMARY KEY, stream, sequence, failed_at, error_type, error, statement, job"
FOR_EVER = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i"
HOSTILE = {
    "a view without an end": f"CREATE VIEW telemetry_bus_dead_letters AS {FOR_EVER} AS id FROM n",
    "a virtual table": "CREATE VIRTUAL TABLE telemetry_bus_dead_letters USING fts5 (id, stream)",
    "other columns": "CREATE TABLE telemetry_bus_dead_letters (a)",
    "a number for a text": f"CREATE TABLE telemetry_bus_dead_letters ({COLUMNS});"
    "INSERT INTO telemetry_bus_dead_letters VALUES (1, x'00', 1, 5, 'E', 'e', 's', x'00')",
    "a text for bytes": f"CREATE TABLE telemetry_bus_dead_letters ({COLUMNS});"
    "INSERT INTO telemetry_bus_dead_letters VALUES (1, 'stream', 1, 'now', 'E', 'e', 's', 'job')",
    "nothing at all": f"CREATE TABLE telemetry_bus_dead_letters ({COLUMNS});"
    "INSERT INTO telemetry_bus_dead_letters (id) VALUES (1)",
}


@pytest.mark.parametrize("command", ["status", "doctor", "dead-letters list", "dead-letters show 1"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_has_the_name_of_the_dead_letters(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    """No command calls it a defect of its own, and none waits for its end."""
    monkeypatch.setattr(letters, "_MOST_S", 2.0)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(HOSTILE[name])
    main([*command.split(), "--database", str(database)])
    told = "".join(capsys.readouterr())
    assert "a defect" not in told
    if name in ("a view without an end", "a virtual table") and command.startswith("dead-letters"):
        assert "is not the table of the bus" in told


def test_a_table_that_takes_too_long(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it ends when its time is over."""
    monkeypatch.setattr(letters, "_MOST_S", 0.0)
    monkeypatch.setattr(letters, "_STEPS", 100)
    columns = COLUMNS.replace("error,", "error AS (hex(zeroblob(1000))),")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"CREATE TABLE telemetry_bus_dead_letters ({columns})")
        some = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
        row = "i, zeroblob(16), i, '2026-01-01 00:00:00', 'E', 's', x'00'"
        given = COLUMNS.replace(" INTEGER PRIMARY KEY", "").replace(" error,", "")
        connection.execute(f"{some} INSERT INTO telemetry_bus_dead_letters ({given}) SELECT {row} FROM n")
        connection.commit()
    assert main(["dead-letters", "list", "--database", str(database)])
    assert "cannot be read: interrupted" in "".join(capsys.readouterr())


def test_a_process_of_the_same_number_in_another_container(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that names the owner's number and that another process has locked does not make it a program."""
    bus = Bus.of(str(database))
    with TelemetryStore(database, spawn=False) as store:
        store.execute("CREATE TABLE t (a)")
        owners = {bus.folder.writer_lock: os.getpid()}
        monkeypatch.setattr(survey, "holder", owners.get)
        assert not bus.owner().is_program
        owners[Path(store.stats().journal or "")] = os.getpid()
        assert bus.owner().is_program
        store.shutdown(wait=False)
