"""Rows on their way: each is a job of one stream, so that the ledger says how far they have come."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...database.writer import Writer
from ...jobs import Run, Template
from .definitions import MOMENTS, Definition
from .source import Table, rows

#: The number of the job that the ledger has before the first row: the move has begun.
BEGUN = 1
#: Rows and bytes of one transaction.
_BATCH_ROWS = 5000
_BATCH_BYTES = 8 * 1024 * 1024
#: A date, a moment, or a time of day, as SQLite's functions read them.
_MOMENT = re.compile(r"\d{4,}-\d\d-\d\d|\d\d:\d\d")
_TRUTH: Mapping[Any, bool] = {0: False, 1: True}

#: What a value becomes for its column.
Change = Callable[[Any], Any]


def load(
    writer: Writer,
    move: bytes,
    connection: sqlite3.Connection,
    tables: Sequence[tuple[Table, Definition]],
    *,
    replace_nul: bool,
    advance: Callable[[int], None],
) -> None:
    """Copy the rows that are not there yet. A row that the server refuses becomes a dead letter.

    Raises `DatabaseFault`, and `LedgerMoved` when another process is copying the same.
    """
    done = writer.last_sequences([move])[move] - BEGUN
    advance(min(done, sum(table.rows for table, _ in tables)))
    before = 0
    for table, there in tables:
        skipped = min(max(done - before, 0), table.rows)
        if skipped < table.rows:
            sequence = BEGUN + before + skipped + 1
            for texts, batch in _batches(_fitted(rows(connection, table, skipped), there, replace_nul), there):
                template = Template((), ((there.insert(texts), False),))
                writer.apply([Run(move, sequence, template, batch)])
                sequence += len(batch)
                advance(len(batch))
        before += table.rows


def _fitted(found: Iterable[Sequence[Any]], there: Definition, replace_nul: bool) -> Iterator[Sequence[Any]]:
    """SQLite's booleans are 0 and 1, and its texts may hold what no other database stores."""
    changes: list[tuple[int, Change]] = []
    for place, kind in enumerate(there.types.values()):
        if kind == "BOOLEAN":
            changes.append((place, _truth))
        elif kind == "TEXT" and replace_nul:
            changes.append((place, _without_nul))
    if not changes:
        yield from found
        return
    for row in found:
        values = list(row)
        for place, change in changes:
            values[place] = change(values[place])
        yield values


def _truth(value: Any) -> Any:
    return _TRUTH.get(value, value) if type(value) is int else value


def _without_nul(value: Any) -> Any:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if type(value) is str else value


def _batches(found: Iterable[Sequence[Any]], there: Definition) -> Iterator[tuple[frozenset[int], list[Sequence[Any]]]]:
    """Rows in their order, with the places of texts that are no moments and would have to be, the same in all rows."""
    places = [place for place, kind in enumerate(there.types.values()) if kind in MOMENTS]
    none: frozenset[int] = frozenset()
    batch: list[Sequence[Any]] = []
    size, current = 0, none
    for row in found:
        texts = none
        for place in places:
            value = row[place]
            if type(value) is str and not _MOMENT.match(value):
                texts |= {place}
        if batch and (texts != current or len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES):
            yield current, batch
            batch, size = [], 0
        current = texts
        batch.append(row)
        size += sum(len(value) for value in row if type(value) in (str, bytes))
    if batch:
        yield current, batch
