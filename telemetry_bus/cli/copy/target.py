"""The PostgreSQL database that is copied to: its tables, and what is made of them when their rows are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...config import DEFAULT_TIMEOUT, Database
from ...errors import ConfigError, DatabaseFault
from ...runtime.postgresql import connect, driver
from .definitions import Definition, constraints, indexes
from .source import Table, quoted

_HAS_LEDGER = "SELECT to_regclass('telemetry_bus_ledger') IS NOT NULL"
_LAST = "SELECT last_sequence FROM telemetry_bus_ledger WHERE stream = %s"
_COLUMNS = """SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped"""
_RESERVED = "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')"
_MAY_CREATE = "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')"
_SEQUENCE = "SELECT pg_get_serial_sequence(quote_ident(%s), %s)"
_HAS_CONSTRAINT = "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(%s)) AND conname = %s"
_HAS_RELATION = "SELECT 1 FROM pg_class WHERE oid = to_regclass(quote_ident(%s))"
_RAISE = """INSERT INTO telemetry_bus_ledger (stream, last_sequence, updated_at, ended) VALUES (%s, %s, %s, %s)
    ON CONFLICT (stream) DO UPDATE SET last_sequence = excluded.last_sequence, updated_at = excluded.updated_at
    WHERE excluded.last_sequence > telemetry_bus_ledger.last_sequence"""
_LETTER = """INSERT INTO telemetry_bus_dead_letters (stream, sequence, failed_at, error_type, error, statement, job)
    VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (stream, sequence) DO NOTHING"""
_DONE = "UPDATE telemetry_bus_ledger SET last_sequence = %s, ended = 1 WHERE stream = %s AND last_sequence = %s"
_REFUSED = "SELECT statement, error FROM telemetry_bus_dead_letters WHERE stream = %s ORDER BY sequence"


class Target:
    """A session there, each statement a transaction of its own. Its methods raise `DatabaseFault`."""

    def __init__(self, session: Any, database: Database) -> None:
        self._session = session
        self._database = database

    def begun(self, move: bytes) -> bool:
        """Whether the ledger knows this move."""
        return bool(self._rows(_HAS_LEDGER)[0][0]) and bool(self._rows(_LAST, move))

    def check(self, definitions: Iterable[Definition]) -> None:
        """Raises `ConfigError` for a table that has rows, or other columns, and `DatabaseFault` without the right to
        make tables."""
        schema, may = self._rows(_MAY_CREATE)[0]
        if not may:
            raise DatabaseFault(
                f"may not make tables in {schema or 'any schema'}",
                operation="copy",
                subject=self._database.masked,
                hint="GRANT CREATE ON SCHEMA … TO the role of the URL",
            )
        for one in definitions:
            found = {name for (name,) in self._rows(_COLUMNS, one.name)}
            if not found:
                continue
            if missing := [name for name in one.types if name not in found]:
                raise self._not_empty(f"the table {one.name} is there, without {', '.join(missing)}")
            if self._rows(f"SELECT 1 FROM {quoted(one.name)} LIMIT 1"):
                raise self._not_empty(f"the table {one.name} has rows")

    def reserved(self, definitions: Iterable[Definition]) -> Iterator[str]:
        """Which names SQL has to quote there, and not in SQLite."""
        words = {word for (word,) in self._rows(_RESERVED)}
        for one in definitions:
            for name in [name for name in (one.name, *one.types) if name in words]:
                yield f"{one.name}: SQL has to quote {name}, which is a word of PostgreSQL"

    def make(self, tables: Mapping[str, Table], definitions: Iterable[Definition]) -> None:
        """The tables. What counts rows begins behind the highest number, so that new rows may come at any time."""
        for one in definitions:
            self._rows(one.create)
            if one.counted is not None:
                for (sequence,) in self._rows(_SEQUENCE, one.name, one.counted):
                    if sequence is not None and tables[one.name].highest:
                        self._rows(
                            f"SELECT setval(%s, greatest(%s, (SELECT last_value FROM {sequence})))",
                            sequence,
                            tables[one.name].highest,
                        )

    def complete(self, table: Table, name: str) -> Iterator[str]:
        """Indexes, checks and foreign keys, when the rows are there; what could not be made, with why."""
        for index, sql, note in indexes(table):
            if not self._rows(_HAS_RELATION, index) and (error := self._try(sql)):
                yield f"{table.name}: without the index {index}: {error}"
            elif note:
                yield f"{table.name}: {note}"
        for key, sql in constraints(table):
            if not self._rows(_HAS_CONSTRAINT, name, key) and (error := self._try(sql)):
                yield f"{table.name}: without {key}: {error}"
            elif error := self._try(f"ALTER TABLE {quoted(name)} VALIDATE CONSTRAINT {quoted(key)}"):
                yield f"{table.name}: {key} holds for new rows only: {error}"

    def finish(self, move: bytes, last: int, ledger: Iterable[Sequence[Any]], letters: Iterable[Sequence[Any]]) -> None:
        """The ledger of the source and its dead letters, once: the move, whose last row is job `last`, is then one
        further, and over."""
        with self._told(), self._session.transaction():
            if self._session.execute(_DONE, (last + 1, move, last)).rowcount:
                cursor = self._session.cursor()
                cursor.executemany(_RAISE, ledger)
                cursor.executemany(_LETTER, letters)

    def refused(self, move: bytes) -> list[tuple[str, str]]:
        """Statement and error of each row that the server has refused."""
        return [(str(statement), str(error)) for statement, error in self._rows(_REFUSED, move)]

    def _try(self, sql: str) -> str:
        """Why a statement fails; "" when it does not."""
        try:
            self._session.execute(sql.encode())
        except driver().DatabaseError as error:
            if self._session.closed:
                raise self._fault(error) from error
            return " ".join(str(error).split())
        return ""

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._told():
            cursor = self._session.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except driver().Error as error:
            raise self._fault(error) from error

    def _fault(self, error: BaseException) -> DatabaseFault:
        text = " ".join(str(error).split())
        return DatabaseFault(text, operation="copy", subject=self._database.masked, hint="run the same command again")

    def _not_empty(self, message: str) -> ConfigError:
        return ConfigError(
            f"{message}, and would be mixed up with what is copied",
            operation="copy",
            subject=self._database.masked,
            hint="name an empty database, or drop the table",
        )


@contextmanager
def opened(database: Database) -> Iterator[Target]:
    """Raises `DatabaseFault`, `ConfigError`."""
    session = connect(database, DEFAULT_TIMEOUT, readonly=False, autocommit=True)
    with session:
        yield Target(session, database)
