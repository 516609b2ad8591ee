"""Something done at each step of a function: a kill, an interrupt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Trace = Callable[[FrameType, str, Any], Any]


@contextmanager
def traced(trace: Trace) -> Iterator[None]:
    """Trace the block, by bytecodes where the trace function asks for them."""
    sys._getframe().f_trace_opcodes = True  # from CPython 3.12 on one frame must ask before the tracing begins
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def at_every_bytecode(code: Callable[..., Any], act: Callable[[], None]) -> Trace:
    """A trace function that calls `act` before every bytecode of a function."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not code.__code__:
            return None
        frame.f_trace_opcodes = True  # at each event: CPython 3.13 forgets what is said at the call
        if event == "opcode":
            act()
        return trace

    return trace
