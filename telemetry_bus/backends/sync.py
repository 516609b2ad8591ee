"""Sync mode: the caller writes, before `submit()` returns."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from sqlite3 import Connection

from ..config import StoreOptions
from ..database.writer import Writer
from ..encoding.records import Definitions, Encoder, read_runs, seal
from ..encoding.values import check_size
from ..errors import ReentrantSubmit, StoreClosed, TelemetryError
from ..jobs import Job
from ..runtime import lifecycle
from ..runtime.lifecycle import Hold
from ..runtime.told_later import told_later
from ..views import StoreStats, WriterView
from .immediate import ImmediateBackend

logger = logging.getLogger("telemetry_bus")


class SyncBackend(ImmediateBackend):
    """One connection behind a lock. Jobs pass through the same bytes and the same writer as in the other modes."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__()
        self._options = options
        self._lock = threading.RLock()
        self._hold = Hold(self._lock)
        self._encoder = Encoder(lambda definition: 0)  # each record carries its template
        self._writer: Writer | None = None
        self._closed = False
        self._busy = False
        self._failed = 0
        self._last_error: str | None = None
        lifecycle.watch(self)
        lifecycle.rest_at_fork(self)

    def put(self, job: Job) -> int:
        """Raises `JobFailed` when the database refuses the job, `DatabaseFault` when it is the database's fault."""
        with told_later(), self._lock:
            if self._busy:
                raise ReentrantSubmit
            try:
                self._busy = True
                return self._write(job)
            finally:
                self._busy = False

    def _write(self, job: Job) -> int:
        writer = self._open()
        record = self._encoder.job(job)
        check_size(len(record), job.statements[0].sql if job.statements else "")
        (run,) = read_runs(b"", 1, 1, seal(record, 1), Definitions())
        try:
            writer.run(run.template, run.payloads[0])
        except TelemetryError as error:
            self._failed += 1
            self._last_error = str(error)
            raise
        self._submitted += 1
        logger.debug("commit job %d", self._submitted)
        return self._submitted

    def stats(self) -> StoreStats:
        return StoreStats(
            submitted=self._submitted,
            acknowledged=self._submitted,
            failed=self._failed,
            last_error=self._last_error,
            writer=WriterView(pid=os.getpid(), answering=not self._closed),
        )

    def close(self) -> None:
        with told_later(), self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def forget(self) -> int:
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()
        return 0

    def memory(self) -> AbstractContextManager[Connection] | None:
        return self._memory() if self._options.database.is_memory else None

    def before_fork(self) -> None:
        """Close the file; parent and child open it again at their next job. The child gets a copy of `:memory:`."""
        self._hold.take()
        if self._writer is not None and not self._busy and not self._options.database.is_memory:
            writer, self._writer = self._writer, None  # in this order: what follows may be interrupted
            writer.close()

    def after_fork_in_parent(self) -> None:
        self._hold.release()

    def after_fork(self) -> None:
        idle = self._lock.acquire(blocking=False) and not self._busy
        self._hold.release()
        self._lock = threading.RLock()
        self._hold = Hold(self._lock)
        self._busy = False
        if self._writer is not None and not (idle and self._options.database.is_memory):
            self._writer.abandon(idle=idle)
            self._writer = None

    def at_exit(self, limit: float) -> None:
        """Nothing: nothing is pending, and later exit handlers may still write."""

    @contextmanager
    def _memory(self) -> Iterator[Connection]:
        with self._lock:
            yield self._open().driver_connection

    def _open(self) -> Writer:
        if self._closed:
            raise StoreClosed("the store is closed", operation="submit", hint="submit before shutdown()")
        if self._writer is None:
            self._writer = Writer(self._options.database, busy_timeout=self._options.timeout, ledger=False)
        return self._writer
