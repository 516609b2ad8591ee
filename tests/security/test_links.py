"""Links in the places of the bus: nothing is read or written through them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import FlushTimeout, JournalCorrupt, JournalUnavailable
from telemetry_bus.journal.layout import DEFINITIONS_TAIL, PAGE_BYTES, TAIL, Header
from telemetry_bus.journal.orphan import OrphanJournal, inspect
from telemetry_bus.journal.ring import Journal
from telemetry_bus.runtime.files import remove_inside, rename_inside
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake

from ..support.clock import wait_until
from ..support.processes import state

TABLE = "CREATE TABLE IF NOT EXISTS t (a)"


@pytest.fixture
def folder(database: Path) -> BusFolder:
    folder = BusFolder.of(parse_database(database), environ={})
    folder.prepare()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A journal outside of the bus, of an owner that is dead."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    journal = Journal(place, bytes(range(16)), 64 * 1024, "x")
    assert journal.path is not None
    journal.append(b"\x00\x92\x92\x90\x91\x92\xa8SELECT 1\xc2\x90")
    journal.close()
    return journal.path


@pytest.mark.parametrize("look", [OrphanJournal.claim, inspect], ids=["claim", "inspect"])
def test_a_link_to_a_journal(folder: BusFolder, elsewhere: Path, look: Callable[[Path], object]) -> None:
    """It is no journal of this bus: not listed, and not opened by who has its name."""
    link = folder.journals / elsewhere.name
    link.symlink_to(elsewhere)
    assert [] == folder.journal_paths()
    with pytest.raises(OSError, match="symbolic links"):
        look(link)
    assert elsewhere.exists()


@pytest.mark.parametrize("kind", ["journal", "unfinished"])
def test_a_link_where_a_journal_is_to_be_made(folder: BusFolder, tmp_path: Path, kind: str) -> None:
    """The new journal replaces the link, or is refused; the file at its end stays as it was."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    stream = b"a" * 16
    link = folder.journals / f"{stream.hex()}.{'journal' if kind == 'journal' else 'new'}"
    link.symlink_to(victim)
    if kind == "journal":
        Journal(folder.journals, stream, 64 * 1024, "x").close()
        assert not link.is_symlink()
    else:
        with pytest.raises(JournalUnavailable):
            Journal(folder.journals, stream, 64 * 1024, "x")
    assert b"kept" == victim.read_bytes()


def test_a_link_in_place_of_the_lock(folder: BusFolder, tmp_path: Path) -> None:
    """A lock is never taken through a link, nor a file made at its end."""
    victim = tmp_path / "victim"
    folder.writer_lock.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        InstanceLock.acquire(folder.writer_lock)
    assert not victim.exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "socket"])
@pytest.mark.parametrize("name", ["writer.log", "writer.lock", "spawn.lock"])
@pytest.mark.slow
def test_what_stands_in_place_of_a_file(
    folder: BusFolder, database: Path, tmp_path: Path, kind: str, name: str
) -> None:
    """Whoever starts a writer neither waits for it nor writes through it; the flush says what stands there."""
    victim, place = tmp_path / "victim", folder.path / name
    victim.write_bytes(b"kept")
    with ExitStack() as life:
        if kind == "link":
            place.symlink_to(victim)
        elif kind == "pipe":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            life.enter_context(socket.socket(socket.AF_UNIX)).bind(str(place))
        with pytest.raises(FlushTimeout) as raised, TelemetryStore(database, timeout=2) as store:
            store.execute("INSERT INTO t VALUES (1)", ensure=[TABLE])
        assert name in f"{raised.value} {store.stats().last_error}"
    assert b"kept" == victim.read_bytes()


def test_a_link_in_place_of_the_journals(folder: BusFolder, database: Path, elsewhere: Path) -> None:
    """Nothing behind it is listed, opened, made, renamed or removed."""
    unfinished = elsewhere.with_suffix(".new")
    unfinished.write_bytes(b"kept")
    os.utime(unfinished, (0, 0))
    before = sorted((path.name, path.stat().st_mtime_ns) for path in elsewhere.parent.iterdir())
    folder.journals.rmdir()
    folder.journals.symlink_to(elsewhere.parent)
    behind = folder.journals / elsewhere.name
    assert [] == folder.journal_paths()
    for attempt in (
        lambda: OrphanJournal.claim(behind),
        lambda: inspect(behind),
        lambda: remove_inside(behind),
        lambda: rename_inside(behind, folder.path / "mine"),
        lambda: Journal(folder.journals, b"a" * 16, 64 * 1024, "x"),
    ):
        with pytest.raises((OSError, JournalUnavailable)):
            attempt()
    with closing(Writer(parse_database(database))) as writer:
        intake: Intake[object] = Intake(writer, parse_database(database), BatchLimits())
        adopter = Adopter(folder, intake)
        adopter.scan()
        adopter.step()
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in elsewhere.parent.iterdir())


def test_a_journal_that_says_it_is_large(folder: BusFolder) -> None:
    """What it says of itself is not believed before it is read into memory."""
    path = folder.journals / f"{'a' * 32}.journal"
    for definitions, ring in ((1 << 30, 1 << 20), (1 << 24, 1 << 36)):
        page = bytearray(Header(b"a" * 16, ring, definitions, 1, "x").pack().ljust(PAGE_BYTES, b"\0"))
        memoryview(page).cast("Q")[DEFINITIONS_TAIL] = definitions
        memoryview(page).cast("Q")[TAIL] = ring
        path.write_bytes(page)
        os.truncate(path, 2 << 30)
        tracemalloc.start()
        with suppress(JournalCorrupt):
            inspect(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 100 << 20


@pytest.mark.integration
@pytest.mark.parametrize("name", ["jobs", "control"])
def test_a_link_in_place_of_a_socket(
    folder: BusFolder, database: Path, tmp_path: Path, no_writer_left: None, name: str
) -> None:
    """The writer puts its socket in the place of the link and leaves what the link leads to."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    folder.socket_path(name).symlink_to(victim)
    with TelemetryStore(database, timeout=60) as store:
        store.execute("INSERT INTO t VALUES (1)", ensure=[TABLE])
        store.flush()
        assert stat.S_ISSOCK(folder.socket_path(name).lstat().st_mode)
    assert b"kept" == victim.read_bytes()


@pytest.mark.integration
def test_a_link_that_takes_the_place_of_the_folder_later(
    folder: BusFolder, database: Path, tmp_path: Path, no_writer_left: None
) -> None:
    """A running writer whose folder was swapped for a link notices it and leaves; the next one refuses the link."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with TelemetryStore(database, timeout=60) as store:
        store.execute("INSERT INTO t VALUES (1)", ensure=[TABLE])
        store.flush()
        pid = store.stats().writer.pid
    folder.path.rename(tmp_path / "moved")
    folder.path.symlink_to(other)
    assert pid is not None
    wait_until(lambda: state(pid) in "ZX", "the writer leaves a folder that was moved away")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "writer_daemon", "--database", str(database)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert 2 == ended.returncode
    assert "a link stands in the place" in ended.stderr
    assert [] == list(other.iterdir())
