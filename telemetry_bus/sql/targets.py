"""Which table a text of SQL is about: the one that it writes to, or defines."""

from __future__ import annotations

from collections.abc import Sequence

from .tokens import Reader, Token, first_statement

#: Words that may stand between the verb of a statement and the table that it writes to.
_BEFORE_TABLE = frozenset({"OR", "REPLACE", "IGNORE", "ABORT", "FAIL", "ROLLBACK", "INTO", "FROM"})
_WRITES = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE"})
_DEFINES = frozenset({"CREATE", "ALTER", "DROP"})
#: Of what is defined on a table, the word before its name.
_ON = frozenset({"INDEX", "TRIGGER"})
_EXISTENCE = frozenset({"IF", "NOT", "EXISTS"})


def table_of(sql: str) -> str | None:
    """The table that a statement writes to or defines, as it is written there; None when it names none."""
    if found := from_its_verb(sql):
        return table_name(Reader(found))
    statement, _ = first_statement(sql)
    if not statement or statement[0].symbol not in _DEFINES:
        return None
    reader = Reader(statement)
    while reader.next.kind != "nothing" and reader.next.symbol not in _ON | {"TABLE", "VIEW"}:
        reader.take()
    before = "ON" if reader.take().symbol in _ON else None
    while reader.next.kind != "nothing" and (reader.next.symbol in _EXISTENCE or before):
        before = None if reader.take().symbol == before else before
    return _name(reader) or None


def from_its_verb(sql: str) -> Sequence[Token]:
    """The statement without what stands before INSERT, REPLACE, UPDATE or DELETE; empty if it has none of them."""
    statement, _ = first_statement(sql)
    depth = 0
    for position, token in enumerate(statement):
        depth += (token.symbol == "(") - (token.symbol == ")")
        if depth == 0 and token.symbol in _WRITES and (position == 0 or statement[0].symbol == "WITH"):
            return statement[position:]
    return ()


def table_name(reader: Reader) -> str:
    """Go past the verb and `[schema.]table`: the table's name."""
    reader.take()
    while reader.next.symbol in _BEFORE_TABLE:
        reader.take()
    return _name(reader)


def _name(reader: Reader) -> str:
    name = reader.take()
    return reader.take().name if reader.skip(".") else name.name
