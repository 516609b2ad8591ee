"""Waiting for jobs, how full the store is, what happens when it is full, and the figures."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, FlushTimeout, JobTooLarge, JournalFull, StoreClosed, StoreStats, TelemetryStore
from telemetry_bus.cli import main

from ..conftest import OpenStore
from .looking import (
    EVENTS,
    INSERT,
    add,
    eventually,
    in_daemon_mode,
    in_journaled_modes,
    in_sync_mode,
    locked,
    names,
    on_both,
    rows,
)

SMALL = 64 * 1024
#: So many of them and a small journal is full.
LONG = "x" * 4000


@on_both
def test_flush_is_a_barrier(store: TelemetryStore) -> None:
    """Whatever was submitted before `flush` is there when it returns, time after time."""
    for number in range(1, 20):
        add(store, f"e{number}")
        store.flush()
        with store.connection() as connection:
            assert (number,) == connection.execute("SELECT count(*) FROM events").fetchone()


@on_both
def test_flush_of_all_threads(store: TelemetryStore) -> None:
    """It waits for the jobs of other threads as well."""
    thread = threading.Thread(target=add, args=(store, *(f"e{number}" for number in range(100))))
    thread.start()
    thread.join()
    store.flush()
    with store.connection() as connection:
        assert (100,) == connection.execute("SELECT count(*) FROM events").fetchone()


@on_both
def test_flush_of_nothing(store: TelemetryStore) -> None:
    """A store without jobs has nothing to wait for."""
    store.flush(0)
    store.flush(timeout=0.0)


@on_both
@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
def test_flush_with_an_impossible_time(store: TelemetryStore, timeout: object) -> None:
    """A time limit is a number of seconds."""
    with pytest.raises(ConfigError, match="timeout"):
        store.flush(timeout)  # type: ignore[arg-type]


@in_journaled_modes
def test_flush_timeout(open_store: OpenStore, database: Path) -> None:
    """At the end of its time `flush` says how many jobs wait; later they are written all the same."""
    store = open_store()
    add(store, "a")
    store.flush()
    with locked(database):
        add(store, "b", "c")
        with pytest.raises(FlushTimeout, match="2 jobs") as caught:
            store.flush(0.01)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.hint
        assert str(database) in str(caught.value)
    assert ["a", "b", "c"] == names(store)


@pytest.mark.slow
def test_a_store_that_was_idle_for_long(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer has forgotten its stream, and its next job is as quick as any: nothing is asked and sent again."""
    monkeypatch.setattr("telemetry_bus.protocol.writer.FORGET_AFTER_S", -1.0)
    monkeypatch.setattr("telemetry_bus.protocol.producer.INTRODUCE_AFTER_S", 0.0)
    with TelemetryStore(database, mode="thread") as store:
        for name in ("a", "b"):
            add(store, name)
            store.flush()
            eventually(lambda: not store._backend._thread._intake.protocol._streams)  # type: ignore[attr-defined]
        assert 0 == store._backend._stream.protocol.resent  # type: ignore[attr-defined]
        assert ["a", "b"] == names(store)


@on_both
@in_daemon_mode
def test_flush_without_a_writer(open_store: OpenStore) -> None:
    """Where none may be started, `flush` says that no writer runs; the jobs wait for one."""
    store = open_store(spawn=False, timeout=0.1)
    add(store, "a")
    with pytest.raises(FlushTimeout, match=r"1 jobs .*turned off"):
        store.flush()
    store.shutdown()
    assert ["a"] == _adopted(open_store, 1)


@on_both
@in_daemon_mode
def test_spawning_is_turned_off_by_the_environment(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TELEMETRY_BUS_SPAWN=0` does the same; the argument has the last word."""
    monkeypatch.setenv("TELEMETRY_BUS_SPAWN", "0")
    store = open_store(timeout=0.1)
    add(store, "a")
    with pytest.raises(FlushTimeout, match="turned off"):
        store.flush()
    store.shutdown()
    assert ["a"] == _adopted(open_store, 1, spawn=True)


def _adopted(open_store: OpenStore, number: int, **options: object) -> list[str]:
    """The names of all events when those of closed stores have been adopted."""
    store = open_store(**options)
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.flush()
    eventually(lambda: number == rows(store, "SELECT count(*) FROM events")[0][0])
    return names(store)


@on_both
def test_aflush(store: TelemetryStore) -> None:
    """`aflush` is the same barrier, and the event loop runs meanwhile."""

    async def program() -> list[str]:
        add(store, "a", "b")
        await asyncio.gather(store.aflush(), store.aflush(30.0))
        return names(store)

    assert ["a", "b"] == asyncio.run(program())


@in_journaled_modes
def test_aflush_timeout(open_store: OpenStore, database: Path) -> None:
    """It has the same time limit."""
    store = open_store()
    add(store, "a")
    store.flush()
    with locked(database):
        add(store, "b")
        with pytest.raises(FlushTimeout):
            asyncio.run(store.aflush(0.01))
    assert ["a", "b"] == names(store)


@on_both
def test_empty_queue(store: TelemetryStore) -> None:
    """When everything is committed the queue is empty, in every mode."""
    assert (0, True, False) == (store.queue.qsize(), store.queue.empty(), store.queue.full())
    add(store, "a", "b")
    store.flush()
    assert (0, True, False) == (store.queue.qsize(), store.queue.empty(), store.queue.full())
    assert isinstance(store.queue.maxsize, int)


@in_journaled_modes
def test_queue_counts_what_is_not_acknowledged(open_store: OpenStore, database: Path) -> None:
    """The queue holds the jobs that are submitted and not committed; it is full when no more is taken."""
    store = open_store(journal_bytes=SMALL, on_full="raise")
    add(store, "a")
    store.flush()
    with locked(database):
        add(store, "b", "c")
        assert (2, False, False) == (store.queue.qsize(), store.queue.empty(), store.queue.full())
        with pytest.raises(JournalFull):
            add(store, *(f"{number} {LONG}" for number in range(100)))
        assert store.queue.full()
        assert store.stats().pending == store.queue.qsize()
    store.flush()
    assert (0, True, False) == (store.queue.qsize(), store.queue.empty(), store.queue.full())


def _fill(store: TelemetryStore) -> int:
    """Submit until nothing more is taken; how many were."""
    before = store.stats().submitted
    with pytest.raises(JournalFull) as caught:
        add(store, *(f"{number} {LONG}" for number in range(100)))
    assert caught.value.hint
    assert "journal" in str(caught.value)
    return store.stats().submitted - before


@pytest.mark.parametrize("on_full", ["raise", "block"])
@in_journaled_modes
def test_full(open_store: OpenStore, database: Path, on_full: str) -> None:
    """A full journal raises, at once or when the time is over; what was taken before is written."""
    store = open_store(journal_bytes=SMALL, on_full=on_full, timeout=0.05)
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.flush(30)
    with locked(database):
        taken = _fill(store)
        assert 0 < taken <= SMALL // len(LONG)
        assert taken + 1 == store.stats().submitted
    store.flush(30)
    assert taken == len(names_of(store))
    assert 0 == store.stats().dropped


def names_of(store: TelemetryStore) -> list[tuple[str]]:
    with store.connection() as connection:
        return connection.execute("SELECT name FROM events").fetchall()


@in_journaled_modes
def test_full_and_dropping(open_store: OpenStore, database: Path) -> None:
    """With `drop` a job that finds no room is counted, its number is 0, and it never appears."""
    store = open_store(journal_bytes=SMALL, on_full="drop")
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.flush()
    with locked(database):
        numbers = [store.execute(INSERT, (f"{number} {LONG}", number)) for number in range(30)]
        dropped = numbers.count(0)
        assert 0 < dropped < 30
        assert (31 - dropped, dropped) == (store.stats().submitted, store.stats().dropped)
        assert list(range(2, 32 - dropped)) == [number for number in numbers if number]
    store.flush()
    kept = [number for number, sequence in enumerate(numbers) if sequence]
    assert kept == [size for (size,) in rows(store, "SELECT size FROM events ORDER BY id")]
    assert 0 < store.execute(INSERT, ("later", 1))


@in_journaled_modes
@pytest.mark.slow
def test_what_is_dropped_is_told(
    open_store: OpenStore, database: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one warning in some seconds, however many there are, and by `status`: while the program runs, after a fork of
    its stream into a second store, and when both have ended and their journals are gone."""
    stores = [open_store(journal_bytes=SMALL, on_full="drop") for _ in range(2)]
    for store in stores:
        store.submit(lambda conn: None, ensure=[EVENTS])
        store.flush()
    with locked(database):
        dropped = [
            [store.execute(INSERT, (f"{at} {number} {LONG}", number)) for number in range(30)].count(0)
            for at, store in enumerate(stores)
        ]
        assert min(dropped) > 0
        warned = [f"the journal {store.stats().journal} is full" for store in stores]
        eventually(lambda: all(any(text in message for message in caplog.messages) for text in warned))
        assert sum(dropped) == told_by_status(database, capsys)
    for store in stores:
        store.flush()
        store.shutdown()
    assert not list(Path(f"{database}.bus").glob("journals/*"))
    assert sum(dropped) == told_by_status(database, capsys)
    first = [message for message in caplog.messages if message.startswith(warned[0])]
    assert 1 == len(first)
    assert f"jobs are dropped: {dropped[0]} so far" in " ".join(caplog.messages)


def told_by_status(database: Path, capsys: pytest.CaptureFixture[str]) -> int:
    main(["status", "--json", "--database", str(database)])
    found: int = json.loads(capsys.readouterr().out)["jobs_dropped"]
    return found


@in_journaled_modes
def test_full_and_waiting(open_store: OpenStore, database: Path) -> None:
    """With `block` a submit goes on as soon as there is room."""
    store = open_store(journal_bytes=SMALL, timeout=60.0)
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.flush()
    with locked(database):
        thread = threading.Thread(target=add, args=(store, *(f"{number} {LONG}" for number in range(40))))
        thread.start()
        eventually(store.queue.full)
        waiting = store.stats().submitted
    thread.join()
    assert waiting < 41
    assert 40 == len(names(store))


@in_journaled_modes
@pytest.mark.slow
def test_shutdown_ends_the_waiting(open_store: OpenStore, database: Path) -> None:
    """A submit that waits for room is told when its store is shut down."""
    store = open_store(journal_bytes=SMALL, timeout=60.0)
    store.submit(lambda conn: None, ensure=[EVENTS])
    store.flush()
    raised: list[BaseException] = []

    def submit() -> None:
        try:
            add(store, *(f"{number} {LONG}" for number in range(40)))
        except StoreClosed as error:
            raised.append(error)

    with locked(database):
        thread = threading.Thread(target=submit)
        thread.start()
        eventually(store.queue.full)
        store.shutdown()
        thread.join()
    assert 1 == len(raised)


@on_both
@in_journaled_modes
def test_journal_wraps(open_store: OpenStore) -> None:
    """Many times a small journal's size passes through it, in order."""
    store = open_store(journal_bytes=SMALL)
    add(store, *(f"{number} {'y' * (number * 37 % 1500)}" for number in range(500)))
    assert list(range(500)) == [int(name.split()[0]) for name in names(store)]


@on_both
@in_journaled_modes
def test_job_larger_than_the_journal(open_store: OpenStore) -> None:
    """A job for which the journal is too small is refused with a hint at its size."""
    store = open_store(journal_bytes=SMALL)
    with pytest.raises(JobTooLarge) as caught:
        add(store, "x" * SMALL)
    assert "journal_bytes" in caught.value.hint
    assert 0 == store.stats().submitted


@on_both
def test_stats(store: TelemetryStore) -> None:
    """The figures of a store: a frozen dataclass with the documented fields."""
    add(store, "a", "b")
    store.flush()
    stats = store.stats()
    assert isinstance(stats, StoreStats)
    expected = {
        "submitted": 2,
        "acknowledged": 2,
        "pending": 0,
        "pending_bytes": 0,
        "dropped": 0,
        "failed": 0,
        "last_error": None,
    }
    found = dataclasses.asdict(stats)
    assert expected == {name: found[name] for name in expected}
    assert 0 <= stats.resent
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.submitted = 3  # type: ignore[misc]
    assert stats.writer.answering
    assert 0 < stats.writer.pid
    assert (stats.writer.pid != os.getpid()) == (store.mode == "daemon")


@in_journaled_modes
def test_stats_of_a_journal(store: TelemetryStore, database: Path) -> None:
    """They name the journal, which lies in the bus folder, and the writer's epoch."""
    add(store, "a")
    stats = store.stats()
    assert Path(f"{database}.bus") / "journals" == Path(stats.journal or "").parent
    assert Path(stats.journal or "").exists()
    store.flush()
    assert 0 < len(store.stats().writer.epoch)


@in_sync_mode
def test_stats_without_a_journal(store: TelemetryStore, database: Path) -> None:
    """Mode sync has no journal, and makes no bus folder."""
    add(store, "a")
    assert store.stats().journal is None
    assert not Path(f"{database}.bus").exists()


@on_both
def test_stats_before_the_first_job(store: TelemetryStore) -> None:
    """A store that was never used has figures as well."""
    stats = store.stats()
    assert (0, 0, 0, 0) == (stats.submitted, stats.acknowledged, stats.pending, stats.pending_bytes)
