"""The database's fault is nobody's job's fault; a job's fault is nobody else's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from telemetry_bus import TelemetryStore, UnsupportedValue

from ..support.bus import Bus, Notes
from ..support.clock import wait_until
from ..support.jobs import event, pair

pytestmark = pytest.mark.integration

PROGRAM = (
    Notes.OPEN
    + """
with TelemetryStore(database) as store:
    pair(store, "p", 1)
    store.flush()
    noted[1] = 1
    while not noted[0]:
        time.sleep(0.001)
    for number in range(2, 2001):
        pair(store, "p", number)
    noted[1] = 2000
"""
)


def test_a_database_that_is_locked_for_a_while(bus: Bus) -> None:
    """Another process holds the lock: jobs are kept, the state is degraded and says why; then all is committed."""
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[1] == 1, "the table is there")
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bus.notes[0] = 1
        wait_until(lambda: bus.status_or_none().get("state") == "degraded", "the writer says that it is degraded")
        assert "locked" in bus.status()["last_error"]
        wait_until(lambda: bus.notes[1] == 2000, "jobs are accepted all the same")
        assert {"p": [1]} == bus.numbers()
        other.execute("ROLLBACK")
    bus.finish(producer)
    assert {"p": list(range(1, 2001))} == bus.numbers("events") == bus.numbers("details")
    assert "running" == bus.status()["state"]
    assert "the database works again" in bus.log()
    bus.sound()


def test_a_producer_that_is_killed_while_the_database_is_locked(bus: Bus) -> None:
    """What it had submitted is adopted and committed when the lock is free."""
    producer = bus.start(PROGRAM)
    wait_until(lambda: bus.notes[1] == 1, "the table is there")
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bus.notes[0] = 1
        wait_until(lambda: bus.notes[1] == 2000, "jobs are accepted all the same")
        wait_until(lambda: bus.status_or_none().get("state") == "degraded", "the writer says that it is degraded")
        producer.kill()
        producer.wait()
        other.execute("ROLLBACK")
    bus.settle()
    assert {"p": list(range(1, 2001))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


def test_a_thousand_bad_jobs_among_sixty_thousand(bus: Bus, record_property: Callable[[str, object], None]) -> None:
    """Each bad job is a dead letter once, in order; every good one is there, in order."""
    total, every = 60_000, 60
    began = time.monotonic()
    output = bus.run(f"""
import logging
logging.disable()
with TelemetryStore(database) as store:
    for number in range(1, {total} + 1):
        event(store, "p", number if number % {every} else None)
    store.flush()
    print(store.stats().failed)
""")
    record_property("jobs_per_s", round(total / (time.monotonic() - began)))
    bad = list(range(every, total + 1, every))
    assert 1000 == len(bad) == int(output)
    assert {"p": [number for number in range(1, total + 1) if number % every]} == bus.numbers()
    letters = bus.rows("SELECT sequence FROM telemetry_bus_dead_letters ORDER BY id")
    assert bad == [sequence for (sequence,) in letters]
    assert [(total,)] == bus.rows("SELECT last_sequence FROM telemetry_bus_ledger")
    assert [("ok",)] == bus.rows("PRAGMA integrity_check")


#: Jobs that no database can take, each with a word of its error.
POISON: dict[str, tuple[str, tuple[object, ...]]] = {
    "syntax error": ("INSERT INTO events nonsense VALUES (?)", (1,)),
    "no such table": ("INSERT INTO nowhere VALUES (?)", (1,)),
    "NOT NULL": ("INSERT INTO events (producer, number) VALUES (?, ?)", (None, 1)),
    "UNIQUE": ("INSERT INTO events (id, producer, number) VALUES (1, ?, ?)", ("p", 1)),
    "datatype mismatch": ("INSERT INTO events (id, producer, number) VALUES (?, 'p', 1)", ("no number",)),
    "integer overflow": ("INSERT INTO events (producer, number) VALUES ('p', abs(?))", (-(2**63),)),
    "null character": ("INSERT INTO events (producer, number) VALUES ('p\0', 1)", ()),
    "string or blob too big": ("INSERT INTO events (producer, number) VALUES ('p', zeroblob(?))", (2**31,)),
}


def test_poison_of_every_kind(bus: Bus) -> None:
    """Each bad job is a dead letter once, with its error; the good ones between them are there, in order. A NUL in a
    text is no poison; what no column can hold is refused at the submit."""
    bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "p", 1)
        sequences = []
        for number, (sql, row) in enumerate(POISON.values(), 2):
            sequences.append(store.execute(sql, row))
            pair(store, "p", number)
        with pytest.raises(UnsupportedValue):
            store.execute("INSERT INTO events (producer, number) VALUES ('p', ?)", (2**63,))
        event(store, "nul\0nul", 1)
        store.flush()
        assert len(POISON) == store.stats().failed
    letters = bus.rows("SELECT sequence, error FROM telemetry_bus_dead_letters ORDER BY id")
    assert sequences == [sequence for sequence, _ in letters]
    for word, (_, error) in zip(POISON, letters, strict=True):
        assert word in error
    good = list(range(1, len(POISON) + 2))
    assert {"p": good, "nul\0nul": [1]} == bus.numbers("events")
    assert {"p": good} == bus.numbers("details")
    bus.another_job()


def test_nothing_is_sent_again_while_the_database_is_locked(bus: Bus) -> None:
    """The writer has read what was sent, or says that it has not: no producer takes it for lost."""
    bus.answering_writer()
    stores = [TelemetryStore(bus.path, spawn=False, timeout=3600) for _ in range(3)]
    try:
        for number, store in enumerate(stores):
            event(store, f"p{number}", 1)
            store.flush()
        with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for job in range(2, 20_001):
                for number, store in enumerate(stores):
                    event(store, f"p{number}", job)
            wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
            deadline = time.monotonic() + 4  # a producer asks after half a second, and again
            wait_until(lambda: time.monotonic() > deadline, "producers have asked more than once")
            assert [0, 0, 0] == [store.stats().resent for store in stores]
            other.execute("ROLLBACK")
        for store in stores:
            store.flush()
        assert [0, 0, 0] == [store.stats().resent for store in stores]
        assert 0 == bus.status()["duplicates_dropped"]
        assert {f"p{number}": list(range(1, 20_001)) for number in range(3)} == bus.numbers()
    finally:
        for store in stores:
            store.shutdown()
