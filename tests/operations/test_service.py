"""The writer as a service of a real systemd, as the page says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ..endurance.restarts.machine import Machine
from ..endurance.restarts.service import FOR_TESTS, ORACLE, PRODUCE
from ..systemd.conftest import machine as machine
from .operator import Operator, stubs
from .page import Block, console_blocks

pytestmark = [pytest.mark.root, pytest.mark.integration, pytest.mark.slow]

UNIT = "telemetry-writer@main"
DATABASE = "/var/lib/telemetry/telemetry.db"
#: A producer waits so long between two jobs.
PAUSE_S = "0.0005"


@pytest.fixture
def administrator(machine: Machine, blocks: list[Block]) -> Iterator[Operator]:
    """Has the programs, and `sudo`. At the end nothing of the service is left."""
    for name, text in {**stubs(), "sudo": '#!/bin/sh\nexec "$@"\n'}.items():
        write(machine, f"/usr/local/bin/{name}", text)
        machine.run("chmod", "755", f"/usr/local/bin/{name}")
    write(machine, f"/etc/systemd/system/{UNIT}.service.d/test.conf", FOR_TESTS)

    def shell(script: str) -> tuple[int, str]:
        process = machine.popen("bash", "-c", f"exec 2>&1\n{script}")
        said, _ = process.communicate()
        return process.returncode, said

    assert blocks, "the page has no such block"
    operator = Operator(shell, blocks)
    yield operator
    assert [] == list(map(str, operator.left))
    machine.run("systemctl", "disable", "--now", UNIT, check=False)
    assert "active" != machine.run("systemctl", "is-active", UNIT, check=False)
    machine.run("rm", "-rf", "/var/lib/telemetry", "/srv/telemetry", "/var/backups/telemetry.db")


@pytest.fixture
def installed(administrator: Operator) -> Operator:
    """Has done what the page says first."""
    (install, *_) = [block for block in console_blocks() if block.scenario == "service"]
    administrator.left.insert(0, install)
    administrator.goes_on()
    return administrator


def write(machine: Machine, path: str, text: str) -> None:
    machine.run("sh", "-c", 'mkdir -p "${2%/*}" && printf %s "$1" > "$2"', "sh", text, path)


def produce(machine: Machine, name: str, database: str = DATABASE) -> subprocess.Popen[str]:
    """A program of a member of the group, at work."""
    process = machine.popen(
        sys.executable,
        "-P",
        "-c",
        PRODUCE,
        name,
        PAUSE_S,
        user="member",
        TELEMETRY_DATABASE_URL=database,
        TELEMETRY_BUS_SPAWN="0",
        HOME="/",
    )
    assert process.stdout is not None
    assert "begun\n" == process.stdout.readline(), process.communicate()
    return process


def ends(process: subprocess.Popen[str]) -> int:
    """How many jobs it has submitted, all of them committed."""
    output, errors = process.communicate()
    assert 0 == process.returncode, errors
    number, _, _ = json.loads(output)
    return int(number)


def test_service(administrator: Operator, machine: Machine) -> None:
    """Installed, restarted, opened to the group, removed."""
    administrator.goes_on()
    machine.run("journalctl", "--sync")
    administrator.goes_on()
    administrator.goes_on()
    assert "640 telemetry" == machine.run("stat", "-c", "%a %U", DATABASE)
    machine.run("systemctl", "is-active", UNIT)
    administrator.goes_on()
    assert "640 telemetry" == machine.run("stat", "-c", "%a %U", DATABASE)


def test_service_restored(installed: Operator, machine: Machine) -> None:
    """Under a producer at work, whose new jobs are committed in the restored database."""
    ends(produce(machine, "before"))
    producer = produce(machine, "meanwhile")
    installed.goes_on()
    ends(produce(machine, "after"))
    installed.goes_on()
    assert 0 < ends(producer)
    found = machine.python("-c", ORACLE, DATABASE)
    assert '"before"' in found
    assert '"meanwhile"' in found
    assert '"after"' not in found


def test_service_moved(installed: Operator, machine: Machine) -> None:
    """Rows go along, and producers with the new setting go on."""
    before = ends(produce(machine, "before"))
    installed.goes_on()
    moved = "/srv/telemetry/telemetry.db"
    after = ends(produce(machine, "after", moved))
    assert f'[["after", 1, {after}, {after}, {after}], ["before", 1, {before}, {before}, {before}]]' == machine.python(
        "-c", ORACLE, moved
    )
