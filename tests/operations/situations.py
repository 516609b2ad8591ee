"""What the operator finds: producers at work, dead ones, a writer that is stopped, a file that is damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..support.bus import Bus
from ..support.clock import wait_until

#: Hands in numbered jobs until its file is there. Says when the first ones are committed; at its end how many.
PRODUCES = """
name, end = sys.argv[2:]
store = TelemetryStore(database, timeout=60)
number = 0
while not os.path.exists(end):
    for _ in range(20):
        number += 1
        pair(store, name, number)
    if number == 20:
        store.flush()
        print("under way", flush=True)
    time.sleep(0.01)
store.shutdown(wait=True)
print(number)
"""
#: Leaves so many jobs in its journal.
LEAVES = """
store = TelemetryStore(database, spawn=False)
for number in range(1, 1 + int(sys.argv[3])):
    pair(store, sys.argv[2], number)
os._exit(0)
"""


class Load:
    """Producers at work."""

    def __init__(self, bus: Bus, names: str, **environment: str) -> None:
        self._bus = bus
        self._end = bus.home / f"end-{names}"
        self._processes = {name: bus.start(PRODUCES, name, str(self._end), **environment) for name in names}
        for process in self._processes.values():
            assert process.stdout is not None
            assert "under way\n" == process.stdout.readline(), bus.errors(process)
        self.submitted: dict[str, int] = {}

    def killed(self) -> None:
        """SIGKILL to each."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def ends(self) -> None:
        """Each ends when all it has submitted is committed; `submitted` says how many."""
        self._end.touch()
        self.submitted |= {name: int(self._bus.finish(process)) for name, process in self._processes.items()}


@contextmanager
def under_load(bus: Bus, names: str, **environment: str) -> Iterator[Load]:
    """Producers with these names, each a letter. Afterwards every job of theirs is in the database once."""
    load = Load(bus, names, **environment)
    yield load
    load.ends()
    everything = {name: list(range(1, last + 1)) for name, last in load.submitted.items()}
    found = bus.numbers("events")
    assert everything == {name: found[name] for name in everything}


def committed(bus: Bus, producer: str = "p", jobs: int = 10) -> None:
    """Jobs of a producer that has ended are in the database; its writer still runs."""
    left(bus, producer, jobs)
    bus.answering_writer()
    bus.settle()


def left(bus: Bus, producer: str, jobs: int = 10) -> None:
    """Jobs of a producer that is dead are in its journal."""
    bus.run(LEAVES, producer, str(jobs))


def spawned_writer(bus: Bus) -> None:
    """A writer that a producer has started, with its log in the bus folder; the job is committed."""
    bus.run("with TelemetryStore(database) as store: pair(store, 'first', 1)")


def gone(bus: Bus) -> None:
    """The writer leaves."""
    if bus.owned:
        bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")


def stopped(bus: Bus) -> int:
    """The writer stands still; its process."""
    pid = int(bus.status()["pid"])
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), "it stands still")
    return pid


def copy(bus: Bus, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["sqlite3", "-readonly", bus.path, f"VACUUM INTO '{target}'"], check=True)


def damage_leaf(path: Path, table: str) -> None:
    """Overwrite a part of a page of rows of a table (https://www.sqlite.org/fileformat2.html#b_tree_pages)."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    page = path.read_bytes()[(root - 1) * page_bytes :]
    assert page[0] == 5, "its root has rows itself"
    cell = int.from_bytes(page[14:16])  # the second one
    leaf = int.from_bytes(page[cell : cell + 4])
    damage(path, (leaf - 1) * page_bytes + 1000, 50)


def damage(path: Path, offset: int, length: int | None = None) -> None:
    """Overwrite a part of a file; to its end when no length is given."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * (path.stat().st_size - offset if length is None else length))
