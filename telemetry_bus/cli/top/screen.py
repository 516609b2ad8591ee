"""The terminal of `top`: a picture that is drawn in its place, until a key or a signal ends it."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from threading import Thread
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live

from ..termination import ended_by_sigterm
from .picture import picture
from .rates import Course, Report

#: How often the size of the terminal is looked at.
_LOOK_S = 0.2
#: What takes no longer than this is waited for as it is.
_PROMPT_S = 0.05


class Screen:
    """The alternate screen of the terminal, for the block. However the block ends, the terminal is as it was."""

    def __init__(self, course: Course, file: TextIO | None = None) -> None:
        """`file` is the terminal; else it is standard output. Keys come from standard input, if that is one too."""
        self._course = course
        self._console = Console(file=file, highlight=False)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._sample: Report | None = None
        self._size = self._console.size
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(ended_by_sigterm())
            self._keys = stack.enter_context(_keys())
            stack.enter_context(self._live)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def meanwhile(self, look: Callable[[], Report]) -> Report | None:
        """Look, and heed keys and the size of the terminal as long as that lasts: a writer may be busy for seconds.
        None as soon as q is pressed; whoever looks is left to end with the process."""
        found: Future[Report] = Future()
        looking = Thread(target=_fill, args=(found, look), daemon=True)
        looking.start()
        looking.join(_PROMPT_S)
        while not found.done():
            if not self.wait(_PROMPT_S):
                return None
        return found.result()

    def show(self, sample: Report) -> None:
        self._sample = sample
        self._draw()

    def wait(self, duration: float) -> bool:
        """Wait so long, and draw anew when the terminal gets another size; False as soon as q is pressed."""
        end = time.monotonic() + duration
        while True:
            left = max(0.0, end - time.monotonic())
            if "q" in self._pressed(min(left, _LOOK_S)).lower():
                return False
            if self._console.size != self._size:
                self._draw()
            if not left:
                return True

    def _draw(self) -> None:
        if self._sample is not None:
            self._size = self._console.size
            lines = picture(self._sample, self._course, self._console)
            self._live.update(Group(*lines), refresh=True)

    def _pressed(self, duration: float) -> str:
        """The keys that are pressed within so many seconds."""
        if not self._keys:
            time.sleep(duration)
            return ""
        if not select.select([sys.stdin], [], [], duration)[0]:
            return ""
        pressed = os.read(sys.stdin.fileno(), 64)
        self._keys = bool(pressed)  # else the terminal has gone
        return pressed.decode(errors="replace")


def _fill(found: Future[Report], look: Callable[[], Report]) -> None:
    try:
        found.set_result(look())
    except BaseException as error:  # raised again where it is waited for
        found.set_exception(error)


@contextmanager
def _keys() -> Iterator[bool]:
    """Keys come as they are pressed, and are not shown. False when standard input is no terminal.

    Ctrl-C interrupts as ever; Ctrl-Z does nothing, for it would leave the shell with a terminal like this.
    """
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        settings = termios.tcgetattr(sys.stdin)
        settings[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSANOW, settings)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)
