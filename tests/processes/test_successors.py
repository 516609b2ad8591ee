"""Processes that become others: by exec, and by the forks of a server that has its workers ready."""

from __future__ import annotations

import pytest

from ..support.bus import Bus

pytestmark = pytest.mark.integration

#: Replaces itself, with jobs on their way, by a program that uses the same database under the same process id.
EXEC = """
if len(sys.argv) == 2:
    store = TelemetryStore(database)
    for number in range(1, 501):
        pair(store, "before", number)
    os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
with TelemetryStore(database) as store:
    for number in range(1, 501):
        pair(store, "after", number)
    while len(os.listdir(database + ".bus/journals")) > 1:
        time.sleep(0.01)
"""

#: Makes its store and uses it, then forks workers that serve a few requests each with the same store; two of them are
#: killed and replaced, as a server does.
PREFORK = """
import signal
store = TelemetryStore(database)
for number in range(1, 101):
    pair(store, "server", number)

def worker(name):
    pid = os.fork()
    if pid:
        return pid
    for number in range(1, 201):
        pair(store, name, number)
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    store.flush()
    os._exit(0)

workers = {worker(name): name for name in ("a", "b", "killed.1", "killed.2")}
while workers:
    pid, status = os.wait()
    name = workers.pop(pid)
    assert name.startswith("killed") == os.WIFSIGNALED(status), (name, status)
    if name.startswith("killed"):
        workers[worker(name.replace("killed", "next"))] = name.replace("killed", "next")
for number in range(101, 201):
    pair(store, "server", number)
store.shutdown(wait=True)
"""


def test_a_process_that_becomes_another_program(bus: Bus) -> None:
    """The journal of the first is an orphan, and is adopted, although its process id lives on; the second has a stream
    of its own."""
    bus.run(EXEC)
    bus.settle()
    expected = {"before": list(range(1, 501)), "after": list(range(1, 501))}
    assert expected == bus.numbers("events") == bus.numbers("details")
    bus.sound()


def test_a_server_that_forks_its_workers_beforehand(bus: Bus) -> None:
    """The server's store is every worker's: each has a stream of its own, those that are killed and those that take
    their place."""
    bus.run(PREFORK)
    bus.settle()
    names = ["server", "a", "b", "killed.1", "killed.2", "next.1", "next.2"]
    expected = {name: list(range(1, 201)) for name in names}
    assert expected == bus.numbers("events") == bus.numbers("details")
    assert 1 == len(bus.owners())
    bus.sound()
