"""Whatever happens to producers, writers, network and database: every job once, in order, and it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from .world import Violation, World, small_world

#: Worlds in the suite, in blocks that run in parallel; `python -m tests.simulation` runs any number of others.
BLOCKS, WORLDS_PER_BLOCK = 20, 150
STEPS = 250


@pytest.mark.parametrize("block", range(BLOCKS))
def test_exactly_once_in_order_without_a_hole(block: int, tmp_path: Path) -> None:
    """In each world every submitted job is applied exactly once and in order, every failure is told exactly once,
    nothing is acknowledged before it is committed, and when the trouble is over all is done in bounded time."""
    with small_world():
        for seed in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
            try:
                World(seed, tmp_path / str(seed)).run(STEPS)
            except Violation as violation:
                pytest.fail(f"world {seed}: {violation}. See it happen: python -m tests.simulation {seed} 1 --tell")


@pytest.mark.parametrize("block", range(4))
def test_resending_is_sparing(block: int, tmp_path: Path) -> None:
    """As long as messages are lost and nothing else goes wrong, each loss is asked for once, and answered once."""
    with small_world():
        for seed in range(block * 50, (block + 1) * 50):
            try:
                World(seed, tmp_path / str(seed), only_loss=True).run(STEPS)
            except Violation as violation:
                pytest.fail(f"world {seed}: {violation}")


def test_a_world_is_its_seed(tmp_path: Path) -> None:
    """A seed decides everything: a world that went wrong goes wrong again in the same way."""
    stories: list[list[str]] = []
    with small_world():
        for folder in ("one", "another"):
            stories.append([])
            World(4, tmp_path / folder, stories[-1].append).run(STEPS)
    assert stories[0] == stories[1]
    assert any("writer crashes" in line for line in stories[0])
