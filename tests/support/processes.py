"""The processes of this machine: which run, what they do, signals to them, and an interrupt that is not lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

PROC = Path("/proc")


def running(*texts: str) -> dict[int, str]:
    """The processes whose command lines contain each of these texts. A NUL stands before and after every word."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # ended meanwhile
                line = _command_line(entry)
                if all(text in line for text in texts):
                    found[int(entry.name)] = line
    return found


def writers_of(url: str) -> list[int]:
    """The processes that are, or are about to become, the writer of the database with this URL."""
    return [*running("\0--database\0", f"\0{url}\0")]


def writers_below(folder: Path) -> list[int]:
    """The writers of databases below a folder."""
    return [*running("writer_daemon", f"{folder}/")]


def state(pid: int) -> str:
    """The letter for what a process does: R, S, D, T, Z; X when it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def doing(pid: int) -> str:
    """The state of a process, and what it waits for in the kernel."""
    try:
        return f"{state(pid)} {(PROC / str(pid) / 'wchan').read_text()}"
    except OSError:
        return "gone"


def send(pid: int, kind: signal.Signals) -> bool:
    """Whether there was a process to get the signal."""
    with suppress(ProcessLookupError):
        os.kill(pid, kind)
        return True
    return False


def uninterrupted(work: Callable[..., None], *arguments: Any) -> None:
    """The body of a forked process: an interrupt of the whole group is for the parent alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    work(*arguments)


class Interrupt:
    """SIGINT and SIGTERM as KeyboardInterrupt. Python drops one that is raised in a callback, as those around a fork
    are, and a process that is started at that moment must not be forgotten; therefore loops that start processes do
    so in `held`, and ask for an interrupt with `check`."""

    came = False
    holds = 0

    @classmethod
    def install(cls) -> None:
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, cls._take)

    @classmethod
    def check(cls) -> None:
        if cls.came:
            raise KeyboardInterrupt

    @classmethod
    @contextmanager
    def held(cls) -> Iterator[None]:
        """An interrupt comes at the end of the block."""
        cls.holds += 1
        try:
            yield
        finally:
            cls.holds -= 1
        if not cls.holds:
            cls.check()

    @classmethod
    def _take(cls, number: int, frame: FrameType | None) -> None:
        cls.came = True
        if not cls.holds:
            raise KeyboardInterrupt


def _command_line(process: Path) -> str:
    """One that is in the middle of its exec has none yet: a moment later it has. So has none that has ended."""
    while not (line := (process / "cmdline").read_bytes()) and (process / "exe").exists():
        time.sleep(0.001)
    return f"\0{os.fsdecode(line)}"
