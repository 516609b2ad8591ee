"""What one process can do that only writes: `executemany`, and the limit of a newer SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from importlib import import_module
from itertools import chain
from typing import Any

from . import crowd
from .rows import FETCHES, Row, Target, byline_rows, bylines, chunks, fetches
from .setting import Figures, Measure, Setting

EXECUTEMANY_ROWS = 2000
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL")
#: Of one statement and of one transaction, found by trying: longer statements and larger transactions are no faster,
#: nor are larger pages. The log may hold a whole transaction and more before a checkpoint.
LIMIT_STATEMENT_ROWS, LIMIT_TRANSACTION_ROWS = 50, 100_000
LIMIT_PRAGMAS = (*PRAGMAS, "wal_autocheckpoint=10000", "cache_size=-65536")


def executemany(
    setting: Setting, target: Target = FETCHES, build: Callable[[int], list[Row]] = fetches, divisor: int = 1
) -> Figures:
    """The standard driver, a transaction for every 2,000 rows."""
    return _alone(setting, _executemany, target, build, divisor)


def limit(setting: Setting) -> Figures:
    """Multi-row VALUES in large transactions, with the SQLite that comes with apsw."""
    return _alone(setting, _multi_row, FETCHES, fetches, 1)


def _alone(
    setting: Setting, work: crowd.Work, target: Target, build: Callable[[int], list[Row]], divisor: int
) -> Figures:
    rows = max(1, setting.rows // divisor)
    done = crowd.run(1, work, setting.database, target, build, rows)
    target.check(setting.database, rows)
    cpu_us = done.figures[0]["cpu_s"] / rows * 1e6
    return {"rows_per_s": rows / done.seconds, "seconds": done.seconds, "rows": rows, "process_cpu_us": cpu_us}


def _executemany(
    number: int, start: crowd.Start, database: Any, target: Target, build: Callable[[int], list[Row]], count: int
) -> Figures:
    rows = build(count)
    connection = sqlite3.connect(database, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(target.ddl)
    parts = chunks(rows, EXECUTEMANY_ROWS)
    start()
    cpu = time.process_time()
    for part in parts:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(target.sql, part)
        connection.execute("COMMIT")
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    connection.close()
    return {"ended": ended, "cpu_s": cpu}


def _multi_row(
    number: int, start: crowd.Start, database: Any, target: Target, build: Callable[[int], list[Row]], count: int
) -> Figures:
    apsw: Any = import_module("apsw")  # by name: neither its types nor itself need be there to check or run the rest
    transactions = [chunks(part, LIMIT_STATEMENT_ROWS) for part in chunks(build(count), LIMIT_TRANSACTION_ROWS)]
    head, _, values = target.sql.partition("VALUES ")
    texts = {
        size: f"{head}VALUES {', '.join([values] * size)}"
        for size in {len(statement) for statements in transactions for statement in statements}
    }
    connection = apsw.Connection(str(database))
    for pragma in LIMIT_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(target.ddl)
    execute = connection.cursor().execute
    start()
    cpu = time.process_time()
    for statements in transactions:
        execute("BEGIN IMMEDIATE")
        for statement in statements:
            execute(texts[len(statement)], tuple(chain.from_iterable(statement)))
        execute("COMMIT")
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    connection.close()
    return {"ended": ended, "cpu_s": cpu}


MEASURES = (
    Measure("executemany", "executemany, one process", executemany),
    Measure(
        "executemany-byline",
        "executemany, rows of 27 columns",
        lambda s: executemany(s, bylines(), byline_rows, divisor=4),
        rare=True,
    ),
    Measure("limit", "limit: multi-row VALUES, newer SQLite", limit, ("apsw",)),
)
