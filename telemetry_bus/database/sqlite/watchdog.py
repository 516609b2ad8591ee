"""Interrupts a statement whose time is over, from a thread: some never come to look at the clock themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from ...runtime.native import native

if TYPE_CHECKING:
    import threading

#: What does not end at all so long after it was interrupted: the connection cannot be had back.
STUCK_AFTER_S = 30.0
#: The thread looks so often, while there are deadlines; and without one so many times more, before it sleeps.
_LOOK_EVERY_S = 0.25
_IDLE_LOOKS = 8


class Watchdog:
    """One thread, begun with the first deadline.

    SQLite heeds an interrupt between two instructions of its virtual machine
    (https://www.sqlite.org/c3ref/interrupt.html); a function that does not return cannot be stopped. Then `on_stuck`
    is called, once.
    """

    def __init__(self, interrupt: Callable[[], None], on_stuck: Callable[[], None] | None) -> None:
        self._interrupt = interrupt
        self._on_stuck = on_stuck
        #: When what runs now must be done, by `time.monotonic`; `inf`: nothing runs. Say `begin` after it is set.
        self.late_at = inf
        #: Whether `begin` has something to do.
        self.asleep = True
        self._closed = False
        self._wake = native("threading").Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look at `late_at`, if it was not looked at for a while."""
        if self._thread is None:
            self.asleep = False
            self._thread = native("threading").Thread(target=self._run, name="telemetry-watchdog", daemon=True)
            self._thread.start()
        else:
            self._wake.set()

    def close(self) -> None:
        """Ends the thread. Idempotent."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not native("threading").current_thread():
            self._thread.join()

    def _run(self) -> None:
        idle = 0
        while not self._closed:
            idle = idle + 1 if self.late_at == inf else 0
            if idle > _IDLE_LOOKS:
                self.asleep = True
                if self.late_at == inf and not self._closed:  # else a deadline came meanwhile, and saw us awake
                    self._wake.wait()
                self.asleep = False
            else:
                self._wake.wait(_LOOK_EVERY_S)
            self._wake.clear()
            self._look(self.late_at - time.monotonic())

    def _look(self, left: float) -> None:
        if left < 0 and not self._closed:
            self._interrupt()
        if left < -STUCK_AFTER_S and self._on_stuck is not None:
            on_stuck, self._on_stuck = self._on_stuck, None
            on_stuck()
