"""What the processes of a soak do: producers that stay, producers that come and go, and a reader."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from telemetry_bus import TelemetryStore

from ...support.numbered import TABLES
from .board import FORKED, FORKED_EACH, Board
from .jobs import delete, submit

#: Small, so that a ring comes round soon, and all of its pages are resident from then on.
JOURNAL_BYTES = 1024 * 1024
#: For a submit that waits on a full journal while the machine is busy.
PATIENCE_S = 120.0
#: Of a long-lived producer: moments at which it submits, per second; how many of them are bursts, and how large.
MOMENTS_PER_S, BURST_CHANCE, BURST_JOBS = 30.0, 0.01, 100
DELETE_EVERY_S = 1.0
FORK_EVERY_S = 5.0
FORKED_JOBS = 20
#: How long a reader looks at nothing, of the time for which it may hold a snapshot. Where some snapshot is always held,
#: the log cannot begin anew and grows: https://www.sqlite.org/wal.html calls it checkpoint starvation.
REST = 0.4
#: How a short-lived producer ends. One that "stays" is killed.
WAYS = ("waits", "returns", "exits", "stays")


def stay(database: Path, board: Board, run: int, wave_jobs: int) -> None:
    """A long-lived producer. The first one deletes what was judged, the second one forks."""
    store = TelemetryStore(database, journal_bytes=JOURNAL_BYTES, timeout=PATIENCE_S)
    chance = random.Random(run)
    number = waves = forked = 0
    due = time.monotonic() + 1
    while not board.leaving:
        fresh = waves < board.wave
        waves = board.wave
        burst = BURST_JOBS if chance.random() < BURST_CHANCE else 1
        for _ in range(wave_jobs if fresh else burst):
            number += 1
            submit(store, run, number, fresh=fresh)
            board.accepted[run] = number
        if run < 2 and time.monotonic() >= due:
            due = time.monotonic() + (DELETE_EVERY_S, FORK_EVERY_S)[run]
            if run == 0:
                _clean(store, board)
            else:
                _fork(store, board, FORKED + run * FORKED_EACH + forked)
                forked += 1
        board.pause(chance.expovariate(MOMENTS_PER_S))


def come_and_go(database: Path, board: Board, run: int, way: str, wave_jobs: int) -> None:
    """A short-lived producer: some jobs within some seconds, then it ends in its way."""
    chance = random.Random(run)
    store = TelemetryStore(database, journal_bytes=JOURNAL_BYTES, timeout=PATIENCE_S)
    number = 0
    jobs = chance.randint(1, min(60, wave_jobs))
    while number < jobs or way == "stays":
        if board.leaving:
            break
        number += 1
        submit(store, run, number)
        board.accepted[run] = number
        board.pause(chance.expovariate(MOMENTS_PER_S))
    if way == "waits":
        store.shutdown(wait=True)
    elif way == "exits":
        os._exit(0)


def read(database: Path, board: Board, hold_s: float) -> None:
    """A reader that opens snapshots, holds them for up to `hold_s` seconds, lets them go, and does something else."""
    chance = random.Random(0)
    store = TelemetryStore(database)
    while not board.leaving:
        time.sleep(chance.uniform(0, REST * hold_s))
        if not database.exists():
            continue
        with store.connection() as connection:
            connection.execute("BEGIN")
            try:
                before = _counts(connection)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    continue
                raise
            end = time.monotonic() + chance.uniform(0, hold_s)
            while time.monotonic() < end and not board.leaving:
                time.sleep(0.05)
            if (after := _counts(connection)) != before:
                raise AssertionError(f"a snapshot changed from {before} to {after}")


def _counts(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    return [connection.execute(f"SELECT count(*), min(id), max(id) FROM {table}").fetchone() for table in TABLES]


def _clean(store: TelemetryStore, board: Board) -> None:
    for table, up_to in zip(TABLES, board.deletable, strict=True):
        if up_to:
            delete(store, table, up_to)


def _fork(store: TelemetryStore, board: Board, run: int) -> None:
    """A child that goes on with its parent's store, which is a stream of its own there. Waits for it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in range(1, FORKED_JOBS + 1):
                submit(store, run, number)
                board.accepted[run] = number
            if run % 2:
                store.flush()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise ChildProcessError(f"the forked producer of run {run} ended with {os.waitstatus_to_exitcode(status)}")
