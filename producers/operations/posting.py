"""Sends in the background what would make the watched work wait."""

from __future__ import annotations

import atexit
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from .forks import renew_in_child

#: So many sends wait; what comes when they do is dropped, and counted.
MAX_WAITING = 1000
#: A thread that has nothing to send ends after so long. The next send starts another.
IDLE_S = 5.0
#: How long the exit of the process waits for what is not sent yet.
EXIT_LIMIT_S = 2.0

logger = logging.getLogger(__name__)


class BackgroundPoster:
    """Calls what it is given, one after the other, in a thread of its own, which starts at the first call.

    `dropped` counts what found no room or was not sent at the end. A forked child begins with nothing: what waits
    is sent by the parent.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self.dropped = 0
        self._max_waiting = max_waiting
        self._closed = False
        self.after_fork()
        renew_in_child(self)
        _posters.add(self)

    def after_fork(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._busy = False
        self._thread: Thread | None = None
        self._changed = Condition()

    def post(self, send: Callable[[], object]) -> None:
        """Have `send` called soon. Never waits; what `send` raises is logged."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._max_waiting:
                self._drop(1)
                return
            self._waiting.append(send)
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def drain(self, limit: float) -> bool:
        """Wait up to `limit` seconds until everything is sent; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, limit)

    def close(self, limit: float = EXIT_LIMIT_S) -> None:
        """`drain`, drop the rest, and take nothing more. Idempotent."""
        self.drain(limit)
        with self._changed:
            self._closed = True
            if self._waiting:
                self._drop(len(self._waiting))
                self._waiting.clear()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = Thread(target=self._run, name="telemetry-reporter", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end
            self._drop(len(self._waiting))
            self._waiting.clear()
        else:
            self._thread = thread

    def _run(self) -> None:
        while (send := self._next()) is not None:
            try:
                send()
            except Exception as error:
                logger.warning("an event could not be sent: %s: %s", type(error).__name__, error)

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_S)
            if not self._waiting:
                self._thread = None
                return None
            self._busy = True
            return self._waiting.popleft()

    def _drop(self, count: int) -> None:
        if not self.dropped:
            logger.warning("events are dropped: the reporter's API does not keep up")
        self.dropped += count


_posters: weakref.WeakSet[BackgroundPoster] = weakref.WeakSet()


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_LIMIT_S
    for poster in list(_posters):
        poster.close(max(0.0, deadline - time.monotonic()))


atexit.register(_at_exit)
