"""Scenes in each mode beside plain SQLite: what is different."""

from __future__ import annotations

import logging
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from telemetry_bus import WriterAbsent
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from . import scenes

MODES = ("daemon", "thread", "sync")
#: Scenes that share a database at a time.
TOGETHER = 8
STOP_S = 30.0


def differences(seeds: range) -> tuple[range, list[str]]:
    """What differs, of a chunk of scenes."""
    logging.disable()  # failing jobs are what scenes are about
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nothing here is about the disk
    with tempfile.TemporaryDirectory(prefix="telemetry-three-modes-", dir=memory, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            flocks = [seeds[at : at + TOGETHER] for at in range(0, len(seeds), TOGETHER)]
            return seeds, [text for flock in flocks for text in compare(flock, folder)]
        finally:
            stop_writer(folder / "daemon.db")


def compare(seeds: Sequence[int], folder: Path) -> Iterator[str]:
    """A text for each mode in which one of these scenes does not come out as in plain SQLite."""
    expected = [scenes.plain(scenes.Scene(seed)) for seed in seeds]
    found = {mode: scenes.real(mode, folder, seeds, random.Random(seeds[0])) for mode in MODES}
    found["batches"] = [scenes.batched(scenes.Scene(seed), random.Random(seed)) for seed in seeds]
    for mode, outcomes in found.items():
        for seed, wanted, outcome in zip(seeds, expected, outcomes, strict=True):
            if wanted != outcome:
                yield f"seed {seed}: {mode}\n  expected {wanted}\n  found    {outcome}"


def stop_writer(path: Path) -> None:
    """End the writer of a database that goes, unless it has left because it was idle."""
    folder = BusFolder.of(parse_database(path))
    with suppress(WriterAbsent):
        if is_held(folder.writer_lock):
            ask(folder, "stop", STOP_S)
    folder.close()
