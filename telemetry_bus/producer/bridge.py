"""The bridge for old jobs that read before they write: `job_reads="flush"`. For the time of a migration."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NoReturn

from ..config import DialectName
from ..encoding import values as codec
from ..errors import NotRecordable
from ..jobs import Row
from ..sql.definitions import is_there
from ..sql.statements import bind_all, prepare, reads
from .recording import RecordingConnection

#: PostgreSQL's codes for a table, a column and another thing that there is already.
_IS_THERE = ("42P07", "42701", "42710")


class BridgeConnection(RecordingConnection):
    """Records as usual until the job reads; from then on it also runs everything in a transaction of its own.

    That transaction begins when the store's earlier jobs are committed (`barrier`), holds the database's write
    lock, sees `ensure` and what the job has recorded so far, and is rolled back by `close()`: what was recorded is
    submitted like any job.
    """

    def __init__(
        self,
        barrier: Callable[[], None],
        connect: Callable[[], AbstractContextManager[sqlite3.Connection]],
        ensure: Sequence[str],
        dialect: DialectName = "sqlite",
    ) -> None:
        super().__init__(dialect)
        self._barrier = barrier
        self._connect = connect
        self._ensure = ensure
        self._stack = ExitStack()
        self._connection: sqlite3.Connection | None = None
        self._calls: list[tuple[str, list[Row]]] = []
        self._cursors: list[sqlite3.Cursor] = []
        self._pack = codec.packer().pack

    def cursor(self) -> BridgeCursor:  # type: ignore[override]  # a cursor that can read
        return BridgeCursor(self)

    def execute(self, sql: str, parameters: Any = ()) -> BridgeCursor:  # type: ignore[override]
        return BridgeCursor(self).execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> BridgeCursor:  # type: ignore[override]
        return BridgeCursor(self).executemany(sql, rows)

    def rollback(self) -> None:
        """Drop what this job has recorded so far, and undo it where the job reads."""
        super().rollback()
        self._calls.clear()
        self._cursors.clear()
        if self._connection is not None:
            if self._connection.in_transaction:  # INSERT OR ROLLBACK ends it
                self._connection.execute("ROLLBACK")
            self._begin(self._connection)

    def close(self) -> None:
        """End the transaction in which the job read; nothing of it remains."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection = None
        self._stack.close()

    def reads(self, sql: str) -> bool:
        """Whether a statement only reads."""
        return reads(sql, self._dialect)

    def read(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        """Run a statement that only reads."""
        return self.live().execute(sql, parameters)

    def record(self, sql: str, rows: Iterable[Any], *, many: bool) -> int:
        """Record a statement, and run it if the job reads; the number of the call."""
        prepared = prepare(sql, self._dialect)
        bound = bind_all(prepared, rows)
        stored = [self._as_stored(row) for row in bound]
        if self._connection is not None:
            self._run(self._connection, prepared.sql, stored)  # what fails here is not recorded
        if many:
            super().executemany(prepared.sql, bound)
        else:
            super().execute(prepared.sql, bound[0])
        self._calls.append((prepared.sql, stored))
        return len(self._calls) - 1

    def outcome(self, call: int) -> sqlite3.Cursor:
        """The cursor of a recorded call, run where the job reads."""
        self.live()
        return self._cursors[call]

    def live(self) -> sqlite3.Connection:
        """The connection in which the job reads, opened at the first read."""
        if self._connection is None:
            self._barrier()
            connection = self._stack.enter_context(self._connect())
            connection.isolation_level = None
            self._begin(connection)
            self._connection = connection
            for sql, rows in self._calls:
                self._run(connection, sql, rows)
        return self._connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for definition in self._ensure:
            try:
                connection.execute(definition)
            except Exception as error:  # of SQLite's driver or of PostgreSQL's
                if getattr(error, "sqlstate", "") not in _IS_THERE and not (
                    isinstance(error, sqlite3.OperationalError) and is_there(connection.execute, definition, str(error))
                ):
                    raise

    def _run(self, connection: sqlite3.Connection, sql: str, rows: list[Row]) -> None:
        if len(rows) == 1:
            self._cursors.append(connection.execute(sql, rows[0]))
        else:
            self._cursors.append(connection.executemany(sql, rows))

    def _as_stored(self, row: Row) -> Row:
        """The values as the writer will hand them to the driver."""
        stored: Row = codec.unpack(codec.pack_row(self._pack, row))
        return stored


class BridgeCursor:
    """A cursor of the bridge: of a read its rows, of a recorded statement its row count."""

    def __init__(self, connection: BridgeConnection) -> None:
        self.connection = connection
        self._read: sqlite3.Cursor | None = None
        self._call: int | None = None

    def execute(self, sql: str, parameters: Any = ()) -> BridgeCursor:
        if self.connection.reads(sql):
            self._read, self._call = self.connection.read(sql, parameters), None
        else:
            self._read, self._call = None, self.connection.record(sql, [parameters], many=False)
        return self

    def executemany(self, sql: str, rows: Iterable[Any]) -> BridgeCursor:
        self._read, self._call = None, self.connection.record(sql, rows, many=True)
        return self

    def fetchone(self) -> Any:
        return self._cursor().fetchone()

    def fetchmany(self, size: int = 1) -> list[Any]:
        return self._cursor().fetchmany(size)

    def fetchall(self) -> list[Any]:
        return self._cursor().fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor())

    @property
    def description(self) -> Any:
        return self._cursor().description

    @property
    def rowcount(self) -> int:
        return self._cursor().rowcount

    @property
    def lastrowid(self) -> NoReturn:
        raise NotRecordable(
            "lastrowid is not known before the writer has run the job",
            operation="submit",
            hint="use a key of your own, or last_insert_rowid() in the next statement",
        )

    def close(self) -> None:
        """Nothing."""

    def _cursor(self) -> sqlite3.Cursor:
        if self._read is not None:
            return self._read
        if self._call is None:
            raise NotRecordable("nothing was executed", operation="submit")
        return self.connection.outcome(self._call)
