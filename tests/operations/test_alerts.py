"""What the page says to do when an alert fires."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until
from . import situations
from .operator import Operator

pytestmark = pytest.mark.integration


def test_writer_absent(operator: Operator, bus: Bus) -> None:
    """What waited in the journals is applied."""
    situations.spawned_writer(bus)
    situations.gone(bus)
    situations.left(bus, "p")
    operator.goes_on()
    assert list(range(1, 11)) == bus.numbers()["p"]


@pytest.mark.slow
def test_locked(operator: Operator, bus: Bus) -> None:
    """The one who holds the lock is found."""
    situations.spawned_writer(bus)
    with situations.under_load(bus, "a"), closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
        operator.goes_on()
        other.execute("ROLLBACK")


@pytest.mark.slow
def test_writer_stuck(operator: Operator, bus: Bus) -> None:
    """The next one goes on where it stood."""
    with situations.under_load(bus, "a"):
        before = situations.stopped(bus)
        operator.goes_on()
        assert before != bus.status()["pid"]


def test_wal_growing(operator: Operator, bus: Bus) -> None:
    """The one who reads is found."""
    with situations.under_load(bus, "a"), closing(sqlite3.connect(bus.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        operator.goes_on()
