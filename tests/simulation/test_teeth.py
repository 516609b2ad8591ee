"""The simulation finds defects: those that were put in on purpose, every one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .ground import Violation
from .mutations import MUTATIONS, Mutation
from .scale import small_world
from .world import World

#: One of so many must find it; most are found by the first dozen. `scripts/simulate --teeth` counts.
WORLDS_PER_MUTATION = 1000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.words)
def test_a_defect_is_found(mutation: Mutation, folder: Path) -> None:
    """With the protocol broken in this way some world comes to a violation."""
    with small_world() as patch:
        mutation.apply(patch)
        for seed in range(WORLDS_PER_MUTATION):
            try:
                World(seed, folder, only_loss=mutation.only_loss).run()
            except Violation as violation:
                if isinstance(violation.__cause__, NameError | AttributeError):
                    raise  # a mutation that is nonsense is found as well
                return
    pytest.fail(f"no world of {WORLDS_PER_MUTATION} finds it")
