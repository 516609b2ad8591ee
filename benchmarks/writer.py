"""A writer of the bus that is started by hand, so that its process can be looked at, and producers for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telemetry_bus import TelemetryStore

from . import crowd
from .processes import children, cpu_seconds
from .setting import Figures

#: For a writer to start or to leave on a busy machine.
PATIENCE_S = 120.0
#: It leaves by itself when nobody is left to end it.
LEAVES_S = 60


@dataclass(frozen=True)
class Writer:
    """`pid` is the writer's own, also when it runs under another program."""

    pid: int

    @property
    def cpu_s(self) -> float:
        return cpu_seconds(self.pid)


@contextmanager
def writing(database: Path, ddl: str, *, durability: str = "full", under: Sequence[str] = ()) -> Iterator[Writer]:
    """A writer that is up, has seen to `ddl`, and leaves at the end of the block. `under`: a program to run it with."""
    with launched(database, durability=durability, under=under):
        # asked from another process: this one is going to fork
        answer = crowd.run(1, _see_to, database, ddl).figures[0]
        yield Writer(int(answer["pid"]))


@contextmanager
def launched(
    database: Path, *, durability: str = "full", under: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A writer process that has been started, and perhaps does nothing yet."""
    command = [
        *under,
        sys.executable,
        "-P",
        "-m",
        "writer_daemon",
        "--database",
        str(database),
        "--durability",
        durability,
        "--idle-timeout",
        f"{LEAVES_S}",
        "--log-level",
        "warning",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield process
            os.kill(children(process.pid)[0] if under else process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def begun(database: Path, *ensure: str, linger_ms: float | None = None) -> TelemetryStore:
    """A store of a producer, whose stream has begun: the writer knows it, and has seen to `ensure`."""
    store = TelemetryStore(database, spawn=False, timeout=PATIENCE_S, linger_ms=linger_ms)
    store.submit(_nothing, ensure=ensure)
    store.flush()
    return store


def _see_to(number: int, start: crowd.Start, database: Path, ddl: str) -> Figures:
    start()
    with begun(database, ddl) as store:
        return {"pid": store.stats().writer.pid}


def _nothing(connection: object) -> None:
    """A job that only brings definitions."""
