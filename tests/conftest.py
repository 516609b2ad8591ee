"""What all tests share: an environment of their own, a private database, stores in each mode, and no writer left."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from telemetry_bus import TelemetryStore, WriterAbsent
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from .support.postgresql import USER, Server, shared_server
from .support.processes import doing, writers_below, writers_of

#: How long a writer may take to begin and to end. It takes milliseconds; where the disk is busy with something else,
#: as after an installation, the imports of one that has just been started may wait for long.
LEAVE_LIMIT_S = 80.0
#: A writer whose test has ended leaves by itself after so long, should nobody ask it to.
IDLE_TIMEOUT_S = 2

MODES = (pytest.param("daemon", marks=pytest.mark.integration), "thread", "sync")

OpenStore = Callable[..., TelemetryStore]


def pytest_configure() -> None:
    """A shell has the programs that it starts with `&` ignore Ctrl-C, and those that these start, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's settings reaches a test: no `TELEMETRY_*`, a home of its own. And no test leaves the bus's
    logger otherwise than it was, or the next one would not hear what it listens for."""
    for name in os.environ:
        if name.startswith(("TELEMETRY_", "XDG_")) or name == "PYTHONUNBUFFERED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("TELEMETRY_BUS_IDLE_TIMEOUT", str(IDLE_TIMEOUT_S))
    yield
    logger = logging.getLogger("telemetry_bus")
    assert (logging.NOTSET, True, False) == (logger.level, logger.propagate, logger.disabled)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that is not there yet."""
    return tmp_path / "telemetry.db"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """The PostgreSQL server of this run of the tests."""
    with shared_server() as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, which is dropped after the test."""
    name = f"test_{uuid4().hex[:12]}"
    postgresql_server.run(f"CREATE DATABASE {name} OWNER {USER}")
    yield postgresql_server.url(name)
    postgresql_server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each of the three modes in turn."""
    return str(request.param)


@pytest.fixture
def kind() -> str:
    """The kind of database that the test's store has: `on_both` tries PostgreSQL, too."""
    return "sqlite"


@pytest.fixture
def target(kind: str, database: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """The database of the test's store: a path, or the URL of a PostgreSQL database with the table of the tests."""
    if kind == "sqlite":
        return database
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(database.parent))
    return request.getfixturevalue("postgresql")


@pytest.fixture
def no_writer_left(tmp_path: Path, target: object) -> Iterator[None]:
    """After the test, every writer process of its databases is asked to leave, and seen gone."""
    server = None if isinstance(target, Path) else parse_database(target).identity

    def left() -> list[int]:
        return writers_below(tmp_path) + ([] if server is None else writers_of(server))

    yield
    _stop_writers(tmp_path, left)
    if found := left():
        seen = {pid: doing(pid) for pid in found}
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"writer processes of this test did not leave: {seen}")


@pytest.fixture
def open_store(mode: str, target: object, no_writer_left: None) -> Iterator[OpenStore]:
    """Makes stores in the mode of the test, on its database unless another is given, and shuts all of them down.

    `make` is what makes them; options go to it.
    """
    made: list[TelemetryStore] = []

    def open_one(
        target: object = target, *, make: Callable[..., TelemetryStore] = TelemetryStore, **options: Any
    ) -> TelemetryStore:
        made.append(make(target, mode=mode, **options))
        return made[-1]

    yield open_one
    for store in made:
        store.shutdown()


@pytest.fixture
def store(open_store: OpenStore) -> TelemetryStore:
    """A store with nothing but defaults, in each of the modes."""
    return open_store()


@pytest.fixture
def failures(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """What the bus has logged as an error in this process."""
    caplog.set_level(logging.ERROR, logger="telemetry_bus")
    return lambda: [record for record in caplog.records if record.levelno >= logging.ERROR]


def _stop_writers(folder: Path, left: Callable[[], list[int]]) -> None:
    deadline = time.monotonic() + LEAVE_LIMIT_S
    while left() and time.monotonic() < deadline:
        for lock in folder.rglob("writer.lock"):
            if is_held(lock):
                bus = BusFolder(lock.parent)
                with suppress(WriterAbsent):  # it is starting, or on its way out
                    ask(bus, "stop", 0.5)
                bus.close()
        time.sleep(0.005)
