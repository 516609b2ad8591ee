"""Signals that end a command, for those that have something to put in order before."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

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


@contextmanager
def noted(*numbers: int) -> Iterator[Callable[[], bool]]:
    """Whether one of these signals came, for the block, which finishes what it is at; a second one ends it at once. In
    the main thread only."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
