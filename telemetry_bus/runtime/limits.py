"""What a library takes of the system, tried before it does: where libzmq gets less it ends the process (SIGABRT)."""

from __future__ import annotations

import mmap
import os
from _thread import LockType
from errno import EAGAIN, EMFILE, ENFILE

from .native import native

#: For a context, two sockets and their connections.
_DESCRIPTORS = 16
#: A context has a thread for its sockets' waiting and one for their closing; the stacks of more are memory to spare.
_THREADS = 3
#: Beside those; also more than it takes to load the library.
_SPARE_BYTES = 16 * 1024 * 1024


def need_memory() -> None:
    """Raises `OSError` unless there is room to load ZeroMQ. An import that fails in the middle cannot be made again:
    modules of C are loaded once, and keep what their first import has left."""
    mmap.mmap(-1, _SPARE_BYTES).close()


def need_for_sockets() -> None:
    """Raises `OSError` unless a ZeroMQ context with two sockets can have what it takes."""
    _need_descriptors()
    thread = native("_thread")  # `threading` would become green below our feet where the program patches at this moment
    gate, ended = thread.allocate_lock(), []
    gate.acquire()
    try:
        for _ in range(_THREADS):
            lock = thread.allocate_lock()
            lock.acquire()
            thread.start_new_thread(_stay, (gate, lock))
            ended.append(lock)
        need_memory()
    except RuntimeError as error:
        raise no_thread(error) from error
    finally:
        gate.release()
        for lock in ended:
            lock.acquire()


def _stay(gate: LockType, ended: LockType) -> None:
    """Until the gate opens."""
    with gate:
        ended.release()


def no_thread(error: RuntimeError) -> OSError:
    """What the system says of a thread that Python could not start."""
    return OSError(EAGAIN, f"{error}: see ulimit -u and ulimit -v")


def way_out(error: OSError) -> str:
    """A hint for whoever ran into a limit."""
    if error.errno in (EMFILE, ENFILE):
        return "raise the limit of open files, or close some"
    return "see ulimit -a for the limits of this process"


def _need_descriptors() -> None:
    taken: list[int] = []
    try:
        while len(taken) < _DESCRIPTORS:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        for fd in taken:
            os.close(fd)
