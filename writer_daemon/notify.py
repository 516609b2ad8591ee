"""Telling the service manager how the writer is: the datagrams of sd_notify(3), and none without a manager."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from telemetry_bus.config import WATCHDOG_S

from .status import WriterStatus

#: The status line is looked at so often. Each sending wakes the service manager.
STATUS_EVERY_S = 1.0


class Notifier:
    """Speaks to `NOTIFY_SOCKET`, if `environ` has one. Never raises and never waits: the writer does not depend on it.

    It has no thread: `turn` is called by the loop, so that a loop that is stuck starves the watchdog.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Without `environ`, or for a process that the manager does not mean, nothing is ever sent."""
        environ = environ or {}
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._clock = clock
        self._said: str | None = None
        self._reached: object = None
        self._extend_at = self._status_at = clock()
        self._beat_s = _half_interval(environ)
        self._beat_at = clock() if self._address and self._beat_s else float("inf")

    def due_in(self) -> float:
        """Seconds until the watchdog wants to hear of the next turn."""
        return max(0.0, self._beat_at - self._clock())

    def starting(self, status: Callable[[], WriterStatus]) -> None:
        """The loop has come round once more, and is not ready yet. The manager gives it more time for as long as
        its progress is another one each time: one that stands still is stopped at the end of its time."""
        now = self._clock()
        if not self._address or now < self._extend_at:
            return
        self._extend_at = now + STATUS_EVERY_S
        found = status()
        reached = found.progress
        more = () if reached == self._reached else (f"EXTEND_TIMEOUT_USEC={WATCHDOG_S * 1_000_000}",)
        if self._send(*more, _status(found.line())):
            self._reached = reached

    def turn(self, status: Callable[[], WriterStatus]) -> None:
        """The loop has come round once more, and is ready."""
        if not self._address:
            return
        now = self._clock()
        if now >= self._beat_at:
            self._beat_at = now + (self._beat_s if self._send("WATCHDOG=1") else self._beat_s / 10)
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            text = status().line()
            if text != self._said and self._send("READY=1", _status(text)):  # a READY that did not arrive comes again
                self._said = text

    def say(self, text: str) -> None:
        """What is going on before and after the loop."""
        self._send(_status(text))

    def stopping(self) -> None:
        self._send("STOPPING=1", _status("finishing the batch"))

    def _send(self, *lines: str) -> bool:
        """Whether the manager has it."""
        if not self._address:
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.setblocking(False)
            notify.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)
            return True
        return False


def _half_interval(environ: Mapping[str, str]) -> float:
    """Half of the watchdog's interval in seconds, as sd_watchdog_enabled(3) advises; 0: nobody watches us."""
    microseconds, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID") or str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdecimal() and watched == str(os.getpid()) else 0.0


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"
