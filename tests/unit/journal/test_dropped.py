"""Jobs that were dropped, counted beyond the life of their journal."""

from __future__ import annotations

import fcntl
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.journal.dropped import MAX_ENTRIES, dropped_jobs, keep_dropped
from telemetry_bus.journal.orphan import OrphanJournal, inspect

from ..journals import make

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    (folder := tmp_path / "journals").mkdir()
    return folder


def test_what_is_noted_twice_counts_once(journals: Path) -> None:
    """A process may end between the note and the removal of its journal, whose adoption notes it again."""
    keep_dropped(journals, A, 7)
    assert 7 == dropped_jobs(journals, [(A, 7)]) == dropped_jobs(journals, [])
    keep_dropped(journals, A, 7)
    keep_dropped(journals, B, 2)
    assert 9 == dropped_jobs(journals, [])
    assert 10 == dropped_jobs(journals, [(B, 3)])


def test_nothing_dropped_makes_no_file(journals: Path) -> None:
    """Programs that drop nothing leave nothing behind."""
    keep_dropped(journals, A, 0)
    assert [journals] == list(journals.parent.iterdir())
    assert 0 == dropped_jobs(journals, [])


def stream(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_the_file_does_not_grow_for_ever(journals: Path) -> None:
    """The sum of older programs is kept, and what is noted twice still counts once."""
    note = journals.parent / "dropped"
    for number in range(1, 3 * MAX_ENTRIES):
        keep_dropped(journals, stream(number), number)
        keep_dropped(journals, stream(number), number)
        assert note.stat().st_size <= (MAX_ENTRIES + 1) * 24
    assert sum(range(3 * MAX_ENTRIES)) == dropped_jobs(journals, [])


def test_a_kill_while_it_is_shortened(journals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not cut off any more counts once."""

    class Killed(BaseException):
        pass

    def kill(fd: int, size: int) -> None:
        raise Killed

    for number in range(1, MAX_ENTRIES + 1):
        keep_dropped(journals, stream(number), number)
    monkeypatch.setattr("os.ftruncate", kill)
    with pytest.raises(Killed):
        keep_dropped(journals, stream(MAX_ENTRIES + 1), 1)
    assert sum(range(MAX_ENTRIES + 1)) + 1 == dropped_jobs(journals, [])


def test_another_process_that_is_at_the_file_is_not_waited_for(journals: Path) -> None:
    """The number is noted, and the file shortened another time."""
    for number in range(1, MAX_ENTRIES + 1):
        keep_dropped(journals, stream(number), 1)
    with (journals.parent / "dropped").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        keep_dropped(journals, A, 1)
        assert (MAX_ENTRIES + 1) * 24 == (journals.parent / "dropped").stat().st_size
    keep_dropped(journals, B, 1)
    assert (MAX_ENTRIES + 1) * 24 > (journals.parent / "dropped").stat().st_size
    assert MAX_ENTRIES + 2 == dropped_jobs(journals, [])


@pytest.mark.parametrize("way", ["removed", "adopted", "quarantined"])
def test_a_journal_that_goes_leaves_its_count(journals: Path, way: str) -> None:
    """Whoever takes it away: its owner, the writer that adopts it, the writer that puts it aside."""
    journal = make(journals)
    assert [1, 2, 3] == [journal.drop() for _ in range(3)]
    path = journal.path
    assert path is not None
    assert 3 == inspect(path).dropped
    if way == "removed":
        journal.remove()
    else:
        journal.close()
        orphan = OrphanJournal.claim(path)
        assert orphan is not None
        with closing(orphan):
            if way == "adopted":
                orphan.delete()
            else:
                orphan.keep_dropped()
                path.unlink()
    assert not path.exists()
    assert 3 == dropped_jobs(journals, [])


@pytest.mark.parametrize("place", ["link", "folder", "torn"])
def test_a_strange_file_in_its_place_costs_the_count_alone(journals: Path, place: str, tmp_path: Path) -> None:
    """A link is not followed; the end of a torn entry is passed over."""
    note = journals.parent / "dropped"
    (elsewhere := tmp_path / "elsewhere").touch()
    if place == "link":
        note.symlink_to(elsewhere)
    elif place == "folder":
        note.mkdir()
    else:
        keep_dropped(journals, A, 5)
        with note.open("ab") as file:
            file.write(b"torn")
    keep_dropped(journals, B, 1)
    assert (6 if place == "torn" else 0) == dropped_jobs(journals, [])
    assert b"" == elsewhere.read_bytes()


def test_in_memory_nothing_is_kept() -> None:
    """There is nobody else to tell."""
    journal = make(None)
    assert 1 == journal.drop()
    assert 1 == journal.dropped
    journal.remove()
