"""Measures the processes and files of a bus, at one moment after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .judging import KINDS, MIB, Series

_OF_PROCESSES = ("memory", "descriptors", "threads")


class Samples:
    """The series so far. Each process is a life; so is the bus as a whole since `renew`."""

    def __init__(self, database: Path, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._lives: dict[tuple[str, str, int], Series] = {}
        self._bus = 0
        self.quarantined = 0

    @property
    def series(self) -> list[Series]:
        """All of them, those of one kind together."""
        order = list(KINDS)
        return sorted(self._lives.values(), key=lambda series: order.index(series.kind.name))

    def renew(self) -> None:
        """The series of the bus as a whole begin again."""
        self._bus += 1

    def take(self, at: float, status: Mapping[str, Any], people: Mapping[str, int]) -> None:
        """One moment: the status of the bus, with or without a writer, and the process ids of others by name."""
        if status["pid"] is not None:
            self._process(at, "writer", status["pid"])
        for name, pid in people.items():
            self._process(at, name, pid)
        self._put(at, "pending jobs", "bus", self._bus, status["pending_jobs"])
        sizes = _sizes(self._folder)
        self._put(at, "log (WAL)", "bus", self._bus, _size(Path(f"{self._database}-wal")) / MIB)
        self._put(at, "database", "bus", self._bus, _size(self._database) / MIB)
        self._put(at, "bus folder", "bus", self._bus, sum(sizes.values()) / MIB)
        self._put(at, "journals", "bus", self._bus, sum(path.endswith(".journal") for path in sizes))
        self.quarantined = max(self.quarantined, sum("/quarantine/" in path for path in sizes))

    def _process(self, at: float, name: str, pid: int) -> None:
        for kind, value in zip(_OF_PROCESSES, process(pid), strict=False):
            self._put(at, kind, name, pid, value)

    def _put(self, at: float, kind: str, name: str, life: int, value: float) -> None:
        key = (kind, name, life)
        if key not in self._lives:
            lives = sum((kind, name) == known[:2] for known in self._lives)
            self._lives[key] = Series(KINDS[kind], f"{name}, life {lives + 1}" if name in ("writer", "bus") else name)
        self._lives[key].points.append((at, value))


def process(pid: int) -> tuple[float, ...]:
    """Resident memory in MiB, open descriptors, threads; nothing when the process is gone."""
    with suppress(OSError, KeyError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return (
            int(facts["VmRSS"].split()[0]) / 1024,
            len(os.listdir(f"/proc/{pid}/fd")),
            int(facts["Threads"]),
        )
    return ()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sizes(folder: Path) -> dict[str, int]:
    """What each file below a folder takes of the disk: journals are sparse at first."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                path = os.path.join(parent, name)
                found[path] = 512 * os.lstat(path).st_blocks
    return found
