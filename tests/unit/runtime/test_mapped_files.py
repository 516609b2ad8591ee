"""Files as memory: what stays of one when its disk fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_bus.runtime.bus_errors import catch_bus_errors
from telemetry_bus.runtime.mapped_files import MappedFile

PAGE = 4096
CONTENT = b"a head that says what it is, and never changes" + os.urandom(3 * PAGE)
SIZE = len(CONTENT)


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[MappedFile]:
    """A file of some pages. What stood for SIGBUS before is set again afterwards."""
    before = signal.getsignal(signal.SIGBUS)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDWR)
    catch_bus_errors()
    mapped = MappedFile(fd, SIZE, fd)
    yield mapped
    mapped.close()
    os.close(fd)
    assert before == signal.getsignal(signal.SIGBUS)


def test_as_long_as_nothing_fails(mapped: MappedFile, tmp_path: Path) -> None:
    """It is the file."""
    mapped[PAGE] = 7
    assert CONTENT[:PAGE] + b"\7" + CONTENT[PAGE + 1 :] == (tmp_path / "file").read_bytes()
    assert not mapped.failed
    assert not mapped.torn


@pytest.mark.parametrize("left", [0, 10, PAGE, 2 * PAGE + 10])
def test_cut_short(mapped: MappedFile, tmp_path: Path, left: int) -> None:
    """What is stored, and what is left of the file, is in memory; the file is not touched any more."""
    os.truncate(tmp_path / "file", left)
    mapped[3 * PAGE] = 7
    assert mapped.failed
    assert mapped.torn
    assert CONTENT[:left] == mapped[:left]
    assert 7 == mapped[3 * PAGE]
    mapped[0] = 8
    assert CONTENT[:left] == (tmp_path / "file").read_bytes()


def test_read_where_it_is_cut_short(mapped: MappedFile, tmp_path: Path) -> None:
    """A load fails as a store does."""
    os.truncate(tmp_path / "file", 0)
    assert bytes(SIZE) == mapped[:]
    assert mapped.torn


def test_another_content(mapped: MappedFile, tmp_path: Path) -> None:
    """Of the same length, but with a hole where it says what it is."""
    os.truncate(tmp_path / "file", 0)
    os.truncate(tmp_path / "file", SIZE)
    mapped.fail()
    assert mapped.torn


def test_whole(mapped: MappedFile) -> None:
    """As on a disk that is full: all can be read."""
    mapped.fail()
    assert mapped.failed
    assert not mapped.torn
    assert CONTENT == mapped[:]


def test_one_of_several(mapped: MappedFile, tmp_path: Path) -> None:
    """The others stay files; one that is closed is in nobody's way."""
    (tmp_path / "other").write_bytes(CONTENT)
    with open(tmp_path / "other", "r+b") as file:
        other, closed = MappedFile(file.fileno(), SIZE, file.fileno()), MappedFile(file.fileno(), SIZE, file.fileno())
        closed.close()
        os.truncate(tmp_path / "file", 0)
        mapped[0] = 7
        assert mapped.failed
        assert not other.failed
        other.close()


def test_memory_alone() -> None:
    """It has no file that could fail."""
    with MappedFile(-1, SIZE) as memory:
        memory[0] = 7
        assert not memory.failed
