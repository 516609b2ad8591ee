"""What is stored into a mapped journal fails: the program hears of it by an error, and by no signal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until
from ..support.mounts import mounted

pytestmark = pytest.mark.integration

#: What each program here can do: cut its journal short as another program would, and submit until it is taken.
HEAD = """
import glob
from telemetry_bus import JournalUnavailable

def journal():
    folder = os.environ.get("TELEMETRY_BUS_DIR", database + ".bus")
    return glob.glob(folder + "/**/*.journal", recursive=True)[0]

def cut(bytes):
    os.chmod(journal(), 0o600)
    os.truncate(journal(), bytes)

def refused(number):
    try:
        event(store, "p", number)
    except JournalUnavailable as error:
        return str(error)

def insist(number):
    deadline = time.monotonic() + 60
    while refused(number) and time.monotonic() < deadline:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("mode", ["daemon", "thread"])
def test_a_journal_that_is_cut_short(bus: Bus, mode: str) -> None:
    """The next submit says so; later ones go to another journal. What was committed stays, nothing comes twice."""
    program = """
with TelemetryStore(database, mode=sys.argv[2]) as store:
    for number in range(1, 101):
        event(store, "p", number)
    store.flush()
    cut(0)
    print(refused(101))
    for number in range(102, 201):
        insist(number)
"""
    assert "cut short" in bus.run(HEAD + program, mode)
    assert {"p": [*range(1, 101), *range(102, 201)]} == bus.numbers()
    bus.sound()


def test_what_is_intact_of_a_journal_that_is_cut_short(bus: Bus) -> None:
    """No writer runs, and jobs wait: those before the cut are applied, once; the program hears of the others."""
    program = """
with TelemetryStore(database, spawn=False) as store:
    for number in range(1, 5001):
        event(store, "p", number)
    cut(300_000)
    print(refused(0))
    insist(5001)
    with TelemetryStore(database) as other:
        event(other, "q", 1)
"""
    assert "of 5000 jobs in it some may be lost" in bus.run(HEAD + program)
    bus.settle()
    applied = bus.numbers()["p"]
    assert 0 < len(applied) - 1 < 5000
    assert [*range(1, len(applied)), 5001] == applied
    assert 1 == len(list(bus.folder.quarantine.iterdir()))


def test_a_cut_that_the_sender_finds(bus: Bus) -> None:
    """The program submits no more: it hears of it at `flush`, once."""
    program = """
store = TelemetryStore(database, spawn=False)
event(store, "p", 1)
cut(0)
other = TelemetryStore(database)
event(other, "q", 1)
other.flush()
try:
    store.flush(timeout=60)
except JournalUnavailable as error:
    print(error)
event(store, "p", 2)
store.shutdown(wait=True)
other.shutdown()
"""
    assert "of 1 jobs in it some may be lost" in bus.run(HEAD + program)
    assert {"p": [2], "q": [1]} == bus.numbers()


@pytest.fixture(params=["btrfs", "xfs"])
def copying_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system that copies what it writes where a snapshot or a copy of a file shares it."""
    make = shutil.which(f"mkfs.{request.param}", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if os.geteuid() != 0 or make is None:
        pytest.skip(f"it takes root and mkfs.{request.param}")
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(320 * 1024 * 1024)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    with mounted("-o", "loop", image, at=disk):
        yield disk


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        step = 64 * 1024 * 1024
        while step >= 1024 * 1024:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            except OSError:
                step //= 2
        file.seek(0, os.SEEK_END)
        with suppress(OSError):
            while True:
                file.write(os.urandom(4096))
    return ballast


@pytest.mark.slow
@pytest.mark.root
def test_a_disk_that_copies_and_is_full(copying_disk: Path, tmp_path: Path) -> None:
    """Each submit says so as long as it is full, and is taken afterwards; what was taken before is applied, once."""
    program = (
        Notes.OPEN
        + HEAD
        + """
def until(step):
    noted[0] = step
    deadline = time.monotonic() + 60
    while noted[1] < step and time.monotonic() < deadline:
        time.sleep(0.01)

store = TelemetryStore(database, journal_bytes=1 << 20)
for number in range(1, 50_001):  # several times around
    event(store, "p", number)
store.flush()
until(1)
errors = []
for _ in range(20_000):
    if error := refused(number + 1):
        errors.append(error)
    else:
        number += 1
print(errors[-1])
until(2)
for number in range(number + 1, number + 10_001):
    insist(number)
noted[2] = number
store.shutdown(wait=True)
"""
    )
    bus = Bus(tmp_path, environ={"TELEMETRY_BUS_DIR": str(copying_disk / "bus")})
    try:
        producer = bus.start(program)
        wait_until(lambda: bus.notes[0] == 1, "it has submitted")
        (journal,) = bus.folder.journal_paths()
        subprocess.run(["cp", "--reflink=always", journal, copying_disk / "copy"], check=True)
        ballast = fill(copying_disk)
        os.sync()
        bus.notes[1] = 1
        wait_until(lambda: bus.notes[0] == 2, "it has tried to submit")
        ballast.unlink()
        (copying_disk / "copy").unlink()
        bus.notes[1] = 2
        assert "the disk is full or broken" in bus.finish(producer)
        assert {"p": list(range(1, bus.notes[2] + 1))} == bus.numbers()
        bus.sound()
    finally:
        bus.close()


@pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable()"])
@pytest.mark.parametrize("way", ["own", "kill"])
def test_a_signal_that_is_not_about_a_journal(bus: Bus, before: str, way: str) -> None:
    """It ends the program as it would without a store; what the program has set for it is heard."""
    program = f"""
import mmap, signal
{before}
event(get_store(database), "p", 1)
if {way!r} == "kill":
    os.kill(os.getpid(), signal.SIGBUS)
with open(database + ".own", "w+b") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    mapped[0]
"""
    producer = bus.start(program)
    bus.finish(producer, -signal.SIGBUS)
    assert bool(before) == ("Fatal Python error: Bus error" in bus.errors(producer))
    bus.next_comes()


def test_a_handler_of_the_program(bus: Bus) -> None:
    """One that it set before is called for what is sent to it."""
    program = """
import signal
signal.signal(signal.SIGBUS, lambda *_: print("heard"))
event(get_store(database), "p", 1)
signal.raise_signal(signal.SIGBUS)
get_store(database).flush()
"""
    assert "heard\n" == bus.run(program)
