"""Writers whose system calls fail: strace puts the errors in."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from .bus import ROOT, Bus
from .clock import DEADLINE_S, wait_until

#: Forks a writer for each line: how many calls of the kind to make in vain, and the database. strace counts calls per
#: process, so that one strace with one number does for every call. Answers with the exit code.
FORKING = """
import os, sys
from writer_daemon.__main__ import main

scratch = os.memfd_create("scratch")
in_vain = {
    "pwrite64": lambda: os.pwrite(scratch, b"", 0),
    "fdatasync": lambda: os.fdatasync(scratch),
    "ftruncate": lambda: os.ftruncate(scratch, 0),
}[sys.argv[1]]
for line in sys.stdin:
    count, url = line.split()
    pid = os.fork()
    if pid == 0:
        for _ in range(int(count)):
            in_vain()
        os._exit(main(["--database", url]))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
#: More calls than a short life of a writer makes.
MANY = 150


def strace_or_skip() -> str:
    """The path of strace. A machine without it skips, continuous integration must have it."""
    if path := shutil.which("strace"):
        return path
    missing = "strace is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def failing(call: str, error: str, when: str, trace: Path, *more: str) -> list[str]:
    """What to put before a command, so that calls of one kind fail. The process stays the one that was started."""
    return [
        strace_or_skip(),
        "-D",
        "-f",
        "-qq",
        "-I2",
        *more,
        "-o",
        str(trace),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}:when={when}",
    ]


def stop_failing(pid: int) -> None:
    """From now on nothing fails in this process any more."""

    def tracer() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("TracerPid:")[2].split()[0])

    os.kill(tracer(), signal.SIGTERM)
    wait_until(lambda: not tracer(), "strace lets go of the writer")


class FailingOnce:
    """Has writers, one after the other, in each of which the n-th call of one kind fails; all others succeed."""

    def __init__(self, folder: Path, call: str, error: str) -> None:
        self._trace = folder / "trace"
        self._trace.touch()
        self._errors = (folder / "errors").open("w")
        program = folder / "forking.py"
        program.write_text(FORKING)
        before = failing(call, error, str(MANY + 1), self._trace, "--seccomp-bpf")
        command = [*before, sys.executable, str(program), call]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def start(self, bus: Bus, nth: int | None) -> None:
        """A writer in which the n-th call fails; None: no call."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{0 if nth is None else MANY + 1 - nth} {bus.database.url}\n")
        self._process.stdin.flush()

    def ended(self) -> bool:
        """Whether the writer that was started last has ended; `finish` then has its exit code."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def finish(self) -> int:
        """Wait until the writer has ended; its exit code."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def failures(self) -> int:
        """How many calls have failed so far."""
        return self._trace.read_text().count("(INJECTED)")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()
