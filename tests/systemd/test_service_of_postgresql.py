"""The writer of a PostgreSQL database as a service of a real systemd, with its password as a credential."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from telemetry_bus.config import parse_database

from ..endurance.restarts.machine import Machine
from ..endurance.restarts.service import FOR_TESTS
from ..support.postgresql import ASKED, Server

pytestmark = [pytest.mark.root, pytest.mark.integration, pytest.mark.slow, pytest.mark.postgresql]

SECRET = "kanarienvogel"
PRODUCE = """
from telemetry_bus import TelemetryStore
with TelemetryStore(timeout=60) as store:
    table = "CREATE TABLE IF NOT EXISTS events (number INTEGER)"
    store.execute("INSERT INTO events (number) VALUES (?)", (1,), ensure=[table])
    store.flush()
"""


def test_a_password_that_nobody_sees(machine: Machine, postgresql: str, postgresql_server: Server) -> None:
    """A member of the group produces without it; it stands in the file of mode 0600 alone: not in the unit's
    properties, the journal, the environment or the command line of the writer, nor in the bus folder."""
    psycopg = pytest.importorskip("psycopg")
    role = f"r{uuid4().hex[:8]}"
    name = parse_database(postgresql).url.rpartition("/")[2]
    postgresql_server.run(
        f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}' IN ROLE {ASKED}", f"ALTER DATABASE {name} OWNER TO {role}"
    )
    url = postgresql.replace("//bus@", f"//{role}@")
    unit = "telemetry-writer@pg"
    try:
        machine.python("-m", "telemetry_bus", "install-service", "--database", url, "--name", "pg")
        passwords = "/etc/telemetry-bus/pg.pgpass"
        machine.run(
            "sh",
            "-c",
            f"sed -i 's/^#\\(127.*:\\)PASSWORD/\\1{SECRET}/' {passwords}; test $(stat -c %a {passwords}) = 600",
        )
        drop_in = f"/etc/systemd/system/{unit}.service.d/test.conf"
        machine.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", FOR_TESTS, drop_in)
        for command in ("systemd-sysusers", "systemd-tmpfiles --create"):
            machine.run(*command.split(), "telemetry-writer-pg.conf")
        machine.run("systemctl", "daemon-reload")
        said = machine.run("systemctl", "start", unit, check=False)
        assert not said, said + machine.run("journalctl", "--no-pager", "--lines=20")
        settings = {
            "TELEMETRY_DATABASE_URL": url,
            "TELEMETRY_BUS_DIR": "/var/lib/telemetry-bus-pg",
            "TELEMETRY_BUS_SPAWN": "0",
            "HOME": "/",
        }
        machine.python("-c", PRODUCE, user="member", **settings)
        with psycopg.connect(postgresql_server.url(name, "postgres"), autocommit=True) as session:
            assert [(1,)] == session.execute("SELECT number FROM events").fetchall()
        status = json.loads(machine.python("-m", "telemetry_bus", "status", "--json", user="member", **settings))
        assert "running" == status["state"]
        process = status["pid"]
        seen = machine.run("systemctl", "show", unit) + machine.run("journalctl", "--no-pager", "--unit", unit)
        seen += machine.run(
            "sh", "-c", f"tr '\\0' '\\n' < /proc/{process}/environ; tr '\\0' ' ' < /proc/{process}/cmdline"
        )
        assert "owns postgresql://" in seen
        assert SECRET not in seen
        assert "" == machine.run(
            "sh", "-c", f"grep -rl {SECRET} /etc /var/lib/telemetry-bus-pg | grep -v {passwords}; true"
        )
        machine.run("systemctl", "stop", unit)
    finally:
        machine.run("systemctl", "stop", unit, check=False)
        postgresql_server.run(f"REASSIGN OWNED BY {role} TO bus", f"DROP ROLE {role}", database=name)
