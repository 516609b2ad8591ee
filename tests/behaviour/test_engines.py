"""A store of a SQLAlchemy engine's database, and the database of a store that is told of none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from telemetry_bus import ConfigError, TelemetryStore, get_default_database_url, get_store

DDL = "CREATE TABLE IF NOT EXISTS t (a INTEGER)"


def connected(database: Path) -> Any:
    return create_engine(f"sqlite:///{database}", poolclass=NullPool).connect()


@pytest.mark.parametrize(
    "engine_of",
    [
        lambda path: create_engine(f"sqlite:///{path}"),
        lambda path: create_engine(f"sqlite+pysqlite:///{path}"),
        lambda path: create_engine(f"sqlite:///{path}?timeout=5&check_same_thread=false"),
        connected,
    ],
    ids=["engine", "named driver", "options of its connections", "connection"],
)
def test_an_engine_names_the_database(engine_of: Callable[[Path], Any], tmp_path: Path) -> None:
    """An engine, or a connection of one, is taken for its URL: what is recorded is in its database."""
    database = tmp_path / "x.db"
    engine = engine_of(database)
    with TelemetryStore(engine=engine, mode="sync") as store:
        assert f"sqlite:///{database}" == store.database_url
        store.execute("INSERT INTO t VALUES (?)", (1,), ensure=[DDL])
    if hasattr(engine, "close"):
        engine.close()
    with closing(sqlite3.connect(database)) as connection:
        assert [(1,)] == connection.execute("SELECT a FROM t").fetchall()


def test_an_engine_names_the_shared_store(tmp_path: Path) -> None:
    """`get_store` of an engine is that of its database, whatever its options are."""
    database = f"sqlite:///{tmp_path}/x.db"
    with get_store(database, mode="sync") as store:
        assert store is get_store(engine=create_engine(database))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"engine": "sqlite:///x.db"}, "engine"),
        ({"engine": object()}, "engine"),
        ({"engine": create_engine("sqlite://")}, "memory"),
        ({"engine": create_engine("sqlite:///x.db"), "database": "y.db"}, "one of them"),
        ({"engine": create_engine("sqlite:///file:x.db?uri=true")}, "file:"),
    ],
)
def test_what_is_no_engine_of_a_file(options: dict[str, Any], named: str) -> None:
    """It is refused, and said why: nothing is written to another database in silence."""
    with pytest.raises(ConfigError, match=named):
        TelemetryStore(mode="sync", **options)
    with pytest.raises(ConfigError, match=named):
        get_store(mode="sync", **options)


def test_the_default_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a store uses that is told of none: the configured one, else the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "sync")
    for configured, expected in (("", "data/mizzou.db"), ("sqlite:///named.db", "named.db"), ("y.db", "y.db")):
        monkeypatch.setenv("TELEMETRY_DATABASE_URL", configured)
        assert f"sqlite:///{tmp_path}/{expected}" == get_default_database_url()
        with TelemetryStore() as store:
            assert get_default_database_url() == store.database_url
