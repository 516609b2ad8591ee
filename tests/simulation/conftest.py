"""Where simulated worlds lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .scale import memory_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """One for all worlds of a test, which come one after the other."""
    with memory_folder() as folder:
        yield folder
