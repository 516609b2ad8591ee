"""The commands of an operator, for a database that a PostgreSQL server has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import main
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.errors import JobFailed, WriterAbsent
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from ..support.clock import DEADLINE_S, wait_until

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration]

TABLE = "CREATE TABLE IF NOT EXISTS events (n INTEGER)"


@pytest.fixture
def url(postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database with a bus, a job that is applied and one that cannot be."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    with TelemetryStore(postgresql, mode="daemon", linger_ms=0) as store:
        store.execute("INSERT INTO events VALUES (?)", (1,), ensure=[TABLE])
        store.execute("INSERT INTO events VALUES (?)", ("none",))
        with suppress(JobFailed):
            store.flush(DEADLINE_S)
    yield postgresql
    folder = BusFolder.of(parse_database(postgresql))
    with suppress(WriterAbsent):
        ask(folder, "stop", DEADLINE_S)
    wait_until(lambda: not is_held(folder.writer_lock), "the writer has left")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_dead_letters_are_looked_at_retried_and_purged(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a writer, or through it."""
    (letter,) = told(capsys, "dead-letters", "list", "--database", url)
    assert ["InvalidTextRepresentation", 2] == [letter["error_type"], letter["sequence"]]
    assert 1 == told(capsys, "status", "--database", url)["dead_letters"]
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("ALTER TABLE events ALTER n TYPE text")
        assert 0 == main(["dead-letters", "retry", "--all", "--database", url])
        assert [("1",), ("none",)] == other.execute("SELECT n FROM events ORDER BY n").fetchall()
    assert [] == told(capsys, "dead-letters", "list", "--database", url)


def test_doctor_looks_at_the_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And at no file of SQLite's."""
    checks = {check["check"]: check["state"] for check in told(capsys, "doctor", "--database", url)}
    assert {"ok"} == {checks[name] for name in ("server version", "primary", "rights", "old transactions", "writer")}
    assert "warning" == checks["dead letters"]
    assert checks.keys().isdisjoint({"database file", "journal mode", "SQLite version"})


@pytest.mark.parametrize(
    ("command", "helps"),
    [
        (["backup", "copy.db"], "pg_dump"),
    ],
)
def test_what_the_server_does_itself(
    url: str, capsys: pytest.CaptureFixture[str], command: list[str], helps: str
) -> None:
    """The command says what to use instead."""
    assert 2 == main([*command, "--database", url])
    assert helps in capsys.readouterr().err
