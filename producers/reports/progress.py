"""A line on standard error while a report takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import TextIO

#: Nothing is said of what takes less.
FIRST_S = 1.5
EACH_S = 1.0
#: To the beginning of the line, and what stands on it away (ECMA-48).
_CLEAR = "\r\x1b[K"


@contextmanager
def progress(what: str, stream: TextIO | None) -> Iterator[None]:
    """While the block lasts, tell how long it has taken so far: on a terminal each second, in one line that goes away
    at the end, elsewhere once."""
    if stream is None:
        yield
        return
    done = Event()
    thread = Thread(target=_tell, args=(what, stream, done), name="telemetry-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(what: str, stream: TextIO, done: Event) -> None:
    on_terminal = stream.isatty()
    begin, end = (_CLEAR, "") if on_terminal else ("", "\n")
    try:
        for told in count():
            if done.wait(EACH_S if told else FIRST_S):
                break
            stream.write(f"{begin}{what} reads a large table: {FIRST_S + told * EACH_S:.0f} s so far{end}")
            stream.flush()
            if not on_terminal:
                return
        if told:
            stream.write(_CLEAR)
            stream.flush()
    except (OSError, ValueError):  # closed, or its reader has gone
        return
