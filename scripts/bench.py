"""How fast the bus is: interleaved rounds of the bus and of one process doing `executemany`, medians and ratios.

Rows have seven columns and are built before the clock starts, for both. Both write to the same kind of file with
WAL and synchronous=FULL. The bus is timed from the producers' common start until every row is committed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from telemetry_bus import TelemetryStore, __version__
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.paths import BusFolder

DDL = """CREATE TABLE IF NOT EXISTS fetches (
    url TEXT NOT NULL, host TEXT, status INTEGER, took_ms REAL, bytes INTEGER, method TEXT, at TIMESTAMP)"""
SQL = "INSERT INTO fetches (url, host, status, took_ms, bytes, method, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
EXECUTEMANY_BATCH = 2000

Row = tuple[object, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400_000, help="rows of each contender in each round")
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="three rounds of 100,000 rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.rows = 3, 100_000
    figures = measure(options.rounds, options.rows, options.producers)
    show(figures, options.producers)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(rounds: int, rows: int, producers: int) -> dict[str, Any]:
    """All figures; each round runs every contender once, so that a change of the machine's speed hits all."""
    bus: list[float] = []
    direct: list[float] = []
    submit_cpu: list[float] = []
    worst: list[float] = []
    callable_cpu: list[float] = []
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as folder:
        for number in range(rounds):
            seconds, cpu, slowest = through_the_bus(Path(folder, f"bus{number}.db"), rows, producers)
            bus.append(rows / seconds)
            submit_cpu.append(cpu)
            worst.append(slowest)
            direct.append(rows / one_process(Path(folder, f"direct{number}.db"), rows))
            callable_cpu.append(cost_of_a_callable(Path(folder, f"callable{number}.db")))
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "telemetry_bus": __version__,
        "rows": rows,
        "rounds": rounds,
        "bus_rows_per_s": statistics.median(bus),
        "executemany_rows_per_s": statistics.median(direct),
        "bus_to_executemany": statistics.median(a / b for a, b in zip(bus, direct, strict=True)),
        "execute_cpu_us": statistics.median(submit_cpu),
        "execute_worst_ms": statistics.median(worst),
        "callable_of_two_cpu_us": statistics.median(callable_cpu),
    }


def through_the_bus(database: Path, rows: int, producers: int) -> tuple[float, float, float]:
    """Seconds until `rows` rows of several processes are committed, CPU µs of the calling thread per `execute`, and
    the worst single `execute` in ms."""
    with TelemetryStore(database) as store:  # the writer is up before the clock starts
        store.submit(lambda connection: None, ensure=[DDL])
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(producers + 1)
    results: Any = context.Queue()
    share = rows // producers
    workers = [context.Process(target=_produce, args=(database, share, start, results)) for _ in range(producers)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    costs = [results.get() for _ in workers]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    ask(BusFolder.of(parse_database(database)), "stop", 10)
    _check(database, share * producers)
    return seconds, statistics.median(cost for cost, _ in costs), max(slowest for _, slowest in costs)


def one_process(database: Path, rows: int) -> float:
    """Seconds for one process that inserts all rows with `executemany`, a transaction per 2,000."""
    data = _rows(rows)
    connection = sqlite3.connect(database, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(DDL)
    began = time.perf_counter()
    for first in range(0, rows, EXECUTEMANY_BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(SQL, data[first : first + EXECUTEMANY_BATCH])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    _check(database, rows)
    return seconds


def cost_of_a_callable(database: Path, jobs: int = 20_000) -> float:
    """CPU µs of the calling thread per `submit` of a callable with two statements."""
    row = _rows(1)[0]

    def job(connection: Any) -> None:
        connection.execute(SQL, row)
        connection.execute(SQL, row)

    with TelemetryStore(database) as store:
        store.submit(job, ensure=[DDL])
        store.flush()
        cost = _cpu_us(lambda: store.submit(job), jobs)
    ask(BusFolder.of(parse_database(database)), "stop", 10)
    return cost


def _produce(database: Path, rows: int, start: Barrier, results: Any) -> None:
    """One producer: all its rows, one job each."""
    data = _rows(rows)
    with TelemetryStore(database, journal_bytes=64 * 1024 * 1024) as store:
        execute = store.execute
        store.submit(lambda connection: None, ensure=[DDL])
        store.flush()
        start.wait()
        slowest = 0.0
        clock, cpu = time.perf_counter, time.thread_time
        used = cpu()
        before = clock()
        for row in data:
            execute(SQL, row)
            after = clock()
            if after - before > slowest:
                slowest = after - before
            before = after
        used = cpu() - used
        store.flush(120)
    results.put((used / rows * 1e6, slowest * 1e3))


def _cpu_us(call: Callable[[], object], times: int) -> float:
    began = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - began) / times * 1e6


def _rows(count: int) -> list[Row]:
    return [
        (f"https://news.example.com/local/{number:07d}", "news.example.com", 200, number % 900 / 7, 10_000 + number,
         "newspaper4k", "2026-01-01 00:00:00")
        for number in range(count)
    ]


def _check(database: Path, expected: int) -> None:
    connection = sqlite3.connect(database)
    (found,) = connection.execute("SELECT count(*) FROM fetches").fetchone()
    connection.close()
    if found != expected:
        raise SystemExit(f"{database}: {found} rows, {expected} expected")


def show(figures: dict[str, Any], producers: int) -> None:
    console = Console()
    console.print(
        f"{figures['machine']}; Python {figures['python']}, SQLite {figures['sqlite']}, "
        f"telemetry-bus {figures['telemetry_bus']}; {figures['rounds']} rounds of {figures['rows']:,} rows, medians"
    )
    table = Table()
    table.add_column("")
    table.add_column("figure", justify="right")
    table.add_row(f"rows/s, {producers} producers through the bus", f"{figures['bus_rows_per_s']:,.0f}")
    table.add_row(
        f"rows/s, one process, executemany of {EXECUTEMANY_BATCH:,}", f"{figures['executemany_rows_per_s']:,.0f}"
    )
    table.add_row("ratio", f"{figures['bus_to_executemany']:.2f}")
    table.add_row("CPU µs per execute, calling thread", f"{figures['execute_cpu_us']:.2f}")
    table.add_row("CPU µs per submit of a callable of two statements", f"{figures['callable_of_two_cpu_us']:.2f}")
    table.add_row("worst single execute, ms", f"{figures['execute_worst_ms']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
