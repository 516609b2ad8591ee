"""However a producer ends, what `submit` has accepted gets written."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

COUNT = 500

#: The program says when it begins to end, by the clock that all processes share.
LEAVING = (
    Notes.OPEN
    + """
def leaving():
    noted[0] = time.monotonic_ns()
"""
)

SUBMIT = (
    LEAVING
    + f"""
store = TelemetryStore(database)
for number in range(1, {COUNT} + 1):
    pair(store, "p", number)
leaving()
"""
)

THREADS = (
    LEAVING
    + f"""
import threading
store = TelemetryStore(database)
def work():
    for number in range(1, {COUNT} + 1):
        pair(store, "p", number)
    sys.exit(7)
thread = threading.Thread(target=work)
thread.start()
thread.join()
leaving()
"""
)

#: The handler that was registered first runs last: the store has long stopped its thread.
LATE_HANDLER = (
    LEAVING
    + f"""
import atexit
@atexit.register
def late():
    for number in range({COUNT // 2} + 1, {COUNT} + 1):
        pair(store, "p", number)
store = TelemetryStore(database)
for number in range(1, {COUNT // 2} + 1):
    pair(store, "p", number)
leaving()
"""
)

#: The same, and the handler's job is the store's first.
ONLY_LATE_HANDLER = (
    LEAVING
    + f"""
import atexit
@atexit.register
def late():
    for number in range(1, {COUNT} + 1):
        pair(store, "p", number)
store = TelemetryStore(database)
leaving()
"""
)

WITH_SHUTDOWN = SUBMIT + "store.shutdown()"


def report_exit(bus: Bus, process: subprocess.Popen[str], record_property: Callable[[str, object], None]) -> None:
    """Note how long the end took, for whoever wants to know."""
    record_property("exit_s", round((time.monotonic_ns() - bus.notes[0]) / 1e9, 3))


@pytest.mark.parametrize(
    ("program", "code"),
    [
        pytest.param(SUBMIT, 0, id="end-of-script"),
        pytest.param(SUBMIT + "raise ValueError('unhandled')", 1, id="unhandled-exception"),
        pytest.param(SUBMIT + "sys.exit(5)", 5, id="sys-exit"),
        pytest.param(THREADS, 0, id="sys-exit-in-a-thread"),
        pytest.param(LATE_HANDLER, 0, id="late-exit-handler"),
        pytest.param(ONLY_LATE_HANDLER, 0, id="only-a-late-exit-handler"),
        pytest.param(WITH_SHUTDOWN, 0, id="shutdown-without-wait"),
    ],
)
def test_an_orderly_end_leaves_the_jobs_to_a_writer(
    bus: Bus, program: str, code: int, record_property: Callable[[str, object], None]
) -> None:
    """No flush, and nobody comes afterwards: the producer itself sees to it that some writer takes its jobs."""
    process = bus.start(program)
    bus.finish(process, code)
    report_exit(bus, process, record_property)
    bus.settle()
    assert {"p": list(range(1, COUNT + 1))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param("os._exit(0)", 0, id="os-exit"),
        pytest.param("os.kill(os.getpid(), 9)", -signal.SIGKILL, id="sigkill"),
        pytest.param("os.execv('/bin/true', ['true'])", 0, id="exec"),
    ],
)
def test_a_sudden_end_loses_nothing(
    bus: Bus, end: str, code: int, record_property: Callable[[str, object], None]
) -> None:
    """The process is gone right after the last submit, perhaps before it could start a writer: whoever comes next
    brings one, and that adopts everything."""
    process = bus.start(SUBMIT + end)
    bus.finish(process, code)
    report_exit(bus, process, record_property)
    bus.next_comes()
    found = bus.numbers("events")
    assert {"p": list(range(1, COUNT + 1)), "next": [1]} == found
    assert {"p": found["p"]} == bus.numbers("details")
    bus.sound()


ENDLESS = (
    LEAVING
    + """
store = TelemetryStore(database)
event(store, "first", 1)
store.flush()
number = 0
while True:
    number += 1
    pair(store, "p", number)
    noted[1] = number
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_mid_stream_loses_nothing(
    bus: Bus, kind: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    """The signal comes at any instruction of `submit`: what was accepted before is applied once and in order; the
    job in hand is there as a whole, or not at all."""
    process = bus.start(ENDLESS)
    wait_until(lambda: bus.notes[1] > 2000, "it is in mid stream")
    began = time.monotonic()
    process.send_signal(kind)
    bus.finish(process, -kind)
    record_property("exit_s", round(time.monotonic() - began, 3))
    bus.next_comes()
    accepted_is_there(bus, "p", 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_beginning_loses_nothing(bus: Bus, kind: signal.Signals) -> None:
    """It comes while the thread is being loaded. (Python 3.11 forgets a KeyboardInterrupt, and ends with 1, when
    another thread evaluates text meanwhile, as the import of ZeroMQ does.)"""
    process = bus.start(ENDLESS.replace("store.flush()\n", ""))
    wait_until(lambda: bus.notes[1] > 0, "it has begun")
    process.send_signal(kind)
    assert process.wait() in ((-kind, 1) if kind == signal.SIGINT else (-kind,))
    bus.next_comes()
    accepted_is_there(bus, "p", 1)


def accepted_is_there(bus: Bus, producer: str, word: int) -> None:
    """What a producer noted as accepted is there, with at most the one job more that it had in hand."""
    accepted = bus.notes[word]
    found = bus.numbers("events").get(producer, [])
    assert list(range(1, len(found) + 1)) == found
    assert len(found) in (accepted, accepted + 1)
    assert found == bus.numbers("details").get(producer, [])
    bus.sound()


@pytest.mark.slow
def test_a_keyboard_interrupt_that_is_caught_leaves_the_store_usable(bus: Bus) -> None:
    """Interrupted again and again in the middle of `submit`, a program that goes on loses and doubles nothing."""
    process = bus.start(
        Notes.OPEN
        + """
import signal
ACCEPTED, INTERRUPTED, ARMED = 1, 2, 3
def interrupted(*_):
    if noted[ARMED]:
        noted[ARMED] = 0
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupted)
store = TelemetryStore(database)
number = 0
while noted[INTERRUPTED] < 500:
    number += 1
    try:
        noted[ARMED] = 1
        pair(store, "p", number)
        noted[ARMED] = 0
        noted[ACCEPTED] += 1
    except KeyboardInterrupt:
        noted[INTERRUPTED] += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
    )
    wait_until(lambda: bus.notes[1] > 100, "it is in mid stream")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    bus.finish(process)
    bus.next_comes()
    found = bus.numbers("events")["p"]
    assert sorted(set(found)) == found
    assert bus.notes[1] <= len(found) <= bus.notes[1] + 500
    assert found == bus.numbers("details")["p"]
    bus.sound()


def test_a_thread_that_submits_during_interpreter_shutdown(
    bus: Bus, record_property: Callable[[str, object], None]
) -> None:
    """A daemon thread goes on submitting while the interpreter ends around it: what was accepted is written."""
    process = bus.start(
        LEAVING
        + """
import threading
store = TelemetryStore(database)
def work():
    number = 0
    while True:
        number += 1
        pair(store, "p", number)
        noted[1] = number
threading.Thread(target=work, daemon=True).start()
while noted[1] < 1000:
    time.sleep(0.001)
leaving()
"""
    )
    bus.finish(process)
    report_exit(bus, process, record_property)
    bus.next_comes()
    accepted_is_there(bus, "p", 1)


FORKS = (
    Notes.OPEN
    + """
store = TelemetryStore(database)
children = []
for number in range(1, 1001):
    pair(store, "parent", number)
    if number % 100 == 50:
        child = os.fork()
        if not child:
            for mine in range(1, 201):
                pair(store, f"child{number}", mine)
            END
        children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
for number in range(1001, 1101):
    pair(store, "parent", number)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_forked_children_begin_streams_of_their_own(bus: Bus, end: str) -> None:
    """A process forks in mid stream, again and again: neither its own jobs nor the children's are lost or doubled."""
    bus.run(FORKS.replace("END", end))
    bus.next_comes()
    expected = {f"child{number}": list(range(1, 201)) for number in range(50, 1001, 100)}
    expected |= {"parent": list(range(1, 1101)), "next": [1]}
    assert expected == bus.numbers("events")
    expected.pop("next")
    assert expected == bus.numbers("details")
    bus.sound()


@pytest.mark.slow
def test_a_fork_while_another_thread_submits(bus: Bus) -> None:
    """The fork may find the store's locks held by a thread that the child does not have."""
    bus.run(
        Notes.OPEN
        + """
import threading
store = TelemetryStore(database)
done = False
def work():
    number = 0
    while not done:
        number += 1
        pair(store, "thread", number)
        noted[1] = number
thread = threading.Thread(target=work)
thread.start()
for index in range(60):
    child = os.fork()
    if not child:
        for number in range(1, 6):
            pair(store, f"child{index}", number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done = True
thread.join()
"""
    )
    bus.next_comes()
    expected = {f"child{index}": list(range(1, 6)) for index in range(60)}
    expected |= {"thread": list(range(1, bus.notes[1] + 1)), "next": [1]}
    assert expected == bus.numbers("events")
    bus.sound()


MULTIPROCESSING = """
import multiprocessing
def work(producer):
    store = get_store(database)
    for number in range(1, 301):
        pair(store, producer, number)

if __name__ == "__main__":
    PARENT
    context = multiprocessing.get_context(sys.argv[2])
    processes = [context.Process(target=work, args=(f"p{index}",)) for index in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [0] * 4 == [process.exitcode for process in processes]
"""


@pytest.mark.parametrize("parent", ["pass", "get_store(database)", "work('parent')"], ids=["none", "unused", "used"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(bus: Bus, method: str, parent: str) -> None:
    """Every start method, with the parent's store made or used before, or not at all: the children leave without a
    flush, their process ends without the usual exit handlers, and all they submitted is written by itself."""
    bus.run(MULTIPROCESSING.replace("PARENT", parent), method)
    bus.settle()
    producers = [f"p{index}" for index in range(4)] + ["parent"] * parent.startswith("work")
    assert {producer: list(range(1, 301)) for producer in producers} == bus.numbers("events")
    assert bus.numbers("events") == bus.numbers("details")
    bus.sound()


def test_one_job_of_a_forked_child_is_written_without_further_help(bus: Bus) -> None:
    """The store is made before the fork and first used in the child, which ends at once: still, a writer comes."""
    bus.run("""
import multiprocessing
store = TelemetryStore(database)
process = multiprocessing.get_context("fork").Process(target=pair, args=(store, "child", 1))
process.start()
process.join()
assert process.exitcode == 0
""")
    bus.settle()
    assert {"child": [1]} == bus.numbers("events") == bus.numbers("details")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_that_is_terminated_in_mid_work(
    bus: Bus, method: str, record_property: Callable[[str, object], None]
) -> None:
    """`Pool.terminate` ends the workers at any instruction: what they had accepted is there, each job whole."""
    process = bus.start(
        LEAVING
        + """
import multiprocessing
def work(index):
    store = get_store(database)
    number = 0
    while True:
        number += 1
        pair(store, f"p{index}", number)
        noted[1 + index] = number

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
        pool.map_async(work, range(3), chunksize=1)
        while not all(noted[1 + index] > 500 for index in range(3)):
            time.sleep(0.001)
        leaving()
""",
        method,
    )
    bus.finish(process)
    report_exit(bus, process, record_property)
    bus.next_comes()
    for index in range(3):
        accepted_is_there(bus, f"p{index}", 1 + index)


@pytest.mark.slow
def test_a_stopped_producer_is_not_taken_for_a_dead_one(bus: Bus) -> None:
    """While it is stopped, a writer comes and goes; its journal is left to it, and it goes on where it was."""
    process = bus.start(ENDLESS)
    wait_until(lambda: bus.notes[1] > 2000, "it is in mid stream")
    os.kill(process.pid, signal.SIGSTOP)
    bus.kill_writers()
    bus.run("""
with TelemetryStore(database) as store:
    event(store, "other", 1)
""")
    stopped_at = bus.notes[1]
    assert 1 == len(bus.folder.journal_paths())
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: bus.notes[1] > stopped_at + 2000, "it goes on")
    process.kill()
    bus.next_comes()
    accepted_is_there(bus, "p", 1)
