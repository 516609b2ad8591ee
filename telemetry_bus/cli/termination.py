"""SIGTERM as an exception, for commands that have something to put in order before they end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from .exit_codes import TERMINATED


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block with `SystemExit`. In the main thread only."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
