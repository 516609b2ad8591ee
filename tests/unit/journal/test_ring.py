"""The journal's owner: append, read, trim, and what a kill or an interrupt at any moment leaves."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telemetry_bus.encoding.records import Position, seal
from telemetry_bus.errors import JournalUnavailable
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal

from ..journals import (
    DATABASE,
    RING_BYTES,
    STREAM,
    claimed,
    contents,
    copy_of,
    definition,
    left_behind,
    make,
    record,
    small,
)
from ..tracing import at_every_bytecode, traced


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(make(tmp_path)) as journal:
        yield journal


class JournalAgainstModel(RuleBasedStateMachine):
    """A journal beside a list of what was appended. After every step its owner is killed, in a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.life = ExitStack()
        self.life.enter_context(small())
        folder = Path(self.life.enter_context(tempfile.TemporaryDirectory()))
        self.journal = self.life.enter_context(closing(make(folder)))
        self.records: list[bytes] = []
        self.ends: list[Position] = [(0, 0)]
        self.definitions: list[bytes] = []
        self.trimmed = 0
        self.cut: Position = (0, 0)

    def teardown(self) -> None:
        self.life.close()

    @rule(content=st.binary(max_size=90) | st.integers(0, 200))
    def append(self, content: object) -> None:
        """There is room exactly as long as the ring holds what is not trimmed."""
        data = record(content)
        end = self.ends[-1][1] + len(data) + 5
        fits = end - self.ends[self.trimmed][1] <= RING_BYTES
        assert (len(self.records) + 1 if fits else 0) == self.journal.append(data)
        if fits:
            self.records.append(data)
            self.ends.append((len(self.records), end))

    @rule(text=st.text("abc", max_size=40))
    def define(self, text: str) -> None:
        """A definition is kept for good, as long as there is room."""
        data = definition(text)
        fits = sum(len(known) + 5 for known in self.definitions) + len(data) + 5 <= 256
        assert (len(self.definitions) + 1 if fits else 0) == self.journal.define(data)
        if fits:
            self.definitions.append(data)

    @precondition(lambda self: self.trimmed < len(self.records))
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        self.trimmed = data.draw(st.integers(self.trimmed + 1, len(self.records)))
        self.journal.trim(self.ends[self.trimmed])

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Any slice that is not trimmed, as the records lie."""
        start = data.draw(st.integers(self.trimmed, len(self.records)))
        end = data.draw(st.integers(start, len(self.records)))
        expected = b"".join(seal(self.records[n], n + 1) for n in range(start, end))
        assert expected == self.journal.read(self.ends[start], self.ends[end])

    @rule(data=st.data())
    def read_definitions(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.definitions)))
        offset = sum(len(known) + 5 for known in self.definitions[:start])
        found, end = self.journal.definitions((start, offset))
        assert b"".join(seal(known, n + 1) for n, known in [*enumerate(self.definitions)][start:]) == found
        assert (len(self.definitions), offset + len(found)) == end

    @rule()
    def cut_into_messages(self) -> None:
        """Messages follow each other to the end; none is longer than a chunk and one record."""
        position = max(self.cut, self.ends[self.trimmed])
        while (end := self.journal.boundary(position)) != position:
            assert end in self.ends[position[0] + 1 :]
            assert end[1] - position[1] <= 64 + (end[1] - self.ends[end[0] - 1][1])
            position = end
        assert self.ends[-1] == position
        self.cut = position

    @invariant()
    def killed_now(self) -> None:
        """Exactly the published records that are not trimmed come out, whole and in order."""
        assert self.journal.path is not None
        expected = {n + 1: self.records[n] for n in range(self.trimmed, len(self.records))}
        assert (expected, None) == left_behind(self.journal.path)
        with closing(claimed(copy_of(self.journal.path))) as orphan:
            assert self.ends[self.trimmed] == orphan.trimmed
            assert len(self.definitions) == orphan.definitions_count
            assert b"".join(seal(known, n) for n, known in enumerate(self.definitions, 1)) == orphan.definitions


JournalAgainstModel.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
test_journal_against_a_model = pytest.mark.slow(JournalAgainstModel.TestCase)


def filled(journal: Journal, laps: int = 0) -> list[bytes]:
    """Goes round so many times, then leaves three records behind, the last of which wraps. Their list."""
    while journal.end[1] < laps * RING_BYTES + 350:
        journal.append(record("x" * 70))
        journal.trim(journal.end)
    before = journal.end[0]
    records = [record("a" * 50), record("b" * 40), record("c" * 60)]
    assert [before + 1, before + 2, before + 3] == [journal.append(data) for data in records]
    assert journal.trimmed[1] // RING_BYTES < journal.end[1] // RING_BYTES, "the last record must wrap"
    return records


def test_killed_at_every_bytecode_of_append(journal: Journal) -> None:
    """A kill anywhere in an append leaves what was there, and the new record whole or not at all."""
    assert journal.path is not None
    path, new = journal.path, record("d" * 80)
    before = dict(enumerate(filled(journal), journal.trimmed[0] + 1))
    after = {**before, journal.end[0] + 1: new}
    found: list[dict[int, bytes]] = []

    def kill() -> None:
        records, damage = left_behind(path)
        assert damage is None
        assert records in (before, after)
        found.append(records)

    with traced(at_every_bytecode(Journal.append, kill)):
        journal.append(new)
    assert (before, after) == (found[0], found[-1])


def test_killed_at_every_bytecode_of_trim(journal: Journal) -> None:
    """A kill anywhere in a trim leaves the old watermark or the new one."""
    assert journal.path is not None
    path = journal.path
    records = dict(enumerate(filled(journal), journal.trimmed[0] + 1))
    before, last = journal.trimmed[0], journal.end[0]
    found: list[int] = []

    def kill() -> None:
        left, damage = left_behind(path)
        assert damage is None
        assert {n: data for n, data in records.items() if n in left} == left
        assert last in left or left == {}
        found.append(len(left))

    with traced(at_every_bytecode(Journal.trim, kill)):
        journal.trim(journal.end)
    assert (last - before, 0) == (found[0], found[-1])


class Interruption:
    """Raises at the n-th bytecode it meets."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted(method: Any, nth: int, *args: Any) -> bool:
    """Call a method with an interrupt at its n-th bytecode; whether it came to that."""
    try:
        with traced(at_every_bytecode(method.__func__, Interruption(nth))):
            method(*args)
    except KeyboardInterrupt:
        return True
    return False


def test_interrupted_at_every_bytecode_of_append(tmp_path: Path) -> None:
    """Whatever an interrupted append has done, the records before and behind it are whole and in order."""
    for nth in range(1, 1000):
        stream = nth.to_bytes(16, "big")
        with closing(make(tmp_path, stream=stream)) as journal:
            assert journal.path is not None
            old, torn, new = record("a" * 70), record("b" * 80), record("c" * 90)
            journal.append(old)
            complete = not interrupted(journal.append, nth, torn)
            number = journal.append(new)
            expected = {1: old, 2: torn, 3: new} if number == 3 else {1: old, 2: new}
            assert (expected, None) == left_behind(journal.path)
            assert journal.end[0] == number
            position, messages = (0, 0), []
            while (end := journal.boundary(position)) != position:
                messages.append(journal.read(position, end))
                position = end
            assert [seal(data, n) for n, data in expected.items()] == messages, "each is as long as a chunk"
            if complete:
                assert nth > 50
                return
    pytest.fail("append never ended")


def test_interrupted_at_every_bytecode_of_define(tmp_path: Path) -> None:
    """An interrupted definition may cost its number; those before and behind it keep theirs."""
    for nth in range(1, 1000):
        with closing(make(tmp_path, stream=nth.to_bytes(16, "big"))) as journal:
            assert journal.path is not None
            old, torn, new = definition("old"), definition("torn"), definition("new")
            journal.define(old)
            complete = not interrupted(journal.define, nth, torn)
            number = journal.define(new)
            with closing(claimed(copy_of(journal.path))) as orphan:
                expected = [old, torn, new] if number == 3 else [old, new]
                assert b"".join(seal(data, n) for n, data in enumerate(expected, 1)) == orphan.definitions
                assert orphan.damage is None
            if complete:
                assert nth > 30
                return
    pytest.fail("define never ended")


def test_messages_stay_small_when_appends_come_in_between(journal: Journal) -> None:
    """Appends while the sender looks for the next message do not make it longer than a chunk and one record."""

    class Marks(deque[Position]):
        """Another thread runs just behind the look whether there is a mark."""

        looks = 2  # first in the loop that drops old ones, then for the next

        def __len__(self) -> int:
            self.looks -= 1
            if self.looks == 0:
                while journal.append(record("y" * 60)):
                    pass
            return super().__len__() if self.looks < 0 else 0

    journal.append(record("x" * 60))
    journal._marks = Marks()
    assert (1, journal.read((0, 0), (1, 68))) == (journal.boundary((0, 0))[0], seal(record("x" * 60), 1))
    assert journal.end[0] > 3


@pytest.mark.parametrize("laps", [0, 1, 2, 7])
def test_stale_laps_never_come_back(journal: Journal, laps: int) -> None:
    """Equal records of earlier laps lie behind the end; the numbers in their checksums give them away."""
    assert journal.path is not None
    records = filled(journal, laps)
    expected = dict(enumerate(records, journal.trimmed[0] + 1))
    assert (expected, None) == left_behind(journal.path)


def test_a_full_ring(journal: Journal) -> None:
    """A ring may be filled to its last byte, read as a whole, and takes nothing more until it is trimmed."""
    assert journal.path is not None
    journal.append(record("a" * 100))
    journal.trim(journal.end)
    while journal.append(record("b" * 50)):
        pass
    left = RING_BYTES - (journal.end[1] - journal.trimmed[1])
    last = record("z" * (left - 5 - 3 + (left - 8 < 32)))
    assert 0 == journal.append(last + b"x"), "one byte too many"
    assert journal.append(last) > 0
    assert RING_BYTES == journal.end[1] - journal.trimmed[1]
    assert RING_BYTES == len(journal.read(journal.trimmed, journal.end))
    found, damage = left_behind(journal.path)
    assert (last, None) == (found[journal.end[0]], damage)
    assert 0 == journal.append(b"\x01\x01")
    journal.trim(journal.end)
    assert journal.append(b"\x01\x01") > 0


def test_file_is_private_and_whole(journal: Journal, tmp_path: Path) -> None:
    """One file with its final name, for its owner alone, with all of its space allocated."""
    assert [journal.path] == [*tmp_path.glob("*journal*")]
    assert tmp_path / f"{STREAM.hex()}.journal" == journal.path
    stat = journal.path.stat()
    assert 0o100400 == stat.st_mode
    assert 4096 + 256 + RING_BYTES == stat.st_size
    assert stat.st_blocks * 512 >= stat.st_size


def test_in_memory() -> None:
    """Without a folder it works the same, and leaves nothing anywhere."""
    with closing(Journal(None, STREAM, RING_BYTES, DATABASE)) as journal:
        assert 1 == journal.append(record("a"))
        assert seal(record("a"), 1) == journal.read((0, 0), journal.boundary((0, 0)))
        journal.trim(journal.end)
        assert journal.path is None
        journal.remove()


def test_remove(tmp_path: Path) -> None:
    """Deletes the file and lets go of it; so it does when somebody else has deleted it."""
    journal = make(tmp_path)
    assert journal.path is not None
    journal.remove()
    assert not journal.path.exists()
    other = make(tmp_path)
    journal.path.unlink()
    other.remove()
    other.close()


def test_closed_journal_is_an_orphan(tmp_path: Path) -> None:
    """As long as its owner lives nobody can claim a journal; when it is closed somebody can, one at a time."""
    journal = make(tmp_path)
    assert journal.path is not None
    journal.append(record("a"))
    assert OrphanJournal.claim(journal.path) is None
    journal.close()
    with closing(claimed(journal.path)):
        assert OrphanJournal.claim(journal.path) is None


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error that names the file, and leaves nothing behind."""

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(JournalUnavailable, match=r"No space left on device; .* bytes are needed") as caught:
        make(tmp_path)
    assert str(tmp_path) in caught.value.subject
    assert "journal_bytes" in caught.value.hint
    assert [] == [path for path in tmp_path.iterdir() if path.is_file()]


FILE_SIZE_LIMIT = """
import resource, sys
from pathlib import Path
from telemetry_bus.errors import JournalUnavailable
from telemetry_bus.journal.ring import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    Journal(Path(sys.argv[1]), bytes(16), 65536, "sqlite:////x.db")
except JournalUnavailable as error:
    print(error)
"""


def test_limit_of_the_file_size(tmp_path: Path) -> None:
    """A limit of the process is such an error too, and no signal."""
    folder = tmp_path / "journals"
    folder.mkdir()
    ended = subprocess.run([sys.executable, "-c", FILE_SIZE_LIMIT, folder], capture_output=True, text=True, check=False)
    assert (0, "") == (ended.returncode, ended.stderr)
    assert "File too large" in ended.stdout
    assert [] == [*folder.iterdir()]


def test_folder_is_missing(tmp_path: Path) -> None:
    """A folder that is not there is an error that says so."""
    with pytest.raises(JournalUnavailable, match="No such file or directory"):
        make(tmp_path / "nowhere")


def test_leftover_of_the_same_name(tmp_path: Path) -> None:
    """A temporary file that somebody else has made is not touched."""
    other = tmp_path / f"{STREAM.hex()}.new"
    other.write_bytes(b"somebody's")
    with pytest.raises(JournalUnavailable, match="File exists"):
        make(tmp_path)
    assert b"somebody's" == other.read_bytes()


def test_interrupted_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while the journal is made leaves neither a file nor a descriptor."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))
    for step in ("posix_fallocate", "pwrite", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                make(tmp_path)
    assert [] == [path for path in tmp_path.iterdir() if path.is_file()]
    assert before == len(os.listdir("/proc/self/fd"))


def test_name_of_the_database_is_too_long(tmp_path: Path) -> None:
    """An identity that the header cannot hold is refused before a file is made."""
    with pytest.raises(JournalUnavailable, match="too long"):
        Journal(tmp_path, STREAM, RING_BYTES, "sqlite:///" + "x" * 2100)
    assert [] == [path for path in tmp_path.iterdir() if path.is_file()]


FORKING = """
import os, sys
from pathlib import Path
from telemetry_bus.journal.ring import Journal
journal = Journal(Path(sys.argv[1]), bytes(16), 65536, "sqlite:////x.db")
journal.append(b"\\x01\\x01")
if os.fork() == 0:
    if sys.argv[2] == "abandon":
        journal.abandon()
    os.write(1, b"child\\n")
os.read(0, 1)
"""


@pytest.mark.parametrize(("claimable", "child"), [(True, "abandon"), (False, "keep")])
def test_forked_child(tmp_path: Path, claimable: bool, child: str) -> None:
    """A child that abandons the journal does not free it while its owner lives, and does not keep it afterwards,
    although it still has the map. (One that does not abandon it keeps it: that is what the call is for.)"""
    path = tmp_path / f"{bytes(16).hex()}.journal"
    owner = subprocess.Popen(
        [sys.executable, "-c", FORKING, tmp_path, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        assert b"child\n" == owner.stdout.readline()
        assert OrphanJournal.claim(path) is None
        owner.kill()
        owner.wait()
        orphan = OrphanJournal.claim(path)
        assert claimable == (orphan is not None)
        if orphan is not None:
            assert [1] == [count for _, count, _ in orphan.chunks()]
            orphan.close()
    # the child ends with its standard input


def test_the_lock_is_on_a_descriptor_of_its_own(journal: Journal) -> None:
    """Abandoning gives the lock up, although the map is still there: a child does that, and its parent keeps its own
    only because a lock belongs to all descriptors of one opening."""
    assert journal.path is not None
    twin = os.dup(journal._lock_fd)
    journal.abandon()
    journal.abandon()
    assert OrphanJournal.claim(journal.path) is None
    os.close(twin)
    claimed(journal.path).close()


# A journal's file that somebody removes under its owner is made anew, with all that is in it.


@pytest.fixture
def wrapped(tmp_path: Path) -> Iterator[Journal]:
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


def test_renewed(wrapped: Journal) -> None:
    """What is pending, the definitions and the watermark are in the new file, and what follows comes behind them."""
    path = path_of(wrapped)
    before, last = path.read_bytes(), wrapped.end[0]
    assert not wrapped.lost()
    path.unlink()
    assert wrapped.lost()
    wrapped.renew()
    assert not wrapped.lost()
    assert before == path.read_bytes()
    assert last + 1 == wrapped.append(record("d"))
    wrapped.define(definition("DROP TABLE t"))
    wrapped.trim((last - 2, wrapped.trimmed[1] + len(record("a")) + 5))
    expected = {last - 1: record("b"), last: record("c"), last + 1: record("d")}
    assert (expected, None) == left_behind(path)


def test_its_lock_moves_along(wrapped: Journal) -> None:
    """The new file is nobody's orphan while its owner lives, and is one afterwards; no descriptor is left over."""
    path = path_of(wrapped)
    path.unlink()
    descriptors = len(os.listdir("/proc/self/fd"))
    wrapped.renew()
    assert descriptors == len(os.listdir("/proc/self/fd"))
    assert OrphanJournal.claim(path) is None
    wrapped.close()
    with closing(claimed(path)) as orphan:
        assert 3 == len(contents(orphan))


def test_another_file_in_its_place(wrapped: Journal) -> None:
    """A folder that was put back from a backup has an old copy of it."""
    path = path_of(wrapped)
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    os.replace(copy, path)
    assert wrapped.lost()
    wrapped.renew()
    assert not wrapped.lost()


def test_no_place_for_it(wrapped: Journal) -> None:
    """As long as there is no folder it is an error, and the owner goes on in memory, its lock and its jobs intact."""
    path = path_of(wrapped)
    shutil.rmtree(path.parent)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="No such file or directory"):
            wrapped.renew()
        assert wrapped.lost()
        assert wrapped.append(record("d"))
    path.parent.mkdir()
    wrapped.renew()
    found, damage = left_behind(path)
    assert (5, None) == (len(found), damage)


def test_memory_is_not_lost() -> None:
    """A journal without a file."""
    with closing(Journal(None, bytes(16), RING_BYTES, "sqlite:///x")) as journal:
        assert not journal.lost()
