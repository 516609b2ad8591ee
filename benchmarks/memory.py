"""What is resident: the writer under more than it can write, a producer beside a Python that does nothing."""

from __future__ import annotations

import os
import select
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from . import crowd
from .fresh import line, program
from .processes import peak_mb, resident
from .rows import BUSY_S, FETCHES, Target, each_fetch, fetches
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
#: For so long another program has the database; producers stop when their journals are nearly full.
LOCKED_S, LOCKED_PRODUCERS, FULL_BYTES = 60.0, 4, 30 * 1024 * 1024
LARGE = Target(
    "large", "CREATE TABLE IF NOT EXISTS large (number INTEGER, data BLOB)", "INSERT INTO large VALUES (?, ?)"
)
LARGE_JOBS, LARGE_PRODUCERS, LARGE_BYTES = 44, 4, 8_000_000
TEXTS, TEXT_BYTES = 1100, 292 * 1024

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


def locked(setting: Setting) -> Figures:
    """The writer's peak while another program holds the database for a minute, and producers fill their journals."""
    with writing(setting.database, FETCHES.ddl) as writer:
        done = crowd.run(LOCKED_PRODUCERS + 1, _submit_or_lock, setting.database)
        peak = peak_mb(writer.pid)
    FETCHES.check(setting.database, round(sum(one["rows"] for one in done.figures)))
    return {"writer_peak_mb": peak, "resent": sum(one["resent"] for one in done.figures)}


def large(setting: Setting) -> Figures:
    """The writer's and a producer's peak with jobs of nearly the largest size."""
    return _with_large(setting, _submit_large, LARGE_JOBS, LARGE_PRODUCERS)


def texts(setting: Setting) -> Figures:
    """The same with statements of 292 KiB, each another one."""
    return _with_large(setting, _submit_texts, TEXTS, 1)


def _with_large(setting: Setting, submit: crowd.Work, jobs: int, producers: int) -> Figures:
    with writing(setting.database, LARGE.ddl) as writer:
        done = crowd.run(producers, submit, setting.database, jobs // producers)
        peak = peak_mb(writer.pid)
    LARGE.check(setting.database, jobs // producers * producers)
    return {"writer_peak_mb": peak, "producer_peak_mb": done.worst("peak_mb"), "resent": done.worst("resent")}


def _submit_or_lock(number: int, start: crowd.Start, database: Path) -> Figures:
    if number == 0:
        return _lock(start, database)
    rows = fetches(1000, number * 1000)
    count = 0
    with begun(database) as store:
        start()
        end = time.perf_counter() + LOCKED_S
        while time.perf_counter() < end and store.stats().pending_bytes < FULL_BYTES:
            for row in rows:
                store.execute(FETCHES.sql, row)
            count += len(rows)
        store.flush()
        return {"rows": count, "resent": store.stats().resent}


def _lock(start: crowd.Start, database: Path) -> Figures:
    start()
    time.sleep(1)
    with closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(LOCKED_S)
        connection.execute("ROLLBACK")
    return {"rows": 0, "resent": 0}


def _submit_large(number: int, start: crowd.Start, database: Path, share: int) -> Figures:
    with begun(database) as store:
        start()
        for job in range(share):
            store.execute(LARGE.sql, (job, bytes(LARGE_BYTES)))
        store.flush()
        return {"peak_mb": peak_mb(os.getpid()), "resent": store.stats().resent}


def _submit_texts(number: int, start: crowd.Start, database: Path, share: int) -> Figures:
    with begun(database) as store:
        start()
        for job in range(share):
            store.execute(f"{LARGE.sql} /* {job} {'x' * TEXT_BYTES} */", (job, b""))
        store.flush()
        return {"peak_mb": peak_mb(os.getpid()), "resent": store.stats().resent}


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
    Measure("memory-locked", "writer's memory, the database locked for a minute", locked, rare=True),
    Measure("memory-large", "memory, jobs of 8 MB", large, rare=True),
    Measure("memory-texts", "memory, statements of 292 KiB, each another one", texts, rare=True),
    Measure("memory-producer", "producer's memory", producer, rare=True),
)
