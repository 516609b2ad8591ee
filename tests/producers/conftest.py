"""What the tests of producers share: two modes, a look at what is stored, a store that is not ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.runtime.folder import BusFolder

_PATIENCE_S = 30.0

Rows = list[dict[str, Any]]
Stored = Callable[[str], Rows]


@pytest.fixture(params=["sync", pytest.param("daemon", marks=pytest.mark.integration)])
def mode(request: pytest.FixtureRequest) -> str:
    """Of the modes of `store` and `open_store`, these two in turn: written at once, and through a writer process."""
    return str(request.param)


@pytest.fixture
def stored(store: TelemetryStore, database: Path) -> Stored:
    """The rows of a query, each by its columns' names, once all that was submitted is committed."""

    def rows(sql: str) -> Rows:
        store.flush()
        return look(database, sql)

    return rows


def look(database: Path, sql: str) -> Rows:
    """The rows of a query on a database, each by its columns' names; without the bus."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


@pytest.fixture
def looked(database: Path) -> Stored:
    """`look` at the test's database."""
    return lambda sql: look(database, sql)


@pytest.fixture
def drift(store: TelemetryStore, database: Path) -> Callable[[], list[str]]:
    """How tables differ from their definitions, as the writer process tells it; in mode sync nobody tells."""

    def told() -> list[str]:
        store.flush()
        if store.mode == "sync":
            return []
        folder = BusFolder.of(parse_database(database))
        with closing(folder):
            return list(ask(folder, "status", _PATIENCE_S)["drift"])

    return told


class PlainStore:
    """Somebody else's store: a task runs in a transaction of a plain connection, definitions before it each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def submit(self, task: Callable[[Any], object], *, ensure: Any = None) -> None:
        with self.connection() as connection, connection:
            for definition in ensure or ():
                connection.execute(definition)
            task(connection)

    def flush(self) -> None:
        pass

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA foreign_keys=ON")
            yield connection


@pytest.fixture
def plain_store(database: Path) -> PlainStore:
    """A store of that kind on the test's database."""
    return PlainStore(database)


class RefusingStore:
    """A store that refuses whatever it is asked."""

    def submit(self, task: object, *, ensure: object = None) -> None:
        raise OSError("refused")

    def flush(self) -> None:
        raise OSError("refused")

    def connection(self) -> Any:
        raise OSError("refused")


@pytest.fixture
def refusing_store() -> RefusingStore:
    """A store of that kind."""
    return RefusingStore()
