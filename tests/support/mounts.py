"""Mounts for a test, gone when it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(*words: str | os.PathLike[str], at: Path) -> Iterator[None]:
    """`mount` with these words, for the block; the test is skipped where nothing can be mounted, as without root."""
    done = subprocess.run(["mount", *words, at], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)
