"""A producer at full speed that notes what was accepted."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from telemetry_bus import Job, Statement, TelemetryStore

from ...support.numbered import ENSURE, INSERT, TABLES, rows_of

#: A small journal is full, and its ring comes round, many times a second; a large one leaves much to adopt.
JOURNAL_BYTES = (512 * 1024, 4 * 1024 * 1024, 32 * 1024 * 1024)


#: What a run is asked for.
LEAVE, FORK = 1, 2


def produce(database: Path, run: int, accepted: memoryview, asked: memoryview, pids: memoryview) -> None:
    """Submit job after job; note each one after it was accepted. Asked to leave, end without a flush. Asked to fork, do
    it in a way that Python does not see, once."""
    store = TelemetryStore(database, journal_bytes=JOURNAL_BYTES[run // 2 % len(JOURNAL_BYTES)])
    number = 0
    while asked[run] != LEAVE:
        number += 1
        submit(store, run, number)
        accepted[run] = number
        if asked[run] == FORK and store.stats().writer.answering:  # else it may still be loading what it needs
            asked[run] = 0
            if not _fork():
                run, number = run + 1, 0
                pids[run] = os.getpid()
    if run % 2:
        os._exit(0)  # a child of the kind that knows nothing of exit handlers


def _fork() -> int:
    """The C library's own, without Python's hooks."""
    pid: int = ctypes.PyDLL(None).fork()
    return pid


def submit(store: TelemetryStore, run: int, number: int) -> None:
    """One job, in one of the ways there are to submit it."""
    rows = rows_of(run, number, "x" * length_of(number))
    match number % 3:
        case 0:
            store.execute(INSERT["lefts"], rows["lefts"][0], ensure=ENSURE)
        case 1:

            def job(connection: Any) -> None:
                for row in rows["lefts"]:
                    connection.execute(INSERT["lefts"], row)
                connection.executemany(INSERT["rights"], rows["rights"])

            store.submit(job, ensure=ENSURE)
        case 2:
            store.submit(Job(tuple(Statement(INSERT[table], rows[table]) for table in TABLES), tuple(ENSURE)))


def length_of(number: int) -> int:
    """Of its text: mostly little, so that jobs are many; now and then more than a message usually holds."""
    return 60_000 if number % 5000 == 1 else number * 7 % 40
