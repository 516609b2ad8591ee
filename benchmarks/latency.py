"""How long it takes from `execute` until a reader sees the row: with 10,000 jobs a second, and with nothing else to do.

The row carries the moment of its `execute`, on the clock that all processes share. A reader in a process of its own
asks again and again for new rows, and looks at the clock when it has them: what is measured is never too short, and
too long by the reader's pause and query at most. An acknowledgement would tell the producer, but not when anybody
else can see the row.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from . import crowd
from .rows import BUSY_S, FETCHES
from .setting import Figures, Measure, Setting
from .writer import begun, writing

JOBS_PER_S = 10_000
#: Of the paced run; longer with more rows.
SHORTEST_S, LONGEST_S, ROWS_PER_SECOND_OF_RUN = 1.0, 5.0, 100_000
IDLE_JOBS, IDLE_PAUSE_S = 100, 0.01
READER_PAUSE_S = 0.0002
#: The column that carries the moment, in ns.
STAMP = "bytes"


def paced(setting: Setting) -> Figures:
    """Several producers that together submit 10,000 jobs a second, evenly."""
    seconds = min(LONGEST_S, max(SHORTEST_S, setting.rows / ROWS_PER_SECOND_OF_RUN))
    share = round(JOBS_PER_S * seconds / setting.producers)
    jobs = share * setting.producers
    with writing(setting.database, FETCHES.ddl):
        done = crowd.run(setting.producers + 1, _read_or_submit, setting.database, setting.producers, share)
    FETCHES.check(setting.database, jobs)
    reader, *producers = done.figures
    return {
        **reader,
        "jobs_per_s": jobs / max(one["submitting_s"] for one in producers),
    }


def idle(setting: Setting) -> Figures:
    """One job at a time, when everybody sleeps; and how long `flush` takes then."""
    with writing(setting.database, FETCHES.ddl):
        done = crowd.run(2, _read_or_wait, setting.database)
    return {**done.figures[0], **done.figures[1]}


def _read_or_submit(number: int, start: crowd.Start, database: Path, producers: int, share: int) -> Figures:
    if number == 0:
        return _read(start, database, producers * share)
    every = producers / JOBS_PER_S
    clock, nanoseconds = time.perf_counter, time.perf_counter_ns
    with begun(database) as store:
        start()
        began = clock()
        due = began + every * number / producers
        for _ in range(share):
            if (early := due - clock()) > 0:
                time.sleep(early)
            store.execute(FETCHES.sql, _row(nanoseconds()))
            due += every
        submitting_s = clock() - began
        store.flush()
    return {"submitting_s": submitting_s}


def _read_or_wait(number: int, start: crowd.Start, database: Path) -> Figures:
    if number == 0:
        return _read(start, database, IDLE_JOBS)
    acknowledged = []
    with begun(database) as store:
        start()
        for _ in range(IDLE_JOBS):
            time.sleep(IDLE_PAUSE_S)
            began = time.perf_counter_ns()
            store.execute(FETCHES.sql, _row(began))
            store.flush()
            acknowledged.append((time.perf_counter_ns() - began) / 1e6)
    return {"acknowledged_ms": statistics.median(acknowledged)}


def _read(start: crowd.Start, database: Path, jobs: int) -> Figures:
    """Until all rows were seen."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=BUSY_S)
    newer = f"SELECT rowid, {STAMP} FROM {FETCHES.table} WHERE rowid > ?"
    latencies: list[int] = []
    last = 0
    start()
    while len(latencies) < jobs:
        rows = connection.execute(newer, (last,)).fetchall()
        seen = time.perf_counter_ns()
        if rows:
            last = rows[-1][0]
            latencies += [seen - stamp for _, stamp in rows]
        time.sleep(READER_PAUSE_S)
    connection.close()
    return {
        "p50_ms": statistics.median(latencies) / 1e6,
        "p99_ms": _percentile(latencies, 0.99),
        "worst_ms": max(latencies) / 1e6,
    }


def _row(stamp: int) -> tuple[object, ...]:
    return ("https://news.example.com/local/1", "news.example.com", 200, 12.5, stamp, "newspaper4k", "2026-01-01")


def _percentile(nanoseconds: Sequence[int], part: float) -> float:
    return sorted(nanoseconds)[min(len(nanoseconds) - 1, int(part * len(nanoseconds)))] / 1e6


MEASURES = (
    Measure("latency", "until a row is visible, 10,000 jobs a second", paced),
    Measure("latency-idle", "until a row is visible, one at a time", idle, rare=True),
)
