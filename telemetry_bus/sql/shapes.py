"""What SQL text says to the writer: an insert in pieces for many rows, functions called, tables of the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import DialectName
from .memory import remember
from .tokens import BUS_PREFIX, NAMES, NOTHING, Reader, Token, first_statement, says, significant

_PLAIN_INSERTS = (("INSERT", "OR", "IGNORE"), ("INSERT", "OR", "ABORT"), ("INSERT",))
_WORD_LITERALS = frozenset({"NULL", "TRUE", "FALSE", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME"})
#: A subquery has one of these, or is `IN table`; RETURNING makes rows.
_BARRED_IN_CONFLICT = frozenset({"SELECT", "VALUES", "RETURNING"})

_BEFORE_TABLES = frozenset(
    {"EXISTS", "FROM", "INDEX", "INTO", "JOIN", "REFERENCES", "TABLE", "TRIGGER", "UPDATE", "VIEW"}
)


@dataclass(frozen=True, slots=True)
class InsertShape:
    """An insert of one row, cut so that `head + ",".join([group] * n) + tail` inserts n rows with the same meaning.

    `table` is the name without quotes, `parameters` the number of placeholders in `group`. `rewrites`: it can
    change or delete rows that are there already.
    """

    table: str
    head: str
    group: str
    tail: str
    parameters: int
    rewrites: bool


#: What these functions return depends on the statement before, whatever table that was about.
ORDER_DEPENDENT = frozenset({"last_insert_rowid", "changes", "total_changes", "lastval", "currval"})


@remember
def insert_shape(sql: str, dialect: DialectName = "sqlite") -> InsertShape | None:
    """The shape of `INSERT … VALUES (…)` with nothing but placeholders `?` and literals; None for all else.

    It may end with an ON CONFLICT that takes no values and looks at no other table
    (https://www.sqlite.org/lang_upsert.html). OR ROLLBACK and OR FAIL treat the rows of one statement differently
    from those of many, and a table outside the schema `main` is not the bus's, so they have no shape.
    """
    statement, more = first_statement(sql, dialect)
    reader = Reader(statement)
    replaces = reader.skip("REPLACE") or reader.skip("INSERT", "OR", "REPLACE")
    inserts = replaces or any(reader.skip(*words) for words in _PLAIN_INSERTS)
    table = _target_table(reader) if inserts and reader.skip("INTO") else None
    if more or table is None or not reader.skip("VALUES"):
        return None
    start = reader.next.start
    row = _row_of_values(reader)
    conflict = reader.rest()
    if row is None or (conflict and not _is_plain_conflict(conflict)):
        return None
    parameters, end = row
    tail = sql[end : conflict[-1].end] if conflict else ""
    rewrites = replaces or says(conflict, "DO", "UPDATE")
    return InsertShape(table, sql[:start], sql[start:end], tail, parameters, rewrites)


@remember
def calls(sql: str, dialect: DialectName = "sqlite") -> frozenset[str]:
    """The names before a parenthesis, in lower case: every function that is called, and some words like `values`."""
    found = significant(sql, dialect)
    return frozenset(
        token.name.lower()
        for before, token, after in zip([NOTHING, *found], found, found[1:], strict=False)
        if after.symbol == "(" and token.kind in ("word", "quoted") and before.symbol != "INTO"
    )


@remember
def names_bus_table(sql: str, dialect: DialectName = "sqlite") -> bool:
    """Whether a name in it begins like those of the bus's own tables, in any case, and stands where a table's does.

    There SQLite takes 'name' for a name too. A view or trigger may not have such a name in any place: what it refers to
    is looked up when it is used, by other jobs.
    """
    found = significant(sql, dialect)
    symbols = [token.symbol for token in found]
    is_program = symbols[:1] == ["CREATE"] and not {"VIEW", "TRIGGER"}.isdisjoint(symbols[1:3])
    return any(
        token.kind in NAMES
        and token.name.lower().startswith(BUS_PREFIX)
        and ((is_program and token.kind != "string") or _is_table(symbols, at))
        for at, token in enumerate(found)
    )


def _is_table(symbols: Sequence[str], at: int) -> bool:
    """Whether a name at this place can be only a table's, or what belongs to one."""
    two, one = ("", "", *symbols)[at : at + 2]
    if one == ".":
        return two in ("MAIN", "TEMP")
    return one in _BEFORE_TABLES or (one == "ON" and symbols[0] == "CREATE") or (two, one) == ("RENAME", "TO")


@remember
def inserted_values(sql: str, dialect: DialectName = "sqlite") -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Of an insert that has a shape: the columns that it names, and of each value the number of its placeholder.

    They begin with 0; None is a literal.
    """
    statement, _ = first_statement(sql, dialect)
    at = next(place for place, token in enumerate(statement) if token.symbol == "VALUES")
    symbols = [token.symbol for token in statement[:at]]
    names = statement[symbols.index("(") + 1 : at] if "(" in symbols else []
    values: list[int | None] = [None]
    placeholders = 0
    for token in statement[at + 2 :]:
        if token.symbol == ")":
            break
        if token.symbol == ",":
            values.append(None)
        elif token.kind == "placeholder":
            values[-1] = placeholders
            placeholders += 1
    return tuple(token.name for token in names if token.symbol not in (",", ")")), tuple(values)


@remember
def names(sql: str, dialect: DialectName = "sqlite") -> frozenset[str]:
    """Every name in it, as it is written, without quotes; words of SQL and texts among them."""
    return frozenset(token.name for token in significant(sql, dialect) if token.kind in NAMES)


def _target_table(reader: Reader) -> str | None:
    """Go past `[main.]table [AS alias] [(columns)]`: the table's name; None if something else is there."""
    table = reader.take()
    if reader.skip("."):
        if table.name.lower() != "main":
            return None
        table = reader.take()
    named = [table, reader.take()] if reader.skip("AS") else [table]
    if reader.skip("("):
        named.append(reader.take())
        while reader.skip(","):
            named.append(reader.take())
        if not reader.skip(")"):
            return None
    return table.name if all(token.kind in NAMES for token in named) else None


def _row_of_values(reader: Reader) -> tuple[int, int] | None:
    """Go past `(…)`: the number of placeholders in it, and where it ends in the text; None if more is in it."""
    if not reader.skip("("):
        return None
    placeholders = 0
    while True:
        signed = reader.skip("-") or reader.skip("+")
        token = reader.take()
        if token.text == "?" and not signed:
            placeholders += 1
        elif token.kind != "number" and (signed or not _is_literal(token)):
            return None
        if not reader.skip(","):
            break
    end = reader.next.end
    return (placeholders, end) if reader.skip(")") else None


def _is_literal(token: Token) -> bool:
    return token.kind in ("string", "blob") or token.symbol in _WORD_LITERALS


def _is_plain_conflict(clause: Sequence[Token]) -> bool:
    """Whether it is ON CONFLICT … DO …, without values to bind and without a subquery."""
    acts = says(clause, "DO", "NOTHING") or says(clause, "DO", "UPDATE", "SET")
    return (
        acts
        and says(clause[:2], "ON", "CONFLICT")
        and not any(
            token.kind == "placeholder"
            or token.symbol in _BARRED_IN_CONFLICT
            or (token.symbol == "IN" and after.symbol != "(")  # x IN other_table
            for token, after in zip(clause, [*clause[1:], NOTHING], strict=True)
        )
    )
