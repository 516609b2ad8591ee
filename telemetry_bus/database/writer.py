"""The writer: owns a database, applies jobs to it, and knows what it has applied."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config import Database
from ..errors import ConfigError, DatabaseFault, StoreClosed
from ..jobs import Failure, Run, Template
from ..runtime import lifecycle
from .applier import Applier, Settled, no_failpoint
from .attempts import Attempts
from .deadletters import UNKNOWN, DeadLetter, DeadLetters, FailureLog
from .dialects import Connection, Dialect, Durability, FreeSpace, Settings
from .ledger import Ledger
from .schema import create_bus_tables
from .stats import Statistics, WriterSnapshot
from .transactions import bus_transaction

logger = logging.getLogger("telemetry_bus.writer")

#: A definition may fill an index over a large table. Less than the service manager's watchdog waits for.
DEFINITION_TIMEOUT_S = 120.0
#: A log of this size that a reader keeps from being moved into the database is worth a warning, so often.
ALARM_LOG_BYTES = 256 * 1024 * 1024
ALARM_PERIOD_S = 60.0
#: A transaction that another one was in the way of is tried again after a part of these: both shall not meet again.
CONFLICT_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2)


#: Databases that this process can no longer use: see `Writer.abandon`.
_torn: set[str] = set()


class Writer:
    """Applies jobs to one database, which it has for itself: the caller sees to it that there is no second writer.

    Not for two threads at once. With `ledger` (every mode but `sync`) it keeps the tables of the bus and looks
    after checkpoints; without, it has `run` and nothing that needs those tables.

    `busy_timeout` and `statement_timeout` are in seconds; `clock` is monotonic. After a `DatabaseFault` the same
    call may be made again, on a fresh connection if need be.
    """

    #: Called with "before-begin", "in-batch", "before-commit" and "after-commit"; a test may end the process there.
    failpoint: Callable[[str], None] = staticmethod(no_failpoint)

    def __init__(
        self,
        database: Database,
        *,
        durability: Durability = "full",
        busy_timeout: float = 1.0,
        statement_timeout: float = 30.0,
        definition_timeout: float = DEFINITION_TIMEOUT_S,
        ledger: bool = True,
        attempts: Path | None = None,
        on_stuck: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the database, or make it. Raises `DatabaseFault` and `ConfigError`."""
        if database.identity in _torn:
            raise DatabaseFault(
                "this process was forked in the middle of a transaction, in a way that Python does not see",
                operation="open",
                subject=database.masked,
                hint='fork with os.fork, or before the first job; mode="daemon" takes any fork',
            )
        self._database = database
        self._dialect = dialect_of(database)
        self._has_ledger = ledger
        self._statement_timeout = statement_timeout
        self._definition_timeout = definition_timeout
        self._on_stuck = on_stuck
        self._clock = clock
        self._statistics = Statistics()
        self._failure_log = FailureLog(clock)
        self._known_letters = 0
        self._next_alarm = clock()
        self._attempts = Attempts(attempts)
        #: Streams of which more may be committed than is known, up to which sequence: a COMMIT has failed.
        self._in_doubt: dict[bytes, int] = {}
        self._closed = False
        self._sound = True
        self._seen_changes: object = None
        self.behind = False
        place = None if attempts is None else attempts.parent
        self._use(self._dialect.open(database, Settings(durability, busy_timeout, ledger, clock, self._stuck, place)))

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, for reading in `:memory:`."""
        with self._connected() as connection:
            return connection.driver

    def last_sequences(self, streams: Iterable[bytes]) -> dict[bytes, int]:
        """Each stream's last committed sequence; 0 for a stream that the ledger does not know."""
        with self._connected():
            return self._ledger.last(streams)

    def apply(self, runs: Sequence[Run]) -> list[Failure]:
        """Settle all jobs of `runs`, however long it takes; the failures. Raises as `settle`."""
        failures: list[Failure] = []
        left = list(runs)
        while left:
            settled = self.settle(left)
            failures += settled.failures
            left = settled.rest
        return failures

    def settle(self, runs: Sequence[Run]) -> Settled:
        """Commit the first jobs of `runs`, whose sequences follow the ledger's, with the ledger.

        All of them in one transaction, as a rule. A job that the database refuses becomes a dead letter; the jobs are
        then run in order, in transactions of a bounded time, and what is left after the first ones is `rest`. A single
        job has no rest. Raises `DatabaseFault` when the database is at fault: calling again with the same runs is
        right, whatever has been committed. Raises `LedgerMoved` when the ledger does not stand where they begin,
        because another writer has written or the database was restored: then ask `last_sequences` first.
        """
        for pause_s in CONFLICT_PAUSES_S:
            try:
                return self._settle(runs)
            except DatabaseFault as fault:
                if not self._dialect.is_conflict(fault.__cause__):
                    raise
                logger.debug("another transaction was in the way: %s", fault)
            time.sleep(random.uniform(0, pause_s))
        return self._settle(runs)

    def _settle(self, runs: Sequence[Run]) -> Settled:
        failures: list[Failure] = []
        left = list(runs)
        with self._connected():
            if any(run.first <= self._in_doubt.get(run.stream, 0) for run in left):
                left, failures = self._without_committed(left)
            left = [run for run in left if run.payloads]
            if left:
                for run in left:
                    last = run.first + len(run.payloads) - 1
                    self._in_doubt[run.stream] = max(last, self._in_doubt.get(run.stream, 0))
                settled = self._applier.settle(left)
                failures, left = failures + settled.failures, settled.rest
            self._trust(runs, left)
        if failures:
            self._failure_log.write(failures)
        return Settled(failures, left)

    def run(self, template: Template, payload: Any) -> None:
        """Apply one job in a transaction of its own, without ledger and dead letter (mode `sync`).

        Raises `JobFailed` from the driver's exception, and `DatabaseFault`.
        """
        with self._connected():
            refusal = self._applier.apply_alone(template, payload)
        if refusal is not None:
            raise refusal

    def written_by_others(self) -> bool:
        """Whether another connection has committed since this was last asked, as far as the database tells."""
        with self._connected() as connection:
            before, self._seen_changes = self._seen_changes, connection.foreign_changes()
        return bool(self._seen_changes != before)

    def raise_watermark(self, stream: bytes, sequence: int) -> None:
        """The ledger stands at `sequence` at least: its producer no longer has the jobs up to there."""
        with self._transaction():
            self._ledger.raise_to(stream, sequence)

    def failures_after(self, stream: bytes, sequence: int, limit: int = 100) -> list[Failure]:
        """The first `limit` dead letters of a stream above a sequence, in order."""
        with self._connected():
            return self._letters.after(stream, sequence, limit)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """All dead letters in the order of their ids, read one at a time, for together they may be large."""
        with self._connected():
            ids = self._letters.ids()
        for id in ids:
            with self._connected():
                letter = self._letters.get(id)
            if letter is not None:
                yield letter

    def retry(self, ids: Sequence[int] | None = None) -> list[tuple[int, str]]:
        """Apply dead letters once more, None: all of them, in the order of `ids`. Each id, and its error: "" when it
        is applied.

        Each job and the deletion of its letter are one transaction; one that fails again keeps its letter, with
        the new error. After a `DatabaseFault` those that were decided stay decided.
        """
        with self._connected():
            return [self._retry(id) for id in (self._letters.ids() if ids is None else ids)]

    def purge(self, ids: Sequence[int] | None = None) -> int:
        """Delete dead letters, None: all of them. The number of those that were there."""
        with self._transaction():
            return self._letters.delete(self._letters.ids() if ids is None else ids)

    def end_streams(self, streams: Collection[bytes]) -> None:
        """These streams are over, and their journals deleted: some day the ledger may forget them."""
        with self._transaction():
            self._ledger.end(streams)

    def prune_ledger(self, keep: Collection[bytes], older_than_s: float = 7 * 86400, limit: int = 1000) -> int:
        """Delete at most `limit` of the ledger's rows of streams that have been over for so long and are not in `keep`.
        Their number."""
        with self._transaction():
            return self._ledger.prune(keep, older_than_s, limit)

    def give_back(self, pages: int) -> tuple[FreeSpace, int]:
        """Cut off at most so many pages that hold nothing: what is left, and how many bytes went.

        The file is cut at the next checkpoint; when nothing is left to give back, that is tried now.
        """
        with self._connected() as connection:
            before = after = connection.free_space()
            if before.auto_vacuum == "INCREMENTAL" and before.free_bytes:
                with bus_transaction(connection, self._dialect):
                    connection.give_back(pages)
                after = connection.free_space()
        if not after.free_bytes:
            self.checkpoint(idle=True)
        return after, before.free_bytes - after.free_bytes

    def maintain(self, *, idle: bool) -> None:
        """Checkpoint when the log has grown long or the writer is idle; when idle, keep the planner's statistics, too.
        Never waits. Call it about once a second."""
        self._failure_log.tick()
        if idle:
            with self._connected() as connection:
                connection.keep_statistics(self._statistics.rows)
        self.checkpoint(idle=idle)

    def checkpoint(self, *, idle: bool) -> None:
        """As `maintain`. While `behind`, a reader has kept the log from being written back: after each commit try
        again, or readers that are always there but for moments starve it."""
        with self._connected() as connection:
            done = connection.checkpoint(idle=idle)
            log_bytes = connection.log_bytes()
        self.behind = not done
        if not done and log_bytes > ALARM_LOG_BYTES and self._clock() >= self._next_alarm:
            self._next_alarm = self._clock() + ALARM_PERIOD_S
            logger.warning(
                "the write-ahead log of %s has %d MiB: a reader has kept it from being written back; "
                "look for a connection with an open transaction",
                self._database.masked,
                log_bytes >> 20,
            )

    @property
    def commit_seconds(self) -> float:
        """How long all COMMITs together have waited for the disk."""
        return self._statistics.commit_seconds

    def snapshot(self) -> WriterSnapshot:
        """The state in numbers. Never raises: while the database is away it tells what was known last."""
        if self._has_ledger and self._sound and not self._closed:
            with suppress(DatabaseFault):
                self._known_letters = self._letters.count()
        return WriterSnapshot(
            jobs_committed=self._statistics.jobs,
            rows_committed=self._statistics.rows,
            batches=self._statistics.batches,
            dead_letters=self._known_letters,
            commit_ms_p50=self._statistics.commit_ms(0.50),
            commit_ms_p99=self._statistics.commit_ms(0.99),
            ddl_cached=self._applier.schema.known_definitions,
            drift=self._applier.schema.drift,
            wal_bytes=self._connection.log_bytes(),
            database_version=self._connection.version,
        )

    def rest(self) -> None:
        """Close the database until it is needed again. For nothing that lives in memory."""
        if self._sound and not self._closed:
            self._sound = False
            self._connection.close(clean=False)

    def abandon(self, *, idle: bool) -> None:
        """In a forked child whose parent had the database open.

        What SQLite knows of its locks is the parent's. If nothing was running at the fork, closing puts that right, and
        the next connection of this process has locks of its own; the parent's stay. Otherwise the connection must never
        be touched again, and this process cannot use the database.
        """
        if idle or self._dialect.is_server:  # a session may be let go of in the middle of a statement
            self._sound = False
            self._connection.abandon()
        elif self._sound and not self._closed:
            if not self._database.is_memory:  # each of those is a database of its own
                _torn.add(self._database.identity)
            lifecycle.keep_for_ever(self._connection)

    def close(self) -> None:
        """Close the database; idempotent. Leaves no log behind unless somebody else has the database open."""
        if not self._closed:
            self._closed = True
            self._attempts.close()
            self._failure_log.flush()
            self._connection.close(clean=self._sound and not self._connection.vanished())

    def _stuck(self) -> None:
        """From the watchdog's thread: a job cannot be stopped."""
        if self._on_stuck is not None:
            self._attempts.give_up()
            self._on_stuck()

    def _retry(self, id: int) -> tuple[int, str]:
        letter = self._letters.get(id)
        if letter is None:
            return id, UNKNOWN
        refusal = self._applier.retry(letter)
        return id, "" if refusal is None else refusal.traceback

    def _trust(self, runs: Sequence[Run], rest: Sequence[Run]) -> None:
        """Nothing failed: what is known of these runs is what is committed, and `rest` is not."""
        for run in rest:
            self._in_doubt.pop(run.stream, None)
        for run in runs:
            if self._in_doubt.get(run.stream, 0) < run.first + len(run.payloads):
                self._in_doubt.pop(run.stream, None)

    def _without_committed(self, runs: Sequence[Run]) -> tuple[list[Run], list[Failure]]:
        """The jobs that the ledger does not have, and the failures of those that it has."""
        left, failures = [], []
        committed = self._ledger.last({run.stream for run in runs})
        for run in runs:
            done = min(max(committed[run.stream] - run.first + 1, 0), len(run.payloads))
            if done:
                letters = self._letters.after(run.stream, run.first - 1, done)
                failures += [failure for failure in letters if failure.sequence < run.first + done]
            if done < len(run.payloads):
                left.append(Run(run.stream, run.first + done, run.template, run.payloads[done:]))
        return left, failures

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connected() as connection, bus_transaction(connection, self._dialect):
            yield

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A sound connection for the block. After a fault that it may not have survived the next one is fresh."""
        self._ready()
        try:
            yield self._connection
        except DatabaseFault as fault:
            self._sound = not self._dialect.breaks_connection(fault.__cause__)
            raise

    def _ready(self) -> None:
        """See to it that the connection is sound and its database the one that the URL names."""
        if self._closed:
            raise StoreClosed("the writer is closed", operation="write", subject=self._database.masked)
        if not self._sound:
            self._use(self._connection.reopen())
            self._sound = True
        elif self._connection.vanished():
            self._sound = False
            raise DatabaseFault(
                "the database was deleted or replaced while the writer had it open",
                operation="write",
                subject=self._database.masked,
                hint="put the file back; the writer does not make a new one by itself",
            )

    def _use(self, connection: Connection) -> None:
        """Work through this connection from now on."""
        try:
            if self._has_ledger:
                create_bus_tables(connection, self._dialect)
        except BaseException:
            connection.close(clean=False)
            raise
        self._connection = connection
        self._seen_changes = connection.foreign_changes()
        self._ledger = Ledger(connection)
        self._letters = DeadLetters(connection.own)
        self._applier = Applier(
            connection,
            self._dialect,
            self._statistics,
            subject=self._database.masked,
            statement_timeout=self._statement_timeout,
            definition_timeout=self._definition_timeout,
            attempts=self._attempts,
            clock=self._clock,
            points=self,
        )


def dialect_of(database: Database) -> Dialect:
    """What is known about its kind of database. Raises `ConfigError` for one that the writer does not know, and where a
    library for it is not installed."""
    if database.dialect == "sqlite":
        from .sqlite.connection import SqliteDialect

        return SqliteDialect()
    if database.dialect == "postgresql":
        from ..runtime.postgresql import driver

        driver()  # says what is missing, if it is not there
        from .postgresql.connection import PostgresDialect

        return PostgresDialect()
    raise ConfigError(
        f"the writer cannot write to {database.dialect}",
        operation="open",
        subject=database.masked,
        hint="use sqlite:///PATH or postgresql://HOST/DATABASE",
    )
