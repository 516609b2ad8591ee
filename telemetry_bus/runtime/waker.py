"""Wakes a thread that sleeps in a poll, for next to nothing when it is awake."""

from __future__ import annotations

import contextlib
import os
import select

from .native import native


class Waker:
    """A pipe to poll beside one's sockets. A byte is written only when the reader has said that it sleeps.

    The reader sets `sleeping`, looks once more whether there is work, and only then polls: a submit that comes
    in between finds the flag and writes the byte.
    """

    _read = _write = -1
    _close = staticmethod(os.close)  # the module may be gone when the interpreter ends

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.sleeping = False
        self._os, self._poll = native("os"), native("select").poll

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        """May be called from any thread, and from a signal handler. When it is interrupted, the next wake wakes."""
        if self.sleeping:
            try:
                self.sleeping = False
                self._os.write(self._write, b"\0")
            except BlockingIOError:
                pass  # the pipe is full: the reader will wake
            except BaseException:
                self.sleeping = True
                raise

    def clear(self) -> None:
        """The reader is awake."""
        self.sleeping = False
        with contextlib.suppress(BlockingIOError):
            self._os.read(self._read, 4096)

    def sleep(self, timeout: float | None) -> None:
        """Wait for a wake and nothing else, `timeout` seconds at most."""
        poller = self._poll()
        poller.register(self._read, select.POLLIN)
        poller.poll(None if timeout is None else max(0, round(timeout * 1000)))
        self.clear()

    def close(self) -> None:
        """Give the pipe back, when nobody can wake any more. Idempotent; a forgotten waker does it by itself."""
        pipe, self._read, self._write = (self._read, self._write), -1, -1
        for fd in pipe:
            if fd >= 0:
                self._close(fd)

    __del__ = close
