"""Python processes that begin with nothing loaded, and do one thing with the bus."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from .crowd import ProcessFailed
from .writer import PATIENCE_S


@contextmanager
def program(
    source: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Python with this source. It lives until it ends by itself, or the block ends."""
    command = [sys.executable, "-P", "-c", source, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> list[str]:
    """The words of the next line that it prints. Raises `ProcessFailed` when it ends before."""
    assert process.stdout is not None
    words = process.stdout.readline().split()
    if not words:
        raise ProcessFailed(f"a Python process has ended early, with {process.wait()}")
    return words


def end_writer(pid: int) -> None:
    """Ask a writer that is not our child to leave, and see it gone."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGTERM)
            gone = select.poll()
            gone.register(descriptor, select.POLLIN)
            if not gone.poll(PATIENCE_S * 1000):
                raise ProcessFailed(f"writer {pid} does not leave")
        finally:
            os.close(descriptor)
