"""What a writer inherits from the process that happened to start it: undone where it can be, told where it cannot."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress

#: Python itself ignores these, so that a write fails with an error instead.
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
#: What may end or stop a writer that has done nothing wrong.
_LIMITS = {
    "RLIMIT_AS": resource.RLIMIT_AS,
    "RLIMIT_CPU": resource.RLIMIT_CPU,
    "RLIMIT_DATA": resource.RLIMIT_DATA,
    "RLIMIT_FSIZE": resource.RLIMIT_FSIZE,
}


def undo(*, spawned: bool) -> None:
    """Hear all signals, and have as many open files as the system allows: each producer takes two, and without any left
    libzmq aborts. A writer that a producer started also ignores no signal that the producer did, and takes its other
    limits as high as they go. What an operator sets for a writer in the foreground stays."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _raise(resource.RLIMIT_NOFILE)
    if not spawned:
        return
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for limit in _LIMITS.values():
        _raise(limit)


def what_is_left() -> tuple[str, ...]:
    """What still holds this process back, each in words. A processor or a priority may be somebody's choice."""
    told = [f"{name} is {most}" for name, limit in _LIMITS.items() if (most := _soft(limit)) != resource.RLIM_INFINITY]
    if (nice := os.getpriority(os.PRIO_PROCESS, 0)) > 0:
        told.append(f"nice {nice}")
    may, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    if may < there:
        told.append(f"{may} of {there} processors")
    return tuple(told)


def _soft(limit: int) -> int:
    return resource.getrlimit(limit)[0]


def _raise(limit: int) -> None:
    with suppress(ValueError, OSError):
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most))
