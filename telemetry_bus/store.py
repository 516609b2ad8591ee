"""The face of the bus: `TelemetryStore`, and one shared store per database with `get_store`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Self

from .backends import Backend, make_backend
from .config import (
    DialectName,
    Mode,
    StoreOptions,
    check_seconds,
    is_default,
    parse_database,
    store_options,
    unknown_variables,
)
from .encoding.values import refuse_nul
from .errors import BadDefinition, ConfigError, FlushTimeout, JobError, JobFailed, StoreClosed, shorten, split_error
from .jobs import Failure, Job, Row, Statement
from .producer.recording import RecordingConnection
from .runtime.lifecycle import ForkSafeLock, notice_fork, own
from .runtime.writer_command import VARIABLE as WRITER_COMMAND
from .sql.memory import remember
from .sql.statements import bind, bind_all, check_definition, prepare

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Index, Table
    from sqlalchemy.engine import Engine

    from .views import StoreStats

logger = logging.getLogger("telemetry_bus")

#: What `submit` takes: a callable that writes to the connection it is given, or a job.
Task = Callable[[Any], object] | Job

#: `queue.maxsize`: the limit is the journal's size in bytes, not a number of jobs.
_NO_LIMIT = 0


class TelemetryStore:
    """Where one process hands in its telemetry for one database.

    `submit`, `execute`, `executemany` and `insert` return as soon as the job is safe in the journal; a writer
    applies it exactly once, in order, as a whole. May be used from any thread, and in a forked child. One that is
    forgotten without a `shutdown()` still gets written; it warns then (`ResourceWarning`) if jobs are pending.

    `database`: a SQLAlchemy URL or the path of a SQLite file; else `TELEMETRY_DATABASE_URL`, else
    `sqlite:///data/mizzou.db`. `mode`: "daemon", "thread" or "sync"; else `TELEMETRY_BUS_MODE`; else "daemon", or
    "sync" with `async_writes=False`. `timeout` in seconds limits `flush()`, a submit that waits for a full
    journal, and SQLite's waiting for a lock. `spawn=False` never starts a writer. `on_full`: "block", "raise" or
    "drop". `journal_bytes`: the size of the journal. `job_reads="flush"` lets jobs read, for the time of a
    migration: such jobs take the database's lock and run one after the other. `engine`: a SQLAlchemy engine, taken for
    the URL of its database, in place of `database`. `linger_ms`: how long jobs that no process waits for are gathered
    before they are sent, at most; 0 sends each at once; else `TELEMETRY_BUS_LINGER_MS`.

    Raises `ConfigError` naming the option, or the folder that cannot be used.
    """

    _closed = True  # as long as it is not made

    def __init__(
        self,
        database: object = None,
        *,
        async_writes: bool = True,
        mode: str | None = None,
        timeout: float = 30.0,
        thread_name: str | None = None,
        spawn: bool | None = None,
        on_full: str | None = None,
        journal_bytes: int | None = None,
        job_reads: str | None = None,
        engine: object = None,
        linger_ms: float | None = None,
        **unknown: Any,
    ) -> None:
        self._options = store_options(
            database,
            async_writes=async_writes,
            mode=mode,
            timeout=timeout,
            thread_name=thread_name,
            spawn=spawn,
            on_full=on_full,
            journal_bytes=journal_bytes,
            job_reads=job_reads,
            engine=engine,
            linger_ms=linger_ms,
            **unknown,
        )
        self._debug = self._options.debug
        self._dialect: DialectName = self._options.database.dialect  # type: ignore[assignment]  # it was checked
        _tell_once(database if engine is None else engine, self._options)
        _check_driver(self._options)
        _make_parent(self._options)
        self._backend = make_backend(self._options)
        self._closed = False
        self._bridging = ForkSafeLock()
        self._engine: Engine | None = None

    # Writing

    def submit(self, task: Task, *, ensure: Iterable[str] | None = None) -> int:
        """Hand in a job: a callable that is given a recording connection and runs here and now, or a `Job`.

        `ensure` are definitions (CREATE …, ALTER TABLE … ADD COLUMN …) to see to first, each once per writer.
        Returns the job's sequence number in this store, 0 when the policy "drop" dropped it.

        Raises `ParameterCount`, `UnsupportedValue`, `NotRecordable`, `BadDefinition`, `JobTooLarge`, `JournalFull`,
        `StoreClosed`, and whatever the callable raises; nothing is queued then. With `TELEMETRY_DEBUG`, and always
        in mode "sync", raises `JobFailed` when the database refuses the job.
        """
        if self._closed:  # before the callable does anything
            raise StoreClosed("the store is closed", operation="submit", hint="submit before shutdown()")
        definitions = () if ensure is None else self._definitions(ensure)
        if isinstance(task, Job):
            return self._put(self._checked(task, definitions))
        if not callable(task):
            raise JobError(f"{type(task).__name__} is neither a callable nor a Job", operation="submit")
        if self._options.job_reads == "flush":
            return self._bridged(task, definitions)
        recording = RecordingConnection(self._dialect)
        _check_has_run(task(recording))
        job = Job(recording.statements(), definitions)
        if self._dialect != "sqlite":
            _refuse_nul(job)
        if not own[0]:  # `_put`, without the call
            notice_fork()
        return self._settled(self._backend.put(job))

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), *, ensure: Iterable[str] | None = None
    ) -> int:
        """Hand in one statement with one row of values. See `submit`."""
        of_server = self._dialect != "sqlite"
        # 17 ns less: the cache is asked for a text alone
        prepared = text, placeholders, order = prepare(sql, self._dialect) if of_server else prepare(sql)
        if order is None and type(parameters) is tuple and len(parameters) == placeholders:
            row: Row = parameters  # `bind`, without the call
        else:
            row = bind(prepared, parameters)
        if of_server:
            refuse_nul((row,), text)
        if not own[0]:  # `_ours`, without the call
            notice_fork()
        sequence = self._backend.put_row(text, row, () if ensure is None else self._definitions(ensure))
        return self._settled(sequence) if self._debug else sequence

    def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]], *, ensure: Iterable[str] | None = None
    ) -> int:
        """Hand in one statement with many rows, as one job. See `submit`."""
        prepared = prepare(sql, self._dialect)
        bound = tuple(bind_all(prepared, rows))
        return self._put(Job((Statement(prepared.sql, bound),), self._definitions(ensure)))

    def insert(self, table: Table, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> int:
        """Hand in rows for a SQLAlchemy `Table`, as one job; its definition comes along. See `submit`.

        Raises `JobError` for a column that the table does not have.
        """
        from .tables import insert_job

        return self._put(insert_job(table, rows, dialect=self._dialect))

    def upsert(
        self,
        table: Table,
        rows: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        key: Sequence[str] | Index | None = None,
        update: Sequence[str] | Callable[[Any, Any], Mapping[str, Any]] | None = None,
    ) -> int:
        """Hand in rows that are inserted, or that update those with the same `key`. See `tables.upsert_job`.

        Raises `JobError` for a column that the table does not have.
        """
        from .tables import upsert_job

        return self._put(upsert_job(table, rows, key=key, update=update, dialect=self._dialect))

    # Waiting and looking

    def flush(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> None:
        """Return when every job submitted before is committed, or is a dead letter.

        `timeout` in seconds, the store's own by default. Raises `FlushTimeout`, saying how many jobs wait and what
        is known of the writer; nothing is lost then. With `raise_on_failure` raises `JobFailed` for the first of this
        store's jobs that have failed since the last such flush, saying how many there are.
        """
        limit = self._options.timeout if timeout is None else check_seconds("timeout", timeout)
        self._ours.wait(self._ours.last, limit)
        if raise_on_failure:
            number, first = self._ours.take_failures()
            if first is not None:
                raise _job_failed(first, "telemetry-bus dead-letters list shows them all", number)

    async def aflush(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> None:
        """`flush()` for asyncio programs."""
        import asyncio  # here, because it takes as long to import as all the rest

        await asyncio.to_thread(self.flush, timeout, raise_on_failure=raise_on_failure)

    def connection(self, readonly: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        """A fresh connection to read with, closed at the end of the `with` block.

        A `sqlite3.Connection`; for a PostgreSQL database one with the same methods, that takes the same placeholders
        and gives the same values, with psycopg's own at `driver`. With `readonly=False` it can write (say `commit()`),
        and contends for the database's locks with the writer.

        Raises `DatabaseFault` when the database cannot be opened; a refused write raises `ReadOnly`.
        """
        if self._closed and self._options.database.is_memory:
            raise StoreClosed("the store is closed, and :memory: with it", operation="connection")
        from .reading import connect

        return connect(self._options.database, self._options.timeout, readonly, self._ours.memory())

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine for reading (pandas, ORM)."""
        if self._engine is None:
            from .reading import driver_reader
            from .tables import reading_engine

            database, timeout = self._options.database, self._options.timeout
            self._engine = reading_engine(
                lambda: driver_reader(database, timeout, self._ours.memory()), database.dialect
            )
        return self._engine

    @property
    def database_url(self) -> str:
        return self._options.database.url

    @property
    def dialect(self) -> DialectName:
        """The language of the database, "sqlite" or "postgresql": what a program needs to know for its definitions."""
        return self._dialect

    @property
    def async_writes(self) -> bool:
        return self._options.mode != "sync"

    @property
    def mode(self) -> Mode:
        return self._options.mode

    @property
    def queue(self) -> QueueView:
        """Jobs that are submitted and not decided, in the manner of `queue.Queue`."""
        return QueueView(self)

    def stats(self) -> StoreStats:
        """The figures of this store in this process."""
        return self._ours.stats()

    # Ending

    def shutdown(self, wait: bool = False) -> None:
        """Take no more jobs. With `wait`, `flush()` first; without it what is pending is left to the writer.

        Idempotent. With `wait` raises `FlushTimeout`; the store is closed all the same, and nothing is lost.
        """
        if self._closed:
            return
        try:
            if wait:
                self.flush()
        finally:
            self._closed = True
            self._ours.close()
            if self._engine is not None:
                self._engine.dispose()

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self._closed or _finalizing():  # by then the exit handler has seen to it
            return
        if pending := self._ours.forget():
            warnings.warn(
                f"{self!r} was not shut down: {pending} jobs are pending, and written without it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.shutdown(wait=True)
        except FlushTimeout as late:
            if error is None:
                raise
            if not isinstance(error, FlushTimeout):
                error.add_note(str(late))  # what went wrong first matters more

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<TelemetryStore {self._options.database.masked} mode={self.mode} {state}>"

    @property
    def _ours(self) -> Backend:
        """The backend, in a forked child without what is the parent's."""
        if not own[0]:
            notice_fork()
        return self._backend

    def _put(self, job: Job) -> int:
        if self._dialect != "sqlite":
            _refuse_nul(job)
        return self._settled(self._ours.put(job))

    def _definitions(self, ensure: Iterable[str] | None) -> tuple[str, ...]:
        return _definitions(ensure, self._dialect)

    def _checked(self, job: Job, definitions: tuple[str, ...]) -> Job:
        """A job that was made by hand, checked as if it had been recorded."""
        statements = []
        for statement in job.statements:
            if not isinstance(statement, Statement):
                raise JobError(f"a statement of the job is of type {type(statement).__name__}", operation="submit")
            prepared = prepare(statement.sql, self._dialect)
            statements.append(Statement(prepared.sql, tuple(bind_all(prepared, statement.rows))))
        return Job(tuple(statements), (*definitions, *self._definitions(job.ensure)))

    def _settled(self, sequence: int) -> int:
        """With `TELEMETRY_DEBUG`, wait for the job's outcome and raise it."""
        if self._debug and sequence:
            self._ours.wait(sequence, self._options.timeout)
            if failure := self._ours.failure(sequence):
                raise _job_failed(failure, "TELEMETRY_DEBUG is set; the job is a dead letter")
        return sequence

    def _bridged(self, task: Callable[[Any], object], definitions: tuple[str, ...]) -> int:
        from .producer.bridge import BridgeConnection

        with self._bridging:
            bridge = BridgeConnection(self.flush, lambda: self.connection(readonly=False), definitions, self._dialect)
            try:
                _check_has_run(task(bridge))
            finally:
                bridge.close()
            return self._put(Job(bridge.statements(), definitions))


class QueueView:
    """How full a store is: jobs submitted and not decided, each time at the moment of asking."""

    maxsize = _NO_LIMIT

    def __init__(self, store: TelemetryStore) -> None:
        self._store = store

    def qsize(self) -> int:
        return self._store._ours.pending

    def empty(self) -> bool:
        return self._store._ours.pending == 0

    def full(self) -> bool:
        """Whether the last submit found no room, and none has come free since."""
        return self._store._ours.full


def get_default_database_url() -> str:
    """The URL of the database that a store writes to which is told of none. Raises `ConfigError` when what is
    configured is no database."""
    return parse_database().url


def get_store(database: object = None, *, engine: object = None, **options: Any) -> TelemetryStore:
    """The shared store of a database in this process; a new one after its `shutdown()`. `engine` names the database,
    too: see `TelemetryStore`.

    Without options the open store is returned as it is. Raises `ConfigError` when options differ from the open
    store's.
    """
    wanted = store_options(database, engine=engine, **options)
    with _shared_lock:
        store = _shared.get(wanted.database.url)
        if store is None or store._closed:
            store = _shared[wanted.database.url] = TelemetryStore(database, engine=engine, **options)
        elif options and store._options != wanted:
            raise ConfigError(
                "the shared store of this database is open with other options",
                operation="get_store",
                subject=wanted.database.masked,
                hint="shut it down first, or make a TelemetryStore of your own",
            )
        return store


_shared: dict[str, TelemetryStore] = {}
_shared_lock = ForkSafeLock()
_told: set[str] = set()


def _job_failed(failure: Failure, hint: str, number: int = 1) -> JobFailed:
    """The first of `number` failures as an exception."""
    message, traceback = split_error(failure.error)
    error = JobFailed(
        (f"the first of {number} that failed: " if number > 1 else "") + f"{failure.error_type}: {message}",
        operation=f"job {failure.sequence}",
        subject=failure.statement or "",
        hint=hint,
    )
    error.error_type, error.traceback, error.number = failure.error_type, traceback, number
    error.stream, error.sequence = failure.stream, failure.sequence
    error.add_note(traceback)
    return error


def _tell_once(database: object, options: StoreOptions) -> None:
    """What may not be meant, once for a process: a database that nothing names, a variable that nothing reads."""
    texts = []
    if is_default(database):
        where = options.database.masked
        texts.append((logging.INFO, f"no database is named, here or by TELEMETRY_DATABASE_URL: {where} is used"))
    if unknown := unknown_variables():
        texts.append((logging.WARNING, f"unknown variables in the environment: {', '.join(unknown)}"))
    for level, text in texts:
        if text not in _told:
            _told.add(text)
            logger.log(level, "%s", text)


def _check_driver(options: StoreOptions) -> None:
    """A PostgreSQL database needs an extra where this process, or a writer like it, is to open one."""
    ours = options.mode != "daemon" or (options.spawn and not os.environ.get(WRITER_COMMAND))
    if options.database.dialect == "postgresql" and ours:
        from .runtime.postgresql import check_installed

        check_installed()


def _make_parent(options: StoreOptions) -> None:
    path = options.database.path
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the database's folder: {error.strerror}",
            operation="store",
            subject=str(path.parent),
            hint="correct the path or its rights",
        ) from error


def _definitions(ensure: Iterable[str] | None, dialect: DialectName) -> tuple[str, ...]:
    if ensure is None:
        return ()
    if isinstance(ensure, str | bytes):
        raise BadDefinition("ensure= is a list of statements, not one", operation="submit", hint="ensure=[DDL]")
    try:
        definitions = tuple(ensure)
        _check_definitions(definitions, dialect)
    except TypeError:
        raise BadDefinition(
            f"ensure= is a list of statements, not {shorten(repr(ensure))}", operation="submit", hint="ensure=[DDL]"
        ) from None
    return definitions


@remember
def _check_definitions(definitions: tuple[str, ...], dialect: DialectName) -> None:
    for definition in definitions:
        check_definition(definition, dialect)


def _refuse_nul(job: Job) -> None:
    for statement in job.statements:
        refuse_nul(statement.rows, statement.sql)


def _check_has_run(returned: object) -> None:
    """Raises `JobError` when the callable of a job has only made what would have to be run."""
    if isinstance(returned, GeneratorType | CoroutineType | AsyncGeneratorType):
        if isinstance(returned, CoroutineType):
            returned.close()  # or Python warns that it was never awaited
        raise JobError(
            f"the callable returned a {type(returned).__name__}, of which nothing has run",
            operation="submit",
            hint="a job is written by a plain function: no async, no yield",
        )
