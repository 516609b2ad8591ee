"""What the processes of a soak share: what was accepted, and what they are asked to do."""

from __future__ import annotations

import mmap
import time

#: Runs of producers, at most. Untouched pages of shared memory cost nothing.
MAX_RUNS = 1 << 20
#: From this run on: the children that long-lived producers fork, so many numbers for each of the producers.
FORKED, FORKED_EACH = 1 << 19, 1 << 16


class Board:
    """Words in memory that a forked process shares with the oracle: what it has noted survives its death.

    `accepted[run]` is the number of the last job of a run whose submit has returned. Rows up to `deletable[table]`
    have been judged. A new value of `wave` asks the long-lived producers for a wave of new texts.
    """

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, 8 * (MAX_RUNS + 8))).cast("Q")
        self.accepted = words[:MAX_RUNS]
        self.deletable = words[MAX_RUNS : MAX_RUNS + 2]
        self._rest = words[MAX_RUNS + 2 :]

    @property
    def leaving(self) -> bool:
        return self._rest[0] == 1

    def leave(self) -> None:
        """Ask every process to end."""
        self._rest[0] = 1

    @property
    def wave(self) -> int:
        return self._rest[1]

    def next_wave(self) -> None:
        self._rest[1] += 1

    def lull(self, seconds: float) -> None:
        """Ask the producers to be silent for so long."""
        self._rest[2] = time.monotonic_ns() + round(seconds * 1e9)

    def pause(self, seconds: float) -> None:
        """Sleep so long, and as long as a lull lasts."""
        time.sleep(seconds)
        while not self.leaving and time.monotonic_ns() < self._rest[2]:
            time.sleep(0.02)
