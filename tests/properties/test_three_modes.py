"""The same jobs make the same rows whatever the mode, and however they fall into batches, for schemas of every kind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .three_modes import comparing, scenes

#: In memory. `scripts/three-modes` runs as many as one likes in the real modes.
EXAMPLES, CHUNK = 300, 50


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, EXAMPLES, CHUNK))
def test_three_modes_one_result(first: int) -> None:
    """Whole database and failures, of each seed."""
    for seed in range(first, first + CHUNK):
        expected = scenes.plain(scenes.Scene(seed))
        assert expected == scenes.sync(scenes.Scene(seed)), f"seed {seed}: sync"
        assert expected == scenes.batched(scenes.Scene(seed), random.Random(seed)), f"seed {seed}: batches"


@pytest.mark.slow
@pytest.mark.integration
def test_three_real_modes_one_result(tmp_path: Path, no_writer_left: None) -> None:
    """The same through stores, eight at once on one database, with a real writer process in mode daemon."""
    assert [] == [*comparing.compare(range(1000, 1008), tmp_path)]
