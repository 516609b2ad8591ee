"""Whatever happens to producers, writers, network and database: every job once, in order, and it ends."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from . import producer as producers
from . import writer as writers
from .ground import Violation
from .scale import small_world
from .world import STEPS, World

#: The seeds of the worlds in the suite, in blocks that run in parallel; `scripts/simulate` runs any number of others.
QUICK = [range(first, first + 100) for first in range(0, 800, 100)]
SLOW = [range(first, first + 400) for first in range(800, 10_000, 400)]
#: Each occurs often.
TROUBLES = [
    *(f"writer killed {moment}" for moment in (*writers.MOMENTS, "between turns", "while it was stopped")),
    *(f"producer killed {moment}" for moment in (*producers.MOMENTS, "between turns", "while it was stopped")),
    "producer killed making its journal",
    "producer left",
    "producer left, jobs pending",
    "producer stopped",
    "producer forked",
    "writer left",
    "writer stopped",
    "writer refused, the lock is held",
    "writer forgot the silent",
    *(f"message {what}" for what in ("lost", "doubled", "overtaken", "delayed for long")),
    "late: for an earlier writer",
    "late: from an earlier writer",
    "late: of an adopted stream",
    "late: of a stream that said goodbye",
    "database restored",
    "database restored under a writer",
    "batch that met the fence",
    "folder removed under a writer",
    "turn of a writer that is none any more",
    "journal taken away",
    "journal copied",
    "copy of a journal came back",
    "turn of a writer in another folder",
    "patient jobs sent",
    "jobs sent that are waited for",
    "ledger row pruned",
    "watermark raised",
    "journal full",
    *(f"database fault {when} the commit" for when in ("before", "after")),
    "database fault between two commits",
    *(f"database fault reading {what}" for what in ("the ledger", "failures")),
]


@pytest.mark.parametrize(
    "seeds", [*QUICK, *(pytest.param(seeds, marks=pytest.mark.slow) for seeds in SLOW)], ids=lambda seeds: seeds[0]
)
def test_exactly_once_in_order_without_a_hole(seeds: range, folder: Path) -> None:
    """In each world every submitted job is applied exactly once and in order, every failure is told exactly once,
    nothing is acknowledged before it is committed, and when the trouble is over all is done in bounded time."""
    with small_world():
        for seed in seeds:
            try:
                World(seed, folder).run()
            except Violation as violation:
                command = f"scripts/simulate --first {seed} --seeds 1 --steps {STEPS} --tell"
                pytest.fail(f"world {seed}: {violation}. See it happen: {command}")


@pytest.mark.parametrize("block", range(4))
def test_resending_is_sparing(block: int, folder: Path) -> None:
    """As long as messages are lost and nothing else goes wrong, each loss is asked for once, and answered once."""
    with small_world():
        for seed in range(block * 50, (block + 1) * 50):
            try:
                World(seed, folder, only_loss=True).run()
            except Violation as violation:
                pytest.fail(f"world {seed}: {violation}")


def test_a_world_is_its_seed(folder: Path) -> None:
    """A seed decides everything: a world that went wrong goes wrong again in the same way."""
    stories: list[list[str]] = []
    for _ in range(2):
        with small_world():
            stories.append([])
            tally = World(4, folder, stories[-1].append).run()
        stories[-1] += [f"{kind} {count}" for kind, count in tally.items()]
    assert stories[0] == stories[1]
    assert any("round" in line for line in stories[0])


@pytest.mark.slow
def test_every_trouble_occurs(folder: Path) -> None:
    """What is simulated is not only said to be: each way to die, each fault, whatever the network does, often."""
    tally: Counter[str] = Counter()
    with small_world():
        for seed in range(500):
            tally += World(seed, folder).run()
    assert [] == [kind for kind in TROUBLES if tally[kind] < 5]
