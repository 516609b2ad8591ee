"""Fork in mid stream: parent and child both go on, and neither takes anything of the other's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import OpenStore
from .looking import EVENTS, INSERT, dead_letters, eventually, in_daemon_mode, in_sync_mode, in_thread_mode, names

#: Threads submit without a pause while the process forks; the child says what became of its own jobs.
PROGRAM = """
import os, sys, threading
from telemetry_bus import TelemetryStore, WriterBusy
database, mode, definition, sql = sys.argv[1:]
store = TelemetryStore(database, mode=mode, timeout=60)

def submit(who, number):
    store.execute(sql, (f"{who} {number}", number), ensure=[definition])

def work():
    for number in range(300):
        submit("parent", number)
        if number == 100:
            started.set()

started = threading.Event()
thread = threading.Thread(target=work)
thread.start()
started.wait()
child = os.fork()
if child == 0:
    code = 1
    try:
        store.flush(0)
        for number in range(100):
            submit("child", number)
        store.shutdown(wait=True)
        code = 0
    except WriterBusy:
        code = 7
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
thread.join()
store.shutdown(wait=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""

#: The child forgets everything: no flush, no shutdown, no exit handlers.
ABANDONED = """
import os, sys
from telemetry_bus import TelemetryStore
database, mode, definition, sql = sys.argv[1:]
store = TelemetryStore(database, mode=mode, timeout=60)
store.execute(sql, ("before", 1), ensure=[definition])
if (child := os.fork()) == 0:
    store.execute(sql, ("child", 1), ensure=[definition])
    os._exit(0)
os.waitpid(child, 0)
store.execute(sql, ("after", 1), ensure=[definition])
store.shutdown(wait=True)
"""

#: The child has written before its parent ends, and writes again when the parent has closed everything.
SURVIVOR = """
import os, sys
from telemetry_bus import TelemetryStore
database, mode, definition, sql = sys.argv[1:]
store = TelemetryStore(database, mode=mode, timeout=60)
store.execute(sql, ("before", 1), ensure=[definition])
from_child, to_parent = os.pipe()
from_parent, to_child = os.pipe()
if (child := os.fork()) == 0:
    store.execute(sql, ("child 1", 1), ensure=[definition])
    os.write(to_parent, b".")
    os.read(from_parent, 1)
    store.execute(sql, ("child 2", 1), ensure=[definition])
    os._exit(0)
os.read(from_child, 1)
store.execute(sql, ("parent", 1), ensure=[definition])
store.shutdown(wait=True)
os.write(to_child, b".")
os.waitpid(child, 0)
"""

#: What stands in `:memory:` at the fork is there for both, and from then on each has its own.
MEMORY = """
import os, sys
from telemetry_bus import TelemetryStore
database, mode, definition, sql = sys.argv[1:]
store = TelemetryStore(":memory:", mode=mode)
store.execute(sql, ("before", 1), ensure=[definition])
child = os.fork()
store.execute(sql, ("after", 1), ensure=[definition])
with store.connection() as connection:
    names = [name for (name,) in connection.execute("SELECT name FROM events ORDER BY id")]
code = 0 if names == ["before", "after"] else 1
if child == 0:
    os._exit(code)
sys.exit(code or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

#: A pool of children made by fork, whose parent has used the store before.
POOL = """
import multiprocessing, sys
from telemetry_bus import get_store
database, mode, definition, sql = sys.argv[1:]

def work(number):
    store = get_store(database)
    store.execute(sql, (f"child {number}", number), ensure=[definition])

if __name__ == "__main__":
    store = get_store(database, mode=mode)
    store.execute(sql, ("parent", 1), ensure=[definition])
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children: child.start()
    for child in children: child.join()
    assert [0, 0, 0] == [child.exitcode for child in children]
    store.shutdown(wait=True)
"""

#: The parent's thread is in the middle of its import of ZeroMQ.
EARLY = """
import os, sys
from telemetry_bus import TelemetryStore
database, mode, definition, sql = sys.argv[1:]
store = TelemetryStore(database, mode=mode, timeout=20)
store.execute(sql, ("parent", 1), ensure=[definition])
while "zmq" not in sys.modules:
    pass
if (child := os.fork()) == 0:
    code = 1
    try:
        store.execute(sql, ("child", 1), ensure=[definition])
        store.flush()
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
store.shutdown(wait=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(program: str, database: Path, mode: str) -> int:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(database), mode, EVENTS, INSERT],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "" == ended.stderr
    return ended.returncode


PARENTS = [f"parent {number}" for number in range(300)]
CHILDS = [f"child {number}" for number in range(100)]


@pytest.mark.integration
def test_fork_in_mid_stream(open_store: OpenStore, database: Path, mode: str) -> None:
    """Every job of both is there once and in order; in thread mode the child is told that its parent writes."""
    code = run(PROGRAM, database, mode)
    found = names(open_store())
    assert PARENTS == [name for name in found if name.startswith("parent")]
    if mode == "thread":
        assert 7 == code
        assert 300 == len(found)
    else:
        assert 0 == code
        assert CHILDS == [name for name in found if name.startswith("child")]
    assert mode == "sync" or [] == dead_letters(open_store())


@in_daemon_mode
@pytest.mark.integration
def test_fork_while_the_thread_begins(open_store: OpenStore, database: Path) -> None:
    """The child can import what its parent's thread was importing."""
    assert 0 == run(EARLY, database, "daemon")
    assert ["child", "parent"] == sorted(names(open_store()))


@in_sync_mode
@pytest.mark.integration
def test_child_outlives_its_parent(open_store: OpenStore, database: Path) -> None:
    """What a child commits stays, though its parent has closed the database meanwhile."""
    assert 0 == run(SURVIVOR, database, "sync")
    assert ["before", "child 1", "parent", "child 2"] == names(open_store())


@in_sync_mode
@pytest.mark.integration
def test_memory(database: Path, mode: str) -> None:
    """A child goes on with a copy of what its parent had in `:memory:`."""
    assert 0 == run(MEMORY, database, mode)


@in_daemon_mode
@pytest.mark.parametrize("program", [ABANDONED, POOL], ids=["abandoned", "pool"])
def test_child_that_does_not_say_goodbye(open_store: OpenStore, database: Path, program: str) -> None:
    """A child's jobs are written though it ends without flush or shutdown."""
    expected = {"before", "child", "after"} if program is ABANDONED else {"parent", "child 0", "child 1", "child 2"}
    assert 0 == run(program, database, "daemon")
    store = open_store()
    store.submit(lambda conn: None, ensure=[EVENTS])
    eventually(lambda: len(expected) == len(names(store)))
    assert expected == set(names(store))


@in_thread_mode
@pytest.mark.integration
def test_parent_goes_on_in_thread_mode(open_store: OpenStore, database: Path) -> None:
    """A child that only ends does not disturb the parent's thread."""
    program = ABANDONED.replace('store.execute(sql, ("child", 1), ensure=[definition])', "pass")
    assert 0 == run(program, database, "thread")
    assert ["before", "after"] == names(open_store())
