"""A producer at full speed that notes what was accepted."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from telemetry_bus import (
    DatabaseFault,
    FlushTimeout,
    Job,
    JournalFull,
    JournalUnavailable,
    Statement,
    TelemetryStore,
    WriterBusy,
)

from ...support.numbered import ENSURE, INSERT, TABLES, rows_of
from .board import FORK, LEAVE, Board
from .clocks import jump

#: A small journal is full, and its ring comes round, many times a second; a large one leaves much to adopt.
JOURNAL_BYTES = (512 * 1024, 4 * 1024 * 1024, 32 * 1024 * 1024)
LARGE_CHARS = 8_000_000
#: What a submit may say while a disk is full, a database is locked, or another process owns it: tried again.
REFUSALS = (JournalUnavailable, JournalFull, DatabaseFault, WriterBusy)
FLUSH_EVERY = 4_999


class Part(NamedTuple):
    """What a run is given."""

    mode: str
    linger_ms: float | None
    clock_jumps: bool
    #: Where its errors are logged, in the modes where no writer process does so.
    log: Path


def produce(database: Path, run: int, part: Part, board: Board) -> None:
    """Submit job after job; note each one after it was accepted. Asked to leave, end without a flush. Asked to fork, do
    it in a way that Python does not see, once."""
    logging.basicConfig(filename=part.log, level=logging.ERROR, format="%(message)s")
    if part.clock_jumps:
        jump()
    options: dict[str, Any] = {} if part.linger_ms is None else {"linger_ms": part.linger_ms}
    store = TelemetryStore(database, mode=part.mode, journal_bytes=JOURNAL_BYTES[run // 2 % 3], **options)
    number = 0
    while board.asked[run] != LEAVE:
        try:
            submit(store, run, number + 1)
        except REFUSALS:
            board.refused[run] += 1
            time.sleep(0.02)
            continue
        number += 1
        if number == 1 and (journal := store.stats().journal):
            board.note_stream(run, journal)
        board.accepted[run] = number
        if number % FLUSH_EVERY == 0:
            with suppress(FlushTimeout):
                store.flush(1.0)
        if board.asked[run] == FORK and store.stats().writer.answering:  # else it may still be loading what it needs
            board.asked[run] = 0
            if pid := _fork():
                board.pids[run + 1] = pid  # a child that stands still at the fork does not note it itself
            else:
                run, number = run + 1, 0
                board.pids[run] = os.getpid()
    if run % 2:
        os._exit(0)  # a child of the kind that knows nothing of exit handlers


def _fork() -> int:
    """The C library's own, without Python's hooks."""
    pid: int = ctypes.PyDLL(None).fork()
    return pid


def submit(store: TelemetryStore, run: int, number: int) -> None:
    """One job, in one of the ways there are to submit it."""
    rows = rows_of(run, number, "x" * length_of(run, number))
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


def is_large(run: int, number: int) -> bool:
    """Whether the job is nearly as large as one may be, which takes the largest journal."""
    return run // 2 % 3 == 2 and number % 60_000 == 6


def length_of(run: int, number: int) -> int:
    """Of its text: mostly little, so that jobs are many; now and then more than a message usually holds."""
    if is_large(run, number):
        return LARGE_CHARS
    return 60_000 if number % 5000 == 1 else number * 7 % 40
