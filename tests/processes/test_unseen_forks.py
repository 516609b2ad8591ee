"""Forks that Python does not see, and fork hooks that a signal ends: parent and child each keep to their own."""

from __future__ import annotations

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

BEGIN = """
import ctypes, signal, threading
from telemetry_bus import WriterBusy
mode, how = sys.argv[2:]
library = ctypes.PyDLL(None)

def fork():
    "As a C library does, or as an embedder that runs Python's hook in the child, and no other."
    while mode == "daemon" and not at_rest(store._backend._sender, alone=threading.active_count() == 2):
        time.sleep(0.001)
    # Where another thread has asked for the interpreter's lock, Python itself waits in the child for it to come.
    sys.setswitchinterval(1000)
    time.sleep(0.02)
    pid = library.fork()
    if pid == 0 and how == "child's hook only":
        ctypes.pythonapi.PyOS_AfterFork_Child()
    sys.setswitchinterval(0.005)
    return pid

def at_rest(sender, alone):
    "Such a fork, in the middle of an import by any thread, takes the import's locks along."
    return sender is None or (sender._transport is not None and (sender._waker.sleeping or not alone))

def wait(*children):
    assert [0] * len(children) == [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

def child(work, end=os._exit):
    if (pid := fork()) == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            end(code)
    return pid
"""

#: Two children use their parent's store at once, and end without a word.
TWO_CHILDREN = """
store = TelemetryStore(database, mode=mode)
event(store, "parent", 1)
store.flush()
def work(who):
    for number in range(1, 101):
        event(store, who, number)
children = [child(lambda: work("one")), child(lambda: work("two"))]
event(store, "parent", 2)
wait(*children)
event(store, "parent", 3)
store.shutdown(wait=True)
"""

#: A child forks in turn; each of the three has used the store before, and flushes its own.
GENERATIONS = """
store = TelemetryStore(database, mode=mode)
def work(generation):
    event(store, f"generation {generation}", 1)
    if generation < 3:
        wait(child(lambda: work(generation + 1)))
    event(store, f"generation {generation}", 2)
    store.flush()
work(1)
store.shutdown(wait=True)
"""

#: Children that only look, close, or end as any program does: the parent's journal and its jobs stay.
IDLE_CHILDREN = """
import gc, pathlib
store = TelemetryStore(database, mode=mode, spawn=False)
for number in range(1, 11):
    event(store, "parent", number)
def look():
    assert 0 == store.stats().pending == store.queue.qsize()
    assert store.queue.empty()
    store.flush(0)
def forget():
    global store
    del store
    gc.collect()
for work in (look, lambda: store.shutdown(), forget, lambda: None):
    wait(child(work, os._exit))
    wait(child(work, sys.exit))
    assert pathlib.Path(store.stats().journal).exists()
    assert 10 == store.stats().pending
event(store, "parent", 11)
"""

#: Another thread waits for the interpreter's lock while the process forks, and is not there in the child.
WAITING = """
store = TelemetryStore(database, mode=mode)
event(store, "parent", 1)
store.flush()
sys.setswitchinterval(1000)  # it waits, and does not ask for the lock
for number in range(1, 11):
    turn, ready = threading.Lock(), threading.Lock()
    turn.acquire()
    ready.acquire()
    thread = threading.Thread(target=lambda: (ready.release(), turn.acquire()))
    thread.start()
    ready.acquire()
    time.sleep(0.02)
    turn.release()
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass
    if (pid := library.fork()) == 0:
        event(store, f"child {number}", 1)
        store.flush()
        os._exit(0)
    wait(pid)
    thread.join()
event(store, "parent", 2)
store.shutdown(wait=True)
"""

#: Other threads submit without a pause, and hold locks at the moment of the forks.
THREADS = """
store = TelemetryStore(database, mode=mode)
def work(who, count):
    for number in range(1, count + 1):
        event(store, who, number)
threads = [threading.Thread(target=work, args=(who, 1000)) for who in ("a", "b")]
event(store, "first", 1)
for thread in threads:
    thread.start()
children = [child(lambda: (work(f"child {number}", 20), store.flush())) for number in range(5)]
wait(*children)
for thread in threads:
    thread.join()
store.shutdown(wait=True)
"""

#: The parent owns the database; a child is told so, as after `os.fork`, and the parent goes on.
THREAD_MODE = """
store = TelemetryStore(database, mode="thread")
event(store, "parent", 1)
store.flush()  # its thread imports nothing more
def refused():
    try:
        event(store, "child", 1)
    except WriterBusy:
        return
    raise AssertionError("the child has written")
wait(child(refused), child(refused, sys.exit), child(lambda: None, sys.exit))
event(store, "parent", 2)
store.shutdown(wait=True)
"""

#: A child outlives its parent's connection: what it commits must stay.
SYNC_MODE = """
store = TelemetryStore(database, mode="sync")
event(store, "parent", 1)
from_child, to_parent = os.pipe()
from_parent, to_child = os.pipe()
def work():
    event(store, "child", 1)
    with store.connection() as connection:
        assert 2 == len(connection.execute("SELECT 1 FROM events").fetchall())
    os.write(to_parent, b".")
    os.read(from_parent, 1)
    event(store, "child", 2)
pid = child(work)
os.read(from_child, 1)
event(store, "parent", 2)
store.shutdown()
os.write(to_child, b".")
wait(pid)
"""

KINDS = ("no hook", "child's hook only")


def run(bus: Bus, program: str, mode: str = "daemon", how: str = "no hook") -> None:
    process = bus.start(BEGIN + program, mode, how)
    bus.finish(process)
    assert "" == bus.errors(process)


def expect(bus: Bus, expected: dict[str, int]) -> None:
    """So many jobs of each producer are there, each once, and in order."""
    wait_until(lambda: sum(expected.values()) <= len(bus.rows("SELECT 1 FROM events")), "all jobs are applied")
    assert {who: [*range(1, count + 1)] for who, count in expected.items()} == bus.numbers()


@pytest.mark.parametrize("how", KINDS)
def test_two_children(bus: Bus, how: str) -> None:
    """Neither writes into its parent's journal."""
    run(bus, TWO_CHILDREN, how=how)
    expect(bus, {"parent": 3, "one": 100, "two": 100})


@pytest.mark.parametrize("how", KINDS)
def test_a_child_of_a_child(bus: Bus, how: str) -> None:
    """The page that tells of a fork does so in each generation."""
    run(bus, GENERATIONS, how=how)
    expect(bus, {"generation 1": 2, "generation 2": 2, "generation 3": 2})


@pytest.mark.parametrize("how", KINDS)
def test_children_that_submit_nothing(bus: Bus, how: str) -> None:
    """What they close, forget or leave behind is not their parent's."""
    run(bus, IDLE_CHILDREN, how=how)
    run(bus, 'store = TelemetryStore(database)\nevent(store, "next", 1)\nstore.shutdown(wait=True)')
    expect(bus, {"parent": 11, "next": 1})


@pytest.mark.parametrize("how", KINDS)
def test_while_other_threads_submit(bus: Bus, how: str) -> None:
    """The locks that they hold are not waited for in a child."""
    run(bus, THREADS, how=how)
    expect(bus, {"first": 1, "a": 1000, "b": 1000, **{f"child {number}": 20 for number in range(5)}})


@pytest.mark.parametrize("how", KINDS)
def test_thread_mode(bus: Bus, how: str) -> None:
    """The parent's writer is not disturbed by what a child does or how it ends."""
    run(bus, THREAD_MODE, "thread", how)
    expect(bus, {"parent": 2})


@pytest.mark.parametrize("how", KINDS)
def test_sync_mode(bus: Bus, how: str) -> None:
    """A child has locks of its own on the database, and not a copy of what its parent knew of them."""
    run(bus, SYNC_MODE, "sync", how)
    expect(bus, {"parent": 2, "child": 2})


#: A signal whose handler raises comes at the n-th line of the hooks, for n = 1, 2, 3 … until a fork has fewer.
INTERRUPTED = """
from telemetry_bus.runtime import lifecycle
import telemetry_bus.backends.thread, telemetry_bus.backends.sync
watched = {lifecycle.__file__, telemetry_bus.backends.thread.__file__, telemetry_bus.backends.sync.__file__}
store = TelemetryStore(database, mode=mode, journal_bytes=1 << 20)
event(store, "parent", 1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
hooks = ("_before_fork", "_after_fork_in_parent", "notice_fork")
left, inside = 0, None

def trace(frame, what, argument):
    global left, inside
    code = frame.f_code
    if code.co_filename not in watched or code.co_name == "_hold":
        return None  # a tracer stops between a `with` and its lock, where no signal is handled
    if inside is None and code.co_name in hooks:
        inside = frame
    if inside is None:
        return None
    if what == "line":
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGTERM)
    if what == "return" and frame is inside:
        inside = None
    return trace

def fork_at(line):
    "Whether the signal came: in the child's hook or in one of the parent's."
    global left, inside
    left, inside = line, None
    sys.settrace(trace)
    pid = os.fork()
    sys.settrace(None)
    inside = None
    if pid:
        _, status = os.waitpid(pid, 0)
        return left <= 0 or os.waitstatus_to_exitcode(status) == 0
    code = 1
    try:
        try:
            event(store, f"child {line}", 1)
            store.shutdown(wait=True)
        except WriterBusy:
            assert mode == "thread"
        code = 0 if left <= 0 else 3
    finally:
        os._exit(code)

line = 1
while fork_at(line):
    line += 1
    event(store, "parent", line)
    store.flush(60)
store.shutdown(wait=True)
print(line)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["daemon", "thread", "sync"])
def test_a_signal_handler_that_raises_in_a_fork_hook(bus: Bus, mode: str) -> None:
    """Wherever it strikes, the child keeps off its parent's journal, and the parent goes on."""
    process = bus.start(BEGIN + INTERRUPTED, mode, "")
    lines = int(bus.finish(process))
    assert lines > 20
    assert "Exception ignored in" in bus.errors(process)  # Python swallows what is raised in a hook: it did come
    children = {} if mode == "thread" else {f"child {line}": 1 for line in range(1, lines + 1)}
    expect(bus, {"parent": lines, **children})


@pytest.mark.slow
def test_a_thread_that_waits_for_the_interpreter(bus: Bus) -> None:
    """The child does not wait for what it has no thread for."""
    bus.finish(bus.start(BEGIN + WAITING, "daemon", "no hook"))
    assert {"parent": [1, 2], **{f"child {number}": [1] for number in range(1, 11)}} == bus.numbers()
