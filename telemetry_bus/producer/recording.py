"""The recording connection: what a job's callable writes to, and what it wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from ..config import DialectName
from ..errors import NotRecordable
from ..jobs import Row, Statement
from ..sql.statements import WRITE_ONLY, bind, bind_all, prepare


class RecordingConnection:
    """Looks like a database connection to a job's callable, and keeps what it is told to execute.

    `commit()` does nothing, since each job is one transaction; `rollback()` drops what was recorded so far.
    Whatever would have to read raises `NotRecordable`.
    """

    __slots__ = ("_dialect", "_last", "_rows", "_statements")

    def __init__(self, dialect: DialectName = "sqlite") -> None:
        self._dialect = dialect
        self._statements: list[Statement] = []
        self._last = ""  # the SQL whose rows may still grow
        self._rows: list[Row] = []

    def statements(self) -> tuple[Statement, ...]:
        """What was recorded, in order."""
        return tuple(self._statements)

    def cursor(self) -> RecordingCursor:
        return RecordingCursor(self)

    def execute(self, sql: str, parameters: Any = ()) -> RecordingCursor:
        """Record one statement. Counts are checked at once; raises `ParameterCount`, `NotRecordable`."""
        prepared = text, placeholders, order = prepare(sql, self._dialect)
        if order is None and type(parameters) is tuple and len(parameters) == placeholders:
            row: Row = parameters  # `bind`, without the call
        else:
            row = tuple(bind(prepared, parameters))  # the caller may change its list and go on
        if text == self._last:
            self._rows.append(row)
        else:
            self._append(text, [row])
        return RecordingCursor(self)

    def executemany(self, sql: str, rows: Iterable[Any]) -> RecordingCursor:
        """Record one statement with many rows."""
        prepared = prepare(sql, self._dialect)
        bound: list[Row] = [tuple(row) for row in bind_all(prepared, rows)]  # the caller may change its lists
        if bound:
            self._append(prepared.sql, bound)
        return RecordingCursor(self)

    def commit(self) -> None:
        """Nothing: the job is committed as a whole."""

    def rollback(self) -> None:
        """Drop what this job has recorded so far."""
        self._statements.clear()
        self._last = ""

    def _append(self, sql: str, rows: list[Row]) -> None:
        self._statements.append(Statement(sql, rows))
        self._last, self._rows = sql, rows

    def close(self) -> None:
        """Nothing: the job ends when its callable returns."""

    def __enter__(self) -> RecordingConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.rollback()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRecordable(f"{name} of a connection cannot be recorded", operation="submit", hint=WRITE_ONLY)


class RecordingCursor:
    """A cursor of the recording connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: RecordingConnection) -> None:
        self.connection = connection

    def execute(self, sql: str, parameters: Any = ()) -> RecordingCursor:
        self.connection.execute(sql, parameters)
        return self

    def executemany(self, sql: str, rows: Iterable[Any]) -> RecordingCursor:
        self.connection.executemany(sql, rows)
        return self

    def close(self) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRecordable(f"{name} of a recorded statement is not known", operation="submit", hint=WRITE_ONLY)

    def __iter__(self) -> NoReturn:
        raise NotRecordable("a recorded statement has no rows", operation="submit", hint=WRITE_ONLY)
