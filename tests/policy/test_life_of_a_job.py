"""A job goes through the files in one direction: how often each thread comes back to a file that it has left.

A reader who follows one job changes files as often as the threads do. The number is held, not the time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

import telemetry_bus
from telemetry_bus import TelemetryStore
from telemetry_bus.backends.daemon import DaemonBackend
from telemetry_bus.database.writer import Writer
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock
from telemetry_bus.runtime.waker import Waker
from writer_daemon.daemon import Daemon
from writer_daemon.options import parse
from writer_daemon.signals import Signals
from writer_daemon.sockets import Sockets

pytestmark = pytest.mark.integration

ROOT = Path(telemetry_bus.__file__).parent.parent
OURS = tuple(f"{ROOT}/{package}/" for package in ("telemetry_bus", "writer_daemon"))
TABLE, INSERT = "CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES (?)"
#: Of the submitting thread, the sender's and the writer's together. They were 102 when the sender's thread asked its
#: protocol for each value by itself, and 41 before the writer noted what is in flight and took its time limit back. One
#: is for the seam: each kind of database has its own way for many rows.
MOST_RETURNS = 48
#: Now and then a thread does what it does once a second: the job with the fewest returns counts.
JOBS = 8
WAIT_S = 60.0


class Files:
    """The files of the package in which each thread begins to execute a function, in order."""

    def __init__(self) -> None:
        self.on = False
        self.of_thread: dict[int, list[str]] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call" and frame.f_code.co_filename.startswith(OURS):
            self.of_thread.setdefault(threading.get_ident(), []).append(frame.f_code.co_filename)

    def returns(self) -> int:
        """How often a thread has come back to a file that it had left."""
        return sum(len(files) - len(set(files)) for files in map(_without_repetition, self.of_thread.values()))


def _without_repetition(files: list[str]) -> list[str]:
    return [file for file, _ in groupby(files)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def files() -> Iterator[Files]:
    """Of all threads that begin while it is there, and of this one."""
    files = Files()
    threading.setprofile(files)
    sys.setprofile(files)
    yield files
    sys.setprofile(None)
    threading.setprofile(None)


@contextmanager
def writing(database: Path) -> Iterator[Daemon]:
    """A writer in a thread of this process."""
    options = parse(["--database", str(database)])
    folder = BusFolder.of(options.database)
    folder.prepare()
    begun: list[Daemon] = []

    def run() -> None:
        with ExitStack() as life:
            lock = InstanceLock.acquire(folder.writer_lock)
            assert lock is not None
            life.callback(lock.release)
            writer = Writer(options.database)
            life.callback(writer.close)
            sockets = Sockets(folder)
            life.callback(sockets.close)
            signals = cast(Signals, SimpleNamespace(leave=False))  # the real ones are for the main thread
            waker = Waker()
            life.callback(waker.close)
            begun.append(Daemon(options, folder, lock, writer, sockets, signals, waker))
            begun[0].run()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: bool(begun))
    yield begun[0]
    begun[0].leave()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    folder.close()


def test_a_job_goes_in_one_direction(tmp_path: Path, files: Files) -> None:
    """From `submit` to COMMIT, and until its acknowledgement has freed its place in the journal; everything warm."""
    path = tmp_path / "x.db"
    counts = []
    with writing(path) as daemon, TelemetryStore(path, spawn=False, linger_ms=0) as store:
        store.submit(lambda connection: connection.execute(INSERT, (0,)), ensure=[TABLE])
        store.flush()
        backend = cast(DaemonBackend, store._backend)
        outbox, sender = backend._outbox, backend._sender
        assert outbox is not None
        assert sender is not None

        def at_rest() -> bool:
            return outbox._committed == outbox.journal.end[0] and sender._waker.sleeping and daemon._waker.sleeping

        for _ in range(JOBS):
            until(at_rest)
            files.of_thread.clear()
            files.on = True
            store.submit(lambda connection: connection.execute(INSERT, (1,)), ensure=[TABLE])
            until(at_rest)
            files.on = False
            counts.append(files.returns())
    assert min(counts) <= MOST_RETURNS, counts
