"""What is dangerous to read, one by one: bombs, texts that are slow to look at, what once ended a writer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from telemetry_bus.encoding.records import seal
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.errors import JournalCorrupt
from telemetry_bus.jobs import Job, Statement
from telemetry_bus.journal.layout import PAGE_BYTES, UNFINISHED_SUFFIX, Header, write_watermark
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.protocol.messages import Command, Hello, Jobs, encode_control
from telemetry_bus.sql.shapes import calls, insert_shape, names_bus_table
from telemetry_bus.sql.tokens import tokenize

from . import hostile, targets
from .hostile import Input, Peer
from .targets import ControlMessages, Journals, Messages

STREAM = b"a hostile stream"
#: A guard against what would take hours, not a measure of speed.
PATIENCE_S = 20.0


@pytest.fixture
def life() -> Iterator[ExitStack]:
    with ExitStack() as life:
        yield life


def unharmed(bench: Messages | ControlMessages | Journals) -> None:
    """Honest jobs are taken afterwards, and each is there once."""
    for _ in range(3 * targets.HONEST_EVERY):
        bench.turn()
    bench.judge()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["payload", "record", "definition"])
@pytest.mark.parametrize("bomb", hostile.BOMBS)
def test_bomb_of_jobs(tmp_path: Path, life: ExitStack, bomb: str, place: int) -> None:
    """Refused or a dead letter; the writer goes on."""
    bench = Messages(tmp_path, life)
    bench.take(hostile.bomb_message(hostile.BOMBS[bomb](), STREAM, place))
    assert 1 == bench.daemon.intake.malformed + bench.daemon.intake.writer.snapshot().dead_letters
    unharmed(bench)


@pytest.mark.parametrize("bomb", hostile.BOMBS)
def test_bomb_of_control(tmp_path: Path, life: ExitStack, bomb: str) -> None:
    """Counted as malformed."""
    bench = ControlMessages(tmp_path, life)
    assert bench.take(Input([hostile.BOMBS[bomb]()], malformed=True))
    unharmed(bench)


@pytest.mark.parametrize("text", hostile.SLOW_TEXTS)
def test_text_that_is_slow_to_look_at(text: str) -> None:
    """A statement of some hundred kilobytes is looked at in a moment, whatever it repeats, and loses nothing."""
    sql = hostile.SLOW_TEXTS[text]()
    began = time.process_time()
    assert sql == "".join(token.text for token in tokenize(sql))
    for ask in (insert_shape, calls, names_bus_table):
        ask(sql)
    assert time.process_time() - began < PATIENCE_S / 4


@pytest.mark.parametrize("text", hostile.SLOW_TEXTS)
def test_job_whose_text_is_slow_to_look_at(tmp_path: Path, life: ExitStack, text: str) -> None:
    """It is a dead letter, and its neighbours are applied."""
    bench = Messages(tmp_path, life)
    assert not bench.take(hostile.text_message(hostile.SLOW_TEXTS[text](), STREAM))
    assert 1 == bench.daemon.intake.writer.snapshot().dead_letters
    unharmed(bench)


@pytest.mark.parametrize("first", [INT64_MAX - 1, INT64_MAX, 2**63, 2**64 - 2, 2**64 - 1])
def test_numbers_beyond_every_ledger(tmp_path: Path, life: ExitStack, first: int) -> None:
    """A stream that pretends to have come to the end of all numbers, and goes on: refused."""
    control = ControlMessages(tmp_path, life)
    control.take(Input([encode_control(Hello(STREAM, targets.MEMORY, INT64_MAX, 1))]))
    record = Peer(STREAM).message(1, [Job((Statement("DELETE FROM t"),))]).records
    control.sockets.jobs.frames.append(Jobs(STREAM, 0, first, 2, 1, 0, b"", record * 2).encode())
    control.turn()
    assert 1 == control.daemon.intake.malformed
    unharmed(control)


@pytest.mark.parametrize("arguments", ['{"\\ud800": 1}', '{"ids": ["\\udfff"]}', '{"ids": 5, "\\ud83d": 2}'])
@pytest.mark.parametrize("name", ["status", "dead-letters retry"])
def test_half_a_character_in_a_command(tmp_path: Path, life: ExitStack, name: str, arguments: str) -> None:
    """JSON can name what UTF-8 cannot; the answer that repeats it can be sent."""
    bench = ControlMessages(tmp_path, life)
    assert not bench.take(Input([encode_control(Command(name, arguments))]))
    unharmed(bench)


def journal(header: bytes, *slots: tuple[int, bytes]) -> bytes:
    """The file of an empty journal."""
    page = bytearray(header.ljust(PAGE_BYTES, b"\0"))
    for place, slot in slots:
        page[place : place + len(slot)] = slot
    return bytes(page) + bytes(hostile.ROOM_BYTES + hostile.RING_BYTES)


HONEST_HEADER = Header(STREAM, hostile.RING_BYTES, hostile.ROOM_BYTES, 1, "x").pack()
#: `Header.pack` of a name that is not UTF-8, with its right checksum.
ODD_NAME = seal(HONEST_HEADER[:-5] + b"\xff", 0)
ODD_NAME = ODD_NAME[:-5] + ODD_NAME[-4:][::-1]

JOURNALS = {
    "a name that is not UTF-8": journal(ODD_NAME),
    "the largest number": journal(HONEST_HEADER, write_watermark(1, (2**64 - 1, 5))),
    "a number beyond the ledger": journal(HONEST_HEADER, write_watermark(1, (2**63, 5))),
    "the last number of a ledger": journal(HONEST_HEADER, write_watermark(1, (INT64_MAX, 5))),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_forged_journal(tmp_path: Path, life: ExitStack, name: str) -> None:
    """Its checksums are right and what it says is impossible: put into quarantine, by a writer that goes on."""
    path = tmp_path / f"{STREAM.hex()}.journal"
    path.write_bytes(JOURNALS[name])
    with pytest.raises(JournalCorrupt, match=r"not UTF-8|impossible watermark"):
        OrphanJournal.claim(path)
    bench = Journals(tmp_path, life)
    assert bench.take(Input([JOURNALS[name]]))
    assert 1 == bench.daemon.adopter.quarantined
    unharmed(bench)


def test_forged_journal_that_is_fine(tmp_path: Path) -> None:
    """The same without the impossible: the files above are refused for nothing else."""
    path = tmp_path / f"{STREAM.hex()}.journal"
    path.write_bytes(journal(HONEST_HEADER, write_watermark(1, (2**62, 5))))
    found = OrphanJournal.claim(path)
    assert found is not None
    with closing(found):
        assert (2**62, 5) == found.trimmed
        assert [] == list(found.chunks())


@pytest.mark.parametrize("what", ["a link", "a folder", "a dangling link", "a pipe"])
def test_odd_things_among_the_journals(tmp_path: Path, life: ExitStack, what: str) -> None:
    """Old things with the name of an unfinished journal that are none stay where they are; the writer goes on."""
    bench = Journals(tmp_path, life)
    odd = bench.folder.journals / f"odd{UNFINISHED_SUFFIX}"
    target = tmp_path / "elsewhere"
    if what == "a folder":
        odd.mkdir()
    elif what == "a pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(target)
        if what == "a link":
            target.write_bytes(b"kept")
            os.utime(target, (0, 0))
    os.utime(odd, (0, 0), follow_symlinks=False)
    bench.daemon.adopter.scan()
    unharmed(bench)
    assert what != "a link" or target.read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["x" * 32, "é" * 32, "AB" * 16 + "x", ""])
def test_file_that_is_named_like_a_journal(tmp_path: Path, life: ExitStack, name: str) -> None:
    """A writer starts beside it: what is no stream's name keeps no ledger row."""
    bench = Journals(tmp_path, life)
    (bench.folder.journals / f"{name}.journal").write_bytes(b"nothing")
    bench.daemon._prune()
    bench.daemon.adopter.scan()
    bench.turn()
    assert 1 == bench.daemon.adopter.quarantined
    unharmed(bench)
