"""A session that cannot be made: a typed error with the server's own words, and a hint that is true."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, DatabaseFault, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.runtime.postgresql import check_installed, connect, driver

from ...support.postgresql import ASKED, Server

pytest.importorskip("psycopg")


def fault_of(url: str, timeout: float = 10) -> DatabaseFault:
    with pytest.raises(DatabaseFault) as caught:
        connect(parse_database(url), timeout, readonly=True)
    return caught.value


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (("user", "locked:wrong"), "password authentication failed", "PGPASSWORD"),
        (("user", "locked"), "no password supplied", "PGPASSFILE"),
        (("user", "nobody_here"), "role", "CREATE ROLE"),
        (("database", "nothing"), "does not exist", "CREATE DATABASE"),
        (("database", "closed"), "permission denied", "GRANT CONNECT"),
        (("options", "?sslmode=require"), "SSL", "sslmode="),
        (("options", "?target_session_attrs=standby"), "hot standby", "target_session_attrs"),
    ],
)
def test_a_server_that_refuses(postgresql_server: Server, change: tuple[str, str], says: str, hint: str) -> None:
    """Its words, what helps, and nothing of a password."""
    names = {"user": f"locked_{id(change)}", "database": f"closed_{id(change)}"}
    postgresql_server.run(
        f"CREATE ROLE {names['user']} LOGIN PASSWORD 'right' IN ROLE {ASKED}",
        f"CREATE DATABASE {names['database']}",
        f"REVOKE CONNECT ON DATABASE {names['database']} FROM PUBLIC",
    )
    given = {"user": "bus", "database": "postgres", "options": "", change[0]: change[1]}
    user, database = (
        given["user"].replace("locked", names["user"]),
        given["database"].replace("closed", names["database"]),
    )
    try:
        fault = fault_of(postgresql_server.url(database, user) + given["options"])
    finally:
        postgresql_server.run(f"DROP DATABASE {names['database']}", f"DROP ROLE {names['user']}")
    assert says in str(fault)
    assert hint in fault.hint
    assert "wrong" not in f"{fault} {fault!r} {fault.__cause__}"


@pytest.mark.slow
def test_a_server_that_says_nothing() -> None:
    """It is waited for as long as the store's `timeout`, not for ever."""
    with silent_server() as port:
        fault = fault_of(f"postgresql://u@127.0.0.1:{port}/x", timeout=1)
    assert "does not answer" in fault.hint


def test_no_server() -> None:
    """By port, by folder of sockets, by name."""
    with silent_server() as port:
        free = port
    assert "start the server" in fault_of(f"postgresql://u@127.0.0.1:{free}/x").hint
    assert "start the server" in fault_of("postgresql://u@/x?host=/nowhere").hint
    assert "check the host" in fault_of("postgresql://u@nowhere.invalid/x").hint


@pytest.mark.postgresql
def test_options_of_the_url_and_ours(postgresql: str) -> None:
    """Both reach the session."""
    with closing(connect(parse_database(f"{postgresql}?options=-c%20work_mem%3D1MB"), 10, readonly=True)) as session:
        settings = "SELECT current_setting('work_mem'), current_setting('TimeZone'), current_setting('lock_timeout')"
        assert ("1MB", "UTC", "10s") == session.execute(settings).fetchone()


@pytest.mark.parametrize("mode", ["daemon", "thread", "sync"])
def test_without_the_driver(monkeypatch: pytest.MonkeyPatch, mode: str, tmp_path: Path) -> None:
    """The error names the extra, when the store is made; one whose writer runs elsewhere does without."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    monkeypatch.setattr("telemetry_bus.runtime.postgresql.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for call in (check_installed, driver, lambda: TelemetryStore("postgresql://u@h/x", mode=mode)):
        with pytest.raises(ConfigError, match=r"telemetry-bus\[postgres\]"):
            call()
    TelemetryStore("postgresql://u@h/x", mode="daemon", spawn=False).shutdown()
