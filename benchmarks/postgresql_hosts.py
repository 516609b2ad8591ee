"""Writers of several hosts into one PostgreSQL, beside what one would write by hand and what libraries do.

    python -m benchmarks.postgresql_hosts [ROUNDS]

Each host is a process that commits batches of 1,000 rows of seven columns, with a ledger row in each transaction and
synchronous commit on. Prints rows per second of all hosts together, and the CPU of their processes.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    text,
)

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.jobs import Run, Template
from tests.support.postgresql import USER, Server, binaries
from writer_daemon.__main__ import COLLECT_AFTER

HOSTS = (1, 4, 8)
BATCH, BATCHES = 1000, 40
COLUMNS = "id, url, status, seconds, ok, fetched_at, note"
TABLE = """CREATE TABLE IF NOT EXISTS fetches (id BIGINT, url TEXT, status INTEGER, seconds DOUBLE PRECISION,
    ok BOOLEAN, fetched_at TIMESTAMP, note TEXT)"""
INSERT = f"INSERT INTO fetches ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
LEDGER = "CREATE TABLE by_hand (stream bytea PRIMARY KEY, n bigint)"
MOVE = "INSERT INTO by_hand VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET n = excluded.n"
TYPES = ("int8", "text", "int4", "float8", "bool", "timestamp", "text")

Way = Callable[[str], Callable[[int], None]]


def rows() -> list[list[Any]]:
    return [
        [n, f"https://example.org/articles/{n}", 200, n * 0.001, True, "2026-01-02 03:04:05.678901", "short note"]
        for n in range(BATCH)
    ]


def bus(url: str) -> Callable[[int], None]:
    """The writer of the bus, without what brings it its jobs."""
    writer, stream = Writer(parse_database(url)), os.urandom(16)
    template, payloads = Template((TABLE,), ((INSERT, False),)), rows()

    def commit(number: int) -> None:
        writer.apply([Run(stream, number * BATCH + 1, template, payloads)])

    return commit


def copy(url: str) -> Callable[[int], None]:
    """COPY in binary, as one would write it by hand for this very table."""
    connection, stream = psycopg.connect(url, autocommit=True), os.urandom(16)
    cursor, payloads = connection.cursor(), rows()

    def commit(number: int) -> None:
        connection.execute("BEGIN")
        with cursor.copy(f"COPY fetches ({COLUMNS}) FROM STDIN (FORMAT binary)".encode()) as copying:
            copying.set_types(TYPES)
            for row in payloads:
                copying.write_row([*row[:5], datetime.fromisoformat(row[5]), row[6]])
        with connection.pipeline():
            connection.execute(MOVE, (stream, number))
            connection.execute("COMMIT")

    return commit


def many(url: str) -> Callable[[int], None]:
    """executemany in a pipeline."""
    connection, stream = psycopg.connect(url, autocommit=True), os.urandom(16)
    cursor, payloads = connection.cursor(), rows()

    def commit(number: int) -> None:
        with connection.pipeline():
            connection.execute("BEGIN")
            cursor.executemany(INSERT.replace("?", "%s").encode(), payloads)
            connection.execute(MOVE, (stream, number))
            connection.execute("COMMIT")

    return commit


def core(url: str) -> Callable[[int], None]:
    """SQLAlchemy Core's insert of many rows, with types that it knows."""
    engine, stream, table = create_engine(url.replace("://", "+psycopg://")), os.urandom(16), alchemy_table()
    payloads = [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in typed_rows()]
    moving = text("INSERT INTO by_hand VALUES (:s, :n) ON CONFLICT (stream) DO UPDATE SET n = excluded.n")

    def commit(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(table.insert(), payloads)
            connection.execute(moving, {"s": stream, "n": number})

    return commit


def frame(url: str) -> Callable[[int], None]:
    """pandas' `to_sql` with `method="multi"`, without a ledger: it commits by itself."""
    import pandas

    engine = create_engine(url.replace("://", "+psycopg://"))
    found = pandas.DataFrame(typed_rows(), columns=COLUMNS.split(", "))

    def commit(number: int) -> None:
        found.to_sql("fetches", engine, if_exists="append", index=False, method="multi")

    return commit


def typed_rows() -> list[list[Any]]:
    return [[*row[:5], datetime.fromisoformat(row[5]), row[6]] for row in rows()]


def alchemy_table() -> Table:
    types: tuple[Any, ...] = (BigInteger(), Text(), Integer(), Double(), Boolean(), DateTime(), Text())
    columns = zip(COLUMNS.split(", "), types, strict=True)
    return Table("fetches", MetaData(), *(Column(name, kind) for name, kind in columns))


WAYS: dict[str, Way] = {
    "binary COPY by hand": copy,
    "the bus": bus,
    "executemany": many,
    "SQLAlchemy Core": core,
    "pandas to_sql": frame,
}


def host(way: str, url: str, ready: Any, told: Any) -> None:
    commit = WAYS[way](url)
    commit(0)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)  # as the writer's process has it
    ready.wait()
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(1, BATCHES + 1):
        commit(number)
    told.put((time.perf_counter() - began, time.process_time() - cpu))


def measure(way: str, url: str, hosts: int) -> tuple[float, float]:
    """Rows per second of all together, and microseconds of CPU a row."""
    ready, told = multiprocessing.Barrier(hosts), multiprocessing.Queue()  # type: ignore[var-annotated]
    processes = [multiprocessing.Process(target=host, args=(way, url, ready, told)) for _ in range(hosts)]
    for process in processes:
        process.start()
    found = [told.get() for _ in processes]
    for process in processes:
        process.join()
    number = hosts * BATCH * BATCHES
    return number / max(seconds for seconds, _ in found), sum(cpu for _, cpu in found) / number * 1e6


def main(rounds: int) -> None:
    """Rounds of all ways in turn, so that a busy machine is busy for each of them."""
    found_binaries = binaries()
    if found_binaries is None:
        sys.exit("install the test extra, or name a server's programs in POSTGRESQL_BIN")
    with tempfile.TemporaryDirectory(prefix="telemetry-bus-") as folder:
        Path(folder).chmod(0o755)
        server = Server(Path(folder, "server"), found_binaries)
        server.create()
        server.start({"fsync": "on", "shared_buffers": "256MB"})
        try:
            server.run(f"CREATE ROLE {USER} LOGIN", f"CREATE DATABASE hosts OWNER {USER}")
            url = server.url("hosts")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(TABLE.encode())
                connection.execute(LEDGER.encode())
                for hosts in HOSTS:
                    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
                    for _ in range(rounds):
                        for way, measured in found.items():
                            connection.execute("TRUNCATE fetches")
                            measured.append(measure(way, url, hosts))
                    best = median(rate for rate, _ in found["binary COPY by hand"])
                    for way, measured in found.items():
                        rate, cpu = median(r for r, _ in measured), median(c for _, c in measured)
                        print(
                            f"{hosts} host(s)  {way:<20} {rate:>9,.0f} rows/s  {rate / best:.2f}  {cpu:.1f} µs CPU/row"
                        )
        finally:
            server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
