"""A producer killed in the middle of writing its first watermark loses nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.journal.layout import PAGE_BYTES, read_watermark, write_watermark

from .journals import claimed, contents, copy_of, make, record, small

RECORDS = {number: record(f"record {number}") for number in range(1, 4)}
INDEX, SLOT = write_watermark(1, (2, 40))


@pytest.mark.parametrize("length", range(len(SLOT)))
def test_first_watermark_torn(tmp_path: Path, length: int) -> None:
    """There is no older one yet, and nothing of the ring has been overwritten: all of it is read, as undamaged."""
    with small(), closing(make(tmp_path)) as journal:
        for data in RECORDS.values():
            journal.append(data)
        assert journal.path is not None
        copy = copy_of(journal.path)
        with copy.open("r+b") as file:
            file.seek(INDEX)
            file.write(SLOT[:length])
        with closing(claimed(copy)) as orphan:
            assert RECORDS == contents(orphan)
            assert orphan.damage is None


def test_first_watermark_whole() -> None:
    """Its last byte makes it count."""
    page = bytearray(PAGE_BYTES)
    page[INDEX : INDEX + len(SLOT)] = SLOT
    assert (2, 40) == read_watermark(bytes(page))
