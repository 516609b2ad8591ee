"""What happens to the parts of a store when its process forks or ends. The one place that knows.

A fork is noticed in two ways. Python's hooks run at `os.fork`, if nothing interrupts them. A fork that Python does not
see (a C library's, an embedder's) runs none. So there is a page that the kernel clears in every child, `own`: whatever
touches the state of the bus looks at it first, and calls `notice_fork` when it has been cleared. The hook in the child
does no more than that, only earlier.

Nor has Python repaired itself then: its interpreter's lock is a copy, with threads among those that wait for it which
are not there, and the child would stand still as soon as it starts a thread. So it is told of the fork first.
"""

from __future__ import annotations

import _thread
import atexit
import ctypes
import logging  # here, even if others did without: see `watch`
import mmap
import os
import sys
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from .native import native

if TYPE_CHECKING:
    import threading

logger = logging.getLogger("telemetry_bus")

#: How long everything together may take at interpreter exit.
EXIT_LIMIT_S = 2.0


class Living(Protocol):
    """Something with threads, locks and descriptors that a fork or an exit must not leave in disorder."""

    def after_fork(self) -> None:
        """In the child: let go of what is the parent's, without waiting for any of its locks.

        Nothing may have been done before the fork. May be called again after an exception.
        """

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
        """Let them go on, if `before_fork` came so far as to keep them. The child gets `Living.after_fork`."""


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = native("threading").RLock()
        watch(self)

    def __enter__(self) -> None:
        if not own[0]:
            notice_fork()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # the block has forked, and this is the child: its lock is a fresh one
            self._lock.release()

    def after_fork(self) -> None:
        self._lock = native("threading").RLock()

    def at_exit(self, limit: float) -> None:
        """Nothing."""


class Hold:
    """A lock that a fork's hooks take and give back. What they raise in between, as a signal handler may do at any
    bytecode, leaves no doubt whether it is taken: the block of a `with` is entered and left without a bytecode."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._turns: dict[int, Generator[None]] = {}  # by thread: several may fork at once

    def take(self) -> None:
        turn = self._turns[_thread.get_ident()] = _hold(self._lock)
        next(turn)

    def release(self) -> None:
        """If this thread has taken it."""
        turn = self._turns.get(_thread.get_ident())
        if turn is not None:
            turn.close()
            del self._turns[_thread.get_ident()]


def _hold(lock: threading.RLock) -> Generator[None]:
    with suppress(RuntimeError), lock:  # in a child another thread may be the one that forgets it
        yield


#: `madvise(2)`, since Linux 4.14. `mmap` has no name for it.
_MADV_WIPEONFORK = 18

Part = TypeVar("Part")

_living: weakref.WeakSet[Living] = weakref.WeakSet()
_resting: weakref.WeakSet[Resting] = weakref.WeakSet()
_import_lock = native("threading").RLock()
_imports = Hold(_import_lock)
#: By process, so that a child never finds it held by a thread that it does not have.
_noticing: dict[int, threading.RLock] = {}
_registered = False
_finalizer_pid: int | None = None  # the process in which `_at_exit` is a finalizer of multiprocessing


class _PidPage:
    """Does for a page that a fork clears where the kernel has none: eight times as slow."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int) -> None:
        if index == 0:
            self._pid = os.getpid()


def _own_page() -> mmap.mmap | _PidPage:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (OSError, AttributeError):
        return _PidPage()
    page[0] = page[1] = 1
    return page


#: `own[0]` is 0 in a child whose parent's state has not been let go of: then call `notice_fork` before anything else.
#: A look takes 14 ns; `os.getpid` takes 110. `own[1]` is 0 in a child of a fork that Python has not seen.
own = _own_page()


def notice_fork() -> None:
    """In a forked child: have each part let go of what is its parent's, unless that has been done.

    What is raised meanwhile, by a signal handler say, is raised again at the end, and the next call does it all again.
    """
    global _import_lock, _imports
    if not own[1]:
        _tell_python()
    with _noticing.setdefault(os.getpid(), native("threading").RLock()):
        if own[0]:
            return
        _imports.release()
        _import_lock = native("threading").RLock()
        _imports = Hold(_import_lock)
        _each(list(_living), _let_go)
        own[0] = 1


def _tell_python() -> None:
    """What `os.fork` does in the child: locks are made again, other threads forgotten, and the hooks run, ours too.

    Not where there are threads already: they would be forgotten as well.
    """
    own[1] = 1
    if isinstance(own, mmap.mmap) and len(os.listdir("/proc/self/task")) == 1:
        _after_fork_child()


#: https://docs.python.org/3/c-api/sys.html#c.PyOS_AfterFork_Child
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
_after_fork_child.restype = None


def _let_go(part: Living) -> None:
    if not own[0]:  # a signal handler may have noticed meanwhile, and gone on
        part.after_fork()


def watch(part: Living) -> None:
    """Tell `part` of forks and of the end, as long as somebody else holds it.

    What is registered last runs first before a fork: `logging`, which holds its lock during one, must have been
    imported by then, or a thread that is to come to rest would wait for that lock.
    """
    global _registered
    if not _registered:
        os.register_at_fork(after_in_child=partial(own.__setitem__, 1, 1))  # no signal handler can run within it
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=notice_fork)
        os.register_at_fork(after_in_parent=_after_fork_in_parent)  # again, should a signal handler end the first
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
    in a child that a fork has made meanwhile it would be held for ever. (One that Python does not see does not wait:
    see `embedded`.)"""
    with _import_lock:
        yield


def embedded() -> bool:
    """Whether this is the Python of another program, uWSGI say, as far as can be told. Such a one may fork unseen."""
    try:
        return "uwsgi" in sys.modules or not os.path.samefile("/proc/self/exe", sys.executable)
    except (OSError, TypeError):
        return True


def keep_for_ever(thing: object) -> None:
    """Not even the end of the interpreter destroys it: for what must not be touched in a forked child."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


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
    """Nothing that follows a fork relies on it: an exception ends it anywhere, and an embedder may leave it out."""
    _imports.take()
    _each(
        sorted(_resting, key=id), lambda part: part.before_fork()
    )  # in one order, or two forks could block each other


def _after_fork_in_parent() -> None:
    _imports.release()
    _each(list(_resting), lambda part: part.after_fork_in_parent())


def _each(parts: Sequence[Part], call: Callable[[Part], None]) -> None:
    """`call` for every part, whatever is raised meanwhile; the last of that is raised at the end."""
    raised: BaseException | None = None
    for part in parts:
        try:
            call(part)
        except BaseException as error:
            raised = error
    try:
        if raised is not None:
            raise raised
    finally:
        del raised  # or a circle keeps the frames, and what they hold


def _at_exit() -> None:
    if not own[0]:
        notice_fork()
    deadline = time.monotonic() + EXIT_LIMIT_S
    for part in list(_living):
        try:
            part.at_exit(max(0.0, deadline - time.monotonic()))
        except Exception:  # the others must end too
            logger.exception("a store did not end in order")
