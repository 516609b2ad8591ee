"""Many rows as few statements: `INSERT … VALUES (…), (…), …`, the quickest way into SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from ...errors import ParameterCount
from ...jobs import Row
from ...sql.memory import remember
from ...sql.shapes import InsertShape

#: Rows of one multi-row statement. Measured: from 64 to 1024 rows are equally fast; the statement cache prefers few.
MAX_CHUNK_ROWS = 128
#: Characters that the groups of one multi-row statement may take, or long literals would make huge texts.
MAX_CHUNK_TEXT = 64 * 1024


class Target(Protocol):
    """Where statements are run: the part of `dialects.Connection` that this module needs."""

    max_parameters: int

    def run(self, sql: str, row: Row) -> None: ...


def insert_rows(target: Target, shape: InsertShape, rows: Sequence[Row]) -> None:
    """Insert rows in chunks of powers of two, so that the driver meets few different texts."""
    if not {shape.parameters}.issuperset(map(len, rows)):
        raise ParameterCount(f"a row does not have {shape.parameters} values", operation="apply", subject=shape.head)
    chunk = _largest_chunk(shape, target.max_parameters)
    position = 0
    while left := len(rows) - position:
        while chunk > left:
            chunk >>= 1
        target.run(_multi_row(shape, chunk), list(chain.from_iterable(rows[position : position + chunk])))
        position += chunk


@remember
def _largest_chunk(shape: InsertShape, max_parameters: int) -> int:
    chunk = MAX_CHUNK_ROWS
    while chunk > 1 and (chunk * shape.parameters > max_parameters or chunk * len(shape.group) > MAX_CHUNK_TEXT):
        chunk >>= 1
    return chunk


@remember
def _multi_row(shape: InsertShape, rows: int) -> str:
    text: str = shape.head + ",".join([shape.group] * rows) + shape.tail
    return text
