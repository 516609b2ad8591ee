"""Real processes, a real writer, real signals: each test has a bus of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.bus import Bus


@pytest.fixture
def bus(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bus]:
    """A bus without a writer. At the end its writer, if there is one, must leave when it is asked.

    May be parametrised with the name of a folder to have it in.
    """
    folder = tmp_path / getattr(request, "param", "")
    folder.mkdir(exist_ok=True)
    bus = Bus(folder)
    yield bus
    bus.close()
