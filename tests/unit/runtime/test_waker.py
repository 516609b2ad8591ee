"""Waking a thread that sleeps in a poll."""

from __future__ import annotations

import gc
import os
import select
import threading
from collections.abc import Iterator

from telemetry_bus.runtime.waker import Waker

from ..tracing import at_every_bytecode, traced


def readable(waker: Waker) -> bool:
    return bool(select.select([waker.fileno()], [], [], 0)[0])


def test_a_byte_only_for_one_who_sleeps() -> None:
    """A wake costs nothing while the reader is awake; once it sleeps one byte is written, for all wakes together."""
    waker = Waker()
    waker.wake()
    assert not readable(waker)
    waker.sleeping = True
    for _ in range(3):
        waker.wake()
    assert readable(waker)
    assert b"\0" == os.read(waker.fileno(), 100)
    waker.close()


def test_a_wake_between_the_look_and_the_poll() -> None:
    """The flag is set before the reader looks for work: what comes in between is not slept through."""
    waker = Waker()
    waker.sleeping = True
    waker.wake()
    waker.sleep(None)  # would never end
    assert not waker.sleeping
    assert not readable(waker)
    waker.close()


def test_interrupted_wake() -> None:
    """An interrupt at any bytecode of a wake takes nothing from the next one: it writes the byte that is missing."""
    steps = 0
    done = False
    while not done:
        waker = Waker()
        waker.sleeping = True
        left = iter(range(steps))

        def interrupt(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        try:
            with traced(at_every_bytecode(Waker.wake, interrupt)):
                waker.wake()
            done = True
        except KeyboardInterrupt:
            steps += 1
        waker.wake()
        assert readable(waker)
        waker.close()
    assert steps > 5


def test_waking_from_another_thread() -> None:
    """One who sleeps without a limit is woken."""
    waker = Waker()
    waker.sleeping = True
    thread = threading.Thread(target=waker.wake)
    thread.start()
    waker.sleep(60)
    thread.join(60)
    waker.close()


def test_sleep_has_a_limit() -> None:
    """Without a wake it ends when its time is over."""
    waker = Waker()
    waker.sleeping = True
    waker.sleep(0.001)
    assert not waker.sleeping
    waker.close()


def test_full_pipe() -> None:
    """A wake never blocks, not even when nobody has read for long."""
    waker = Waker()
    for _ in range(70_000):
        waker.sleeping = True
        waker.wake()
    waker.clear()
    waker.close()


def test_pipe_is_given_back() -> None:
    """Closing twice does no harm; one that is forgotten, or inherited by a child, costs no descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    waker = Waker()
    assert before + 2 == len(os.listdir("/proc/self/fd"))
    assert not os.get_inheritable(waker.fileno())
    waker.close()
    waker.close()
    assert before == len(os.listdir("/proc/self/fd"))
    Waker()
    gc.collect()
    assert before == len(os.listdir("/proc/self/fd"))
