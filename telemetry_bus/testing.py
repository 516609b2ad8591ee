"""A store for tests that needs no database: it checks jobs as every store does, and keeps them to be looked at."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NoReturn

from .backends.immediate import ImmediateBackend
from .config import StoreOptions, parse_database
from .encoding.records import Encoder
from .encoding.values import check_size
from .errors import JobError, NotRecordable, StoreClosed
from .jobs import Job, Statement
from .runtime.lifecycle import ForkSafeLock
from .sql.memory import remember
from .sql.targets import from_its_verb, table_name
from .sql.tokens import NAMES, Reader, Token, first_statement, fold
from .store import TelemetryStore
from .views import StoreStats

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


class RecordedJobs(TelemetryStore):
    """A `TelemetryStore` without a database. What is submitted is checked as in a real one, and kept in `jobs`.

    ::

        jobs = RecordedJobs()
        record_crawl(jobs, "news.example.com", pages=3)
        assert [{"host": "news.example.com", "pages": 3}] == jobs.inserted("crawls")

    Number, types and sizes of values, definitions and what a job may not do are judged; whether the SQL is right
    only a database can tell. Values are kept as they were given. `flush()` and `shutdown()` do what they promise;
    reading raises `NotRecordable`.
    """

    def __init__(self) -> None:
        # Not the store's own, which looks at the environment and makes what writes to a database.
        self._options = StoreOptions(parse_database(":memory:"), "sync", spawn=False)
        self._debug = self._options.debug
        self._dialect = "sqlite"
        self._recorded = self._backend = _Recorded()
        self._closed = False
        self._bridging = ForkSafeLock()
        self._engine = None

    @property
    def jobs(self) -> list[Job]:
        """The jobs so far, in order."""
        return list(self._recorded.jobs)

    @property
    def statements(self) -> list[Statement]:
        """The statements of all jobs, in order."""
        return [statement for job in self._recorded.jobs for statement in job.statements]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """The values of every statement that writes to a table, in the order of its placeholders."""
        return [row for statement in self._writing_to(table) for row in map(tuple, statement.rows)]

    def inserted(self, table: str) -> list[dict[str, Any]]:
        """The rows that are inserted into a table, or upserted, by column; without those that the SQL fills itself.

        Raises `JobError` for an INSERT that does not name its columns.
        """
        return [
            {column: row[at] for column, at in group}
            for statement in self._writing_to(table)
            for row in statement.rows
            for group in _inserted_columns(statement.sql)
        ]

    def clear(self) -> None:
        """Forget the jobs so far."""
        self._recorded.jobs.clear()

    def connection(self, readonly: bool = True) -> NoReturn:
        """Raises `NotRecordable`."""
        raise _unreadable("connection")

    @property
    def engine(self) -> Engine:
        """Raises `NotRecordable`."""
        raise _unreadable("engine")

    def __repr__(self) -> str:
        return f"<RecordedJobs {len(self._recorded.jobs)} jobs {'closed' if self._closed else 'open'}>"

    def _writing_to(self, table: str) -> Iterator[Statement]:
        wanted = fold(table)
        return (statement for statement in self.statements if _table(statement.sql) == wanted)


class _Recorded(ImmediateBackend):
    """The backend that keeps jobs. They are encoded, as for the journal, to see whether they can be."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self._lock = threading.RLock()
        self._encoder = Encoder(lambda definition: 0)  # each record carries its template
        self._closed = False

    def put(self, job: Job) -> int:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store is closed", operation="submit", hint="submit before shutdown()")
            check_size(len(self._encoder.job(job)), job.statements[0].sql if job.statements else "")
            # the caller may change its lists and go on
            statements = tuple(Statement(each.sql, tuple(map(tuple, each.rows))) for each in job.statements)
            self.jobs.append(Job(statements, tuple(job.ensure)))
            self._submitted += 1
            return self._submitted

    def stats(self) -> StoreStats:
        return StoreStats(submitted=self._submitted, acknowledged=self._submitted)

    def close(self) -> None:
        self._closed = True

    def forget(self) -> int:
        return 0

    def memory(self) -> AbstractContextManager[sqlite3.Connection] | None:
        return None


def _unreadable(operation: str) -> NotRecordable:
    return NotRecordable(
        "jobs are only recorded, there is no database to read",
        operation=operation,
        hint="look at jobs, rows() and inserted(), or use a store of mode sync",
    )


@remember
def _table(sql: str) -> str | None:
    """The table that a statement writes to, in lower case; None for a definition and the like."""
    found = from_its_verb(sql)
    return fold(table_name(Reader(found))) if found else None


@remember
def _inserted_columns(sql: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """For each row of VALUES the columns that take a value as it is, and which one; empty if nothing is inserted."""
    found = from_its_verb(sql)
    if not found or found[0].symbol not in ("INSERT", "REPLACE"):
        return ()
    before = _placeholders(sql) - sum(token.kind == "placeholder" for token in found)
    reader = Reader(found)
    table_name(reader)
    if reader.skip("AS"):
        reader.take()
    columns = [cell[0].name for cell in _cells(reader) if cell and cell[0].kind in NAMES]
    if not columns:
        raise JobError(
            "the INSERT does not name its columns",
            operation="inserted",
            subject=sql,
            hint="name them, or look at rows()",
        )
    groups = []
    if reader.skip("VALUES"):
        while cells := list(_cells(reader)):
            group = []
            for column, cell in zip(columns, cells, strict=False):
                if [token.kind for token in cell] == ["placeholder"]:
                    group.append((column, before))
                before += sum(token.kind == "placeholder" for token in cell)
            groups.append(tuple(group))
            reader.skip(",")
    return tuple(groups)


def _placeholders(sql: str) -> int:
    statement, _ = first_statement(sql)
    return sum(token.kind == "placeholder" for token in statement)


def _cells(reader: Reader) -> Iterator[list[Token]]:
    """Go past `(…, …)`: the tokens between the commas; nothing if there is no parenthesis."""
    if not reader.skip("("):
        return
    depth, cell = 0, list[Token]()
    while reader.next.kind != "nothing":
        token = reader.take()
        if depth == 0 and token.symbol in (",", ")"):
            yield cell
            cell = []
            if token.symbol == ")":
                return
        else:
            depth += (token.symbol == "(") - (token.symbol == ")")
            cell.append(token)
