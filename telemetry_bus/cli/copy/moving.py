"""The steps of a move, each of which may be the last one before a kill, and is then begun again.

The source is marked, so that no writer writes into it any more, and read as it is from then on. Its rows are jobs of
one stream, whose place in the target's ledger says how far they have come; with the last of them comes the source's own
ledger, so that the jobs that wait in the journals go on behind what the source has committed.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...database.writer import Writer
from ...errors import ConfigError, DatabaseFault, WriterBusy
from ...reading import connect
from ...runtime.locks import InstanceLock
from ..calling import POLL_S
from ..output import unlogged
from ..stop import stop
from ..survey import Bus, no_database
from . import mark
from .definitions import Definition, definition
from .loading import BEGUN, load
from .mark import Move
from .source import Table, content
from .target import Target

_LEDGER = "SELECT stream, last_sequence, updated_at, {ended} FROM telemetry_bus_ledger"
_LETTERS = """SELECT stream, sequence, failed_at, error_type, error, statement, job FROM telemetry_bus_dead_letters
    ORDER BY id"""
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_HAS_ENDED = "SELECT 1 FROM pragma_table_info('telemetry_bus_ledger') WHERE name = 'ended'"

#: Begins to tell how many rows have come, of this number.
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Plan:
    """Each table with what it is to become, and what is not as it was."""

    tables: tuple[tuple[Table, Definition], ...]
    notes: tuple[str, ...]

    @property
    def definitions(self) -> list[Definition]:
        return [there for _, there in self.tables]

    @property
    def rows(self) -> dict[str, int]:
        return {table.name: table.rows for table, _ in self.tables}

    @property
    def total(self) -> int:
        return sum(table.rows for table, _ in self.tables)


@dataclass
class Copied:
    """What has been copied: refused rows by table, with the error of the first one of each; what was left out."""

    plan: Plan
    refused: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def plan_of(connection: sqlite3.Connection, there: Target) -> Plan:
    """Raises `ConfigError` for names that the target cannot have."""
    found = content(connection)
    tables = tuple((table, definition(table)) for table in found.tables)
    if twice := [name for name, number in Counter(one.name for _, one in tables).items() if number > 1]:
        raise ConfigError("two tables of this name", operation="copy", subject=twice[0], hint="rename one of them")
    notes = [note for _, one in tables for note in one.notes]
    return Plan(tables, (*found.left_out, *notes, *there.reserved(one for _, one in tables)))


@contextmanager
def reading(source: Bus, *, readonly: bool, timeout: float) -> Iterator[sqlite3.Connection]:
    """The source in autocommit. Raises `NoDatabase`, `DatabaseFault`, `OtherName`."""
    if source.database.path is None or not source.database.path.exists():
        raise no_database(source.database, "copy")
    if (refusal := source.other_name()) is not None:
        raise refusal
    try:
        with connect(source.database, timeout, readonly, None) as connection:
            connection.isolation_level = None
            yield connection
    except sqlite3.Error as error:
        busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY if hasattr(error, "sqlite_errorcode") else False
        raise DatabaseFault(
            f"cannot be copied: {error}",
            operation="copy",
            subject=source.database.masked,
            hint="another program writes into it: end that first" if busy else "telemetry-bus doctor --full",
        ) from error


def copy(
    source: Bus,
    target: Bus,
    connection: sqlite3.Connection,
    there: Target,
    progress: Progress,
    *,
    replace_nul: bool,
    timeout: float,
) -> Copied:
    """Copy all that is not there yet, and note in the source that it is done.

    Raises `ConfigError` when the target is not empty, or the source moves elsewhere already; `WriterBusy` when a
    program keeps the source; `DatabaseFault`.
    """
    move = mark.find(connection)
    refuse_elsewhere(move, target)
    plan = plan_of(connection, there)
    if move is None or not there.begun(move.id):
        there.check(plan.definitions)
    with _alone(source, target, connection, move, timeout) as move:
        plan = _frozen(source, connection, there, move)
        copied = Copied(plan)
        with unlogged():
            writer = Writer(target.database)
            try:
                writer.raise_watermark(move.id, BEGUN)
                there.make({one.name: table for table, one in plan.tables}, plan.definitions)
                with progress(plan.total) as advance:
                    load(writer, move.id, connection, plan.tables, replace_nul=replace_nul, advance=advance)
            finally:
                writer.close()
        for table, one in plan.tables:
            copied.left_out += there.complete(table, one.name)
        there.finish(move.id, BEGUN + plan.total, list(_ledger(connection)), _letters(connection))
        _count(copied, there.refused(move.id))
        mark.finish(connection)
        connection.execute("COMMIT")
    return copied


def abandon(source: Bus, connection: sqlite3.Connection) -> None:
    """Take the mark away, unless the copy is done. Raises `ConfigError`, and `WriterBusy` while one runs."""
    move = mark.find(connection)
    if move is None or move.finished:
        raise ConfigError(
            "no copy has begun" if move is None else "the copy is done, and producers may have written there",
            operation="copy",
            subject=source.database.masked,
        )
    lock = _lock(source, 0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        mark.remove(connection)
        connection.execute("COMMIT")
    finally:
        lock.release()


def refuse_elsewhere(move: Move | None, target: Bus) -> None:
    """Raises `ConfigError` when the mark names another target."""
    if move is not None and move.target != target.database.identity:
        raise ConfigError(
            f"this database moves to {move.target} already",
            operation="copy",
            subject=target.database.masked,
            hint="name that one, or give the copy up with --abandon",
        )


@contextmanager
def _alone(
    source: Bus, target: Bus, connection: sqlite3.Connection, move: Move | None, timeout: float
) -> Iterator[Move]:
    """The source for us alone: marked, without a writer, and in a transaction that keeps other programs out."""
    if source.held and (owner := source.owner()).is_program:
        raise WriterBusy(owner.silence(), operation="copy", subject=source.database.masked, hint="end that program")
    source.folder.prepare()
    begun = None
    if move is None:
        connection.execute("BEGIN IMMEDIATE")
        move = begun = mark.begin(connection, target.database.identity)
        connection.execute("COMMIT")
    try:
        lock = _owned(source, timeout)
    except WriterBusy:
        if begun is not None:
            mark.remove(connection)
        raise
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield move
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        lock.release()


def _owned(source: Bus, timeout: float) -> InstanceLock:
    if source.held:
        stop(source, timeout)
    return _lock(source, timeout)


def _lock(source: Bus, limit: float) -> InstanceLock:
    """A writer that was started meanwhile sees the mark and leaves."""
    deadline = time.monotonic() + limit
    while (lock := InstanceLock.acquire(source.folder.writer_lock)) is None:
        if time.monotonic() >= deadline:
            raise WriterBusy(source.owner().silence(), operation="copy", subject=source.database.masked)
        time.sleep(POLL_S)
    return lock


def _frozen(source: Bus, connection: sqlite3.Connection, there: Target, move: Move) -> Plan:
    """The plan of the source as it stays from now on. Raises `DatabaseFault` when it is not what it was."""
    plan = plan_of(connection, there)
    if not move.rows:
        mark.note_rows(connection, plan.rows)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        plan = plan_of(connection, there)
        move = mark.find(connection) or move
    if plan.rows != move.rows:
        raise DatabaseFault(
            "another program has written into it since the copy began",
            operation="copy",
            subject=source.database.masked,
            hint="end that program; telemetry-bus copy --abandon, drop what was copied, and begin again",
        )
    return plan


def _ledger(connection: sqlite3.Connection) -> Iterator[Sequence[Any]]:
    if connection.execute(_HAS_TABLE, ("telemetry_bus_ledger",)).fetchall():
        ended = "ended" if connection.execute(_HAS_ENDED).fetchall() else "0"
        yield from connection.execute(_LEDGER.format(ended=ended))


def _letters(connection: sqlite3.Connection) -> Iterator[Sequence[Any]]:
    """One after the other: each may have megabytes."""
    if connection.execute(_HAS_TABLE, ("telemetry_bus_dead_letters",)).fetchall():
        for row in connection.execute(_LETTERS):
            yield [one.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(one, str) else one for one in row]


def _count(copied: Copied, refused: Sequence[tuple[str, str]]) -> None:
    heads = {one.head: table.name for table, one in copied.plan.tables}
    for statement, error in refused:
        name = next((name for head, name in heads.items() if statement.startswith(head)), statement)
        copied.refused[name] += 1
        copied.errors.setdefault(name, error.partition("\n")[0])
