"""What dead producers leave behind: whole, damaged, huge, of another version; and whoever comes for it."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.journal.layout import DEFINITIONS_BYTES, DEFINITIONS_TAIL, PAGE_BYTES, TAIL
from telemetry_bus.journal.ring import Journal
from writer_daemon.exit_codes import BUSY

from ..support.bus import Bus, Notes
from ..support.clock import wait_until
from ..support.jobs import EVENTS, event

pytestmark = pytest.mark.integration

INSERT = "INSERT INTO events (producer, number) VALUES (?, ?)"
JOBS = 100
RING = PAGE_BYTES + DEFINITIONS_BYTES


def orphan(bus: Bus, producer: str, jobs: int = JOBS, ring_bytes: int = 1 << 20, trimmed: int = 0) -> Path:
    """The journal of a dead producer that had submitted so many jobs; the first ones were acknowledged."""
    bus.folder.prepare()
    stream = producer.encode().ljust(16, b".")
    with closing(Journal(bus.folder.journals, stream, ring_bytes, bus.database.identity)) as journal:
        encoder = Encoder(journal.define)
        for number in range(1, jobs + 1):
            assert journal.append(encoder.row(INSERT, (producer, number), (EVENTS,)))
            if number == trimmed:
                journal.trim(journal.end)
        assert journal.path is not None
        journal.path.chmod(0o600)
        return journal.path


def overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return change


def cut(length: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, length)


def in_the_middle(path: Path) -> None:
    """A flipped byte in the record after the fiftieth."""
    data = path.read_bytes()
    (tail,) = struct.unpack_from("<Q", data, 8 * TAIL)
    overwrite(RING + tail // 2, bytes([data[RING + tail // 2] ^ 0xFF]))(path)


#: What has happened to a journal, and how many of its jobs are recovered; None: some, but not all.
DAMAGES: dict[str, tuple[Callable[[Path], None], int | None]] = {
    "zero": (cut(0), 0),
    "short": (cut(PAGE_BYTES // 2), 0),
    "page": (cut(PAGE_BYTES), 0),
    "ringless": (cut(RING), 0),
    "half": (cut(RING + 1000), None),
    "nohead": (overwrite(0, bytes(PAGE_BYTES)), 0),
    "stream": (overwrite(8, b"\xff"), 0),
    "marks": (overwrite(3200, b"\xff" * 128), 0),
    "record": (in_the_middle, None),
    "tail": (overwrite(8 * TAIL, struct.pack("<Q", 1 << 19)), JOBS),
    "define": (overwrite(PAGE_BYTES + 8, b"\0"), 0),
}


def test_damaged_journals(bus: Bus) -> None:
    """The intact beginning is applied, never more; the file is kept as it was, counted, and logged with the reason.
    Journals that are complete are adopted beside them, also where the first page has missed a definition, and work goes
    on."""
    contents = {}
    for name, (damage, _) in DAMAGES.items():
        path = orphan(bus, name)
        damage(path)
        contents[path.name] = path.read_bytes()
    orphan(bus, "whole")
    overwrite(8 * DEFINITIONS_TAIL, bytes(8))(orphan(bus, "deftail"))
    writer = bus.answering_writer()
    wait_until(lambda: bus.status()["journals_quarantined"] == len(DAMAGES), "all of them are put away")
    bus.settle()
    found = bus.numbers()
    assert list(range(1, JOBS + 1)) == found.pop("whole") == found.pop("deftail")
    for name, (_, recovered) in DAMAGES.items():
        numbers = found.pop(name, [])
        assert list(range(1, len(numbers) + 1)) == numbers, name
        assert recovered == len(numbers) if recovered is not None else 0 < len(numbers) < JOBS, name
    assert {} == found
    kept = {path.name.rpartition(".")[0]: path.read_bytes() for path in bus.folder.quarantine.iterdir()}
    assert contents == kept
    for name in contents:
        assert 1 == bus.errors(writer).count(f"journal {name} is damaged")
    assert "not a journal of this version" in bus.errors(writer)
    assert [] == bus.rows("SELECT * FROM telemetry_bus_dead_letters")
    bus.another_job()


def test_a_lost_row_of_the_ledger(bus: Bus) -> None:
    """What a journal's watermark says was acknowledged is not asked for again: the writer goes on behind it, and
    tells how many jobs its ledger does not know."""
    orphan(bus, "p", trimmed=60)
    writer = bus.answering_writer()
    bus.settle()
    assert {"p": list(range(61, JOBS + 1))} == bus.numbers()
    assert [(JOBS,)] == bus.rows("SELECT last_sequence FROM telemetry_bus_ledger")
    assert 60 == bus.status()["jobs_gone"]
    assert "60 jobs that stream" in bus.errors(writer)
    bus.another_job()
    bus.sound()


def test_a_journal_of_another_version_beside_a_living_producer(bus: Bus) -> None:
    """A newer producer's journal is not read by guess: it stays where it is, whole, and is told of once; `status` shows
    it, and nobody stays on its account."""
    path = orphan(bus, "newer")
    overwrite(0, b"TBUSJRN9")(path)
    content = path.read_bytes()
    with TelemetryStore(bus.path) as store:
        event(store, "p", 1)
        store.flush()
        wait_until(lambda: bus.status()["journals_unread"] == 1, "it is looked at")
    wait_until(lambda: not bus.writers(), "the writer leaves for want of company")
    assert {"p": [1]} == bus.numbers()
    assert content == path.read_bytes()
    assert not bus.folder.quarantine.exists()
    assert 1 == bus.log().count(f"{path.name} is left to a writer of its version: ")
    assert 1 == bus.log().count(" owns "), "it does not begin anew"


@pytest.mark.slow
def test_two_writers_after_one_orphan(bus: Bus) -> None:
    """Of writers that start at the same moment one gets the database, and adopts; the others leave."""
    orphan(bus, "p", 20_000)
    writers = [bus.start_writer() for _ in range(4)]
    bus.settle()
    wait_until(lambda: [writer.poll() for writer in writers].count(BUSY) == 3, "three leave")
    assert {"p": list(range(1, 20_001))} == bus.numbers()
    assert 1 == bus.status()["journals_adopted"]
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_a_huge_orphan(bus: Bus) -> None:
    """A writer answers, and serves a producer that lives, before it has adopted all that it finds."""
    jobs = 200_000
    orphan(bus, "huge", jobs, ring_bytes=1 << 25)
    with TelemetryStore(bus.path, spawn=False) as store:
        event(store, "p", 1)
        bus.answering_writer()
        store.flush()
    bus.settle()
    ((living, last),) = bus.rows(
        "SELECT max(id) FILTER (WHERE producer = 'p'), max(id) FILTER (WHERE producer = 'huge') FROM events"
    )
    assert living < last
    assert {"huge": list(range(1, jobs + 1)), "p": [1]} == bus.numbers()
    assert 1 == bus.status()["journals_adopted"]
    bus.sound()


@pytest.mark.slow
def test_everybody_is_killed(bus: Bus) -> None:
    """Three producers at full speed and their writer: the next start finds whatever they had submitted."""
    program = (
        Notes.OPEN
        + """
index = int(sys.argv[2])
store = TelemetryStore(database, journal_bytes=1 << 20)
number = 0
while True:
    number += 1
    pair(store, f"p{index}", number)
    noted[index] = number
"""
    )
    producers = [bus.start(program, str(index)) for index in range(3)]
    wait_until(lambda: all(bus.notes[index] > 2000 for index in range(3)), "all of them are under way")
    for pid in [*bus.writers(), *(producer.pid for producer in producers)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for producer in producers:
        bus.finish(producer, -signal.SIGKILL)
    wait_until(lambda: not bus.owned, "the killed writer's lock is free")
    bus.next_comes()
    found = bus.numbers("events")
    for index in range(3):
        numbers = found[f"p{index}"]
        assert list(range(1, len(numbers) + 1)) == numbers == bus.numbers("details")[f"p{index}"]
        assert len(numbers) - bus.notes[index] in (0, 1)
    bus.sound()
