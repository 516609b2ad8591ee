"""Running, watching, keeping small, backing up and moving, as the page says."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until
from . import situations
from .operator import Operator

pytestmark = pytest.mark.integration

#: Two hundred rows, of which a hundred are old.
FETCHES = """
FETCHES = "CREATE TABLE IF NOT EXISTS fetches (url TEXT, created_at TIMESTAMP)"
with TelemetryStore(database) as store:
    for number in range(200):
        at = "2001-01-01 00:00:00" if number < 100 else "9999-01-01 00:00:00"
        store.execute("INSERT INTO fetches VALUES (?, ?)", ("x" * 1000, at), ensure=[FETCHES])
"""


@pytest.mark.slow
def test_watch(operator: Operator, bus: Bus) -> None:
    """With producers at work."""
    situations.spawned_writer(bus)
    with situations.under_load(bus, "a"):
        while operator.left:
            operator.goes_on()


def test_foreground(operator: Operator, bus: Bus) -> None:
    """In one terminal the writer, in another who stops it."""
    with operator.meanwhile():
        try:
            wait_until(bus.status_or_none, "the writer answers")
            operator.goes_on()
        finally:
            situations.gone(bus)


def test_size(operator: Operator, bus: Bus) -> None:
    """What is old goes, and nothing else."""
    bus.run(FETCHES)
    with situations.under_load(bus, "a"):
        operator.goes_on()
        operator.goes_on()
    assert [("9999-01-01 00:00:00", 100)] == bus.rows("SELECT created_at, count(*) FROM fetches GROUP BY created_at")


def test_auto_vacuum(operator: Operator, bus: Bus) -> None:
    """A database of somebody else shrinks from now on."""
    with closing(sqlite3.connect(bus.path)) as connection:
        connection.execute("CREATE TABLE theirs (n)")
    situations.committed(bus)
    assert [(0,)] == bus.rows("PRAGMA auto_vacuum")
    operator.goes_on()
    assert [(2,)] == bus.rows("PRAGMA auto_vacuum")
    bus.next_comes()


def test_metrics(operator: Operator, bus: Bus) -> None:
    """The figures are served while the writer runs, here at a free port."""
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as free:
        operator.instead["9464"] = str(free.getsockname()[1])
    with operator.meanwhile():
        try:
            wait_until(bus.status_or_none, "the writer answers")
            operator.goes_on()
        finally:
            situations.gone(bus)


@pytest.mark.slow
def test_backup(operator: Operator, bus: Bus) -> None:
    """Under load; each copy holds of each stream what its ledger says. An old one goes."""
    old = bus.home / "backups" / "old.db"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (0, 0))
    with situations.under_load(bus, "abcd"):
        operator.goes_on()
        operator.goes_on()
    assert not old.exists()
    copies = list(old.parent.iterdir())
    assert 2 == len(copies)
    for copy in copies:
        with closing(sqlite3.connect(copy)) as connection:
            ledger = connection.execute("SELECT last_sequence FROM telemetry_bus_ledger ORDER BY 1").fetchall()
            rows = connection.execute("SELECT count(*) FROM events GROUP BY producer ORDER BY 1").fetchall()
        assert ledger == rows


def at_its_place(path: Path) -> list[tuple[str, int]]:
    """How many jobs of each producer are in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT producer, count(*) FROM events GROUP BY 1 ORDER BY 1").fetchall()


@pytest.mark.slow
def test_move(operator: Operator, bus: Bus) -> None:
    """Rows, ledger and journals go along, with the job that somebody leaves behind in the last moment."""
    situations.committed(bus)
    operator.goes_on()
    situations.left(bus, "q")
    operator.goes_on()
    assert not list(bus.path.parent.iterdir())
    moved = bus.home / "archive" / "telemetry.db"
    assert [("p", 10), ("q", 10)] == at_its_place(moved)
    assert not list(moved.with_name("telemetry.db.bus").rglob("*.journal"))


@pytest.mark.slow
def test_move_with_link(operator: Operator, bus: Bus) -> None:
    """Producers that know nothing of it write to the new disk."""
    (bus.home / "disk").mkdir()
    situations.committed(bus)
    operator.goes_on()
    bus.run("with TelemetryStore(database) as store: pair(store, 'q', 1)")
    assert [("p", 10), ("q", 1)] == at_its_place(bus.home / "disk" / "telemetry.db")


@pytest.mark.slow
def test_move_to_machine(operator: Operator, bus: Bus) -> None:
    """The other machine is a folder where nothing else is."""
    situations.committed(bus)
    operator.goes_on()
    bus.path.parent.rename(bus.home / "here")
    operator.goes_on()
    assert [("p", 10)] == at_its_place(bus.path)
