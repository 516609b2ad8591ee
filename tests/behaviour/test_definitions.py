"""`ensure`: definitions that are seen to before a job's statements."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import BadDefinition, Job, TelemetryStore

from ..conftest import OpenStore
from .looking import EVENTS, add, names, on_both, rows

BY_SIZE = "CREATE INDEX IF NOT EXISTS by_size ON events (size)"
ADD_COLOUR = "ALTER TABLE events ADD COLUMN colour TEXT DEFAULT 'red'"
INSERT_COLOUR = "INSERT INTO events (name, colour) VALUES (?, ?)"


def drop(database: Path, what: str) -> None:
    with closing(sqlite3.connect(database, timeout=30.0)) as other:
        other.execute(f"DROP {what}")


def test_once_per_writer(store: TelemetryStore, database: Path) -> None:
    """A definition runs once, not with each job: an index that somebody drops afterwards stays away."""
    store.submit(lambda conn: None, ensure=[EVENTS, BY_SIZE])
    store.flush()
    drop(database, "INDEX by_size")
    store.submit(lambda conn: None, ensure=[EVENTS, BY_SIZE])
    add(store, "a")
    assert [] == rows(store, "SELECT name FROM sqlite_master WHERE name = 'by_size'")


def test_dropped_table_is_made_again(store: TelemetryStore, database: Path) -> None:
    """A job that misses its table gets it from its definitions, though they have run before."""
    add(store, "a")
    store.flush()
    drop(database, "TABLE events")
    add(store, "b")
    assert ["b"] == names(store)


def test_schema_evolves(store: TelemetryStore) -> None:
    """Adding to the list of definitions changes tables that are there, rows and all."""
    add(store, "a")
    store.execute(INSERT_COLOUR, ("b", "blue"), ensure=[EVENTS, ADD_COLOUR, BY_SIZE])
    assert [("a", "red"), ("b", "blue")] == rows(store, "SELECT name, colour FROM events ORDER BY id")
    assert [("by_size",)] == rows(store, "SELECT name FROM sqlite_master WHERE name = 'by_size'")


@on_both
def test_what_is_there_counts_as_done(open_store: OpenStore) -> None:
    """A new store, perhaps with a new writer, brings definitions that another has seen to before."""
    definitions = [EVENTS, ADD_COLOUR, "CREATE INDEX by_colour ON events (colour)"]
    for name in ("a", "b"):
        with open_store() as each:
            each.execute(INSERT_COLOUR, (name, "green"), ensure=definitions)
    assert [("a", "green"), ("b", "green")] == rows(open_store(), "SELECT name, colour FROM events ORDER BY id")


@on_both
def test_any_iterable(store: TelemetryStore) -> None:
    """`ensure` may be any iterable of texts."""
    store.execute("INSERT INTO events (name) VALUES ('a')", ensure=(text for text in (EVENTS, BY_SIZE)))
    store.execute("INSERT INTO events (name) VALUES ('b')", ensure={EVENTS: None})
    store.execute("INSERT INTO events (name) VALUES ('c')", ensure=())
    assert ["a", "b", "c"] == names(store)


TAKEN = (
    "CREATE TABLE plain (id INTEGER)",
    "create unique index if not exists u on events (size)",
    "CREATE VIEW IF NOT EXISTS large AS SELECT * FROM events WHERE size > 10",
    "CREATE TRIGGER IF NOT EXISTS t AFTER DELETE ON events BEGIN SELECT 1; END",
    "ALTER TABLE events ADD extra TEXT",
    "DROP TABLE IF EXISTS old",
    "-- why\nCREATE TABLE IF NOT EXISTS commented (id INTEGER);",
)


def test_definitions_that_are_taken(store: TelemetryStore) -> None:
    """CREATE …, ALTER TABLE … ADD COLUMN, and what says IF EXISTS or IF NOT EXISTS."""
    for definition in TAKEN:
        store.submit(lambda conn: None, ensure=[EVENTS, definition])
    store.flush()
    assert 0 == store.stats().failed


@on_both
@pytest.mark.parametrize(
    "definition",
    [
        "INSERT INTO events (name) VALUES ('a')",
        "DROP TABLE events",
        "ALTER TABLE events RENAME TO others",
        "ALTER TABLE events DROP COLUMN size",
        "SELECT 1",
        "PRAGMA journal_mode=DELETE",
        "ATTACH 'x' AS y",
        "VACUUM",
        "",
    ],
)
def test_definitions_that_are_refused(store: TelemetryStore, definition: str) -> None:
    """What is no repeatable definition is refused at the call, and nothing is queued."""
    with pytest.raises(BadDefinition):
        store.submit(lambda conn: None, ensure=[EVENTS, definition])
    with pytest.raises(BadDefinition):
        store.submit(Job(ensure=(definition,)))
    with pytest.raises(BadDefinition):
        store.execute("DELETE FROM events", ensure=[definition])
    assert 0 == store.stats().submitted


@on_both
@pytest.mark.parametrize("ensure", [EVENTS, EVENTS.encode(), [EVENTS.encode()], [None], [[EVENTS]], 5])
def test_ensure_is_a_list_of_texts(store: TelemetryStore, ensure: Any) -> None:
    """A text in place of the list, or something else than a text in it, is refused and not taken apart."""
    with pytest.raises(BadDefinition) as caught:
        store.submit(lambda conn: None, ensure=ensure)
    assert "list of statements" in caught.value.message or isinstance(ensure, list)
    assert caught.value.hint
    assert 0 == store.stats().submitted
