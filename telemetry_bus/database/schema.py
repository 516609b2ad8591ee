"""What is known of the tables: the bus's own, the definitions that were executed, drift, facts for grouping."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from ..errors import BadDefinition, shorten
from .dialects import Columns, Connection, Dialect, TableFacts
from .transactions import bus_transaction

logger = logging.getLogger("telemetry_bus.writer")

#: Definitions remembered as executed. One that was forgotten is executed again, which changes nothing.
MAX_DEFINITIONS = 4096
_PLAIN_INDEX = re.compile(r"\s*create\s+index\b", re.I)
_SLOW_HINT = "execute it by hand, or give the writer a longer --definition-timeout"
MAX_DEFINITION_CHARS = 4 * 1024 * 1024

_LEDGER = """
    stream {bytes} NOT NULL,
    last_sequence {integer} NOT NULL,
    updated_at {timestamp} NOT NULL,
    ended {integer} NOT NULL DEFAULT 0,
    PRIMARY KEY (stream)
"""
#: What the ledger lacks that an earlier version made.
_LATER = "ALTER TABLE telemetry_bus_ledger ADD COLUMN ended {integer} NOT NULL DEFAULT 0"
_DEAD_LETTERS = """
    id {serial} NOT NULL,
    stream {bytes} NOT NULL,
    sequence {integer} NOT NULL,
    failed_at {timestamp} NOT NULL,
    error_type {text} NOT NULL,
    error {text} NOT NULL,
    statement {text},
    job {bytes} NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (stream, sequence)
"""
#: The tables of the bus by name; each `{type}` goes by the dialect's word. No tables of SQLAlchemy's: a writer that
#: does not load it starts in half the time, and with two thirds of the memory.
BUS_TABLES = {"telemetry_bus_ledger": _LEDGER, "telemetry_bus_dead_letters": _DEAD_LETTERS}


def create_bus_tables(connection: Connection, dialect: Dialect) -> None:
    """Make the tables of the bus where they are not there yet, or not as they are now. Raises `DatabaseFault`."""
    if BUS_TABLES.keys() <= connection.tables().keys() and "ended" in connection.columns("telemetry_bus_ledger"):
        return
    with bus_transaction(connection, dialect, defines=True):
        for table, columns in BUS_TABLES.items():
            connection.own(f"CREATE TABLE IF NOT EXISTS {table} ({columns.format_map(dialect.types)})")
        if "ended" not in connection.columns("telemetry_bus_ledger"):
            connection.own(_LATER.format_map(dialect.types))


class Schema:
    """The definitions executed through one connection, and what its tables are like.

    A definition counts once it is committed: `define` notes it, `settle` confirms, `abandon` takes back.
    """

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        self._done: OrderedDict[str, None] = OrderedDict()
        self._done_chars = 0
        self._fresh: dict[str, tuple[str, ...]] = {}  # with the list that each is part of
        self._slow: dict[str, str] = {}
        self._left_out: set[str] = set()
        self._suspects: dict[tuple[str, ...], None] = {}
        self._drift: dict[str, str] = {}
        self._tables: Mapping[str, TableFacts] = {}
        self._version: object = None
        self._stale = True

    @property
    def known_definitions(self) -> int:
        return len(self._done)

    @property
    def drift(self) -> tuple[str, ...]:
        """How tables differ from the definitions that found them there."""
        return tuple(self._drift.values())

    def missing(self, ensure: Sequence[str]) -> list[str]:
        """Those definitions that have not been executed, without indexes that are known to take too long."""
        return [sql for sql in ensure if sql not in self._done and sql not in self._fresh and sql not in self._left_out]

    def define(self, sql: str, ensure: tuple[str, ...]) -> None:
        """Execute a definition inside the transaction that stands. `ensure`: the whole list that it is part of.

        Raises what `Connection.define` does.
        """
        if sql in self._slow:
            raise BadDefinition(self._slow[sql], operation="apply", subject=sql, hint=_SLOW_HINT)
        known = None if self._stale else self._tables
        self._connection.define(sql)
        self._fresh[sql] = ensure
        after = None if known is None else self._connection.tables_after(sql, known)
        if after is None:
            self._stale = True
        else:  # many definitions in one batch must not each read the whole schema
            self._tables, self._version = after, self._connection.schema_version()

    def mark(self) -> int:
        """A point in the transaction to go back to with `abandon`."""
        return len(self._fresh)

    def abandon(self, mark: int = 0) -> None:
        """The transaction, or what came after `mark` in it, was rolled back."""
        while len(self._fresh) > mark:
            self._fresh.popitem()
        self.forget_tables()

    def settle(self) -> None:
        """The transaction was committed. Compares the tables with what their definitions say."""
        self._done.update(dict.fromkeys(self._fresh))
        self._done_chars += sum(map(len, self._fresh))
        while len(self._done) > MAX_DEFINITIONS or (self._done_chars > MAX_DEFINITION_CHARS and self._done):
            self._done_chars -= len(self._done.popitem(last=False)[0])
        executed = {**dict.fromkeys(self._fresh.values()), **self._suspects}
        self._fresh.clear()
        self._suspects.clear()
        for ensure in executed:
            self._compare(ensure)

    def forget(self, ensure: Sequence[str]) -> None:
        """Execute these definitions again when they are next asked for: a table or column of theirs is missing."""
        for sql in ensure:
            if sql in self._done:
                del self._done[sql]
                self._done_chars -= len(sql)
            self._fresh.pop(sql, None)

    def suspect(self, ensure: tuple[str, ...]) -> None:
        """A job misses something although these were executed: `settle` compares the tables with them."""
        self._suspects[ensure] = None

    def too_slow(self, sql: str, seconds: float) -> bool:
        """The definition took longer than that; it is not tried again. Whether jobs can do without: an index only makes
        reading faster."""
        self._slow[sql] = text = f"the definition takes longer than {seconds:g} s, and is not tried again"
        if _PLAIN_INDEX.match(sql) is None:
            return False
        self._left_out.add(sql)
        self._drift[sql] = f"{shorten(sql)}: not made"
        logger.warning("%s; jobs are applied without it; %s: %s", text, _SLOW_HINT, shorten(sql))
        return True

    def is_left_out(self, sql: str) -> bool:
        return sql in self._left_out

    def forget_tables(self) -> None:
        """A rollback may have taken tables back; the schema's version may then come again with another schema."""
        self._version = None
        self._stale = True

    def touch(self) -> None:
        """Look at the schema's version before the facts are next used: somebody may have changed the schema."""
        self._stale = True

    def tables(self) -> Mapping[str, TableFacts]:
        """The facts of all tables. The same object as long as nothing has changed."""
        if self._stale:
            version = self._connection.schema_version()
            if version != self._version:
                self._tables = self._connection.tables()
                self._version = version
            self._stale = False
        return self._tables

    def _compare(self, ensure: tuple[str, ...]) -> None:
        for table, wanted in self._dialect.defined_columns(ensure).items():
            found = self._connection.columns(table)  # none if the job that would have made the table was undone
            if found and (text := _difference(wanted, found, self._dialect.same_type)):
                text = f"{table}: {text}"
                if self._drift.get(table) != text:
                    logger.warning("schema drift: the table is not what its definition says: %s", text)
                self._drift[table] = text
            else:
                self._drift.pop(table, None)


def _difference(wanted: Columns, found: Columns, same_type: Callable[[str, str], bool]) -> str:
    """What a table lacks of its definition. Columns beyond it are how a table grows."""
    missing = [name for name in wanted if name not in found]
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [
        f"{name} is {found[name] or 'untyped'}, defined as {wanted[name] or 'untyped'}"
        for name in wanted
        if name in found and not same_type(found[name], wanted[name])
    ]
    return "; ".join(parts)
