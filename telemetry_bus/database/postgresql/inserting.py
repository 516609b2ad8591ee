"""How rows of one insert get into a table: COPY for many, arrays for some and for upserts, single statements for few.

Several rows in one VALUES, the best way into SQLite, is the worst one here: the text is parsed again each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...jobs import Row
from ...sql.memory import remember
from ...sql.shapes import inserted_values
from ...sql.tokens import Token, first_statement
from .catalog import Column
from .values import binary_types

#: From so many rows on.
COPY_ROWS = 256
ARRAY_ROWS = 4
#: Waves of an upsert have at least so many rows on average; with smaller ones, single statements are faster.
_WAVE_ROWS = 8


class Way(NamedTuple):
    """What one insert is for a table: the columns of its values, and the texts of each way that it may go.

    `copy` and `arrays` are empty where the insert cannot go that way. `binary` are the types of the columns for COPY;
    None: they must be texts. `keys` are the places of the values that say which row an upsert is about; None: it is
    none, or these are not known. `updates`: it may change a row that is there.
    """

    columns: tuple[Column, ...]
    single: str
    arrays: str
    copy: str
    binary: tuple[str, ...] | None
    keys: tuple[int, ...] | None
    updates: bool


@remember
def numbered(sql: str) -> tuple[str, int]:
    """The text with `$1`, `$2` … for its placeholders, and their number."""
    statement, _ = first_statement(sql, "postgresql")
    pieces: list[str] = []
    end = number = 0
    for token in statement:
        if token.kind == "placeholder" and token.text == "?":
            number += 1
            pieces += sql[end : token.start], f"${number}"
            end = token.end
    return "".join(pieces) + sql[end:], number


@remember
def way_of(sql: str, columns: tuple[Column, ...]) -> Way | None:
    """The ways of an insert that has a shape into a table with these columns; None when it names others."""
    names, values = inserted_values(sql, "postgresql")
    known = {column.name: column for column in columns}
    targets = [known.get(name) for name in names] if names else list(columns[: len(values)])
    if None in targets or len(targets) != len(values):
        return None
    of_value = {value: column for value, column in zip(values, targets, strict=True) if value is not None and column}
    of_values = tuple(of_value[number] for number in range(len(of_value)))
    statement, _ = first_statement(sql, "postgresql")
    at = next(place for place, token in enumerate(statement) if token.symbol == "VALUES")
    conflict = _conflict(statement, at)
    updates = any(token.symbol == "UPDATE" for token in conflict)
    keys = _keys(conflict, {column.name: number for number, column in of_value.items()})
    single, _ = numbered(sql)
    takes_arrays = not any(column.kind == "array" for column in of_values) and (keys is not None or not updates)
    copies = not conflict and len(of_value) == len(values) and not any(column.counted for column in of_values)
    return Way(
        of_values,
        single,
        _arrays(sql, statement, at, of_values, conflict) if takes_arrays and of_values else "",
        _copy(sql, statement[at]) if copies and of_values else "",
        binary_types(of_values),
        keys,
        updates,
    )


def waves(rows: Sequence[Row], keys: Sequence[int], *, updates: bool) -> list[list[Row]]:
    """Rows of an upsert in the order of their keys, which is the same for all writers, so that they never wait for each
    other in a circle. The second row of a key is in the second wave: one statement may not update a row twice."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple([str(row[place]) for place in keys])

    found: list[list[Row]] = []
    previous: tuple[str, ...] | None = None
    wave = 0
    for row, of_row in sorted(((row, key(row)) for row in rows), key=lambda pair: pair[1]):
        wave = wave + 1 if updates and of_row == previous else 0
        if wave == len(found):
            found.append([])
        found[wave].append(row)
        previous = of_row
    return found


def are_worth_it(found: Sequence[Sequence[Row]]) -> bool:
    """Whether these waves are large enough for a statement each."""
    return sum(map(len, found)) >= _WAVE_ROWS * len(found) or len(found) == 1


def _conflict(statement: Sequence[Token], at: int) -> Sequence[Token]:
    """What stands behind the row of values that begins at a place."""
    depth = 0
    for place, token in enumerate(statement[at + 1 :], at + 1):
        depth += (token.symbol == "(") - (token.symbol == ")")
        if depth == 0:
            return statement[place + 1 :]
    return ()


def _keys(conflict: Sequence[Token], numbers: dict[str, int]) -> tuple[int, ...] | None:
    """The places of the values of `ON CONFLICT (a, b)`; None for all else that may stand there."""
    symbols = [token.symbol for token in conflict]
    if symbols[2:3] != ["("] or ")" not in symbols:
        return None
    inside = conflict[3 : symbols.index(")")]
    names = [token.name for token in inside[::2]]
    plain = all(token.symbol == "," for token in inside[1::2]) and all(name in numbers for name in names)
    return tuple(numbers[name] for name in names) if plain else None


def _arrays(sql: str, statement: Sequence[Token], at: int, columns: Sequence[Column], conflict: Sequence[Token]) -> str:
    """`INSERT … SELECT … FROM unnest(…) …`"""
    row = statement[at + 1 : len(statement) - len(conflict)]
    pieces: list[str] = []
    end, number = row[0].end, 0
    for token in row:
        if token.kind == "placeholder":
            number += 1
            pieces += sql[end : token.start], f"v{number}"
            end = token.end
    selected = "".join(pieces) + sql[end : row[-1].start]
    given = ", ".join(f"${place}::{column.type}[]" for place, column in enumerate(columns, 1))
    named = ", ".join(f"v{place}" for place in range(1, len(columns) + 1))
    tail = f" {sql[conflict[0].start : conflict[-1].end]}" if conflict else ""
    return f"{sql[: statement[at].start]} SELECT {selected} FROM unnest({given}) AS v({named}){tail}"


def _copy(sql: str, values: Token) -> str:
    into = sql[: values.start]
    statement, _ = first_statement(into, "postgresql")
    table_at = next(token.end for token in statement if token.symbol == "INTO")
    return f"COPY {into[table_at:].strip()} FROM STDIN"
