"""The bus as a contender: several producers, one writer, jobs of every shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack  # noqa: F401  # here, once: else each of the forked producers would load it
import zmq  # noqa: F401  # likewise

from telemetry_bus import TelemetryStore

from . import crowd
from .rows import FETCHES, Row, Target, byline_rows, bylines, chunks, fetches
from .setting import Figures, Measure, Setting
from .writer import begun, writing

HUNDRED = 100
#: Blocking, a row costs a commit; so many times fewer rows.
SLOW = 100
SCALE = (1, 4, 16, 64)

#: Takes a store and rows, and gives the call that hands in everything; what it prepares is not measured.
Shape = Callable[[TelemetryStore, Target, Sequence[Row]], Callable[[], Figures]]


def row_by_row(store: TelemetryStore, target: Target, rows: Sequence[Row]) -> Callable[[], Figures]:
    """A job for each row."""

    def submit() -> Figures:
        execute, sql = store.execute, target.sql
        for row in rows:
            execute(sql, row)
        return {}

    return submit


def by_the_hundred(store: TelemetryStore, target: Target, rows: Sequence[Row]) -> Callable[[], Figures]:
    """A job for each hundred rows."""
    parts = chunks(rows, HUNDRED)

    def submit() -> Figures:
        for part in parts:
            store.executemany(target.sql, part)
        return {}

    return submit


def callables(store: TelemetryStore, target: Target, rows: Sequence[Row]) -> Callable[[], Figures]:
    """A callable for each two rows, with a statement for each."""
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    sql = target.sql

    def submit() -> Figures:
        for one, other in pairs:

            def job(connection: Any, one: Row = one, other: Row = other) -> None:
                connection.execute(sql, one)
                connection.execute(sql, other)

            store.submit(job)
        return {}

    return submit


def blocking(store: TelemetryStore, target: Target, rows: Sequence[Row]) -> Callable[[], Figures]:
    """A job for each row, and waiting until it is committed, as those must who ask a server."""

    def submit() -> Figures:
        for row in rows:
            store.execute(target.sql, row)
            store.flush()
        return {}

    return submit


def watched(store: TelemetryStore, target: Target, rows: Sequence[Row]) -> Callable[[], Figures]:
    """A job for each row, with a look at the clock after each."""

    def submit() -> Figures:
        execute, sql, clock = store.execute, target.sql, time.perf_counter
        slowest = 0.0
        before = clock()
        for row in rows:
            execute(sql, row)
            after = clock()
            if after - before > slowest:
                slowest = after - before
            before = after
        return {"worst_ms": slowest * 1e3}

    return submit


def measure(
    setting: Setting,
    shape: Shape,
    target: Target = FETCHES,
    build: Callable[[int, int], list[Row]] = fetches,
    *,
    durability: str = "full",
    producers: int | None = None,
    divisor: int = 1,
    job_rows: int = 1,
) -> Figures:
    """Rows per second until all are committed, and µs of CPU: of the calling thread for each job, of each process
    that has to do with it for each row."""
    count = producers or setting.producers
    share = max(HUNDRED, setting.rows // divisor // count // HUNDRED * HUNDRED)
    with writing(setting.database, target.ddl, durability=durability) as writer:
        before = writer.cpu_s
        done = crowd.run(count, _produce, setting.database, shape, target, build, share)
        writer_cpu_s = writer.cpu_s - before
    rows = share * count
    target.check(setting.database, rows)
    figures = {
        "rows_per_s": rows / done.seconds,
        "seconds": done.seconds,
        "rows": rows,
        "calling_cpu_us": done.median("calling_cpu_s") / share * job_rows * 1e6,
        "process_cpu_us": done.median("process_cpu_s") / share * 1e6,
        "writer_cpu_us": writer_cpu_s / rows * 1e6,
    }
    if "worst_ms" in done.figures[0]:
        figures["worst_ms"] = done.worst("worst_ms")
    return figures


def scale(setting: Setting) -> Figures:
    """The same rows from few and from many producers."""
    figures = {}
    for count in SCALE:
        own = setting.folder / f"{count}"
        own.mkdir()
        figures[f"rows_per_s_{count}"] = measure(
            Setting(own, setting.rows, setting.producers), row_by_row, producers=count
        )["rows_per_s"]
    return figures


def _produce(
    number: int,
    start: crowd.Start,
    database: Path,
    shape: Shape,
    target: Target,
    build: Callable[[int, int], list[Row]],
    share: int,
) -> Figures:
    """One producer, whose stream has begun before the start."""
    with begun(database) as store:
        submit = shape(store, target, build(share, number * share))
        start()
        calling, process = time.thread_time(), time.process_time()
        figures = submit()
        calling = time.thread_time() - calling
        store.flush()
        ended = time.perf_counter()
        process = time.process_time() - process
    return {"calling_cpu_s": calling, "process_cpu_s": process, "ended": ended, **figures}


MEASURES = (
    Measure("bus", "bus, a job for each row", lambda s: measure(s, row_by_row)),
    Measure("bus-one", "bus, one producer", lambda s: measure(s, row_by_row, producers=1, divisor=4)),
    Measure("bus-100", "bus, jobs of a hundred rows", lambda s: measure(s, by_the_hundred, job_rows=HUNDRED)),
    Measure(
        "bus-callable",
        "bus, callables of two statements",
        lambda s: measure(s, callables, divisor=2, job_rows=2),
    ),
    Measure(
        "bus-callable-one",
        "bus, callables, one producer",
        lambda s: measure(s, callables, producers=1, divisor=8, job_rows=2),
        rare=True,
    ),
    Measure(
        "bus-byline",
        "bus, rows of 27 columns",
        lambda s: measure(s, row_by_row, bylines(), byline_rows, divisor=4),
        rare=True,
    ),
    Measure("bus-normal", "bus, durability normal", lambda s: measure(s, row_by_row, durability="normal")),
    Measure("bus-blocking", "bus, flush after each row", lambda s: measure(s, blocking, divisor=SLOW)),
    Measure("scale", "bus, 1 to 64 producers", scale, rare=True),
    Measure("bus-worst", "bus, a clock around each execute", lambda s: measure(s, watched, divisor=2)),
)
