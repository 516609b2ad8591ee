"""What is resident: the writer under more than it can write, a producer beside a Python that does nothing."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from pathlib import Path

from . import crowd
from .fresh import line, program
from .processes import peak_mb, resident
from .rows import FETCHES, each_fetch
from .setting import Figures, Measure, Setting
from .writer import begun, writing

PRODUCERS = 16
#: What the slow disk takes for each sync, in µs. strace lets only these calls wait: all others run at full speed.
SYNC_US = 50_000
SLOW_DISK = (
    "strace",
    "--follow-forks",
    "--seccomp-bpf",
    "--quiet=all",
    "--output=/dev/null",
    "--trace=fsync,fdatasync",
    f"--inject=fsync,fdatasync:delay_enter={SYNC_US}",
)
#: So many rows are on their way, whatever `--rows` says: fewer would fit into any memory.
LEAST_ROWS = 250_000
PRODUCER_ROWS = 100_000
LOOK_EVERY_S = 0.02

PLAIN = """
import sys
print("ready", flush=True)
sys.stdin.read()
"""
PRODUCER = """
import sys
from telemetry_bus import TelemetryStore
database, sql, rows = sys.argv[1:]
store = TelemetryStore(database, spawn=False)
for n in range(int(rows)):
    store.execute(sql, (
        f"https://news.example.com/local/{n:07d}", "news.example.com", 200, n % 900 / 7, 10_000 + n, "newspaper4k",
        "2026-01-01 00:00:00",
    ))
store.flush()
print("done", flush=True)
sys.stdin.read()
"""


def overload(setting: Setting, under: Sequence[str] = ()) -> Figures:
    """The writer's peak while 16 producers submit as fast as they can."""
    share = max(LEAST_ROWS, setting.rows) // PRODUCERS
    with writing(setting.database, FETCHES.ddl, under=under) as writer:
        done = crowd.run(PRODUCERS, _submit, setting.database, share)
        peak = peak_mb(writer.pid)
    FETCHES.check(setting.database, share * PRODUCERS)
    pending = sum(one["pending"] for one in done.figures)
    return {"writer_peak_mb": peak, "pending_jobs": pending, "rows_per_s": share * PRODUCERS / done.seconds}


def slow_disk(setting: Setting) -> Figures:
    """The same while each sync takes 50 ms."""
    return overload(setting, SLOW_DISK)


def producer(setting: Setting) -> Figures:
    """The highest of many looks at a producer, without its journal's pages, less what a plain Python takes."""
    with program(PLAIN) as process:
        line(process)
        plain = resident(process.pid).whole
    highest = journal = 0.0
    with (
        writing(setting.database, FETCHES.ddl),
        program(PRODUCER, setting.database, FETCHES.sql, PRODUCER_ROWS) as process,
    ):
        assert process.stdout is not None
        done = False
        while not done:
            done = bool(select.select([process.stdout], [], [], LOOK_EVERY_S)[0])
            now = resident(process.pid)
            highest, journal = max(highest, now.whole - now.journals), max(journal, now.journals)
        line(process)
    return {"above_python_mb": highest - plain, "journal_mb": journal, "python_mb": plain}


def _submit(number: int, start: crowd.Start, database: Path, share: int) -> Figures:
    with begun(database) as store:
        start()
        for row in each_fetch(share, number * share):
            store.execute(FETCHES.sql, row)
        pending = store.stats().pending
        store.flush()
        return {"pending": pending, "ended": time.perf_counter()}


MEASURES = (
    Measure("memory", "writer's memory, 16 producers at full speed", overload, rare=True),
    Measure(
        "memory-slow-disk",
        "writer's memory, the same on a slow disk",
        slow_disk,
        trial=(*SLOW_DISK, "true"),
        rare=True,
    ),
    Measure("memory-producer", "producer's memory", producer, rare=True),
)
