"""Signals whose handler raises meet a submit everywhere, again and again."""

from __future__ import annotations

import pytest

from ..support.bus import Bus

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Is interrupted 5,000 times in `execute` while another thread submits, which ends when nobody holds the lock; prints
#: how many jobs that one has submitted, the last number that was tried, and the last that was accepted.
PROGRAM = """
import signal, threading

class Interrupt(Exception):
    pass

def interrupt(number, frame):
    while frame is not None:
        if frame.f_code is TelemetryStore.execute.__code__:
            raise Interrupt
        frame = frame.f_back

store = TelemetryStore(database, spawn=False)
event(store, "before", 1)
calm = threading.Event()

def submit():
    number = 0
    while not calm.is_set():
        number += 1
        event(store, "other", number)
    print(number, flush=True)

other = threading.Thread(target=submit)
other.start()
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
number = accepted = interrupts = 0
while interrupts < 5000:
    number += 1
    try:
        event(store, "stormy", number)
        accepted = number
    except Interrupt:
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
calm.set()
other.join()
store.flush()
print(number, accepted, flush=True)
"""


def test_no_lock_is_left_held_and_no_job_lost(bus: Bus) -> None:
    """Each accepted job is there once and in order; one whose submit was interrupted is there once or not at all."""
    bus.answering_writer()
    others, number, accepted = map(int, bus.run(PROGRAM).split())
    numbers = bus.numbers()
    assert list(range(1, others + 1)) == numbers["other"]
    stormy = numbers["stormy"]
    assert sorted(set(stormy)) == stormy
    assert number - 5000 <= len(stormy) <= number
    assert accepted in stormy
    bus.another_job()
    bus.sound()
