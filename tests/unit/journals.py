"""What the tests of journals share: small ones, records for them, and what a dead owner leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgpack
import pytest

from telemetry_bus.encoding.records import scan
from telemetry_bus.journal import orphan
from telemetry_bus.journal import ring as journal
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal

STREAM = b"journal of tests"
DATABASE = "sqlite:////somewhere/telemetry.db"
RING_BYTES = 512


@contextmanager
def small(chunk: int = 64, definitions: int = 256, piece: int = 100) -> Iterator[None]:
    """Journals of a few hundred bytes, cut into messages and read in pieces of a few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "CHUNK_BYTES", chunk)
        patch.setattr(journal, "DEFINITIONS_BYTES", definitions)
        patch.setattr(orphan, "CHUNK_BYTES", chunk)
        patch.setattr(orphan, "_PIECE_BYTES", piece)
        yield


def make(folder: Path | None, ring_bytes: int = RING_BYTES, stream: bytes = STREAM) -> Journal:
    return Journal(folder, stream, ring_bytes, DATABASE)


def record(content: object) -> bytes:
    """An unsealed record of template number 1."""
    return b"\x01" + bytes(msgpack.packb(content))


def definition(text: str) -> bytes:
    return bytes(msgpack.packb(text))


def copy_of(path: Path) -> Path:
    """The file as it would be found if its owner had been killed now."""
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    return copy


def claimed(path: Path) -> OrphanJournal:
    found = OrphanJournal.claim(path)
    assert found is not None
    return found


def contents(orphan: OrphanJournal) -> dict[int, bytes]:
    """The records by their numbers, without checksums; numbers must follow each other."""
    found: dict[int, bytes] = {}
    expected = orphan.trimmed[0] + 1
    for first, count, data in orphan.chunks():
        assert expected == first
        expected += count
        start = 0
        for sequence, end in enumerate(scan(data, first), first):
            found[sequence] = data[start : end - 5]
            start = end
        assert start == len(data)
        assert count == expected - first
    return found


def left_behind(path: Path) -> tuple[dict[int, bytes], str | None]:
    """What a writer would find in the journal if its owner had been killed now: records, and the damage."""
    with closing(claimed(copy_of(path))) as orphan:
        return contents(orphan), orphan.damage
