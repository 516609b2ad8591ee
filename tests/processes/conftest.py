"""Real processes, a real writer, real signals: each test has a bus of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .bus import Bus


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """A bus without a writer. At the end its writer, if there is one, must leave when it is asked."""
    bus = Bus(tmp_path)
    yield bus
    bus.close()
