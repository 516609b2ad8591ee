"""Where a tracker writes: any store, an engine's database, or the shared store, and not before it has to."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    DiscoveryOutcome,
    DiscoveryResult,
    OperationMetrics,
    OperationTracker,
    OperationType,
    TelemetryReporter,
    create_telemetry_system,
)
from telemetry_bus import TelemetryStore, get_store

Stored = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def mode() -> str:
    return "sync"


@pytest.fixture
def shared(database: Path) -> Any:
    """The process's shared store of the test's database."""
    with get_store(f"sqlite:///{database}", mode="sync") as store:
        yield store


def started(looked: Stored) -> list[str]:
    return [str(row["id"]) for row in looked("SELECT id FROM operations ORDER BY id")]


def test_a_store_is_used_as_it_is(store: TelemetryStore, looked: Stored) -> None:
    """It is the store that it is given, and has its database."""
    tracker = OperationTracker(store)
    assert store.database_url == tracker.database_url
    tracker.start_operation("a", OperationType.LOAD_SOURCES)
    assert ["a"] == started(looked)


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a tracker nor a whole system touches a file or a folder before something is recorded."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/new/x.db"
    tracker = create_telemetry_system(url)
    assert url == tracker.database_url
    assert tracker.telemetry_reporter is None
    OperationTracker()
    assert [] == list(tmp_path.iterdir())
    with get_store(url, mode="sync"):
        tracker.start_operation("a", OperationType.LOAD_SOURCES)
    assert (tmp_path / "new" / "x.db").exists()


def test_the_shared_store(shared: TelemetryStore, looked: Stored) -> None:
    """Without a store, and for a driver's connection, it is the shared store of the database."""
    OperationTracker(database_url=shared.database_url).start_operation("a", OperationType.LOAD_SOURCES)
    with closing(sqlite3.connect(":memory:")) as connection:
        OperationTracker(connection, database_url=shared.database_url).start_operation("b", OperationType.LOAD_SOURCES)
    assert ["a", "b"] == started(looked)


def test_what_is_no_store(shared: TelemetryStore, looked: Stored, caplog: pytest.LogCaptureFixture) -> None:
    """Anything else is warned of, and the shared store is used."""
    OperationTracker(42, database_url=shared.database_url).start_operation("a", OperationType.LOAD_SOURCES)
    assert ["a"] == started(looked)
    assert [("a int is no store: the shared one is used", logging.WARNING)] == [
        (record.getMessage(), record.levelno) for record in caplog.records
    ]


def test_an_engine_stands_for_its_database(database: Path, tmp_path: Path, looked: Stored) -> None:
    """An engine, or a connection of one, means a synchronous store on its database, whatever URL is given besides."""
    engine = create_engine(f"sqlite:///{database}")
    tracker = OperationTracker(engine, database_url=f"sqlite:///{tmp_path}/other.db")
    assert f"sqlite:///{database}" == tracker.database_url
    tracker.start_operation("a", OperationType.LOAD_SOURCES)
    with engine.connect() as connection:
        OperationTracker(connection).start_operation("b", OperationType.LOAD_SOURCES)
    engine.dispose()
    assert ["a", "b"] == started(looked)
    assert not (tmp_path / "other.db").exists()


def test_an_engine_of_another_kind(shared: TelemetryStore, looked: Stored, caplog: pytest.LogCaptureFixture) -> None:
    """A database that the bus cannot write to is warned of, and the shared store is used. No password is told."""

    class Engine:
        url = make_url("mysql://user:secret@host/db")

        def connect(self) -> None:
            raise AssertionError

    tracker = OperationTracker(Engine(), database_url=shared.database_url)
    assert shared.database_url == tracker.database_url
    tracker.start_operation("a", OperationType.LOAD_SOURCES)
    assert ["a"] == started(looked)
    assert ["the database of a Engine cannot be used"] == [text.partition(",")[0] for text in caplog.messages]
    assert "secret" not in caplog.text


def test_a_whole_system(store: TelemetryStore) -> None:
    """With the address of an API there is a reporter to it."""
    tracker = create_telemetry_system(api_base_url="http://127.0.0.1:9/", api_key="k", store=store)
    assert store.database_url == tracker.database_url
    assert isinstance(tracker.telemetry_reporter, TelemetryReporter)
    assert ("http://127.0.0.1:9", "k") == (tracker.telemetry_reporter.api_base_url, tracker.telemetry_reporter.api_key)


def test_somebody_elses_store(plain_store: Any, looked: Stored) -> None:
    """What has `submit`, `flush` and `connection` over SQLite's module is enough for all that is recorded and read."""
    tracker = OperationTracker(plain_store)
    for _ in range(2):  # the second time all tables are there
        with tracker.track_operation(OperationType.CRAWL_DISCOVERY) as context:
            context.update_progress(1, 2)
            tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 200, 1.0)
            tracker.update_discovery_method_effectiveness(
                "s", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 2, 1.0, [200]
            )
            tracker.record_discovery_outcome(
                context.operation_id, "s", "n", "u", DiscoveryResult(DiscoveryOutcome.NEW_ARTICLES_FOUND, 1, 1)
            )
        tracker.flush()
    assert 0 == tracker.failures
    assert "" == tracker.database_url
    assert [("completed", 2)] == [
        tuple(row.values()) for row in looked("SELECT status, count(*) FROM operations GROUP BY status")
    ]
    assert [DiscoveryMethod.RSS_FEED] == tracker.get_effective_discovery_methods("s")
    assert 2 == tracker.get_discovery_outcomes_report()["summary"]["content_success_count"]
    assert [2, 2] == [
        looked(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in ("http_status_tracking", "jobs")
    ]


def test_without_a_store_that_works(refusing_store: Any) -> None:
    """A store that refuses is counted; the watched work and the memory of it go on."""
    tracker = OperationTracker(refusing_store)
    with tracker.track_operation(OperationType.CRAWL_DISCOVERY) as context:
        context.update_progress(OperationMetrics(total_items=2, processed_items=1))
        tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 200, 1.0)
    assert 4 == tracker.failures
    assert "completed" == (tracker.get_operation_status(context.operation_id) or {})["status"]


def test_a_locked_database_is_not_the_producers_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is handed in once, whatever becomes of it: no second try, and nobody sleeps."""
    handed_in: list[object] = []

    class Locked:
        def submit(self, task: object, *, ensure: object = None) -> None:
            handed_in.append(task)
            raise sqlite3.OperationalError("database is locked")

        def flush(self) -> None:
            raise AssertionError("was asked to flush")

        def connection(self) -> Any:
            raise sqlite3.OperationalError("database is locked")

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    tracker = OperationTracker(Locked())
    tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 200, 1.0)
    tracker.record_discovery_outcome("op", "s", "n", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))
    tracker.start_operation("op", OperationType.CRAWL_DISCOVERY)
    assert (3, 3, []) == (len(handed_in), tracker.failures, slept)
