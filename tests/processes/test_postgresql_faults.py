"""A producer goes on while its writer, sessions and the PostgreSQL server itself are killed: each job is there once."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.errors import WriterAbsent
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from ..support.clock import DEADLINE_S, wait_until
from ..support.postgresql import USER, Server, binaries_or_skip

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration, pytest.mark.slow]

TABLE = "CREATE TABLE IF NOT EXISTS events (n BIGINT, part TEXT)"
INSERT = "INSERT INTO events (n, part) VALUES (?, ?)"
JOBS = 300
ENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bus'"

Fault = Callable[[TelemetryStore, Server], None]


def kill_writer(store: TelemetryStore, server: Server) -> None:
    writer = store.stats().writer
    if writer is not None and writer.pid:
        with suppress(ProcessLookupError):
            os.kill(writer.pid, signal.SIGKILL)


def end_sessions(store: TelemetryStore, server: Server) -> None:
    server.run(ENDS)


def restart(store: TelemetryStore, server: Server) -> None:
    server.stop()
    server.start()


def crash(store: TelemetryStore, server: Server) -> None:
    server.kill()
    server.start()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test alone, in a folder that its user reaches."""
    with tempfile.TemporaryDirectory(prefix="telemetry-bus-") as folder:
        server = Server(Path(folder, "server"), binaries_or_skip())
        Path(folder).chmod(0o755)
        server.create()
        server.start()
        server.run(f"CREATE ROLE {USER} LOGIN CREATEDB", f"CREATE DATABASE faults OWNER {USER}")
        yield server
        server.stop()


def test_each_job_is_there_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them fails, and the producer needs to know nothing of it."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    url = server.url("faults")
    with TelemetryStore(url, mode="daemon", linger_ms=0) as store:
        number = 0
        for fault in (kill_writer, end_sessions, restart, crash, kill_writer):
            for n in range(JOBS):
                store.execute(INSERT, (number, "x"), ensure=[TABLE])
                number += 1
                if n == JOBS // 2:
                    fault(store, server)
        store.flush(DEADLINE_S)
    with psycopg.connect(url) as reader:
        found = reader.execute("SELECT count(*), count(DISTINCT n), min(n), max(n) FROM events").fetchall()
        ordered = reader.execute("SELECT sum(last_sequence), count(*) FROM telemetry_bus_ledger").fetchall()
    assert [(number, number, 0, number - 1)] == found
    assert [(number, 1)] == ordered
    _stop(url)


def _stop(url: str) -> None:
    folder = BusFolder.of(parse_database(url))
    with suppress(WriterAbsent):
        ask(folder, "stop", DEADLINE_S)
    wait_until(lambda: not is_held(folder.writer_lock), "the writer has left")
