"""Processes that each write for themselves, as the bus's producers would without it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

from . import crowd
from .one_process import PRAGMAS
from .rows import BUSY_S, FETCHES, Row, chunks, fetches
from .setting import Figures, Measure, Setting

#: So many times fewer rows for those who sync for each.
SLOW, SLOWEST = 100, 1000
HUNDRED = 100
#: The most that the one writer behind a queue takes into one transaction.
QUEUE_ROWS = 2000

#: One process's writing of its jobs, each of which is some rows.
Way = Callable[[Path, Sequence[Sequence[Row]], crowd.Start], Figures]


def measure(setting: Setting, way: Way, *, job_rows: int = 1, divisor: int = 1, wal: bool = True) -> Figures:
    """Rows per second until all are committed, and the slowest job's milliseconds."""
    connection = sqlite3.connect(setting.database)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(FETCHES.ddl)
    connection.close()
    share = max(1, setting.share(divisor) // job_rows) * job_rows
    done = crowd.run(setting.producers, _write, setting.database, way, share, job_rows)
    rows = share * setting.producers
    FETCHES.check(setting.database, rows)
    return {
        "rows_per_s": rows / done.seconds,
        "seconds": done.seconds,
        "rows": rows,
        "process_cpu_us": done.median("process_cpu_s") / share * 1e6,
        "worst_ms": done.worst("worst_ms"),
    }


def tuned(database: Path, jobs: Sequence[Sequence[Row]], start: crowd.Start) -> Figures:
    """A connection that stays, WAL, a transaction for each job, which takes its lock at once and waits for it."""
    connection = sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")

    def write(job: Sequence[Row]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(FETCHES.sql, job)
        connection.execute("COMMIT")

    figures = _each(write, jobs, start)
    connection.close()  # the last one empties the log, which nobody's clock counts
    return figures


def connection_per_job(database: Path, jobs: Sequence[Sequence[Row]], start: crowd.Start) -> Figures:
    """As telemetry is often written at first: a connection for each job, and a rollback journal."""

    def write(job: Sequence[Row]) -> None:
        connection = sqlite3.connect(database, timeout=BUSY_S)
        connection.execute("PRAGMA synchronous=FULL")
        with connection:
            connection.executemany(FETCHES.sql, job)
        connection.close()

    return _each(write, jobs, start)


def through_a_queue(setting: Setting) -> Figures:
    """Producers that put rows into a `multiprocessing.Queue`, and one process that writes what it finds there."""
    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()
    share = setting.share(2)
    done = crowd.run(setting.producers + 1, _put_or_write, setting.database, queue, setting.producers, share)
    queue.close()
    rows = share * setting.producers
    FETCHES.check(setting.database, rows)
    return {
        "rows_per_s": rows / done.seconds,
        "seconds": done.seconds,
        "rows": rows,
        "process_cpu_us": sum(one["process_cpu_s"] for one in done.figures[1:]) / rows * 1e6,
        "writer_cpu_us": done.figures[0]["process_cpu_s"] / rows * 1e6,
    }


def _write(number: int, start: crowd.Start, database: Path, way: Way, share: int, job_rows: int) -> Figures:
    return way(database, chunks(fetches(share, number * share), job_rows), start)


def _each(write: Callable[[Sequence[Row]], None], jobs: Sequence[Sequence[Row]], start: crowd.Start) -> Figures:
    start()
    cpu = time.process_time()
    slowest = 0.0
    before = time.perf_counter()
    for job in jobs:
        write(job)
        after = time.perf_counter()
        slowest = max(slowest, after - before)
        before = after
    return {"worst_ms": slowest * 1e3, "process_cpu_s": time.process_time() - cpu, "ended": before}


def _put_or_write(number: int, start: crowd.Start, database: Path, queue: Any, producers: int, share: int) -> Figures:
    """Process 0 writes, the others put; a None says that one of them is done."""
    if number == 0:
        return _write_from(queue, start, database, producers)
    rows = fetches(share, (number - 1) * share)
    start()
    cpu = time.process_time()
    for row in rows:
        queue.put(row)
    queue.put(None)
    queue.close()
    queue.join_thread()
    return {"process_cpu_s": time.process_time() - cpu}


def _write_from(queue: Any, start: crowd.Start, database: Path, producers: int) -> Figures:
    connection = sqlite3.connect(database, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(FETCHES.ddl)
    start()
    cpu = time.process_time()
    while producers:
        batch = [queue.get()]
        try:
            while len(batch) < QUEUE_ROWS:
                batch.append(queue.get_nowait())
        except Empty:
            pass
        rows = [row for row in batch if row is not None]
        producers -= len(batch) - len(rows)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(FETCHES.sql, rows)
        connection.execute("COMMIT")
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    connection.close()
    return {"ended": ended, "process_cpu_s": cpu}


MEASURES = (
    Measure("direct", "direct, a transaction for each row", lambda s: measure(s, tuned, divisor=SLOW)),
    Measure(
        "direct-100",
        "direct, a transaction for each hundred",
        lambda s: measure(s, tuned, job_rows=HUNDRED),
    ),
    Measure(
        "connection-per-job",
        "direct, a connection for each row",
        lambda s: measure(s, connection_per_job, divisor=SLOWEST, wal=False),
        rare=True,
    ),
    Measure("queue", "multiprocessing.Queue, one writer", through_a_queue),
)
