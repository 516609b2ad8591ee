"""Stores that nobody shuts down: what they have accepted is written, and what they hold is let go of."""

from __future__ import annotations

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

#: A function has a store of its own, and the program ends with it.
FUNCTION = """
def main():
    store = TelemetryStore(database, mode=sys.argv[2])
    event(store, "p", 1)
main()
"""

#: In a circle only the garbage collector finds it, in the middle of a submit of another store.
CIRCLE = """
import gc
gc.disable()
other = TelemetryStore(database, mode=sys.argv[2])
event(other, "other", 1)
def main():
    store = TelemetryStore(database, mode=sys.argv[2])
    circle = [store]
    circle.append(circle)
    event(store, "p", 1)
main()
gc.enable()
gc.set_threshold(1, 1, 1)
for number in range(2, 101):
    event(other, "other", number)
other.shutdown(wait=True)
"""

#: A global, which is collected when the modules are.
GLOBAL = """
store = TelemetryStore(database, mode=sys.argv[2])
event(store, "p", 1)
"""

#: Many come and go, with and without jobs.
MANY = """
import gc, threading
def resources():
    gc.collect()
    with open("/proc/self/maps") as maps:
        journals = sum(".journal" in line for line in maps)
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), journals
def use(number):
    store = TelemetryStore(database, mode=sys.argv[2], journal_bytes=1 << 20)
    if number % 2:
        event(store, "p", number // 2 + 1)
        if number % 4 == 1:
            store.flush()
keeper = TelemetryStore(database, mode=sys.argv[2])
event(keeper, "keeper", 1)
keeper.flush()
before = resources()
for number in range(40):
    use(number)
deadline = time.monotonic() + 50
while any(now > then for now, then in zip(resources(), before)):
    assert time.monotonic() < deadline, (before, resources())
    time.sleep(0.01)
assert not [thread for thread in threading.enumerate() if isinstance(thread, threading._DummyThread)]
keeper.shutdown(wait=True)
"""


@pytest.mark.parametrize("mode", ["daemon", "thread"])
@pytest.mark.parametrize("program", [FUNCTION, CIRCLE, GLOBAL], ids=["function", "circle", "global"])
def test_a_store_that_is_forgotten(bus: Bus, program: str, mode: str) -> None:
    """Its job is written before another producer comes, and no journal stays."""
    bus.run(program, mode, PYTHONWARNINGS="ignore")
    wait_until(lambda: "p" in bus.numbers(), "the job is written")
    found = bus.numbers()
    assert [1] == found.pop("p")
    assert found in ({}, {"other": [*range(1, 101)]})
    bus.next_comes()


@pytest.mark.parametrize("mode", ["daemon", "thread"])
def test_many_stores_that_are_forgotten(bus: Bus, mode: str) -> None:
    """Neither threads nor descriptors nor maps stay."""
    bus.run(MANY, mode, PYTHONWARNINGS="ignore")
    bus.settle()
    assert {"keeper": [1], "p": [*range(1, 21)]} == {who: sorted(numbers) for who, numbers in bus.numbers().items()}


def test_it_warns(bus: Bus) -> None:
    """Of a store with jobs pending, and of no other."""
    program = """
import gc, warnings
warnings.simplefilter("always")
def main(jobs):
    store = TelemetryStore(database, spawn=False)
    for number in range(1, jobs + 1):
        event(store, "p", number)
for jobs in (0, 2):
    with warnings.catch_warnings(record=True) as caught:
        main(jobs)
        gc.collect()
    print(jobs, [(each.category.__name__, "2 jobs are pending" in str(each.message)) for each in caught])
"""
    assert ["0 []", "2 [('ResourceWarning', True)]"] == bus.run(program).splitlines()
    bus.next_comes()
    assert [1, 2] == bus.numbers()["p"]
