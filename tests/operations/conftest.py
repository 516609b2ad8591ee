"""An operator and a bus for each test; the test's name is that of the blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.bus import Bus
from .operator import Operator, local_shell
from .page import Block, console_blocks


@pytest.fixture
def blocks(request: pytest.FixtureRequest) -> list[Block]:
    """Those that the test has to run."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    return [block for block in console_blocks() if block.scenario == name]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """The database is `data/telemetry.db` in the folder of the operator. No writer runs yet; the last one leaves when
    it is asked."""
    (tmp_path / "data").mkdir()
    bus = Bus(tmp_path, tmp_path / "data" / "telemetry.db")
    yield bus
    bus.close()


@pytest.fixture
def operator(bus: Bus, blocks: list[Block]) -> Iterator[Operator]:
    """Has come to the end of his blocks when the test has."""
    assert blocks, "the page has no such block"
    operator = Operator(local_shell(bus.home, {"TELEMETRY_DATABASE_URL": "data/telemetry.db"}), blocks)
    yield operator
    assert [] == list(map(str, operator.left))
