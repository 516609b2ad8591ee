"""An append that was cut off at any byte leaves what was there before, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.encoding.records import seal
from telemetry_bus.journal.layout import PAGE_BYTES, TAIL

from .journals import RING_BYTES, left_behind, make, record, small

RING = PAGE_BYTES + 256


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("fill", [100, 440])
def test_torn_at_every_byte(tmp_path: Path, fill: int, published: bool) -> None:
    """In the middle of the ring and across its end, over what an earlier lap has left: the records before are there,
    the torn one is not, the whole one is. A published one that is torn (a power cut) is damage that is told."""
    with closing(make(tmp_path)) as journal:
        while journal.end[1] < RING_BYTES + fill:
            journal.append(record("x" * 40))
            journal.trim(journal.end)
        journal.append(record("before"))
        before = {journal.end[0]: record("before")}
        (number, start), new = journal.end, record("torn" * 20)
        torn = seal(new, number + 1)
        assert journal.path is not None
        for length in range(len(torn) + 1):
            with journal.path.open("r+b") as file:
                for index, byte in enumerate(torn[:length]):
                    file.seek(RING + (start + index) % RING_BYTES)
                    file.write(bytes([byte]))
                if published:
                    file.seek(8 * TAIL)
                    file.write(struct.pack("<Q", start + len(torn)))
            found, damage = left_behind(journal.path)
            whole = length == len(torn)
            if published or not whole:  # a whole one counts, published or not; it is looked for where others follow
                assert ({**before, number + 1: new} if whole else before) == found, f"{length} bytes"
            assert (published and not whole) == (damage is not None), f"{length} bytes"
