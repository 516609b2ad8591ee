"""The page on PostgreSQL: its example runs against a server, and what it says of the languages is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_bus import BadDefinition, JobFailed, TelemetryStore

from ..support.clock import wait_until
from ..support.processes import writers_of

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgresql

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "postgresql.md").read_text(encoding="utf-8")
URL = "postgresql://crawler@db.example/telemetry"


@pytest.mark.integration
def test_the_example(postgresql: str, tmp_path: Path) -> None:
    """It runs as it is shown, but for the URL, and leaves no writer behind."""
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert URL in example
    settings = {"PYTHONPATH": str(ROOT), "TELEMETRY_BUS_DIR": str(tmp_path), "TELEMETRY_BUS_IDLE_TIMEOUT": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", example.replace(URL, postgresql)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    wait_until(lambda: not writers_of(postgresql), "the writer has left")


def test_what_differs(postgresql: str) -> None:
    """Statements that the page says PostgreSQL refuses are refused, and what it says to write instead runs."""
    with TelemetryStore(postgresql, mode="sync") as store:
        for word in ("AUTOINCREMENT", "DATETIME", "BLOB", "DOUBLE"):
            with pytest.raises(BadDefinition):
                store.execute("INSERT INTO t VALUES (1)", ensure=[f"CREATE TABLE IF NOT EXISTS t (a INTEGER {word})"])
        with pytest.raises(JobFailed, match="null value"):
            store.execute(
                "INSERT INTO counted (a) VALUES (1)",
                ensure=["CREATE TABLE IF NOT EXISTS counted (id INTEGER PRIMARY KEY, a INTEGER)"],
            )
        store.execute("INSERT INTO t (ok) VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (ok BOOLEAN)"])
        with store.connection() as connection:
            for refused in ("SELECT ok FROM t WHERE ok = 1", "SELECT ifnull(1, 2)", "PRAGMA x"):
                with pytest.raises(psycopg.Error):
                    connection.execute(refused, (1,) if "?" in refused else ())
            for sql in ("ok = ?", "ok OR ? = 1", "? IS NOT NULL", "coalesce(greatest(1, 2), ?) = 2"):
                assert [(1,)] == connection.execute(f"SELECT ok FROM t WHERE {sql}", (1,)).fetchall()
