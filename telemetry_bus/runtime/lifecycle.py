"""What happens to the parts of a store when its process forks or ends. The one place that knows."""

from __future__ import annotations

import atexit
import logging  # here, even if others did without: see `watch`
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("telemetry_bus")

#: How long everything together may take at interpreter exit.
EXIT_LIMIT_S = 2.0


class Living(Protocol):
    """Something with threads, locks and descriptors that a fork or an exit must not leave in disorder."""

    def after_fork(self) -> None:
        """In the child: let go of what is the parent's, without waiting for any of its locks."""

    def at_exit(self, limit: float) -> None:
        """The interpreter ends: stop what runs, within `limit` seconds. May be called twice."""


class Resting(Protocol):
    """Something that a fork must find at rest.

    What SQLite knows of a file's locks is copied by a fork, and wrong in the child: even a connection of the
    child's own would lock nothing. So nobody may have the file open then (https://www.sqlite.org/howtocorrupt.html,
    section 2.6).
    """

    def before_fork(self) -> None:
        """Come to rest, and keep others from going on."""

    def after_fork_in_parent(self) -> None:
        """Let them go on. The child gets `Living.after_fork`."""


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
_resting: weakref.WeakSet[Resting] = weakref.WeakSet()
_forking = threading.local()
_importing = threading.Lock()
_registered = False
_finalizer_pid: int | None = None  # the process in which `_at_exit` is a finalizer of multiprocessing


def watch(part: Living) -> None:
    """Tell `part` of forks and of the end, as long as somebody else holds it.

    What is registered last runs first before a fork: `logging`, which holds its lock during one, must have been
    imported by then, or a thread that is to come to rest would wait for that lock.
    """
    global _registered
    if not _registered:
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
        atexit.register(_at_exit)
        _registered = True
    _hook_multiprocessing()
    _living.add(part)


def rest_at_fork(part: Resting) -> None:
    """Have `part` at rest during each fork, as long as somebody else holds it. `watch` it as well."""
    _resting.add(part)


@contextmanager
def importing() -> Iterator[None]:
    """Around an import in a thread of ours. A fork waits for its end: each module has a lock while it is imported, and
    in a child that a fork has made meanwhile it would be held for ever."""
    with _importing:
        yield


def _hook_multiprocessing() -> None:
    """A child of `multiprocessing` ends without atexit: it runs its own finalizers instead.

    Whether this is one is known only when it has begun, which may be after it has imported us.
    """
    global _finalizer_pid
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None and _finalizer_pid != os.getpid():
        _finalizer_pid = os.getpid()
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)


def _before_fork() -> None:
    _forking.parts = sorted(_resting, key=id)  # in one order, or two forks at once could wait for each other
    for part in _forking.parts:
        part.before_fork()
    _importing.acquire()


def _after_fork_in_parent() -> None:
    _importing.release()
    for part in _forking.parts:
        part.after_fork_in_parent()
    _forking.parts = []


def _after_fork() -> None:
    _importing.release()
    for part in list(_living):
        part.after_fork()


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_LIMIT_S
    for part in list(_living):
        try:
            part.at_exit(max(0.0, deadline - time.monotonic()))
        except Exception:  # the others must end too
            logger.exception("a store did not end in order")
