"""SQLite behind the seam: one connection, what its errors mean, what its tables are like."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from math import inf
from typing import Any

from ...config import Database, DialectName
from ...errors import DatabaseFault, DatabaseMoved
from ...jobs import Row
from ...runtime import sqlite
from ...sql.definitions import is_there
from ...sql.memory import remember
from ...sql.shapes import ORDER_DEPENDENT, InsertShape, calls
from ...sql.tokens import fold
from ..dialects import Columns, FreeSpace, Link, Settings, TableFacts
from . import errors as sqlite_errors
from .claims import FileId, claims
from .guard import Guard, allowed_functions
from .moved import IS_MARKED, WHERE_TO
from .multi_row import insert_rows
from .names import claim_name
from .opening import AUTO_VACUUM, CACHED_STATEMENTS, LOG_BYTES, open_sqlite, prepare_file
from .planning import PlannerStatistics
from .regexp import Regexp
from .watchdog import Watchdog

#: Virtual machine instructions between two looks at the clock: a few milliseconds.
_PROGRESS_STEPS = 100_000
#: A definition over empty tables that takes more instructions than this is no definition.
_SCRATCH_STEPS = 1_000_000

#: The longest text or blob that a statement may make. A job has 8 MiB; what one expression makes of it takes memory
#: that all share, and time in which nothing can stop it.
_MAX_VALUE_BYTES = 128 * 1024 * 1024
#: Prepared statements of longer texts are counted, and let go of when their texts are longer than that together: one
#: takes about ten times as much memory as its text, and the driver keeps hundreds.
_LONG_TEXT = 4 * 1024
_MAX_LONG_TEXTS = 2 * 1024 * 1024
#: With less room on the disk than this an error of the disk is believed at once.
_ROOM_BYTES = 64 * 1024 * 1024

#: What the driver's executemany takes. It would leave the rows of RETURNING unread.
_BATCHABLE = re.compile(r"\s*(insert|update|delete|replace)\b(?!.*\breturning\b)", re.I | re.S)
#: The database file, its log, and the log's index.
_SUFFIXES = ("", "-wal", "-shm")

_TABLES = """SELECT name, type = 'table' AND rootpage > 0, coalesce(sql, '') FROM sqlite_master
    WHERE type IN ('table', 'view')"""
_TRIGGERS = "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'"
_FOREIGN_KEYS = """SELECT child.name, key."table"
    FROM sqlite_master AS child, pragma_foreign_key_list(child.name) AS key WHERE child.type = 'table'"""
_LAST_ENTRY = "SELECT coalesce(max(rowid), 0) FROM sqlite_master"
#: What is made is entered behind all that is there.
_NEW_ENTRIES = """SELECT rowid, type, name, tbl_name, type = 'table' AND rootpage > 0, coalesce(sql, '')
    FROM sqlite_master WHERE rowid > ?"""
_PARENTS = 'SELECT "table" FROM pragma_foreign_key_list(?)'
_INFO = "SELECT name, dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid"
_LINKS = 'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq'
_CREATES = re.compile(r"\s*create\b(?!\s+temp)", re.I)
_SHADOWS = "SELECT lower(name) FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"
_KNOWS_SHADOWS = sqlite3.sqlite_version_info >= (3, 37)
_COLUMNS = "SELECT name, upper(type) FROM pragma_table_xinfo(?)"


class SqliteDialect:
    """What is known about SQLite without a connection."""

    name: DialectName = "sqlite"
    is_server = False
    errors = sqlite_errors.ERRORS
    types: Mapping[str, str] = {
        "bytes": "BLOB",
        "integer": "INTEGER",
        "serial": "INTEGER",
        "text": "TEXT",
        "timestamp": "TIMESTAMP",
    }
    blames_database = staticmethod(sqlite_errors.blames_database)
    breaks_connection = staticmethod(sqlite_errors.breaks_connection)
    proves_fault = staticmethod(sqlite_errors.proves_fault)
    is_missing = staticmethod(sqlite_errors.is_missing)
    is_late = staticmethod(sqlite_errors.is_interrupt)
    is_of_memory = staticmethod(sqlite_errors.is_of_memory)
    fault = staticmethod(sqlite_errors.fault)

    def open(self, database: Database, settings: Settings, *, create: bool = True) -> SqliteConnection:
        claimed: FileId | None = None
        try:
            if database.path is not None:
                prepare_file(database.path, create=create)
                claimed = claims.claim(database.path, settings.place) if settings.checkpoints else None
            try:
                if database.path is not None:
                    claim_name(database.path)
                connection = SqliteConnection(self, open_sqlite(database, settings), database, settings, claimed)
            except BaseException:
                _release(claimed)
                raise
        except (sqlite3.Error, OSError) as error:
            raise self.fault(error, "open", database.masked) from error
        try:
            connection.refuse_moved()
        except BaseException:
            connection.close(clean=False)
            raise
        return connection

    def is_conflict(self, error: BaseException | None) -> bool:
        return False

    def is_made_meanwhile(self, error: BaseException) -> bool:
        return False

    def fold(self, name: str) -> str:
        return fold(name)

    def defined_columns(self, ensure: Sequence[str]) -> Mapping[str, Columns]:
        with closing(sqlite.connect(":memory:", isolation_level=None)) as scratch:
            scratch.set_progress_handler(lambda: 1, _SCRATCH_STEPS)
            for sql in ensure:
                with suppress(sqlite3.Error):  # it may need tables that other definitions make
                    scratch.execute(sql)
            names = [name for name, ordinary, _ in scratch.execute(_TABLES) if ordinary]
            return {name: self.columns(scratch.execute(_COLUMNS, (name,))) for name in names}

    def columns(self, rows: Iterable[tuple[str, str]]) -> Columns:
        return {self.fold(name): kind for name, kind in rows}

    def same_type(self, one: str, other: str) -> bool:
        return _affinity(one) == _affinity(other)


def _release(claimed: FileId | None) -> None:
    if claimed is not None:
        claims.release(claimed)


def _affinity(declared: str) -> str:
    """What SQLite makes of a declared type (https://www.sqlite.org/datatype3.html#determination_of_column_affinity)."""
    words = declared.upper()
    if "INT" in words:
        return "INTEGER"
    if any(word in words for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in words or not words:
        return "BLOB"
    return "REAL" if any(word in words for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


class SqliteConnection:
    """The writer's connection to a SQLite database. See `dialects.Connection`."""

    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(
        self,
        dialect: SqliteDialect,
        driver: sqlite3.Connection,
        database: Database,
        settings: Settings,
        claimed: FileId | None = None,
    ) -> None:
        self.driver = driver
        self._claimed = claimed
        self.max_parameters = sqlite.max_parameters(driver)
        self._dialect = dialect
        self._database = database
        self._settings = settings
        self._clock = settings.clock
        self._deadline = inf
        self._closed = False
        driver.create_function("regexp", 2, Regexp(self._is_late), deterministic=True)
        self._shadows: tuple[object, frozenset[str]] = (None, frozenset())
        self._guard = Guard(allowed_functions(driver), frozenset if sqlite.HAS_SWITCHES else self._shadow_tables)
        self._cursor = driver.cursor()
        self._planner = PlannerStatistics(self._execute_own, settings.clock)
        self._last_entry = 0
        self._long_texts: set[str] = set()
        self._long_chars = 0
        self._unmoved: object = None  # the version of the schema that had no mark of a move
        self._files = {suffix: self._file_identity(suffix) for suffix in _SUFFIXES}
        self._watchdog = Watchdog(self._interrupt, settings.on_stuck) if settings.checkpoints else None
        sqlite.limit_values(driver, _MAX_VALUE_BYTES)
        driver.set_authorizer(self._guard.authorize)
        driver.set_progress_handler(self._is_late, _PROGRESS_STEPS)

    @property
    def in_transaction(self) -> bool:
        return self.driver.in_transaction

    def begin(self) -> None:
        self.own("BEGIN IMMEDIATE")
        try:
            if (version := self.schema_version()) != self._unmoved:
                self.refuse_moved()
                self._unmoved = version
        except BaseException:
            self.rollback()
            raise

    def refuse_moved(self) -> None:
        """Raises `DatabaseMoved` when the database has the mark of a move."""
        for (target,) in self.own(WHERE_TO) if self.own(IS_MARKED) else ():
            raise DatabaseMoved(
                f"the database has moved to {target}",
                operation="write",
                subject=self._database.masked,
                hint="give the store that URL; telemetry-bus copy brings along what still waits here",
            )

    def begin_definitions(self) -> None:
        self.begin()

    def commit(self) -> None:
        self._execute_own("COMMIT")
        if self.vanished():
            raise DatabaseFault(
                "the database was deleted or replaced during a COMMIT",
                operation="commit",
                subject=self._database.masked,
            )

    def rollback(self) -> None:
        if self.in_transaction:
            self.own("ROLLBACK")

    def savepoint(self) -> None:
        self.own("SAVEPOINT job")

    def rollback_to_savepoint(self) -> None:
        self.own("ROLLBACK TO job")
        self.own("RELEASE job")

    def release_savepoint(self) -> None:
        self.own("RELEASE job")

    def limit_time(self, seconds: float | None) -> None:
        self._deadline = inf if seconds is None else self._clock() + seconds
        if (watchdog := self._watchdog) is not None:
            watchdog.late_at = inf if seconds is None else time.monotonic() + seconds
            if watchdog.asleep and seconds is not None:
                watchdog.begin()

    def own(self, sql: str, row: Row = ()) -> list[tuple[Any, ...]]:
        try:
            return self._execute_own(sql, row)
        except (sqlite3.Error, MemoryError) as error:
            raise self._dialect.fault(error, "write", self._database.masked) from error

    def own_many(self, sql: str, rows: Sequence[Row]) -> int:
        self._guard.own.add(sql)
        self._guard.trusted = True
        try:
            return self._cursor.executemany(sql, rows).rowcount
        except (sqlite3.Error, MemoryError) as error:
            raise self._dialect.fault(error, "write", self._database.masked) from error
        finally:
            self._guard.trusted = False

    def run(self, sql: str, row: Row) -> None:
        self._guard.check(sql)
        if len(sql) > _LONG_TEXT:
            self._count_text(sql)
        cursor = self._cursor
        try:
            cursor.execute(sql, row)
            if cursor.description is not None:
                for _ in cursor:  # an unread row would make COMMIT fail
                    pass
        except sqlite3.OperationalError as error:
            self._explain(error)
            raise

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        if rows and _batchable(sql):
            self._guard.check(sql)
            if len(sql) > _LONG_TEXT:
                self._count_text(sql)
            try:
                self._cursor.executemany(sql, rows)
            except sqlite3.OperationalError as error:
                self._explain(error)
                raise
        else:
            for row in rows:
                self.run(sql, row)

    def insert(self, sql: str, shape: InsertShape, rows: Sequence[Row]) -> None:
        insert_rows(self, shape, rows)

    def is_defined(self, sql: str) -> bool:
        return False

    def define(self, sql: str) -> None:
        try:
            self.run(sql, ())
        except sqlite3.OperationalError as error:
            if not is_there(self.own, sql, str(error)):
                raise

    def foreign_changes(self) -> object:
        return self.own("PRAGMA data_version")[0][0]

    def schema_version(self) -> object:
        return self.own("PRAGMA schema_version")[0][0]

    def tables(self) -> Mapping[str, TableFacts]:
        fold = self._dialect.fold
        triggers = {fold(name) for (name,) in self.own(_TRIGGERS)}
        parents = defaultdict(set)
        for child, parent in self.own(_FOREIGN_KEYS):
            parents[fold(child)].add(fold(parent))
        referenced = set().union(*parents.values())
        tables = [(fold(name), ordinary, sql) for name, ordinary, sql in self.own(_TABLES)]
        self._last_entry = self.own(_LAST_ENTRY)[0][0]
        return {
            name: self._with_family(
                name,
                TableFacts(
                    ordinary=bool(ordinary),
                    triggers=name in triggers or _asks_what_was_done(sql),
                    referenced=name in referenced,
                    rewrites="conflict" in sql.lower(),
                    parents=frozenset(parents.get(name, ())),
                    deferred="deferred" in sql.lower(),
                ),
            )
            for name, ordinary, sql in tables
        }

    def tables_after(self, sql: str, tables: Mapping[str, TableFacts]) -> Mapping[str, TableFacts] | None:
        if _CREATES.match(sql) is None:
            return None
        fold, known = self._dialect.fold, dict(tables)
        entries = self.own(_NEW_ENTRIES, (self._last_entry,))
        for number, kind, name, table, ordinary, text in entries:
            self._last_entry = max(self._last_entry, number)
            if kind == "trigger" and fold(table) in known:
                known[fold(table)] = replace(known[fold(table)], triggers=True)
            if kind not in ("table", "view"):
                continue
            parents = frozenset(fold(parent) for (parent,) in self.own(_PARENTS, (name,)))
            for parent in parents & known.keys():
                known[parent] = self._with_family(parent, replace(known[parent], referenced=True))
            name, text = fold(name), text.lower()
            referenced = name in parents or any(name in facts.parents for facts in known.values() if facts.parents)
            facts = TableFacts(bool(ordinary), _asks_what_was_done(text), referenced, "conflict" in text, parents)
            known[name] = self._with_family(name, replace(facts, deferred="deferred" in text))
        return known if entries else tables

    def _with_family(self, name: str, facts: TableFacts) -> TableFacts:
        """With what is asked about tables that have to do with foreign keys only."""
        if not facts.parents and not facts.referenced:
            return facts
        fold = self._dialect.fold
        columns = [(fold(column), default, key, hidden) for column, default, key, hidden in self.own(_INFO, (name,))]
        links: dict[int, tuple[str, list[str], list[str]]] = {}
        for number, parent, column, key in self.own(_LINKS, (name,)):
            _, own, others = links.setdefault(number, (fold(parent), [], []))
            own.append(fold(column))
            others += [] if key is None else [fold(key)]
        keys = sorted((key, column) for column, _, key, _ in columns if key)
        return replace(
            facts,
            links=tuple(Link(tuple(own), parent, tuple(others)) for parent, own, others in links.values()),
            columns=tuple(column for column, _, _, hidden in columns if not hidden),
            primary=tuple(column for _, column in keys),
            filled=frozenset(column for column, default, _, hidden in columns if hidden or default is not None),
        )

    def columns(self, table: str) -> Columns:
        return self._dialect.columns(self.own(_COLUMNS, (table,)))

    def has_room(self) -> bool:
        if self._database.path is None:
            return True
        try:
            disk = os.statvfs(self._database.path)
            limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
            largest = max(self.log_bytes(), os.stat(self._database.path).st_size)
        except OSError:
            return False
        within = limit == resource.RLIM_INFINITY or largest + _ROOM_BYTES <= limit
        return within and disk.f_bavail * disk.f_frsize >= _ROOM_BYTES

    def _shadow_tables(self) -> frozenset[str]:
        """The tables in which virtual tables keep what they hold."""
        if not _KNOWS_SHADOWS:
            return frozenset()
        version = self.schema_version()
        if version != self._shadows[0]:
            self._shadows = version, frozenset(name for (name,) in self.own(_SHADOWS))
        return self._shadows[1]

    def vanished(self) -> bool:
        return self._files[""] != self._file_identity("")

    def checkpoint(self, *, idle: bool) -> bool:
        log_bytes = self.log_bytes()
        if log_bytes == 0 or (not idle and log_bytes <= LOG_BYTES):
            return True
        with self._without_waiting():
            mode = "TRUNCATE" if idle else "PASSIVE"
            busy, pages, moved = self.own(f"PRAGMA wal_checkpoint({mode})")[0]
        return not busy and pages == moved

    def keep_statistics(self, rows_written: int) -> None:
        with self._without_waiting():
            self._planner.keep(rows_written)

    @contextmanager
    def _without_waiting(self) -> Iterator[None]:
        """For a lock that another connection holds."""
        self.own("PRAGMA busy_timeout=0")
        try:
            yield
        finally:
            self.own(f"PRAGMA busy_timeout={round(self._settings.busy_timeout * 1000)}")

    def free_space(self) -> FreeSpace:
        mode, pages, page_bytes = (
            self.own(f"PRAGMA {name}")[0][0] for name in ("auto_vacuum", "freelist_count", "page_size")
        )
        return FreeSpace(AUTO_VACUUM[mode], pages * page_bytes)

    def give_back(self, pages: int) -> None:
        for _ in range(min(pages, self.own("PRAGMA freelist_count")[0][0])):
            self.own("PRAGMA incremental_vacuum(1)")  # the driver takes one step of it only, which is one page

    def log_bytes(self) -> int:
        if self._database.path is None:
            return 0
        try:
            return os.stat(f"{self._database.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def close(self, *, clean: bool) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watchdog is not None:
            self._watchdog.close()
        with suppress(DatabaseFault):
            self.rollback()
            if clean:
                self.checkpoint(idle=True)
        self.driver.close()
        _release(self._claimed)

    def abandon(self) -> None:
        self._closed = True  # its other thread is not in this process
        self.driver.close()

    def reopen(self) -> SqliteConnection:
        if self._database.path is None:
            self.rollback()
            return self  # nothing but this connection holds the database
        self.close(clean=False)
        try:
            if self.vanished() and os.path.exists(self._database.path):
                self._discard_stale_log()
        except OSError as error:
            raise self._dialect.fault(error, "open", self._database.masked) from error
        return self._dialect.open(self._database, self._settings, create=False)

    def _count_text(self, sql: str) -> None:
        """The driver has no way to empty its cache of statements but to fill it with others."""
        if sql in self._long_texts:
            return
        self._long_texts.add(sql)
        self._long_chars += len(sql)
        if self._long_chars > _MAX_LONG_TEXTS:
            for number in range(CACHED_STATEMENTS):
                self.own(f"SELECT {number}")
            self._long_texts = {sql}
            self._long_chars = len(sql)

    def _execute_own(self, sql: str, row: Row = ()) -> list[tuple[Any, ...]]:
        self._guard.own.add(sql)
        self._guard.trusted = True
        try:
            return self._cursor.execute(sql, row).fetchall()
        finally:
            self._guard.trusted = False

    def _explain(self, error: sqlite3.OperationalError) -> None:
        """Tell a time limit from an exception of a signal handler, which ends a statement in the same way."""
        if sqlite_errors.is_interrupt(error):
            if self._clock() <= self._deadline:
                raise self._dialect.fault(error, "write", self._database.masked) from error
            error.add_note("the statement took longer than its time limit")

    def _interrupt(self) -> None:
        """From the watchdog's thread."""
        if not self._guard.trusted:
            self.driver.interrupt()

    def _is_late(self) -> bool:
        return not self._guard.trusted and self._clock() > self._deadline

    def _discard_stale_log(self) -> None:
        """Another file has taken the place of ours: SQLite would replay our log into it."""
        for suffix in _SUFFIXES[1:]:
            if self._files[suffix] and self._files[suffix] == self._file_identity(suffix):
                os.unlink(f"{self._database.path}{suffix}")

    def _file_identity(self, suffix: str) -> tuple[int, int] | None:
        """The file's device and inode. By `stat` only: closing the file would drop SQLite's locks on it."""
        if self._database.path is None:
            return None
        try:
            status = os.stat(f"{self._database.path}{suffix}")
        except OSError:
            return None
        return status.st_dev, status.st_ino


@remember
def _batchable(sql: str) -> bool:
    return _BATCHABLE.match(sql) is not None


def _asks_what_was_done(sql: str) -> bool:
    """Whether a table's defaults or checks ask for the statement before, whatever table that was about."""
    text = sql.lower()
    return any(name in text for name in ORDER_DEPENDENT) and not ORDER_DEPENDENT.isdisjoint(calls(sql))
