"""What comes out of a journal whose owner is dead: all of it, or its intact beginning and word of the damage."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.encoding.records import seal
from telemetry_bus.errors import JournalCorrupt, JournalUnavailable
from telemetry_bus.journal.layout import (
    DEFINITIONS_TAIL,
    PAGE_BYTES,
    TAIL,
    Header,
    lock_file,
    read_watermark,
    write_watermark,
)
from telemetry_bus.journal.orphan import JournalState, OrphanJournal, inspect
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

HEADER = Header(STREAM, RING_BYTES, 256, 4711, DATABASE)
HEADER_BYTES = len(HEADER.pack())
SLOTS = (3200, 3264)
SLOT_BYTES = 28
RING_START = PAGE_BYTES + 256
DEFINITIONS = ["INSERT INTO t VALUES (?)", "CREATE TABLE t (a)"]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A journal in its second lap with two definitions, records 5 to 9 trimmed twice, 10 to 14 pending; one wraps."""
    with closing(make(tmp_path)) as journal:
        for text in DEFINITIONS:
            journal.define(definition(text))
        for number in range(1, 15):
            if number in (5, 10):
                journal.trim(journal.end)
            assert number == journal.append(record(number_text(number)))
        assert journal.trimmed[1] < RING_BYTES < journal.end[1]
        assert journal.path is not None
        return journal.path


def number_text(number: int) -> str:
    return f"record {number} " + "x" * 38


RECORDS = {number: record(number_text(number)) for number in range(1, 15)}
PENDING = {number: RECORDS[number] for number in range(10, 15)}


def damaged(path: Path, at: int, data: bytes) -> Path:
    """A copy of the file with something else in one place."""
    copy = copy_of(path)
    with copy.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return copy


def recovered(path: Path) -> tuple[dict[int, bytes], str | None]:
    with closing(claimed(path)) as orphan:
        return contents(orphan), orphan.damage


def test_all_of_it(dead: Path) -> None:
    """An intact journal tells whose it was, and has every record from the watermark to the end."""
    with closing(claimed(dead)) as orphan:
        assert (STREAM, os.getpid()) == (orphan.stream, orphan.pid)
        assert 9 == orphan.trimmed[0]
        assert 2 == orphan.definitions_count
        assert b"".join(seal(definition(text), n) for n, text in enumerate(DEFINITIONS, 1)) == orphan.definitions
        assert contents(orphan) == PENDING
        assert orphan.damage is None


@pytest.mark.parametrize("piece", [1, 7, 55, 56, 57, 512, 2**20])
def test_pieces_of_any_size(dead: Path, piece: int) -> None:
    """Whatever the size of the pieces in which the ring is read, every record is found."""
    with small(piece=piece):
        assert (PENDING, None) == recovered(dead)


@pytest.mark.parametrize("chunk", [1, 56, 100, 10_000])
def test_messages_of_any_size(dead: Path, chunk: int) -> None:
    """A message ends at the first record that reaches the limit."""
    with small(chunk=chunk), closing(claimed(dead)) as orphan:
        sizes = [(count, len(data)) for _, count, data in orphan.chunks()]
        assert len(PENDING) == sum(count for count, _ in sizes)
        assert all(size - chunk < size / count for count, size in sizes)


def flipped(path: Path, first: int, count: int) -> Iterator[tuple[int, Path]]:
    """Copies of the file with one bit of `count` bytes flipped, each bit in turn, and the number of the bit."""
    whole = path.read_bytes()
    for bit in range(8 * count):
        at = first + bit // 8
        yield bit, damaged(path, at, bytes([whole[at] ^ 1 << bit % 8]))


def test_every_bit_of_the_header(dead: Path) -> None:
    """A header with a flipped bit is not trusted; the file is free for the next one who looks."""
    for _, copy in flipped(dead, 0, HEADER_BYTES):
        for _ in range(2):
            with pytest.raises(JournalCorrupt):
                OrphanJournal.claim(copy)


def test_every_bit_of_the_published_end(dead: Path) -> None:
    """The checksums say where records end. A published end that promises more is damage; one that promises less
    than there is hides no record."""
    (tail,) = struct.unpack_from("<Q", dead.read_bytes(), 8 * TAIL)
    for bit, copy in flipped(dead, 8 * TAIL, 8):
        found, damage = recovered(copy)
        assert PENDING == found
        assert (damage is not None) == (tail ^ 1 << bit > tail)


def test_every_bit_of_the_end_of_the_definitions(dead: Path) -> None:
    """Records are not affected, nor definitions: the checksums say where they end. Any that are promised are damage."""
    for _, copy in flipped(dead, 8 * DEFINITIONS_TAIL, 8):
        tail = int.from_bytes(copy.read_bytes()[8 * DEFINITIONS_TAIL :][:8], "little")
        with closing(claimed(copy)) as orphan:
            assert contents(orphan) == PENDING
            assert 0 < len(orphan.definitions)
            assert (tail > len(orphan.definitions)) == (orphan.damage is not None)


def test_every_bit_of_the_watermarks(dead: Path) -> None:
    """A watermark with a flipped bit leaves the other one: records that were trimmed may come again while they are
    still there (the ledger has them), never a wrong one; else it is damage."""
    for _, copy in flipped(dead, SLOTS[1], SLOT_BYTES):
        assert (PENDING, None) == recovered(copy)
    for _, copy in flipped(dead, SLOTS[0], SLOT_BYTES):  # the second trim
        with closing(claimed(copy)) as orphan:
            assert 4 == orphan.trimmed[0]
            assert {} == contents(orphan)  # record 5 was overwritten by record 14
            assert orphan.damage is not None


def test_the_older_watermark_while_its_records_are_there(tmp_path: Path) -> None:
    """What was trimmed and is not overwritten comes again when the newer watermark is gone."""
    with closing(make(tmp_path)) as journal:
        for number in range(1, 7):
            journal.append(RECORDS[number])
            if number < 4:
                journal.trim(journal.end)
    assert journal.path is not None
    copy = damaged(journal.path, SLOTS[1], b"\xff")
    assert ({n: RECORDS[n] for n in (3, 4, 5, 6)}, None) == recovered(copy)


@pytest.mark.parametrize("length", range(SLOT_BYTES + 1))
def test_torn_watermark(tmp_path: Path, length: int) -> None:
    """A kill in the middle of writing a watermark leaves the older one, and space is not freed before it stands."""
    with closing(make(tmp_path)) as journal:
        for number in range(1, 8):
            journal.append(RECORDS[number])
            if number <= 3:
                journal.trim(journal.end)
    assert journal.path is not None
    index, slot = write_watermark(4, (7, journal.end[1]))
    old = journal.path.read_bytes()[index : index + SLOT_BYTES]
    copy = damaged(journal.path, index, slot[:length] + old[length:])
    found, damage = recovered(copy)
    assert damage is None
    assert found in ({}, {n: RECORDS[n] for n in range(4, 8)})
    assert (found == {}) == (length >= SLOT_BYTES or slot[length:] == old[length:])


def test_both_watermarks_torn(dead: Path) -> None:
    """Without a watermark nobody knows where to begin: never from the beginning by guess."""
    copy = damaged(dead, SLOTS[0], b"\xff")
    with copy.open("r+b") as file:
        file.seek(SLOTS[1])
        file.write(b"\xff")
    with pytest.raises(JournalCorrupt, match="both watermarks"):
        OrphanJournal.claim(copy)


def test_watermarks() -> None:
    """The newest of those that check out counts, in either slot; none at all means the beginning."""
    page = bytearray(PAGE_BYTES)
    assert (0, 0) == read_watermark(bytes(page))
    for generation in range(1, 6):
        index, slot = write_watermark(generation, (10 * generation, 100 * generation))
        page[index : index + len(slot)] = slot
        assert (10 * generation, 100 * generation) == read_watermark(bytes(page))


def test_every_bit_of_the_ring(dead: Path) -> None:
    """A flipped bit in the ring costs its record and those behind it, and is told; in a free place it costs nothing."""
    whole = dead.read_bytes()
    with closing(claimed(copy_of(dead))) as orphan:
        position = orphan.trimmed[1]
    ends = []
    for data in PENDING.values():
        position += len(data) + 5
        ends.append(position)
    begin = ends[0] - len(PENDING[10]) - 5
    for offset in range(begin, begin + RING_BYTES):
        at = RING_START + offset % RING_BYTES
        copy = damaged(dead, at, bytes([whole[at] ^ 1 << offset % 8]))
        found, damage = recovered(copy)
        intact = sum(1 for end in ends if end <= offset)
        assert {n: data for n, data in PENDING.items() if n < 10 + intact} == found, f"byte {offset}"
        assert (intact < len(PENDING)) == (damage is not None), f"byte {offset}"


def test_every_bit_of_the_definitions(dead: Path) -> None:
    """A flipped bit in the definitions leaves those before it, and is told. Records are not affected."""
    whole = dead.read_bytes()
    ends = [len(definition(DEFINITIONS[0])) + 5, sum(len(definition(text)) + 5 for text in DEFINITIONS)]
    for bit, copy in flipped(dead, PAGE_BYTES, ends[1]):
        with closing(claimed(copy)) as orphan:
            intact = sum(1 for end in ends if end <= bit // 8)
            assert intact == orphan.definitions_count
            assert whole[PAGE_BYTES : PAGE_BYTES + (ends[0] if intact else 0)] == orphan.definitions
            assert contents(orphan) == PENDING
            assert orphan.damage is not None


def test_every_truncation(dead: Path) -> None:
    """A file that was cut off anywhere is corrupt, or says that it is damaged; never is it taken for an empty one."""
    size = dead.stat().st_size
    dead.chmod(0o600)
    for length in range(size - 1, -1, -1):
        os.truncate(dead, length)
        try:
            found, damage = recovered(dead)
        except JournalCorrupt:
            assert length < SLOTS[1] + SLOT_BYTES
        else:
            assert damage is not None, f"{length} bytes"
            assert {} == found  # the first record that is not trimmed wraps


def test_every_truncation_of_the_first_lap(tmp_path: Path) -> None:
    """The records before the cut are recovered."""
    with closing(make(tmp_path)) as journal:
        for number in range(1, 6):
            journal.append(RECORDS[number])
    assert journal.path is not None
    journal.path.chmod(0o600)
    for length in range(RING_START + RING_BYTES - 1, RING_START - 1, -1):
        os.truncate(journal.path, length)
        found, damage = recovered(journal.path)
        whole = min(5, (length - RING_START) * 5 // journal.end[1])
        assert {number: RECORDS[number] for number in range(1, whole + 1)} == found, f"{length} bytes"
        assert damage is not None


def test_a_record_that_was_written_and_not_published(dead: Path, tmp_path: Path) -> None:
    """Between the copy and the publishing a kill leaves a whole record: it may come, and is the right one."""
    whole = bytearray(dead.read_bytes())
    (tail,) = struct.unpack_from("<Q", whole, 8 * TAIL)
    data = record("one more")
    position = RING_START + tail % RING_BYTES
    copy = damaged(dead, position, seal(data, 15))
    assert ({**PENDING, 15: data}, None) == recovered(copy)


def test_zero_length(tmp_path: Path) -> None:
    """An empty file is no journal."""
    path = tmp_path / "a.journal"
    path.touch()
    with pytest.raises(JournalCorrupt):
        OrphanJournal.claim(path)


def test_claiming_what_is_gone(tmp_path: Path) -> None:
    """A journal that its owner has just deleted is nobody's."""
    assert OrphanJournal.claim(tmp_path / "gone.journal") is None


def test_a_link_is_not_followed(dead: Path, tmp_path: Path) -> None:
    """A link in the place of a journal is not opened."""
    link = tmp_path / "link.journal"
    link.symlink_to(dead)
    with pytest.raises(OSError, match="symbolic links"):
        OrphanJournal.claim(link)
    with pytest.raises(OSError, match="symbolic links"):
        inspect(link)


def test_replaced_between_opening_and_locking(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a file that no longer stands at the path is worth nothing, and not kept."""
    before = len(os.listdir("/proc/self/fd"))
    stat = os.stat

    def replaced(path: object, **options: bool) -> os.stat_result:
        monkeypatch.setattr(os, "stat", stat)
        copy_of(dead).rename(dead)
        return stat(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", replaced)
    assert lock_file(dead) is None
    assert before == len(os.listdir("/proc/self/fd"))


def test_delete(dead: Path) -> None:
    """When everything is decided the file goes, and with it the lock. Closing twice does no harm."""
    before = len(os.listdir("/proc/self/fd"))
    orphan = claimed(dead)
    orphan.delete()
    orphan.close()
    assert not dead.exists()
    assert before == len(os.listdir("/proc/self/fd"))


def test_no_descriptor_is_left_of_a_corrupt_one(dead: Path) -> None:
    """A file that cannot be read is closed again."""
    copy = damaged(dead, 0, b"?")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(JournalCorrupt):
        OrphanJournal.claim(copy)
    with pytest.raises(JournalCorrupt):
        inspect(copy)
    assert before == len(os.listdir("/proc/self/fd"))


def test_inspect(tmp_path: Path) -> None:
    """A look at a journal tells what is pending and whether its owner lives, and disturbs nobody."""
    journal = make(tmp_path)
    assert journal.path is not None
    for number in range(1, 6):
        journal.append(RECORDS[number])
    journal.trim((2, 2 * (journal.end[1] // 5)))
    size = 3 * (journal.end[1] // 5)
    assert JournalState(STREAM, os.getpid(), True, 2, 3, size, journal.end[1]) == inspect(journal.path)
    assert OrphanJournal.claim(journal.path) is None
    journal.close()
    assert JournalState(STREAM, os.getpid(), False, 2, 3, size, journal.end[1]) == inspect(journal.path)
    claimed(journal.path).close()
    journal.path.unlink()
    with pytest.raises(FileNotFoundError):
        inspect(journal.path)


@pytest.mark.parametrize(
    ("ring", "definitions"), [(0, 256), ((1 << 40) + 1, 256), (RING_BYTES, (1 << 30) + 1), (2**64 - 1, 0)]
)
def test_impossible_sizes(ring: int, definitions: int) -> None:
    """A header that checks out and makes no sense is refused: no file of that size is ever made."""
    with pytest.raises(JournalCorrupt, match="impossible sizes"):
        Header.unpack(Header(STREAM, ring, definitions, 1, DATABASE).pack().ljust(PAGE_BYTES, b"\0"))


def test_header_round_trip() -> None:
    """What is packed comes out, up to the longest name of a database; a longer one is refused."""
    for header in (HEADER, Header(STREAM, 1, 0, 2**32 - 1, "ä" * 1024)):
        assert header == Header.unpack(header.pack().ljust(PAGE_BYTES, b"\0"))
    with pytest.raises(JournalUnavailable):
        Header(STREAM, 1, 0, 1, "ä" * 1024 + "x").pack()


def test_header_that_is_cut_off() -> None:
    """Less than a header is no header."""
    for length in range(HEADER_BYTES):
        with pytest.raises(JournalCorrupt):
            Header.unpack(HEADER.pack()[:length])


def test_a_large_journal_in_real_sizes(tmp_path: Path) -> None:
    """With the sizes of production: many pieces, records that span them, messages near the limit."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            ("ring", "CHUNK_BYTES", 128 * 1024),
            ("ring", "DEFINITIONS_BYTES", 256 * 1024),
            ("orphan", "CHUNK_BYTES", 128 * 1024),
            ("orphan", "_PIECE_BYTES", 1024 * 1024),
        ):
            patch.setattr(f"telemetry_bus.journal.{module}.{name}", value)
        records = [record(bytes([n]) * (n * 100_000 % 3_000_001)) for n in range(1, 12)]
        with closing(Journal(tmp_path, STREAM, 16 * 1024 * 1024, DATABASE)) as journal:
            for data in records:
                assert journal.append(data)
        assert journal.path is not None
        assert (dict(enumerate(records, 1)), None) == recovered(journal.path)


def test_inspect_looks_again_when_the_journal_moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's space was freed and overwritten during the count: what is told is of after that."""
    journal = make(tmp_path)
    assert journal.path is not None
    ends = []
    while journal.append(RECORDS[1]):
        ends.append(journal.end)
    count = OrphanJournal.chunks

    def interrupted(self: OrphanJournal) -> Iterator[tuple[int, int, bytes]]:
        if journal.trimmed == (0, 0):
            journal.trim(ends[2])
            while journal.append(RECORDS[1]):
                pass
        return count(self)

    monkeypatch.setattr(OrphanJournal, "chunks", interrupted)
    seen = inspect(journal.path).pending_jobs
    assert journal.end[0] - 3 == seen


def test_inspect_reckons_what_it_does_not_count(tmp_path: Path) -> None:
    """Of many jobs only the first ones are read: their size tells how many there are, as far as sizes are alike."""
    journal = make(tmp_path, ring_bytes=4096)
    assert journal.path is not None
    while journal.append(RECORDS[1]):
        pass
    assert journal.end[0] == inspect(journal.path).pending_jobs
    pieces = 0
    count = OrphanJournal.chunks

    def counted(self: OrphanJournal) -> Iterator[tuple[int, int, bytes]]:
        nonlocal pieces
        for chunk in count(self):
            pieces += 1
            yield chunk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OrphanJournal, "chunks", counted)
        assert journal.end[0] == inspect(journal.path, 100).pending_jobs
    assert 2 >= pieces
    assert journal.end[0] == inspect(journal.path, journal.end[1] + 1).pending_jobs


# A producer killed in the middle of writing its first watermark loses nothing.


FIRST_RECORDS = {number: record(f"record {number}") for number in range(1, 4)}
INDEX, SLOT = write_watermark(1, (2, 40))


@pytest.mark.parametrize("length", range(len(SLOT)))
def test_first_watermark_torn(tmp_path: Path, length: int) -> None:
    """There is no older one yet, and nothing of the ring has been overwritten: all of it is read, as undamaged."""
    with closing(make(tmp_path)) as journal:
        for data in FIRST_RECORDS.values():
            journal.append(data)
        assert journal.path is not None
        copy = copy_of(journal.path)
        with copy.open("r+b") as file:
            file.seek(INDEX)
            file.write(SLOT[:length])
        with closing(claimed(copy)) as orphan:
            assert FIRST_RECORDS == contents(orphan)
            assert orphan.damage is None


def test_first_watermark_whole() -> None:
    """Its last byte makes it count."""
    page = bytearray(PAGE_BYTES)
    page[INDEX : INDEX + len(SLOT)] = SLOT
    assert (2, 40) == read_watermark(bytes(page))


# An append that was cut off at any byte leaves what was there before, and nothing else.


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
        journal.path.chmod(0o600)
        for length in range(len(torn) + 1):
            with journal.path.open("r+b") as file:
                for index, byte in enumerate(torn[:length]):
                    file.seek(RING_START + (start + index) % RING_BYTES)
                    file.write(bytes([byte]))
                if published:
                    file.seek(8 * TAIL)
                    file.write(struct.pack("<Q", start + len(torn)))
            found, damage = left_behind(journal.path)
            whole = length == len(torn)
            if published or not whole:  # a whole one counts, published or not; it is looked for where others follow
                assert ({**before, number + 1: new} if whole else before) == found, f"{length} bytes"
            assert (published and not whole) == (damage is not None), f"{length} bytes"
