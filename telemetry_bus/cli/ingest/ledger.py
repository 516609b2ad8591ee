"""How far each file was taken: kept in the database, and moved by the very jobs that bring its records.

A file is known by what was taken of it, not by its name: one that was renamed or copied, or that has grown, goes on
where it was. Each job moves the position by compare and swap, and fails as a whole where that does not stand at its
beginning: of two that take one file at once only one succeeds, and a job that is run once more changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from ...config import DialectName
from ...errors import DatabaseFault
from ...jobs import Statement
from .records import Input, Mark
from .tables import columns_of

_TABLE = """CREATE TABLE IF NOT EXISTS telemetry_ingested (
    id TEXT NOT NULL PRIMARY KEY,
    path TEXT NOT NULL,
    target TEXT NOT NULL,
    head_bytes {integer} NOT NULL,
    head_digest TEXT NOT NULL,
    position {integer} NOT NULL,
    lines {integer} NOT NULL,
    digest TEXT NOT NULL,
    records {integer} NOT NULL,
    rejected {integer} NOT NULL,
    updated_at TIMESTAMP NOT NULL
)"""
#: Moves to NULL, which the column refuses, where it does not stand at the beginning.
_MOVE = """INSERT INTO telemetry_ingested (id, path, target, head_bytes, head_digest, position, lines, digest, records,
    rejected, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CURRENT_TIMESTAMP)
ON CONFLICT (id) DO UPDATE SET position = CASE telemetry_ingested.position WHEN ? THEN excluded.position END,
    lines = excluded.lines, head_bytes = excluded.head_bytes, head_digest = excluded.head_digest,
    digest = excluded.digest, records = excluded.records, rejected = excluded.rejected,
    updated_at = CURRENT_TIMESTAMP"""
_KNOWN = """SELECT id, path, head_bytes, head_digest, position, lines, digest, records, rejected
    FROM telemetry_ingested WHERE target = ? ORDER BY position DESC"""


@dataclass
class Taken:
    """What was taken of one file for one table: up to where, and how many records; `mark` is None at first."""

    path: str
    target: str
    id: str = field(default_factory=lambda: uuid4().hex)
    mark: Mark | None = None
    records: int = 0
    rejected: int = 0

    def move(self, end: Mark, records: int, rejected: int) -> Statement:
        """Take so many records more, up to `end`: the statement of the job that brings them."""
        begin = self.mark.position if self.mark else 0
        row = (
            *(self.id, self.path, self.target, len(end.head), hashlib.sha256(end.head).hexdigest()),
            *(end.position, end.lines, end.hash.hexdigest(), self.records + records, self.rejected + rejected),
            begin,
        )
        return Statement(_MOVE, (row,))

    def moved(self, end: Mark, records: int, rejected: int) -> None:
        """The job of `move` is committed."""
        self.mark = end
        self.records += records
        self.rejected += rejected


def definition(dialect: DialectName) -> str:
    """The table of what was taken."""
    return _TABLE.format(integer="INTEGER" if dialect == "sqlite" else "BIGINT")


def find(connection: Any, input: Input, path: str, target: str) -> Taken:
    """What was taken of this file before; nothing of a new one. The input can seek, and stands at its beginning then.

    Raises `DatabaseFault` when a file of this very path was taken, and differs now in what was taken.
    """
    known = connection.execute(_KNOWN, (target,)).fetchall() if columns_of(connection, "telemetry_ingested") else []
    head = input.head()
    found, changed = Taken(path, target), False
    for id, name, head_bytes, head_digest, position, lines, digest, records, rejected in known:
        if hashlib.sha256(head[:head_bytes]).hexdigest() != head_digest:
            continue
        mark = input.mark_at(position, lines)
        if mark is not None and mark.hash.hexdigest() == digest:
            found, changed = Taken(path, target, id, mark, records, rejected), False
            break
        changed |= name == path
    if changed:
        raise DatabaseFault(
            "the file has changed in what was taken of it before",
            operation="ingest",
            subject=path,
            hint="--again takes it from its beginning",
        )
    input.rewind()
    return found
