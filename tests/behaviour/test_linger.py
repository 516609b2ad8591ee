"""Jobs that no process waits for are gathered; whatever waits for them ends that at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import main
from telemetry_bus.control import ask
from telemetry_bus.producer.outbox import Outbox
from telemetry_bus.producer.transport import Transport
from telemetry_bus.protocol.messages import Jobs
from telemetry_bus.runtime.folder import BusFolder

from ..conftest import OpenStore
from ..support.clock import wait_until
from .looking import EVENTS, INSERT, add, in_daemon_mode, in_journaled_modes, names, on_both

#: Longer than any test may take: what happens all the same does not happen because the interval is over.
HOUR_MS = 3_600_000

ENDS = f"""
import sys
from telemetry_bus import TelemetryStore
store = TelemetryStore(sys.argv[1], mode=sys.argv[2], linger_ms={HOUR_MS})
store.execute({INSERT!r}, ("a", 1), ensure=[{EVENTS!r}])
store.flush()
store.execute({INSERT!r}, ("b", 2))
"""


def written(database: Path) -> int:
    """Rows that are there; no store is told to hurry."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    return int(count)


def folder_of(database: Path) -> BusFolder:
    return BusFolder.of(TelemetryStore(database, mode="sync")._options.database)


def journals(database: Path) -> list[Path]:
    return list(folder_of(database).journal_paths())


@on_both
@in_journaled_modes
def test_jobs_are_gathered(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their rate, they are one message."""
    store = open_store(linger_ms=HOUR_MS)
    add(store, "first")
    store.flush()
    messages: list[Jobs] = []
    read = Outbox.read
    monkeypatch.setattr(Outbox, "read", lambda *given: messages.append(read(*given)) or messages[-1])
    for number in range(50):
        add(store, f"e{number}")
        time.sleep(0.002)  # any rate will do
    assert 51 == len(names(store))
    assert len(messages) <= 2, "more than the full hour can have made"


@in_journaled_modes
def test_the_interval_ends(open_store: OpenStore, database: Path) -> None:
    """Jobs that no process waits for are written all the same, the first ones and those that come later."""
    store = open_store(linger_ms=50)
    add(store, "first")
    store.flush()
    for number in (2, 3, 4):
        add(store, f"e{number}")
        wait_until(lambda: written(database) == store.stats().submitted, "the job is written")


@in_journaled_modes
def test_a_full_message_does_not_wait(open_store: OpenStore, database: Path) -> None:
    """More than a message holds is sent as soon as it is there."""
    store = open_store(linger_ms=HOUR_MS)
    add(store, "first")
    store.flush()
    for number in range(3):
        add(store, f"{number} {'x' * 100_000}")
    wait_until(lambda: written(database) >= 2, "a full message is written")


@in_journaled_modes
def test_a_full_journal_does_not_wait(open_store: OpenStore) -> None:
    """A submit that finds no room has the jobs sent that take it."""
    store = open_store(linger_ms=HOUR_MS, journal_bytes=64 * 1024, timeout=60)
    for number in range(200):
        add(store, f"{number} {'x' * 3000}")
    assert 200 == len(names(store))


@in_journaled_modes
def test_debug_does_not_wait(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    """With `TELEMETRY_DEBUG` each submit waits for its own job."""
    monkeypatch.setenv("TELEMETRY_DEBUG", "1")
    add(open_store(linger_ms=HOUR_MS), "a", "b", "c")
    assert 3 == written(database)


@in_journaled_modes
def test_shutdown_does_not_wait(open_store: OpenStore, database: Path) -> None:
    """A store that is closed leaves nothing gathered behind; so its journal goes."""
    store = open_store(linger_ms=HOUR_MS)
    add(store, "a")
    store.flush()
    add(store, "b")
    store.shutdown()
    wait_until(lambda: written(database) == 2 and not journals(database), "the job is written")


@in_journaled_modes
@pytest.mark.usefixtures("no_writer_left")
def test_the_end_of_a_program_does_not_wait(mode: str, database: Path) -> None:
    """What it has gathered is written when it ends."""
    subprocess.run([sys.executable, "-c", ENDS, str(database), mode], check=True, timeout=60, env={**os.environ})
    wait_until(lambda: written(database) == 2, "the job is written")


@in_daemon_mode
def test_a_look_at_the_bus_does_not_wait(open_store: OpenStore, database: Path) -> None:
    """An operator who asks for the status has what is gathered sent; it is not what is counted in this answer."""
    store = open_store(linger_ms=HOUR_MS)
    add(store, "a")
    store.flush()
    add(store, "b")
    ask(folder_of(database), "status", 30)
    wait_until(lambda: written(database) == 2 and not store.stats().pending, "the job is written, and acknowledged")


@in_daemon_mode
def test_an_operator_who_flushes_does_not_wait(open_store: OpenStore, database: Path) -> None:
    """`telemetry-bus flush` returns when what other programs gather is written."""
    store = open_store(linger_ms=HOUR_MS)
    add(store, "a")
    store.flush()
    add(store, "b")
    assert 0 == main(["flush", "--database", str(database), "--timeout", "60"])
    assert 2 == written(database)


@in_daemon_mode
def test_a_flush_of_what_has_been_sent_does_not_wait(open_store: OpenStore, database: Path) -> None:
    """The writer acknowledges patient jobs about once a second; a process that comes to wait asks."""
    store = open_store(linger_ms=5)
    add(store, "first")
    store.flush()
    for number in range(20):
        add(store, f"e{number}")
        wait_until(lambda: written(database) == store.stats().submitted, "the job is written")
        store.flush()
        assert 0 == store.stats().pending


@in_daemon_mode
def test_a_job_in_the_moment_in_which_the_sender_falls_asleep(
    open_store: OpenStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind its last look at the journal and before its poll: it is seen all the same."""
    store = open_store(linger_ms=5)
    add(store, "first")
    store.flush()
    moments = iter(range(3))
    timeout = Transport._timeout

    def last_moment(transport: Transport, deadline: float | None) -> int | None:
        if deadline is None and (number := next(moments, None)) is not None:
            add(store, f"late {number}")
        return timeout(transport, deadline)

    monkeypatch.setattr(Transport, "_timeout", last_moment)
    add(store, "second")
    wait_until(lambda: written(database) == 5, "all jobs are written")


@in_daemon_mode
def test_from_the_environment(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TELEMETRY_BUS_LINGER_MS` says it for stores that do not."""
    monkeypatch.setenv("TELEMETRY_BUS_LINGER_MS", "0")
    assert 0 == open_store()._options.linger_s
    assert 0.25 == open_store(linger_ms=250)._options.linger_s
