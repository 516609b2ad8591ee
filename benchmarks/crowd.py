"""Many processes that begin at one moment, and how long it takes until the last one is done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from .setting import Figures

_CONTEXT = multiprocessing.get_context("fork")

#: Called by each process once, when its rows are built: returns at the common start.
Start = Callable[[], None]
#: `work(number, start, ...)`: one process's part. It returns when all of its rows are visible to a reader.
Work = Callable[..., Figures]


class ProcessFailed(Exception):
    """A process has ended without having done its part."""


@dataclass(frozen=True)
class Run:
    """`seconds` from the first one's start to the last one's end, on the clock that all processes share."""

    seconds: float
    figures: Sequence[Figures]

    def median(self, name: str) -> float:
        values = sorted(one[name] for one in self.figures)
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2

    def worst(self, name: str) -> float:
        return max(one[name] for one in self.figures)


def run(count: int, work: Work, *arguments: Any) -> Run:
    """`work` in `count` forked processes. Raises `ProcessFailed`; none is left behind.

    The caller must have no threads and no open stores or connections: a forked process would inherit them.
    """
    gate, opened = os.pipe()
    processes: list[ForkProcess] = []
    pipes: list[Connection] = []
    try:
        for number in range(count):
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=_part, args=(number, gate, opened, theirs, work, arguments), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        _answers(pipes)
        os.close(opened)  # all of them read the end of the pipe at once
        opened = -1
        ended = _answers(pipes)
        for process in processes:
            process.join()
    finally:
        for descriptor in (gate, opened):
            if descriptor >= 0:
                os.close(descriptor)
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()
    return Run(max(end for _, end, _ in ended) - min(began for began, _, _ in ended), [one for *_, one in ended])


def _answers(pipes: Sequence[Connection]) -> list[Any]:
    """One message of each process."""
    found: dict[Connection, Any] = {}
    while len(found) < len(pipes):
        for pipe in wait([pipe for pipe in pipes if pipe not in found]):
            assert isinstance(pipe, Connection)
            try:
                found[pipe] = pipe.recv()
            except EOFError:
                raise ProcessFailed(f"process {pipes.index(pipe) + 1} of {len(pipes)} has ended early") from None
    return [found[pipe] for pipe in pipes]


def _part(number: int, gate: int, opened: int, pipe: Connection, work: Work, arguments: Sequence[Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    os.close(opened)
    began = 0.0

    def start() -> None:
        nonlocal began
        pipe.send(None)
        os.read(gate, 1)
        began = time.perf_counter()

    figures = work(number, start, *arguments)
    with suppress(BrokenPipeError):
        pipe.send((began, figures.get("ended", time.perf_counter()), figures))
