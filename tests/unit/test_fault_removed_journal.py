"""A journal's file that somebody removes under its owner is made anew, with all that is in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.errors import JournalUnavailable
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal

from .journals import RING_BYTES, claimed, contents, definition, left_behind, make, record, small


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """In its second lap, with something trimmed and something pending."""
    (tmp_path / "bus").mkdir()
    with closing(make(tmp_path / "bus")) as journal:
        journal.define(definition("CREATE TABLE t (a)"))
        while journal.end[1] < RING_BYTES + 100:
            journal.append(record("x" * 40))
            journal.trim(journal.end)
        for text in ("a", "b", "c"):
            journal.append(record(text))
        yield journal


def path_of(journal: Journal) -> Path:
    assert journal.path is not None
    return journal.path


def test_renewed(journal: Journal) -> None:
    """What is pending, the definitions and the watermark are in the new file, and what follows comes behind them."""
    path = path_of(journal)
    before, last = path.read_bytes(), journal.end[0]
    assert not journal.lost()
    path.unlink()
    assert journal.lost()
    journal.renew()
    assert not journal.lost()
    assert before == path.read_bytes()
    assert last + 1 == journal.append(record("d"))
    journal.define(definition("DROP TABLE t"))
    journal.trim((last - 2, journal.trimmed[1] + len(record("a")) + 5))
    expected = {last - 1: record("b"), last: record("c"), last + 1: record("d")}
    assert (expected, None) == left_behind(path)


def test_its_lock_moves_along(journal: Journal) -> None:
    """The new file is nobody's orphan while its owner lives, and is one afterwards; no descriptor is left over."""
    path = path_of(journal)
    path.unlink()
    descriptors = len(os.listdir("/proc/self/fd"))
    journal.renew()
    assert descriptors == len(os.listdir("/proc/self/fd"))
    assert OrphanJournal.claim(path) is None
    journal.close()
    with closing(claimed(path)) as orphan:
        assert 3 == len(contents(orphan))


def test_another_file_in_its_place(journal: Journal) -> None:
    """A folder that was put back from a backup has an old copy of it."""
    path = path_of(journal)
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    os.replace(copy, path)
    assert journal.lost()
    journal.renew()
    assert not journal.lost()


def test_no_place_for_it(journal: Journal) -> None:
    """As long as there is no folder it is an error, and the owner goes on in memory, its lock and its jobs intact."""
    path = path_of(journal)
    shutil.rmtree(path.parent)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="No such file or directory"):
            journal.renew()
        assert journal.lost()
        assert journal.append(record("d"))
    path.parent.mkdir()
    journal.renew()
    found, damage = left_behind(path)
    assert (5, None) == (len(found), damage)


def test_memory_is_not_lost() -> None:
    """A journal without a file."""
    with closing(Journal(None, bytes(16), RING_BYTES, "sqlite:///x")) as journal:
        assert not journal.lost()
