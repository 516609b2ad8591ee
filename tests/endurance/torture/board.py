"""Memory that producers share with the oracle, which outlives every one of them."""

from __future__ import annotations

import mmap
from pathlib import Path

#: Runs of producers in one round, at most.
MAX_RUNS = 100_000
#: What a run is asked for.
LEAVE, FORK = 1, 2


class Board:
    """A word of each run for each thing that is noted: whose writer is killed a moment later has noted it."""

    def __init__(self) -> None:
        shared = memoryview(mmap.mmap(-1, 6 * 8 * MAX_RUNS)).cast("Q")
        columns = [shared[n * MAX_RUNS : (n + 1) * MAX_RUNS] for n in range(6)]
        #: The number of the last job whose `submit` has returned, and of submits that have raised.
        self.accepted, self.refused = columns[:2]
        self.asked = columns[2]
        #: Of forked children.
        self.pids = columns[3]
        self._streams = columns[4:]

    def note_stream(self, run: int, journal: str) -> None:
        """A journal has the name of its stream."""
        name = bytes.fromhex(Path(journal).stem)
        for column, half in zip(self._streams, (name[:8], name[8:]), strict=True):
            column[run] = int.from_bytes(half, "big")

    def stream(self, run: int) -> str:
        """As it is named in logs and by journals; empty for a run that has none."""
        words = [column[run] for column in self._streams]
        return "".join(f"{word:016x}" for word in words) if any(words) else ""
