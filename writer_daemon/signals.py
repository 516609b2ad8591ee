"""Signals wake the loop; the loop does the work."""

from __future__ import annotations

import os
import signal
from types import FrameType

from telemetry_bus.runtime.waker import Waker

from .exit_codes import FORCED


class Signals:
    """While it is entered, SIGTERM and SIGINT ask the loop to leave; the second one leaves at once."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._before: dict[signal.Signals, object] = {}
        self.leave = False

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.leave:
            os._exit(FORCED)  # nothing is lost: what is not committed is in the journals
        self.leave = True
        self._waker.wake()
