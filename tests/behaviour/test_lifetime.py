"""From the first store to the last: context manager, shutdown, shared stores, what `repr` shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, ReentrantSubmit, StoreClosed, TelemetryStore, get_store
from telemetry_bus.backends.journaled import JournaledBackend
from telemetry_bus.database.writer import Writer
from telemetry_bus.runtime.locks import is_held

from ..conftest import OpenStore
from .looking import (
    EVENTS,
    INSERT,
    add,
    eventually,
    in_journaled_modes,
    in_process_modes,
    in_thread_mode,
    names,
    on_both,
)


@on_both
def test_context_manager(open_store: OpenStore) -> None:
    """At the end of its block a store has flushed and is closed."""
    with open_store() as store:
        add(store, "a")
    assert (1, 0) == (store.stats().acknowledged, store.stats().pending)
    with pytest.raises(StoreClosed):
        add(store, "b")
    assert ["a"] == names(open_store())


@on_both
def test_context_manager_with_an_error(open_store: OpenStore) -> None:
    """An error in the block passes through, and loses nothing."""

    def program() -> None:
        with open_store() as store:
            add(store, "a")
            raise LookupError

    with pytest.raises(LookupError):
        program()
    assert ["a"] == names(open_store())


@on_both
@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_is_idempotent(store: TelemetryStore, wait: bool) -> None:
    """A store may be shut down as often as one likes, used or not."""
    add(store, "a")
    store.shutdown(wait)
    store.shutdown(wait=True)
    store.shutdown()


def test_shutdown_of_an_unused_store(store: TelemetryStore, database: Path) -> None:
    """A store that had no job leaves nothing behind, and is as closed as any other."""
    store.shutdown(wait=True)
    assert not Path(f"{database}.bus").exists()
    with pytest.raises(StoreClosed):
        add(store, "a")


@on_both
def test_shutdown_in_threads(store: TelemetryStore) -> None:
    """Several threads may shut a store down at once."""
    add(store, "a")
    threads = [threading.Thread(target=store.shutdown, args=(True,)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 0 == store.stats().pending


@on_both
def test_shutdown_without_waiting_loses_nothing(open_store: OpenStore) -> None:
    """What was pending is left to the writer, who writes it."""
    store = open_store()
    add(store, *(f"e{number}" for number in range(500)))
    store.shutdown(wait=False)
    other = open_store()
    other.submit(lambda conn: None, ensure=[EVENTS])
    eventually(lambda: 500 == len(names(other)))


@on_both
def test_closed_store(store: TelemetryStore) -> None:
    """After `shutdown` every way to submit raises `StoreClosed` with a hint, and nothing is queued."""
    add(store, "a")
    store.shutdown(wait=True)
    submits: list[Callable[[], object]] = [
        lambda: store.execute(INSERT, ("b", 1)),
        lambda: store.executemany(INSERT, [("b", 1)]),
        lambda: store.submit(lambda conn: conn.execute(INSERT, ("b", 1))),
    ]
    for submit in submits:
        with pytest.raises(StoreClosed) as caught:
            submit()
        assert caught.value.hint
    store.flush()
    assert 1 == store.stats().submitted


@in_journaled_modes
def test_nothing_is_left_behind(store: TelemetryStore, database: Path) -> None:
    """A store that was flushed deletes its journal and ends its thread."""
    before = threading.active_count()
    add(store, "a")
    store.flush()
    store.shutdown()
    eventually(lambda: [] == list(Path(f"{database}.bus", "journals").iterdir()))
    assert before == threading.active_count()


@on_both
@in_journaled_modes
def test_thread_name(open_store: OpenStore) -> None:
    """The background thread has the name that was asked for."""
    store = open_store(thread_name="my telemetry")
    add(store, "a")
    assert "my telemetry" in [thread.name for thread in threading.enumerate()]


@in_thread_mode
def test_thread_frees_the_database(open_store: OpenStore, database: Path) -> None:
    """One thread writes for all stores of a database, until the last of them is shut down."""
    one, two = open_store(thread_name="w"), open_store(thread_name="w")
    lock = Path(f"{database}.bus", "writer.lock")
    add(one, "a")
    add(two, "b")
    assert 1 == [thread.name for thread in threading.enumerate()].count("w")
    one.shutdown(wait=True)
    assert is_held(lock)
    add(two, "c")
    two.shutdown(wait=True)
    assert not is_held(lock)


def test_get_store_is_shared(open_store: OpenStore, database: Path) -> None:
    """One store per database and process, however the database is written; without options as it is."""
    store = open_store(make=get_store, timeout=12.0)
    assert store is get_store(database)
    assert store is get_store(f"sqlite:///{database}")
    assert store is get_store(str(database.parent / "." / database.name), mode=store.mode, timeout=12.0)
    assert store is not open_store(database.with_name("other.db"), make=get_store)


def test_get_store_with_other_options(open_store: OpenStore, database: Path) -> None:
    """Options that differ from the open store's are refused, not ignored."""
    store = open_store(make=get_store)
    with pytest.raises(ConfigError) as caught:
        get_store(database, mode=store.mode, timeout=1.0)
    assert str(database) in str(caught.value)
    assert caught.value.hint
    assert store is get_store(database)


def test_get_store_after_shutdown(open_store: OpenStore, database: Path) -> None:
    """After its shutdown a shared store is followed by a new one, with options of its own."""
    store = open_store(make=get_store)
    add(store, "a")
    store.shutdown(wait=True)
    following = open_store(make=get_store, timeout=7.0)
    assert store is not following
    add(following, "b")
    assert ["a", "b"] == names(following)


@on_both
def test_get_store_in_threads(open_store: OpenStore) -> None:
    """Threads that ask at the same time get one store."""
    together = threading.Barrier(8)
    found: list[TelemetryStore] = []

    def ask() -> None:
        together.wait()
        found.append(open_store(make=get_store))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 1 == len(set(map(id, found)))


def test_repr(open_store: OpenStore, database: Path) -> None:
    """`repr` shows database, mode and state."""
    store = open_store()
    shown = repr(store)
    assert f"sqlite:///{database}" in shown
    assert store.mode in shown
    assert "open" in shown
    store.shutdown()
    assert "closed" in repr(store)


def test_attributes(open_store: OpenStore, database: Path, mode: str) -> None:
    """What was resolved can be asked for."""
    store = open_store()
    assert (f"sqlite:///{database}", mode, mode != "sync") == (store.database_url, store.mode, store.async_writes)


@in_process_modes
def test_memory(open_store: OpenStore) -> None:
    """`:memory:` needs no folder, and its store can be used like any other."""
    with open_store(":memory:") as store:
        add(store, "a", "b")
        assert ["a", "b"] == names(store)
        assert "sqlite:///:memory:" == store.database_url
        assert store.stats().journal is None


@on_both
def test_a_closed_store_does_not_run_the_callable(store: TelemetryStore) -> None:
    """What is refused has no side effects."""
    store.shutdown()
    ran: list[object] = []
    with pytest.raises(StoreClosed):
        store.submit(ran.append)
    assert [] == ran


@on_both
def test_a_submit_inside_the_first_submit(store: TelemetryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that submits while the store begins meets an error: not a second stream, not a deadlock."""
    caught: list[BaseException] = []
    target, name = (Writer, "run") if store.mode == "sync" else (JournaledBackend, "_new_journal")
    original = getattr(target, name)

    def interrupted(self: object, *arguments: object) -> object:
        try:
            add(store, "inner")
        except ReentrantSubmit as error:
            caught.append(error)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, interrupted)
        add(store, "outer")
    assert 1 == len(caught)
    store.flush()
    assert ["outer"] == names(store)
    assert (1, 0) == (store.stats().submitted, store.stats().failed)


@on_both
@in_thread_mode
def test_stores_that_come_and_go_in_threads_share_the_writer(open_store: OpenStore) -> None:
    """The last store of one moment and the first of the next: none meets the lock that its own process holds."""
    errors: list[BaseException] = []

    def comes_and_goes(number: int) -> None:
        try:
            for turn in range(20):
                with open_store() as store:
                    add(store, f"{number}-{turn}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=comes_and_goes, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    assert {f"{number}-{turn}" for number in range(4) for turn in range(20)} == set(names(open_store()))
