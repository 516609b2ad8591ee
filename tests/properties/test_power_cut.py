"""A journal whose blocks reached the disk in any order: what is read from it was written, and stands together."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_bus.encoding.records import scan
from telemetry_bus.errors import JournalCorrupt
from telemetry_bus.journal import ring as journal_module
from telemetry_bus.journal.layout import PAGE_BYTES
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal

RING_BYTES, ROOM_BYTES = 512, 256
#: The disk writes sectors of this size whole; the header page is one of its own.
SECTOR_BYTES = 32
#: Moments at which the file's blocks may have been written back.
MOMENTS = 4

#: How much a job holds, and how many of those that wait are acknowledged behind it.
STEPS = st.lists(
    st.tuples(st.sampled_from([20, 20, 20, 20, 56]), st.sampled_from([0, 0, 0, 1, 2, 50])), min_size=5, max_size=40
)


class Life:
    """A journal and what was in its file after each step."""

    def __init__(self, folder: Path, steps: list[tuple[int, int]]) -> None:
        self.records: dict[int, bytes] = {}
        self.files: list[bytes] = []
        self.trimmed: list[int] = []
        with pytest.MonkeyPatch.context() as patch, closing(self._journal(folder, patch)) as journal:
            assert journal.path is not None
            ends = [(0, 0)]
            done = 0
            for size, acknowledged in steps:
                record = b"\x01" + msgpack.packb("x" * size + str(len(ends)))
                if journal.append(record):
                    self.records[len(ends)] = record
                    ends.append(journal.end)
                if acknowledged and done < len(ends) - 1:
                    done = min(done + acknowledged, len(ends) - 1)
                    journal.trim(ends[done])
                self.files.append(journal.path.read_bytes())
                self.trimmed.append(done)

    def _journal(self, folder: Path, patch: pytest.MonkeyPatch) -> Journal:
        patch.setattr(journal_module, "DEFINITIONS_BYTES", ROOM_BYTES)
        return Journal(folder, b"journal of tests", RING_BYTES, "x")


def recovered(path: Path) -> tuple[int, dict[int, bytes]]:
    """The watermark, and the records by their numbers without checksums."""
    found = OrphanJournal.claim(path)
    assert found is not None
    with closing(found) as orphan:
        records: dict[int, bytes] = {}
        for first, _, data in orphan.chunks():
            start = 0
            for number, end in enumerate(scan(data, first), first):
                records[number] = data[start : end - 5]
                start = end
        return orphan.trimmed[0], records


@settings(max_examples=120)
@given(STEPS, st.data())
def test_blocks_of_different_moments(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """Each sector is of one of the last moments, as after a power cut. Whatever is read was submitted under its
    number, and the numbers follow each other from a watermark that there was: nothing torn, nothing stale."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), steps)
        moments = range(max(0, len(steps) - MOMENTS), len(steps))
        pick = st.sampled_from(moments)
        header = data.draw(pick)
        mixed = bytearray(life.files[header][:PAGE_BYTES])
        for start in range(PAGE_BYTES, len(life.files[-1]), SECTOR_BYTES):
            mixed += life.files[data.draw(pick)][start : start + SECTOR_BYTES]
        path = Path(folder, "cut.journal")
        path.write_bytes(mixed)
        trimmed, found = recovered(path)
        assert life.trimmed[header] == trimmed
        assert list(range(trimmed + 1, trimmed + 1 + len(found))) == list(found)
        assert {number: life.records[number] for number in found} == found


@settings(max_examples=100)
@given(STEPS, st.data())
def test_a_step_that_was_cut_short(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """The bytes of the last step arrived up to some place, in the order of the file: everything from before that
    was not acknowledged is there, and of the last job all or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), steps)
        before, after = life.files[-2:]
        cut = data.draw(st.sampled_from(sorted({i for i in range(len(after)) if before[i] != after[i]} | {len(after)})))
        path = Path(folder, "cut.journal")
        path.write_bytes(after[:cut] + before[cut:])
        _, whole_before = recovered(_written(Path(folder, "before.journal"), before))
        try:
            trimmed, found = recovered(path)
        except JournalCorrupt:  # the first watermark, torn, has nothing beside it that tells
            assert life.trimmed[-1] > life.trimmed[-2]
            return
        assert trimmed in life.trimmed[-2:]
        assert {number: life.records[number] for number in found} == found
        kept = {number: record for number, record in whole_before.items() if number > life.trimmed[-1]}
        assert kept == {number: record for number, record in found.items() if number in kept}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
