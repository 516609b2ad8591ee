"""How long a quiet producer waits for one job beside six that submit as fast as they can, and beside none.

The time of `execute` and `flush` together, with the default limits. The noisy ones fill their journals, so that the
writer has more than it can do from the first moment to the last. Beside each such wait stands the least that it could
be on this machine, in this moment: another process that is asked by a socket, writes a page, syncs it, and answers.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from socket import socket, socketpair

from . import crowd
from .rows import FETCHES, fetches
from .setting import Figures, Measure, Setting
from .writer import begun, writing

NOISY = 6
#: The noisy ones begin before the quiet one and end after it.
LEAD_S, QUIET_S, AFTER_S = 2.0, 8.0, 0.5
PAUSE_S = 0.02
#: Rows that a noisy one submits between two looks at the clock.
STRETCH = 100
QUESTION, END = b"?", b"."
PAGE = b"\0" * 4096


def beside(setting: Setting, noisy: int = NOISY) -> Figures:
    """Milliseconds until `flush` of one job returns."""
    asks, answers = socketpair()
    with asks, answers, writing(setting.database, FETCHES.ddl):
        done = crowd.run(2 + noisy, _part, setting.database, asks, answers)
    rows = round(sum(one["rows"] for one in done.figures))
    FETCHES.check(setting.database, rows)
    return {**done.figures[0], "rows_per_s": rows / done.seconds}


def alone(setting: Setting) -> Figures:
    return beside(setting, 0)


def _part(number: int, start: crowd.Start, database: Path, asks: socket, answers: socket) -> Figures:
    if number == 0:
        return _quiet(start, database, asks)
    if number == 1:
        return _answer(start, database.parent / "page", answers)
    return _noisy(start, database)


def _quiet(start: crowd.Start, database: Path, asks: socket) -> Figures:
    (row,) = fetches(1)
    waits, floor = [], []
    with begun(database) as store:
        start()
        time.sleep(LEAD_S)
        end = time.perf_counter() + QUIET_S
        while time.perf_counter() < end:
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            store.execute(FETCHES.sql, row)
            store.flush()
            waits.append((time.perf_counter() - began) * 1e3)
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            asks.send(QUESTION)
            asks.recv(1)
            floor.append((time.perf_counter() - began) * 1e3)
    asks.send(END)
    return {
        "p50_ms": statistics.median(waits),
        "p99_ms": _p99(waits),
        "floor_p50_ms": statistics.median(floor),
        "floor_p99_ms": _p99(floor),
        "rows": len(waits),
    }


def _answer(start: crowd.Start, page: Path, answers: socket) -> Figures:
    fd = os.open(page, os.O_RDWR | os.O_CREAT, 0o600)
    start()
    while answers.recv(1) == QUESTION:
        os.pwrite(fd, PAGE, 0)
        os.fdatasync(fd)
        answers.send(b"!")
    os.close(fd)
    return {"rows": 0}


def _noisy(start: crowd.Start, database: Path) -> Figures:
    rows = fetches(STRETCH)
    count = 0
    with begun(database) as store:
        start()
        end = time.perf_counter() + LEAD_S + QUIET_S + AFTER_S
        while time.perf_counter() < end:
            for row in rows:
                store.execute(FETCHES.sql, row)
            count += STRETCH
        store.flush()
    return {"rows": count}


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


MEASURES = (
    Measure("fairness", "a quiet producer beside six noisy ones", beside, rare=True),
    Measure("fairness-alone", "a quiet producer alone", alone, rare=True),
)
