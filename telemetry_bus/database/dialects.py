"""The seam between the writer and one kind of database: everything that differs stands behind two protocols."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ..config import Database, DialectName
from ..errors import DatabaseFault
from ..jobs import Row
from ..sql.shapes import InsertShape

Durability = Literal["full", "normal"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to open a database for writing. Times in seconds, `clock` monotonic.

    `checkpoints` says that the writer looks after checkpoints itself (`Connection.checkpoint`), and has statements
    interrupted that are late; `on_stuck` is called, by another thread, when that does not help. `place` is the bus
    folder of the writer, which has the database for itself.
    """

    durability: Durability = "full"
    busy_timeout: float = 1.0
    checkpoints: bool = True
    clock: Callable[[], float] = time.monotonic
    on_stuck: Callable[[], None] | None = None
    place: Path | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key: its columns, the table that it points at, and the columns there; none of them: its primary key."""

    columns: tuple[str, ...]
    parent: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What decides whether an insert into a table may change places with inserts into other tables.

    `ordinary`: a table with rows of its own, neither a view nor virtual. `referenced`: a foreign key points at it.
    `rewrites`: a constraint of the table itself says what to do about a conflict, so a plain insert may delete.
    `parents`: the folded names of the tables that its foreign keys point at. `triggers`: also defaults and checks that
    ask what was done before.

    Of tables with foreign keys, or that these point at: `links` are the foreign keys, `deferred` says that some may be
    judged at COMMIT; `columns` are those that an insert fills when it names none, `primary` those of the primary key,
    and `filled` those that have a value although none is given.
    """

    ordinary: bool
    triggers: bool
    referenced: bool
    rewrites: bool
    parents: frozenset[str]
    links: tuple[Link, ...] = field(default=(), compare=False)
    deferred: bool = field(default=False, compare=False)
    columns: tuple[str, ...] = field(default=(), compare=False)
    primary: tuple[str, ...] = field(default=(), compare=False)
    filled: frozenset[str] = field(default=frozenset(), compare=False)


#: The columns of a table in order, each with its declared type in upper case.
Columns = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Bytes in the database's file that hold nothing, and whether they can be given back (`auto_vacuum`)."""

    auto_vacuum: str
    free_bytes: int


class Connection(Protocol):
    """One open connection in autocommit: says BEGIN itself, tells its own statements from those of jobs.

    Statements of jobs (`run`, `run_many`, `define`) raise what the driver raises; the dialect says whose fault it
    is. Everything else raises `DatabaseFault`.
    """

    driver: Any
    version: str
    max_parameters: int

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction stands. A failed statement may have ended it."""

    def begin(self) -> None:
        """Begin a transaction that holds the write lock."""

    def begin_definitions(self) -> None:
        """Begin a transaction for definitions: no other writer of the bus has one."""

    def commit(self) -> None:
        """COMMIT. Raises what the driver raises: the outcome of a failed COMMIT depends on it. Raises `DatabaseFault`
        when it went into a database that its URL does not name any more."""

    def rollback(self) -> None:
        """Roll back if a transaction stands."""

    def savepoint(self) -> None:
        """Begin the part of the transaction that one job is."""

    def rollback_to_savepoint(self) -> None:
        """Undo that part, and end it."""

    def release_savepoint(self) -> None:
        """Keep that part, and end it."""

    def limit_time(self, seconds: float | None) -> None:
        """Statements of jobs fail (their fault) when they are not done in `seconds` from now. None: no limit."""

    def own(self, sql: str, row: Row = ()) -> list[tuple[Any, ...]]:
        """Run a statement of the bus itself; its rows."""

    def own_many(self, sql: str, rows: Sequence[Row]) -> int:
        """Run an INSERT, UPDATE or DELETE of the bus itself once with each row; how many rows it changed in all."""

    def run(self, sql: str, row: Row) -> None:
        """Run a statement of a job. Rows that it returns are read and dropped."""

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run a statement of a job once with each row, in order."""

    def insert(self, sql: str, shape: InsertShape, rows: Sequence[Row]) -> None:
        """Run an insert of a job that has a shape once with each row, in order; as few statements as is fast."""

    def define(self, sql: str) -> None:
        """Run a definition of a job; what is there already counts as done."""

    def is_defined(self, sql: str) -> bool:
        """Whether what a definition makes is known to be there; asked where definitions stand apart only."""

    def foreign_changes(self) -> object:
        """Another value whenever another connection has committed, where the database tells; else always the same."""

    def schema_version(self) -> object:
        """Another value whenever the schema may have changed."""

    def tables(self) -> Mapping[str, TableFacts]:
        """The facts of all tables and views, by `Dialect.fold`ed name."""

    def tables_after(self, sql: str, tables: Mapping[str, TableFacts]) -> Mapping[str, TableFacts] | None:
        """As `tables`, after a definition was executed, from what they were before; None: all must be read again."""

    def columns(self, table: str) -> Columns:
        """The columns of a table; none when it does not exist."""

    def has_room(self) -> bool:
        """Whether the disk has so much room that no job of a usual size can fill it."""

    def vanished(self) -> bool:
        """Whether the database that this connection writes to is no longer the one that its URL names."""

    def checkpoint(self, *, idle: bool) -> bool:
        """Move the log into the database when it has grown long, or when idle; never waits.

        False when a reader kept it from being done.
        """

    def keep_statistics(self, rows_written: int) -> None:
        """While idle: keep what the planner of readers' queries knows of the tables. Takes a moment, never waits.

        `rows_written`: through this writer, ever.
        """

    def free_space(self) -> FreeSpace:
        """What could be given back."""

    def give_back(self, pages: int) -> None:
        """Inside a transaction: cut off at most so many free pages, where the database is made for that."""

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""

    def close(self, *, clean: bool) -> None:
        """Close; `clean`: with a checkpoint, if nobody is in the way."""

    def abandon(self) -> None:
        """Close, in a forked child, what its parent has open and nothing was running on."""

    def reopen(self) -> Connection:
        """Close this connection without ado and open a fresh one to the database that its URL names now.

        Raises `DatabaseFault` when there is none: what was deleted is not made again.
        """


class Dialect(Protocol):
    """What is known about a kind of database without a connection."""

    name: DialectName
    #: Whether a server has the database, for many writers. Then definitions have a transaction of their own before the
    #: rows: in the middle of one they would wait for those of others, and these for them. And each statement is a round
    #: trip, so that bad jobs are searched by halves.
    is_server: bool
    #: What a driver raises about a job or a connection. Anything else is a mistake of this program.
    errors: tuple[type[BaseException], ...]
    #: What the database calls the types in `schema.BUS_TABLES`.
    types: Mapping[str, str]

    def open(self, database: Database, settings: Settings) -> Connection:
        """Open for writing; what is not there is made. Raises `DatabaseFault` and `ConfigError`."""

    def blames_database(self, error: BaseException) -> bool:
        """Whether the database is at fault (locked, full, broken) and not the job."""

    def fault(self, error: BaseException, operation: str, subject: str) -> DatabaseFault:
        """The error to raise for a fault of the database, with a hint."""

    def breaks_connection(self, error: BaseException | None) -> bool:
        """Whether to go on with a fresh connection after this fault of the database."""

    def proves_fault(self, error: BaseException) -> bool:
        """Whether no job can be the reason: the database itself is broken, or not what it should be."""

    def is_conflict(self, error: BaseException | None) -> bool:
        """Whether the transaction was undone for another one's sake, so that the very same may succeed."""

    def is_made_meanwhile(self, error: BaseException) -> bool:
        """Whether a definition met what another process has made since it was looked for."""

    def is_late(self, error: BaseException) -> bool:
        """Whether a statement was ended because its time was over."""

    def is_of_memory(self, error: BaseException) -> bool:
        """Whether there was not enough memory for a statement."""

    def is_missing(self, error: BaseException) -> bool:
        """Whether the error says that a table or column is not there."""

    def fold(self, name: str) -> str:
        """A table's name as the database compares it."""

    def defined_columns(self, ensure: Sequence[str]) -> Mapping[str, Columns]:
        """The columns of each table that definitions create, by its name as written."""

    def same_type(self, one: str, other: str) -> bool:
        """Whether a column of one declared type stores every value as one of the other does."""
