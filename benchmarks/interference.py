"""What recording costs the work that it watches: CPU of every process for each record, above the work itself.

Processes that do nothing but compute, as many as there are cores and twice as many, make a record after each unit of
work. The work is counted in CPU time, so that busy neighbours do not matter; what is left of the CPU of all processes,
the writer's too, is what recording costs. The contenders take turns, case by case.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import Any, NamedTuple

from . import crowd
from .direct import QUEUE_ROWS
from .processes import cpu_of_threads
from .rows import BUSY_S, FETCHES, Row, each_fetch
from .setting import Figures, Measure, Setting
from .writer import begun, writing

COLUMNS = ("url", "host", "status", "took_ms", "bytes", "method", "at")
#: CPU of a unit of work, in ms.
WORK_MS = (0.2, 1, 5, 50)
#: Of one case with one contender; longer with more rows, and where there are few records.
SHORTEST_S, LONGEST_S, ROWS_PER_SECOND_OF_RUN = 0.5, 2.0, 400_000
FEW_MS, FEW_TIMES = 50, 4
CALIBRATION = 20_000
#: OpenTelemetry, where it is installed (the extra `bench`).
_OTEL = "opentelemetry.sdk"


def _nothing() -> None:
    """What was recorded is written."""


class Recorder(NamedTuple):
    """A contender in one process: records a row, and has written what it recorded when `write` returns."""

    record: Callable[[Row], object]
    write: Callable[[], object] = _nothing


class Case(NamedTuple):
    """How many processes for each core, and the work between two of their records."""

    crowding: int
    work_ms: float

    @property
    def name(self) -> str:
        return f"{self.crowding}x{self.work_ms:g}"


CASES = tuple(Case(crowding, work_ms) for crowding in (1, 2) for work_ms in WORK_MS)


def interference(setting: Setting) -> Figures:
    """For each case and contender: µs of CPU a record, and how much longer the work takes than without any records."""
    found: dict[str, float] = {}
    seconds = min(LONGEST_S, max(SHORTEST_S, setting.rows / ROWS_PER_SECOND_OF_RUN))
    pace = _calibrate()
    for case in CASES:
        lasting = seconds * (FEW_TIMES if case.work_ms >= FEW_MS else 1)
        alone = _run(setting, case, "none", pace, lasting)
        for name in contenders():
            if name != "none":
                cost = _run(setting, case, name, pace, lasting)
                found[f"{name}_{case.name}_us"] = cost.cpu_us - alone.cpu_us
                found[f"{name}_{case.name}_slower"] = cost.wall_us / alone.wall_us - 1
    return found


def contenders() -> list[str]:
    """The names of all that work here."""
    return [name for name in WAYS if name != "opentelemetry" or util.find_spec("opentelemetry") is not None]


class _Cost(NamedTuple):
    """Of a record and the work before it: CPU above the work, and the time of the clock."""

    cpu_us: float
    wall_us: float


def _run(setting: Setting, case: Case, name: str, pace: float, seconds: float) -> _Cost:
    folder = setting.folder / f"{case.name}-{name}"
    folder.mkdir()
    database = folder / "telemetry.db"
    workers = case.crowding * (os.cpu_count() or 1)
    work = round(case.work_ms / 1000 * pace)
    queue: Any = multiprocessing.get_context("fork").Queue() if name == "queue" else None
    with _served(name, database) as served:
        done = crowd.run(workers + (queue is not None), _part, name, folder, work, seconds, workers, queue)
        beside_s = served()
    records = sum(one["records"] for one in done.figures)
    if name in IN_THE_DATABASE:
        FETCHES.check(database, int(records))
    cpu_s = beside_s + sum(one["cpu_s"] - one["work_s"] for one in done.figures)
    wall_s = max(one["wall_s"] for one in done.figures)
    return _Cost(cpu_s / records * 1e6, wall_s * workers / records * 1e6)


@contextmanager
def _served(name: str, database: Path) -> Iterator[Callable[[], float]]:
    """The process that serves a contender, if there is one: its seconds of CPU so far."""
    if name.startswith("bus"):
        with writing(database, FETCHES.ddl) as writer:
            before = cpu_of_threads(writer.pid)
            yield lambda: cpu_of_threads(writer.pid) - before
        return
    if name in IN_THE_DATABASE:
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(FETCHES.ddl)
        connection.close()
    yield lambda: 0.0


def _part(
    number: int, start: crowd.Start, name: str, folder: Path, work: int, seconds: float, workers: int, queue: Any
) -> Figures:
    """One process: work and record by turns, until the time is over; then until all is written."""
    if number == workers:
        return _write_from(queue, start, folder / "telemetry.db", workers)
    rows = each_fetch(1 << 60)
    with WAYS[name](folder, queue) as (record, write):
        start()
        clock, cpu_clock = time.perf_counter, time.thread_time
        records, work_s = 0, 0.0
        cpu_s, began = time.process_time(), clock()
        while (wall_s := clock() - began) < seconds:
            before = cpu_clock()
            _work(work)
            work_s += cpu_clock() - before
            record(next(rows))
            records += 1
        write()
        cpu_s = time.process_time() - cpu_s
    return {"records": records, "work_s": work_s, "wall_s": wall_s, "cpu_s": cpu_s}


def _work(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += number * number
    return total


def _calibrate() -> float:
    """Steps of `_work` in a second of CPU."""
    best = 0.0
    for _ in range(20):
        before = time.thread_time()
        _work(CALIBRATION)
        best = max(best, CALIBRATION / (time.thread_time() - before))
    return best


# The contenders: each gives a recorder, and ends at the end of its block.


@contextmanager
def _none(folder: Path, queue: Any) -> Iterator[Recorder]:
    yield Recorder(lambda row: None)


@contextmanager
def _json_line(folder: Path, queue: Any) -> Iterator[Recorder]:
    """A line in a file that all share, written at once."""
    with open(folder / "log.jsonl", "a", buffering=1) as file:
        yield Recorder(lambda row: file.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n"))


@contextmanager
def _logging(folder: Path, queue: Any) -> Iterator[Recorder]:
    logger = logging.getLogger("benchmarks.interference")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    yield Recorder(lambda row: logger.info("fetched %s from %s: %d in %.1f ms, %d bytes, %s at %s", *row))
    logger.removeHandler(handler)
    handler.close()


def _sqlite(synchronous: str) -> Callable[[Path, Any], Any]:
    @contextmanager
    def way(folder: Path, queue: Any) -> Iterator[Recorder]:
        connection = sqlite3.connect(folder / "telemetry.db", timeout=BUSY_S, isolation_level=None)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        yield Recorder(lambda row: connection.execute(FETCHES.sql, row))
        connection.close()

    return way


@contextmanager
def _queue(folder: Path, queue: Any) -> Iterator[Recorder]:
    def write() -> None:
        queue.put(None)
        queue.close()
        queue.join_thread()

    yield Recorder(queue.put, write)


@contextmanager
def _opentelemetry(folder: Path, queue: Any) -> Iterator[Recorder]:
    """Spans with the row as attributes; a thread exports them, each as a line."""
    trace, export = import_module(f"{_OTEL}.trace"), import_module(f"{_OTEL}.trace.export")
    with open(folder / "spans.jsonl", "a") as file:

        def line(span: Any) -> str:
            return json.dumps({"name": span.name, "start": span.start_time, **span.attributes}) + "\n"

        exporter = export.ConsoleSpanExporter(out=file, formatter=line)
        provider = trace.TracerProvider()
        provider.add_span_processor(export.BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("benchmarks.interference")
        yield Recorder(
            lambda row: tracer.start_span("fetch", attributes=dict(zip(COLUMNS, row, strict=True))).end(),
            provider.force_flush,
        )
        provider.shutdown()


def _bus(linger_ms: int | None) -> Callable[[Path, Any], Any]:
    @contextmanager
    def way(folder: Path, queue: Any) -> Iterator[Recorder]:
        with begun(folder / "telemetry.db", linger_ms=linger_ms) as store:
            yield Recorder(lambda row: store.execute(FETCHES.sql, row), store.flush)

    return way


def _write_from(queue: Any, start: crowd.Start, database: Path, workers: int) -> Figures:
    """The one writer behind a queue: what is there, in one transaction."""
    connection = sqlite3.connect(database, isolation_level=None)
    start()
    cpu_s = time.process_time()
    while workers:
        batch = [queue.get()]
        while len(batch) < QUEUE_ROWS and not queue.empty():
            batch.append(queue.get())
        rows = [row for row in batch if row is not None]
        workers -= len(batch) - len(rows)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(FETCHES.sql, rows)
        connection.execute("COMMIT")
    cpu_s = time.process_time() - cpu_s
    connection.close()
    return {"records": 0, "work_s": 0.0, "wall_s": 0.0, "cpu_s": cpu_s}


WAYS: dict[str, Callable[[Path, Any], Any]] = {
    "none": _none,
    "json": _json_line,
    "logging": _logging,
    "sqlite-normal": _sqlite("NORMAL"),
    "sqlite-full": _sqlite("FULL"),
    "queue": _queue,
    "opentelemetry": _opentelemetry,
    "bus": _bus(None),
    "bus-0": _bus(0),
}
LABELS = {
    "json": "a JSON line in a file",
    "logging": "logging.FileHandler",
    "sqlite-normal": "direct, synchronous=NORMAL",
    "sqlite-full": "direct, synchronous=FULL",
    "queue": "multiprocessing.Queue, one writer",
    "opentelemetry": "OpenTelemetry, BatchSpanProcessor, a line each",
    "bus": "bus",
    "bus-0": "bus, linger_ms=0",
}
IN_THE_DATABASE = frozenset({"sqlite-normal", "sqlite-full", "queue", "bus", "bus-0"})

MEASURES = (
    Measure(
        "interference",
        "what recording costs the work that it watches",
        interference,
        wants=("opentelemetry",),
        rare=True,
    ),
)
