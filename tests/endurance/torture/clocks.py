"""A wall clock that jumps a day either way, and a writer that has one: `python -m tests.endurance.torture.clocks`."""

from __future__ import annotations

import itertools
import sys
import time

DAY_S = 86_400


def jump() -> None:
    """From now on the wall clock of this process jumps."""
    jumps = itertools.cycle([DAY_S, 0, -DAY_S, 0, 0])
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + next(jumps)
    time.time_ns = lambda: nanoseconds() + next(jumps) * 10**9


if __name__ == "__main__":
    jump()
    from writer_daemon.__main__ import main

    sys.exit(main())
