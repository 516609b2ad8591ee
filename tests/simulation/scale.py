"""Limits so tight that a few dozen jobs meet every one of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from telemetry_bus.journal import orphan
from telemetry_bus.journal import ring as journal
from telemetry_bus.protocol import writer as writer_protocol
from telemetry_bus.writer import adoption

RING_BYTES = (1500, 3000)
CHUNK_BYTES, WINDOW_BYTES = 200, 1000
FULL_BYTES = (50, 200)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """An empty folder, in memory where there is a file system for that."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(prefix="telemetry-simulate-", dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@contextmanager
def small_world() -> Iterator[pytest.MonkeyPatch]:
    """Tight limits, no waiting for the disk, no log."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (journal, "CHUNK_BYTES", CHUNK_BYTES),
            (journal, "DEFINITIONS_BYTES", 400),
            (orphan, "CHUNK_BYTES", 250),
            (orphan, "_PIECE_BYTES", 300),
            (writer_protocol, "TOTAL_WINDOW_BYTES", 1500),
            (writer_protocol, "MIN_WINDOW_BYTES", 300),
            (writer_protocol, "MAX_WINDOW_BYTES", WINDOW_BYTES),
            (writer_protocol, "MAX_FAILURES", 1),
        ):
            patch.setattr(module, name, value)
        for module in (journal, orphan, adoption):
            patch.setattr(module, "sync_folder", lambda folder: None)
        logger = logging.getLogger("telemetry_bus")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield patch
        finally:
            logger.setLevel(level)
