"""Where databases and their bus folders lie: meeting in one place, long paths, places that cannot be used."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, DatabaseFault, TelemetryError, TelemetryStore, WriterBusy
from telemetry_bus.runtime.locks import is_held

from ..conftest import OpenStore
from .looking import (
    EVENTS,
    INSERT,
    add,
    eventually,
    in_daemon_mode,
    in_journaled_modes,
    in_process_modes,
    in_sync_mode,
    in_thread_mode,
    names,
    rows,
)

#: Another producer of the same database, in a process of its own.
PRODUCER = """
import sys
from telemetry_bus import TelemetryStore
database, mode, timeout, definition, sql = sys.argv[1:]
with TelemetryStore(database, mode=mode, timeout=float(timeout)) as store:
    store.execute(sql, ("from outside", 1), ensure=[definition])
    store.flush()
    print(store.stats().writer.pid)
"""

#: A user without rights, on any Linux.
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


def produce(database: object, mode: str, timeout: float = 30.0) -> str:
    """Run the other producer; what it printed, or its error."""
    ended = subprocess.run(
        [sys.executable, "-c", PRODUCER, str(database), mode, str(timeout), EVENTS, INSERT],
        capture_output=True,
        text=True,
        check=False,
    )
    return (ended.stdout or ended.stderr).strip()


@pytest.fixture
def link(tmp_path: Path, database: Path) -> Path:
    """Another way to the database: a link in another folder."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(database)
    return link


@in_daemon_mode
def test_everybody_meets_in_one_folder(open_store: OpenStore, database: Path, link: Path, tmp_path: Path) -> None:
    """Two stores, another process and a link to the database: one bus folder, one writer."""
    one, two, linked = open_store(), open_store(f"sqlite:///{database}"), open_store(link)
    for number, each in enumerate((one, two, linked)):
        add(each, f"e{number}")
        each.flush()
    writer = one.stats().writer.pid
    assert {writer} == {each.stats().writer.pid for each in (one, two, linked)} == {int(produce(link, "daemon"))}
    assert [Path(f"{database}.bus")] == sorted(tmp_path.rglob("*.bus"))
    assert {"e0", "e1", "e2", "from outside"} == set(names(one))


@in_thread_mode
@pytest.mark.slow
def test_a_thread_keeps_the_database_for_itself(open_store: OpenStore, database: Path, link: Path) -> None:
    """While a thread of one process writes, another process in thread mode is told so. What a producer of mode
    daemon submits waits in its journal, until that process ends and the thread adopts it."""
    store = open_store(link)
    add(store, "a")
    store.flush()
    error = produce(database, "thread").splitlines()[-1]
    assert "WriterBusy" in error
    assert "mode=" in error
    assert "FlushTimeout" in produce(database, "daemon", timeout=0.1).splitlines()[-1]
    eventually(lambda: ["a", "from outside"] == names(store))


@in_thread_mode
def test_writer_busy(open_store: OpenStore, database: Path) -> None:
    """A database that a writer process owns is refused in thread mode, with a hint; nothing is queued."""
    with TelemetryStore(database, mode="daemon") as owner:
        add(owner, "a")
    store = open_store()
    with pytest.raises(WriterBusy) as caught:
        add(store, "b")
    assert "telemetry-bus stop" in caught.value.hint
    assert 0 == store.stats().submitted
    assert ["a"] == names(store)


@in_sync_mode
def test_sync_beside_a_writer(open_store: OpenStore, database: Path) -> None:
    """Mode sync takes turns with whoever writes to the database."""
    with TelemetryStore(database, mode="thread") as other:
        add(other, "a")
        other.flush()
        store = open_store()
        add(store, "b")
        assert "from outside" not in names(store)
        assert produce(database, "sync").isdecimal()
        add(other, "c")
        other.flush()
    assert ["a", "b", "from outside", "c"] == names(store)


def test_long_path(open_store: OpenStore, tmp_path: Path) -> None:
    """A path of 200 characters, longer than a socket's may be, works in every mode."""
    folder = tmp_path / ("d" * 100)
    database = folder / ("x" * (200 - len(str(folder)) - 4) + ".db")
    assert 200 == len(str(database))
    store = open_store(database)
    add(store, "a")
    assert ["a"] == names(store)
    store.shutdown(wait=True)
    again = open_store(database)
    add(again, "b")
    assert ["a", "b"] == names(again)


@pytest.mark.parametrize(
    "name",
    [
        "with space.db",
        "50%41.db",
        "what?.db",
        "a#b.db",
        "ÅΩ漢.db",
        "a'b\".db",
        "x;y&z.db",
        "[a]:b@c.db",
        "-x.db",
    ],
)
def test_strange_names(open_store: OpenStore, tmp_path: Path, name: str) -> None:
    """Any name that a file may have is a database's name, and nothing is made under another one."""
    store = open_store(tmp_path / name)
    add(store, "a")
    assert ["a"] == names(store)
    store.shutdown(wait=True)
    with closing(sqlite3.connect(f"{(tmp_path / name).as_uri()}?mode=ro", uri=True)) as reader:
        assert [("a",)] == reader.execute("SELECT name FROM events").fetchall()
    made = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert {name} == {each for each in made if not each.endswith((".bus", "-wal", "-shm"))}


@in_journaled_modes
def test_bus_folder_elsewhere(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: Path
) -> None:
    """`TELEMETRY_BUS_DIR` names the parent of the bus folders; databases of one name do not share one."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path / "buses"))
    stores = [open_store(), open_store(tmp_path / "other" / database.name)]
    for store in stores:
        add(store, "a")
        assert ["a"] == names(store)
    assert 2 == len(list((tmp_path / "buses").iterdir()))
    assert not Path(f"{database}.bus").exists()


@in_journaled_modes
def test_rights(store: TelemetryStore, database: Path) -> None:
    """Folders are for their owner alone, and so are the files in them, whatever the umask."""
    before = os.umask(0)
    try:
        add(store, "a")
        store.flush()
    finally:
        os.umask(before)
    bus = Path(f"{database}.bus")
    for folder in (bus, bus / "journals"):
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    for file in (path for path in bus.rglob("*") if not path.is_dir()):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077 or file.is_socket(), file
    assert not stat.S_IMODE(database.stat().st_mode) & 0o077


@pytest.mark.parametrize("obstacle", ["file", "link", "dangling link"])
@in_journaled_modes
def test_something_in_place_of_the_bus_folder(open_store: OpenStore, database: Path, obstacle: str) -> None:
    """A file or a link where the bus folder should be is refused, with the path; nothing is read through it."""
    place = Path(f"{database}.bus")
    if obstacle == "file":
        place.touch()
    else:
        target = database.with_name("target")
        if obstacle == "link":
            target.mkdir(0o700)
        place.symlink_to(target)
    store = open_store()
    _refused(store, place)
    assert obstacle != "link" or [] == list(target.iterdir())
    place.unlink()
    add(store, "a")
    assert ["a"] == names(store)


@needs_root
@pytest.mark.root
@in_journaled_modes
def test_bus_folder_of_somebody_else(open_store: OpenStore, database: Path) -> None:
    """A bus folder that belongs to another user is refused."""
    place = Path(f"{database}.bus")
    place.mkdir(0o700)
    os.chown(place, 65534, 65534)
    store = open_store()
    _refused(store, place)
    os.chown(place, 0, 0)
    add(store, "a")
    assert ["a"] == names(store)


def _refused(store: TelemetryStore, place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        add(store, "a")
    assert str(place) in str(caught.value)
    assert caught.value.hint
    assert 0 == store.stats().submitted


def test_file_in_place_of_the_folder(open_store: OpenStore, tmp_path: Path) -> None:
    """A database below a file can never be: refused when the store is made, with the path."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        open_store(tmp_path / "file" / "x.db")
    assert str(tmp_path / "file") in str(caught.value)
    assert caught.value.hint


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that may be looked into and not written to. Root, who may all, is somebody else meanwhile."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent, "closed")
        folder.mkdir(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(before)


def test_folder_without_the_right_to_write(open_store: OpenStore, closed_folder: Path) -> None:
    """A folder in which nothing may be made is refused with its path; nothing is queued."""
    folder = closed_folder
    store = open_store(folder / "x.db")
    with pytest.raises(TelemetryError) as caught:
        add(store, "a")
    assert str(folder) in str(caught.value)
    assert caught.value.hint
    assert 0 == store.stats().submitted


@in_process_modes
def test_file_that_is_no_database(open_store: OpenStore, database: Path) -> None:
    """A file that holds something else is left alone, and its path named."""
    content = b"something else entirely\n" * 100
    database.write_bytes(content)
    store = open_store()
    with pytest.raises(DatabaseFault) as caught:
        add(store, "a")
    assert str(database) in str(caught.value)
    assert caught.value.hint
    assert content == database.read_bytes()
    assert 0 == store.stats().submitted


@in_daemon_mode
def test_file_that_is_no_database_for_a_daemon(open_store: OpenStore, database: Path) -> None:
    """A writer that cannot start is no secret: `flush` tells why. When the file is mended the jobs are written."""
    database.write_bytes(b"something else entirely\n" * 100)
    store = open_store()
    add(store, "a")
    eventually(lambda: "not a database" in _flush_error(store))
    database.unlink()
    assert ["a"] == names(store)


def _flush_error(store: TelemetryStore) -> str:
    try:
        store.flush(0.05)
    except TelemetryError as error:
        return str(error)
    return ""


def test_reading_what_is_no_database(open_store: OpenStore, database: Path) -> None:
    """So does reading."""
    database.write_bytes(b"something else entirely\n" * 100)
    store = open_store()
    with pytest.raises(DatabaseFault, match="not a database"), store.connection():
        pass


@in_daemon_mode
def test_database_outlives_its_writer(open_store: OpenStore, database: Path) -> None:
    """When the writer has left, the database can be read, and the next job begins another life of one."""
    store = open_store()
    add(store, "a")
    store.flush()
    first = store.stats().writer.epoch
    store.shutdown()
    bus = Path(f"{database}.bus")
    eventually(lambda: not is_held(bus / "writer.lock"))
    again = open_store()
    assert [("a",)] == rows(again, "SELECT name FROM events")
    add(again, "b")
    assert ["a", "b"] == names(again)
    assert first != again.stats().writer.epoch  # it may be the same process, which has looked once more
