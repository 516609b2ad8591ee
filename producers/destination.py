"""Where a producer's jobs go and its readers look: a store that is opened at its first use."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, TypeVar

from telemetry_bus import Job, TelemetryStore, get_store
from telemetry_bus.config import DialectName, parse_database

from .counters import in_step
from .requirements import REQUIRED_COLUMNS, Requirements, fulfilled, requirements
from .schema import Table, Upsert, with_room

if TYPE_CHECKING:  # what records does without SQLAlchemy, which takes ten times as long to load as all the rest
    from sqlalchemy import CompoundSelect, Select

#: The placeholders that their drivers want: SQLite's module and psycopg. A store of the bus takes `?` on both.
_PLACEHOLDERS = {"sqlite": "qmark", "postgresql": "format"}

#: A transaction that sees one state.
_BEGIN = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ"}

#: What PostgreSQL says of types that do not go together (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_OF_TYPES = frozenset({"42804", "42883"})
#: Rows that are in memory at a time.
CHUNK_ROWS = 10_000
#: How long a table that was not there is taken to be still absent.
LOOK_AGAIN_S = 60.0
#: A kind of misuse that goes on is told of once in this time.
TELL_EVERY_S = 60.0

_ADDITION = re.compile(r"ALTER TABLE (\S+) ADD COLUMN (?!IF NOT EXISTS)(\S+)")


V = TypeVar("V")


class Query(NamedTuple):
    """A query as text, with plain `?`, its values, and what its columns are called."""

    sql: str
    parameters: Sequence[Any] = ()
    names: Sequence[str] = ()


Reads: TypeAlias = "Select[Any] | CompoundSelect[Any] | Query"


class _Found(NamedTuple):
    """What a look has found: the names of the columns, in lower case, and the rows."""

    columns: set[str]
    rows: list[Any]


class Store(Protocol):
    """What a producer asks of its store. `TelemetryStore` is one. `submit` may do without `ensure`."""

    def submit(self, task: Any, *, ensure: Any = None) -> object: ...

    def flush(self) -> object: ...

    def connection(self) -> AbstractContextManager[Any]: ...


class Destination:
    """A store, and the two ways to hand in a job: `submit` raises what goes wrong, `offer` never raises.

    `store` is used as it is; without one the shared store of `database_url` is opened at the first use. `failures`
    counts the jobs that could not be handed in, `missed` the calls that had nothing to hand in and should have.
    """

    def __init__(self, store: Store | None = None, database_url: str | None = None, *, logger: logging.Logger) -> None:
        self.failures = 0
        self.missed = 0
        self._store = store
        self._database_url = database_url
        self._logger = logger
        self._known_failures: set[str] = set()
        self._done: set[str] = set()
        self._definitions_apart: bool | None = None  # not known yet
        self._missed_count = count(1)
        self._roomy: set[str] = set()
        self._in_step: set[str] = set()
        self._purposes: dict[str, tuple[bool, float]] = {}  # and when to look again
        self._requirements: dict[str, tuple[Requirements, float]] = {}  # likewise
        self._tell_again_at: dict[str, float] = {}
        self._count = count(1)  # next() of it is atomic, and no lock that a fork may find held

    @classmethod
    def of_file(cls, path: str | Path, *, async_writes: bool = False, logger: logging.Logger) -> Self:
        """A store of its own on a SQLite file, which writes before `submit` returns unless `async_writes`."""
        store = TelemetryStore(path, async_writes=async_writes, mode=None if async_writes else "sync")
        return cls(store, logger=logger)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = get_store(self._database_url)
        return self._store

    @property
    def dialect(self) -> DialectName:
        """What SQL the store's database speaks."""
        url = str(getattr(self.store, "database_url", None) or "")
        return "postgresql" if url.startswith("postgres") else "sqlite"

    def submit(self, *jobs: Job, upserted: tuple[Table, Upsert] | None = None) -> None:
        """Hand in all as one job; the first one with rows that are `upserted` makes room for their unique index. Raises
        what the store raises."""
        job = sum(jobs[1:], jobs[0])
        if upserted is None or upserted[0].name in self._roomy:
            self._submit(job)
        else:
            self._submit(with_room(job, *upserted, self.dialect))
            self._roomy.add(upserted[0].name)

    def _submit(self, job: Job) -> None:
        if isinstance(self.store, TelemetryStore):
            of_file = self.dialect == "sqlite"
            self.store.submit(fulfilled(job, self._required) if of_file else in_step(job, self._in_step))
        elif self._takes_definitions():
            self.store.submit(job, ensure=[each for each in job.ensure if not self._is_done(each)])
        else:
            self.store.submit(partial(self._define_and_run, job))

    def offer(self, *jobs: Job) -> bool:
        """`submit`, for the sake of the work that is watched: a failure is counted and logged, once with its
        traceback for each kind, and False is returned."""
        try:
            self.submit(*jobs)
        except Exception as error:
            self.failed(error)
            return False
        return True

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What goes wrong inside is counted and logged, and does not reach the work that is watched."""
        try:
            yield
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Count a failure and log it."""
        kind = type(error).__name__
        self.failures = next(self._count)
        known = kind in self._known_failures
        self._known_failures.add(kind)
        self._logger.warning("telemetry is not recorded: %s: %s", kind, error, exc_info=None if known else error)

    def miss(self, what: str) -> None:
        """Count a call that records nothing, and say `what` it was: at once, then at most once a minute."""
        self.missed = next(self._missed_count)
        now = monotonic()
        if now >= self._tell_again_at.get(what, now):
            self._tell_again_at[what] = now + TELL_EVERY_S
            self._logger.warning("%s: nothing is recorded; calls without a record so far: %d", what, self.missed)

    def flush(self) -> None:
        """Return when everything handed in before is in the database."""
        self.store.flush()

    def read(self, query: Reads) -> list[tuple[Any, ...]]:
        """See `Reading.read`. Each call sees what is committed when it begins."""
        with self.reading() as reading:
            return reading.read(query)

    def chunks(self, query: Reads) -> Iterator[list[tuple[Any, ...]]]:
        """See `Reading.chunks`."""
        with self.reading() as reading:
            yield from reading.chunks(query)

    def read_dicts(self, query: Reads) -> list[dict[str, Any]]:
        """See `Reading.read_dicts`."""
        with self.reading() as reading:
            return reading.read_dicts(query)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A connection to read from."""
        with self.store.connection() as connection:
            ours = isinstance(self.store, TelemetryStore)
            yield Reading(connection, self.dialect, "qmark" if ours else _PLACEHOLDERS[self.dialect])

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """A connection that sees one state of the database, whatever is committed meanwhile."""
        with self.reading() as reading:
            reading.connection.execute(_BEGIN[self.dialect])
            try:
                yield reading
            finally:
                reading.connection.execute("ROLLBACK")

    def has_columns(self, table: Table, *names: str) -> bool:
        """Whether the database has the table, with these columns."""
        found = self._look(_columns_of(table.name))
        return found is not None and found.columns.issuperset(names)

    def serves_another(self, table: Table) -> bool:
        """Whether the database's table of this name is another program's, for another purpose: it lacks columns that
        ours has had from the beginning."""
        wanted = {column.name for column in table.columns.values() if not column.added}
        return self._judged(
            self._purposes, table.name, _columns_of(table.name), lambda found: not wanted <= found.columns, False
        )

    def _required(self, table: str, definitions: Sequence[str]) -> Requirements:
        """What the database's table of this name requires; one that is not there yet will be ours."""
        query = Query(REQUIRED_COLUMNS, (table,))
        return self._judged(
            self._requirements, table, query, lambda found: requirements(found.rows, table, definitions), {}
        )

    def _judged(
        self, known: dict[str, tuple[V, float]], table: str, query: Query, judge: Callable[[_Found], V], unseen: V
    ) -> V:
        """What is to be thought of a table. It is looked for once, and now and then while nothing can be seen."""
        if table not in known or monotonic() >= known[table][1]:
            found = self._look(query)
            known[table] = (unseen, monotonic() + LOOK_AGAIN_S) if found is None else (judge(found), math.inf)
        return known[table][0]

    def _look(self, query: Query) -> _Found | None:
        """What a query finds; None when there is no such table, or nothing can be seen. A database that is not there is
        not made: its owner is whoever writes to it."""
        store = self.store
        path = parse_database(store.database_url).path if isinstance(store, TelemetryStore) else None
        if path is not None and not path.exists():
            return None
        try:
            with store.connection() as connection:
                cursor = connection.execute(query.sql, query.parameters)
                return _Found({str(each[0]).lower() for each in cursor.description}, cursor.fetchall())
        except Exception:  # whatever its driver raises: no such table
            self._logger.debug("nothing can be seen of a table", exc_info=True)
            return None

    def _takes_definitions(self) -> bool:
        """Whether the store's `submit` has `ensure`."""
        if self._definitions_apart is None:
            try:
                parameters = inspect.signature(self.store.submit).parameters.values()
            except (TypeError, ValueError):  # it does not tell
                self._definitions_apart = True
            else:
                self._definitions_apart = any(
                    each.name == "ensure" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters
                )
        return self._definitions_apart

    def _define_and_run(self, job: Job, connection: Any) -> None:
        for each in job.ensure:
            if not self._is_done(each, connection):
                connection.execute(each)
        job(connection)

    def _is_done(self, definition: str, connection: Any = None) -> bool:
        """Whether a definition adds a column that is there. SQLite has no ADD COLUMN IF NOT EXISTS, and other stores
        than ours may take the second time for a failure."""
        addition = _ADDITION.match(definition)
        if addition is None:
            return False
        if definition not in self._done and not self._lacks(addition[1], addition[2], connection):
            self._done.add(definition)
        return definition in self._done

    def _lacks(self, table: str, column: str, connection: Any) -> bool:
        try:
            with self.store.connection() if connection is None else nullcontext(connection) as looking:
                looking.execute(f"SELECT {column} FROM {table} LIMIT 0")
        except Exception as error:
            return str(error).startswith("no such column")
        return False


class Reading:
    """A connection, and what is asked of it; `placeholders` is a `paramstyle` of PEP 249."""

    def __init__(self, connection: Any, dialect: DialectName, placeholders: str) -> None:
        self.connection = connection
        self._dialect = dialect
        self._placeholders = placeholders

    def read(self, query: Reads) -> list[tuple[Any, ...]]:
        """The rows of a query; none when its tables do not exist yet. Values are as the database holds them."""
        return [row for chunk in self.chunks(query) for row in chunk]

    def chunks(self, query: Reads) -> Iterator[list[tuple[Any, ...]]]:
        """The same, some thousand rows at a time, so that memory does not grow with the table."""
        try:
            cursor = self._execute(query)
        except Exception as error:
            if _is_missing_table(error):
                return
            raise
        while chunk := cursor.fetchmany(CHUNK_ROWS):
            yield chunk if type(chunk[0]) is tuple else [tuple(row) for row in chunk]

    def _execute(self, query: Reads) -> Any:
        if isinstance(query, Query):
            return self.connection.execute(query.sql, query.parameters)
        try:
            return self.connection.execute(*_compiled(query, _dialect(self._dialect, self._placeholders)))
        except Exception as error:
            if getattr(error, "sqlstate", None) not in _OF_TYPES:
                raise
        from .other_types import dialect

        return self.connection.execute(*_compiled(query, dialect(self._placeholders)))

    def read_dicts(self, query: Reads) -> list[dict[str, Any]]:
        """The same, each row by the names of the query's columns."""
        keys = query.names if isinstance(query, Query) else query.selected_columns.keys()
        names = [str(key) for key in keys]
        return [dict(zip(names, row, strict=True)) for row in self.read(query)]


def _columns_of(table: str) -> Query:
    """What has the columns of a table, and no row."""
    return Query(f"SELECT * FROM {table} LIMIT 0")


def compile_query(
    query: Select[Any] | CompoundSelect[Any], dialect: DialectName, placeholders: str
) -> tuple[str, Sequence[Any]]:
    """The query's SQL and its parameters, in order; `placeholders` is a `paramstyle` of PEP 249."""
    return _compiled(query, _dialect(dialect, placeholders))


def _compiled(query: Select[Any] | CompoundSelect[Any], dialect: Any) -> tuple[str, Sequence[Any]]:
    compiled: Any = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    parameters = compiled.construct_params()
    return str(compiled), [parameters[name] for name in compiled.positiontup]


@lru_cache(maxsize=3)
def _dialect(name: DialectName, placeholders: str) -> Any:
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.dialects.postgresql import psycopg  # says what a value is of, `?::INTEGER`: a sum asks for it

    modules: dict[str, Any] = {"sqlite": sqlite, "postgresql": psycopg}
    return modules[name].dialect(paramstyle=placeholders)


def _is_missing_table(error: Exception) -> bool:
    # psycopg gives the code of the SQL standard; SQLite has one code for all mistakes in a statement
    return getattr(error, "sqlstate", None) == "42P01" or str(error).startswith("no such table")
