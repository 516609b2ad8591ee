"""What happens to the parts of a store when its process forks or ends. The one place that knows."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from typing import Protocol

#: How long everything together may take at interpreter exit.
EXIT_LIMIT_S = 2.0


class Living(Protocol):
    """Something with threads, locks and descriptors that a fork or an exit must not leave in disorder."""

    def after_fork(self) -> None:
        """In the child: let go of what is the parent's, without waiting for any of its locks."""

    def at_exit(self, limit: float) -> None:
        """The interpreter ends: stop what runs, within `limit` seconds. May be called twice."""


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        watch(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def at_exit(self, limit: float) -> None:
        """Nothing."""


_living: weakref.WeakSet[Living] = weakref.WeakSet()
_hooked_pid: int | None = None


def watch(part: Living) -> None:
    """Tell `part` of forks and of the end, as long as somebody else holds it."""
    global _hooked_pid
    if _hooked_pid is None:
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_at_exit)
    if _hooked_pid != os.getpid():
        _hooked_pid = os.getpid()
        _hook_multiprocessing()
    _living.add(part)


def _hook_multiprocessing() -> None:
    """A child of `multiprocessing` ends without atexit: it runs its own finalizers instead."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)


def _after_fork() -> None:
    for part in list(_living):
        part.after_fork()


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_LIMIT_S
    for part in list(_living):
        part.at_exit(max(0.0, deadline - time.monotonic()))
