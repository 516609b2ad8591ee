"""The mark of a move in its source: which move it is, where to, and whether it is done."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from ...database.ledger import timestamp
from ...database.sqlite.moved import DEFINITION, IS_MARKED, TABLE
from ...encoding.records import STREAM_BYTES

_FIND = f"SELECT move, target, tables, finished_at IS NOT NULL FROM {TABLE}"
_MARK = f"INSERT INTO {TABLE} (move, target, tables, started_at) VALUES (?, ?, '', ?)"


@dataclass(frozen=True)
class Move:
    """`id` is the stream that its rows are in the target's ledger; `rows` how many each table had when it began, none
    until that is known."""

    id: bytes
    target: str
    rows: Mapping[str, int]
    finished: bool


def find(connection: sqlite3.Connection) -> Move | None:
    if not connection.execute(IS_MARKED).fetchall():
        return None
    for id, target, rows, finished in connection.execute(_FIND):
        return Move(id, target, json.loads(rows or "{}"), bool(finished))
    return None


def begin(connection: sqlite3.Connection, target: str) -> Move:
    """Mark the database: from the end of this transaction on nobody writes into it."""
    move = Move(os.urandom(STREAM_BYTES), target, {}, False)
    connection.execute(DEFINITION)
    connection.execute(_MARK, (move.id, target, timestamp()))
    return move


def note_rows(connection: sqlite3.Connection, rows: Mapping[str, int]) -> None:
    connection.execute(f"UPDATE {TABLE} SET tables = ?", (json.dumps(rows),))


def finish(connection: sqlite3.Connection) -> None:
    connection.execute(f"UPDATE {TABLE} SET finished_at = coalesce(finished_at, ?)", (timestamp(),))


def remove(connection: sqlite3.Connection) -> None:
    """The database is as it was, and may be written into."""
    connection.execute(f"DROP TABLE {TABLE}")
