"""A booted systemd for the tests of a module, and a service for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..endurance.restarts.machine import Machine
from ..endurance.restarts.service import Service


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With its users. Skips where systemd cannot be booted."""
    if os.geteuid() != 0:
        pytest.skip("only root may boot a systemd")
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("there is no systemd to boot")
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        if not machine.boots():
            pytest.skip(f"systemd cannot be booted here: {machine.why_not()}")
        machine.people()
        yield machine
    finally:
        machine.close()


@pytest.fixture
def service(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Installed, and not yet prepared and started."""
    service = Service(machine, request.node.name.replace("test_", "").replace("[", "-").rstrip("]"))
    yield service
    service.close()
