"""Reading a PostgreSQL database as if it were SQLite's: the same calls, placeholders, rows and values.

What `sqlite3` does for a statement that both databases know, a connection of this module does, too: `?` and `:name`,
texts for moments in the form that the bus gives them, integers for booleans, numbers for `numeric`, a failed statement
that leaves its transaction as it was. What the databases' languages tell apart stays so (docs/postgresql.md).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import partial
from typing import Any, NamedTuple, Self

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

from ..config import Database
from ..errors import ReadOnly
from ..runtime.postgresql import connect
from ..sql.memory import remember
from ..sql.tokens import first_statement

#: What a row becomes: from the cursor and its values.
RowFactory = Callable[[Any, tuple[Any, ...]], Any]

#: What a column's description has beside its name, as in sqlite3.
_UNKNOWN = (None,) * 6
#: A time of day with an offset, as the server writes it.
_WITH_OFFSET = re.compile(r"(.*?)([+-]\d\d)(:\d\d)?")
#: In the server's words about a parameter, in whatever language, its number.
_PARAMETER = re.compile(r"\$(\d+)")
#: What begins a transaction of its own, as in sqlite3; what steers one.
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})
_STEERS = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "SET"})
#: SQLite's ways to begin a transaction.
_BEGINNINGS = frozenset({"DEFERRED", "IMMEDIATE", "EXCLUSIVE"})


class Connection:
    """A session with the face of a `sqlite3.Connection`. psycopg's own connection is `driver`.

    Closed at the end of a `with` block that `reading.connect` gives; used as a context manager itself it commits, or
    rolls back what raised, as `sqlite3` does.
    """

    def __init__(self, database: Database, timeout: float, readonly: bool) -> None:
        self.driver: psycopg.Connection[Any] = connect(
            database, timeout, readonly=readonly, autocommit=True, cursor_factory=psycopg.RawCursor
        )
        self.row_factory: RowFactory | type[sqlite3.Row] | None = None
        self.readonly = readonly
        for name, loader in _LOADERS.items():
            self.driver.adapters.register_loader(name, loader)

    @property
    def in_transaction(self) -> bool:
        return self.driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Cursor:
        return self.cursor().executemany(sql, rows)

    def executescript(self, sql: str, /) -> Cursor:
        return self.cursor().executescript(sql)

    def commit(self) -> None:
        if self.in_transaction:
            self.driver.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self.driver.execute("ROLLBACK")

    def close(self) -> None:
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is None:
            self.commit()
        else:
            self.rollback()


class Cursor:
    """The face of a `sqlite3.Cursor`. Its rows are in memory once a statement has run."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.row_factory = connection.row_factory
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self._cursor = connection.driver.cursor(row_factory=tuple_row)

    @property
    def lastrowid(self) -> int:
        raise psycopg.NotSupportedError("PostgreSQL counts no rows: ask for the key with INSERT … RETURNING")

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        statement = _read(sql)
        self._execute(sql, statement, _bound(statement.keys, parameters))
        found = self._cursor.description
        self.description = tuple((each.name, *_UNKNOWN) for each in found) if found else None
        self.rowcount = -1 if found else self._cursor.rowcount
        return self

    def executemany(self, sql: str, rows: Iterable[Any], /) -> Self:
        statement = _read(sql)
        values = [_bound(statement.keys, row) for row in rows]
        self._run(sql, statement.verb, lambda: self._cursor.executemany(statement.text().encode(), values))
        self.description, self.rowcount = None, self._cursor.rowcount
        return self

    def executescript(self, sql: str, /) -> Self:
        """All statements of a text, without values; what stands before is committed."""
        self.connection.commit()
        self._run(sql, "", lambda: self.connection.driver.execute(sql.encode()))
        self.description, self.rowcount = None, -1
        return self

    def fetchone(self) -> Any:
        row = self._cursor.fetchone() if self.description else None
        return None if row is None else self._made(row)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        return [self._made(row) for row in self._cursor.fetchmany(size)] if self.description else []

    def fetchall(self) -> list[Any]:
        if not self.description:
            return []
        rows = self._cursor.fetchall()
        return rows if self.row_factory is None else [self._made(row) for row in rows]

    def close(self) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def _made(self, row: tuple[Any, ...]) -> Any:
        if self.row_factory is None:
            return row
        if self.row_factory is sqlite3.Row:
            return Row(self, row)
        factory: Any = self.row_factory
        return factory(self, row)

    def _execute(self, sql: str, statement: _Statement, values: list[Any]) -> None:
        """A value of whose type nothing tells (`? IS NULL`) is a text."""
        texts: set[int] = set()
        while True:
            execute = partial(self._cursor.execute, statement.text(texts).encode(), values or None)
            try:
                return self._run(sql, statement.verb, execute)
            except (psycopg.errors.IndeterminateDatatype, psycopg.errors.AmbiguousParameter) as error:
                untyped = _PARAMETER.search(error.diag.message_primary or "")
                if untyped is None or int(untyped[1]) in texts:
                    raise
                texts.add(int(untyped[1]))

    def _run(self, sql: str, verb: str, statement: Callable[[], object]) -> None:
        """Run a statement. In a transaction a failed one takes back nothing but itself, as in SQLite."""
        connection, driver = self.connection, self.connection.driver
        if verb in _CHANGES and not connection.readonly and not connection.in_transaction:
            driver.execute("BEGIN")
        apart = connection.in_transaction and verb not in _STEERS
        try:
            if apart:
                driver.execute("SAVEPOINT statement")
            statement()
            if apart:
                driver.execute("RELEASE SAVEPOINT statement")
        except psycopg.Error as error:
            if apart and not driver.closed:
                driver.execute("ROLLBACK TO SAVEPOINT statement")
            if connection.readonly and isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                raise ReadOnly(
                    "this connection only reads",
                    operation="connection",
                    subject=sql,
                    hint="write with submit(), or open it with connection(readonly=False)",
                ) from error
            raise


class Row(tuple[Any, ...]):
    """A row by position and by name, as `sqlite3.Row`."""

    _names: tuple[str, ...]

    def __new__(cls, cursor: Cursor, values: Iterable[Any]) -> Self:
        made = super().__new__(cls, values)
        made._names = tuple(each[0] for each in cursor.description or ())
        return made

    def keys(self) -> list[str]:
        return list(self._names)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for name, value in zip(self._names, self, strict=True):
            if name.lower() == key.lower():
                return value
        raise IndexError("No item with that key")


class _Statement(NamedTuple):
    """A statement in pieces, between which its values stand, and of each of them the place or the name."""

    pieces: tuple[str, ...]
    verb: str
    keys: tuple[int | str, ...]

    def text(self, texts: Collection[int] = ()) -> str:
        """As the server takes it, with `$1`, `$2` …; those whose numbers are in `texts` are texts."""
        first, *rest = self.pieces
        values = (f"CAST(${n} AS text)" if n in texts else f"${n}" for n in range(1, len(self.pieces)))
        return first + "".join(value + piece for value, piece in zip(values, rest, strict=True))


@remember
def _read(sql: str) -> _Statement:
    """A statement in SQLite's manner, as the server takes it. Raises `psycopg.ProgrammingError`."""
    statement, more = first_statement(sql, "postgresql")
    if more:
        raise psycopg.ProgrammingError("You can only execute one statement at a time.")
    verb = statement[0].symbol if statement else ""
    if verb == "BEGIN" and _BEGINNINGS & {token.symbol for token in statement[1:]}:
        return _Statement(("BEGIN",), verb, ())
    keys: list[int | str] = []
    pieces: list[str] = []
    end = most = 0
    for token in statement:
        if token.kind != "placeholder":
            continue
        key: int | str = token.text[1:]
        if token.text == "?" or token.text[1:].isdecimal():
            key = most if token.text == "?" else int(token.text[1:]) - 1
            most = max(most, key + 1)
        keys.append(key)  # one that comes twice has two numbers: each may stand for another type
        pieces.append(sql[end : token.start])
        end = token.end
    return _Statement((*pieces, sql[end:]), verb, tuple(keys))


def _bound(keys: tuple[int | str, ...], parameters: Any) -> list[Any]:
    """The values for `$1`, `$2` …; what sqlite3 refuses is refused."""
    if any(isinstance(key, str) for key in keys):
        if not isinstance(parameters, Mapping):
            raise psycopg.ProgrammingError("A mapping with the names of the statement is wanted")
        if missing := [key for key in keys if key not in parameters]:
            raise psycopg.ProgrammingError(f"You did not supply a value for binding parameter :{missing[0]}.")
    else:
        wanted = max((key for key in keys if isinstance(key, int)), default=-1) + 1
        if not isinstance(parameters, Sequence) or len(parameters) != wanted:
            given = len(parameters) if isinstance(parameters, Sequence) else f"a {type(parameters).__name__}"
            raise psycopg.ProgrammingError(
                f"Incorrect number of bindings supplied. The statement uses {wanted}, and {given} were given."
            )
    return [_value(parameters[key]) for key in keys]


def _value(value: Any) -> Any:
    """A value without a type of its own, which the server reads as what it is compared with, as SQLite does."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise psycopg.ProgrammingError(f"type {type(value).__name__!r} is not supported")


class _Number(Loader):
    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


class _Truth(Loader):
    def load(self, data: Buffer) -> int:
        return int(bytes(data) == b"t")


class _Time(Loader):
    """A moment in the form of `datetime.isoformat`: six digits behind the point, or none."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        whole, _, fraction = text.partition(".")
        return f"{whole}.{fraction:0<6}" if fraction.isdigit() else text


class _TimeWithOffset(_Time):
    """And the offset with its minutes."""

    def load(self, data: Buffer) -> str:
        if (match := _WITH_OFFSET.fullmatch(bytes(data).decode())) is None:
            return bytes(data).decode()  # infinity
        return super().load(match[1].encode()) + match[2] + (match[3] or ":00")


_LOADERS: dict[str, type[Loader]] = {
    **dict.fromkeys(("interval", "uuid", "json", "jsonb", "inet", "cidr", "date"), TextLoader),
    **dict.fromkeys(("timestamp", "time"), _Time),
    **dict.fromkeys(("timestamptz", "timetz"), _TimeWithOffset),
    "numeric": _Number,
    "bool": _Truth,
}
