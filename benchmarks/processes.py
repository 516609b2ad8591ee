"""What Linux tells of a process: proc(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: What Linux calls a kB, in MB of a million bytes.
KIB_MB = 1024 / 1e6
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all threads, in user and kernel mode; to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@dataclass(frozen=True)
class Thread:
    name: str
    seconds: float


def cpu_by_thread(pid: int) -> dict[int, Thread]:
    """What the threads that live have taken, exactly."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        found[int(task.name)] = Thread((task / "comm").read_text().strip(), seconds)
    return found


def cpu_of_threads(pid: int) -> float:
    """Seconds of all threads that live, exactly."""
    return sum(thread.seconds for thread in cpu_by_thread(pid).values())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def peak_mb(pid: int) -> float:
    """The most that was resident at any time, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB_MB
    raise ProcessLookupError(f"process {pid} has no memory any more")


@dataclass(frozen=True)
class Resident:
    """MB that are resident now: all of a process, and what of it belongs to mapped journals."""

    whole: float
    journals: float


def resident(pid: int | str = "self") -> Resident:
    whole = journals = 0
    of_journal = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split(None, 5)
        if not first.endswith(":"):  # the beginning of a mapping, with its file
            of_journal = len(rest) == 5 and rest[4].removesuffix(" (deleted)").endswith(".journal")
        elif first == "Rss:":
            whole += int(rest[0])
            journals += of_journal * int(rest[0])
    return Resident(whole * KIB_MB, journals * KIB_MB)
