"""What a library takes of the system, tried before it does: where libzmq gets less it ends the process (SIGABRT)."""

from __future__ import annotations

import mmap
import os
from errno import EAGAIN, EMFILE, ENFILE

from .native import native

#: For a context, two sockets and their connections.
_DESCRIPTORS = 16
#: A context has a thread for its sockets' waiting and one for their closing; the stacks of more are memory to spare.
_THREADS = 3
_SPARE_BYTES = 16 * 1024 * 1024


def need_for_sockets() -> None:
    """Raises `OSError` unless a ZeroMQ context with two sockets can have what it takes."""
    _need_descriptors()
    threading = native("threading")
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(_THREADS)]
    try:
        for thread in threads:
            thread.start()
        mmap.mmap(-1, _SPARE_BYTES).close()
    except RuntimeError as error:
        raise no_thread(error) from error
    finally:
        done.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


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
