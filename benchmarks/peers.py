"""Libraries that put one writer before SQLite: a server that is asked, and a thread with a queue."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from . import crowd
from .rows import FETCHES, fetches
from .setting import Figures, Measure, Setting

SLOW = 100
#: sqlite_rx sets WAL itself and leaves synchronous at SQLite's default, which is FULL.
SERVER = """
import sys
from sqlite_rx.server import SQLiteServer
SQLiteServer(bind_address=sys.argv[1], database=sys.argv[2]).run()
"""
ANSWER_MS = 60_000


def server(setting: Setting) -> Figures:
    """Clients of a sqlite_rx server, which answers each row."""
    endpoint = f"ipc://{setting.folder}/rx.sock"
    share = setting.share(SLOW)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SERVER, endpoint, str(setting.database)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            crowd.run(1, _define, endpoint)
            done = crowd.run(setting.producers, _ask, endpoint, share)
        finally:
            process.kill()  # at SIGTERM it prints a traceback
    return _figures(setting.database, done, share * setting.producers)


def queue_database(setting: Setting) -> Figures:
    """Threads of one process with peewee's SqliteQueueDatabase, which commits each statement."""
    rows = setting.share(SLOW) * setting.producers
    done = crowd.run(1, _in_threads, setting.database, setting.producers, rows // setting.producers)
    return _figures(setting.database, done, rows)


def _figures(database: Path, done: crowd.Run, rows: int) -> Figures:
    FETCHES.check(database, rows)
    return {"rows_per_s": rows / done.seconds, "seconds": done.seconds, "rows": rows}


def _client(endpoint: str) -> Any:
    return import_module("sqlite_rx.client").SQLiteClient(connect_address=endpoint)


def _request(client: Any, sql: str, *values: Any) -> None:
    answer = client.execute(sql, *values, request_timeout=ANSWER_MS)
    if answer["error"]:
        raise crowd.ProcessFailed(f"sqlite_rx: {answer['error']}")


def _define(number: int, start: crowd.Start, endpoint: str) -> Figures:
    start()
    with _client(endpoint) as client:
        _request(client, FETCHES.ddl)
    return {}


def _ask(number: int, start: crowd.Start, endpoint: str, share: int) -> Figures:
    rows = fetches(share, number * share)
    with _client(endpoint) as client:
        _request(client, "SELECT 1")
        start()
        for row in rows:
            _request(client, FETCHES.sql, *row)
        ended = time.perf_counter()
    return {"ended": ended}


def _in_threads(number: int, start: crowd.Start, database: Path, threads: int, share: int) -> Figures:
    kind: Any = import_module("playhouse.sqliteq").SqliteQueueDatabase
    queued = kind(str(database), pragmas={"journal_mode": "wal", "synchronous": "full"})
    queued.execute_sql(FETCHES.ddl).fetchall()
    shares = [fetches(share, thread * share) for thread in range(threads)]
    cursors: list[list[Any]] = [[] for _ in shares]

    def put(thread: int) -> None:
        cursors[thread] = [queued.execute_sql(FETCHES.sql, row) for row in shares[thread]]

    workers = [Thread(target=put, args=(thread,)) for thread in range(threads)]
    start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results in cursors:
        for cursor in results:
            cursor.fetchall()  # waits, and raises what failed
    ended = time.perf_counter()
    queued.stop()
    return {"ended": ended}


MEASURES = (
    Measure("sqlite_rx", "sqlite_rx, an answer for each row", server, ("sqlite_rx",)),
    Measure("peewee", "peewee SqliteQueueDatabase, threads", queue_database, ("peewee",), rare=True),
)
