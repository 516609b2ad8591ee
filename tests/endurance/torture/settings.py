"""What rounds are like: which modes, which linger, which disk, which clock. The torture goes through them in turn."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

#: Of a small disk: more than a round needs.
DISK_BYTES = 3 << 30


class Setting(NamedTuple):
    """`modes`: of the producers in turn. `lingers`: each run gets one, in milliseconds; None for the default."""

    words: str
    modes: tuple[str, ...] = ("daemon",)
    lingers: tuple[float | None, ...] = (None,)
    small_disk: bool = False
    clock_jumps: bool = False


MIXED = (None, 0.0, 20.0, 1000.0)

SETTINGS = (
    Setting("linger as it is by default"),
    Setting("linger 0", lingers=(0.0,)),
    Setting("each its linger; one of four in mode sync; a disk that fills; clocks that jump",
            ("daemon", "sync", "daemon", "daemon"), MIXED, small_disk=True, clock_jumps=True),
    Setting("mode thread, each its linger", ("thread",), MIXED),
)  # fmt: skip


@contextmanager
def disk(folder: Path, setting: Setting) -> Iterator[bool]:
    """Mount a small disk there, where the setting wants one and this user may. Whether there is one."""
    mounted = (
        setting.small_disk and os.geteuid() == 0 and _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder)
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def resize(folder: Path, size: int) -> bool:
    """Whether the disk has this size now: it cannot be smaller than what lies on it."""
    return _mount("-o", f"remount,size={size}", folder)


def _mount(*words: object) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0
