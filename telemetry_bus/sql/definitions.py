"""What a definition makes, and whether that very thing is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..config import DialectName
from .memory import remember
from .tokens import NOTHING, Reader, first_statement, says

#: Runs a statement of the bus: its rows.
Execute = Callable[[str, tuple[Any, ...]], Iterable[tuple[Any, ...]]]

#: SQLite compares names without the case of ASCII letters, as NOCASE does.
_THING = """SELECT type, rootpage FROM sqlite_master
    WHERE name = ? COLLATE NOCASE AND tbl_name = coalesce(?, tbl_name) COLLATE NOCASE"""
_COLUMN = "SELECT 1 FROM pragma_table_xinfo(?) WHERE name = ? COLLATE NOCASE"
_KINDS = ("TABLE", "VIEW", "INDEX", "TRIGGER")


class Definition(NamedTuple):
    """A thing that a definition makes: its kind as in `sqlite_master`, its name; the column of a table if it is one,
    the table of an index or a trigger."""

    kind: str
    name: str
    virtual: bool = False
    column: str | None = None
    schema: str | None = None
    on: str | None = None


@remember
def defined_by(sql: str, dialect: DialectName = "sqlite") -> Definition | None:
    """What `CREATE …` or `ALTER TABLE … ADD …` makes; None for any other statement."""
    statement, _ = first_statement(sql, dialect)
    reader = Reader(statement)
    if reader.skip("ALTER", "TABLE"):
        reader.skip("IF", "EXISTS")
        schema, table = _name(reader)
        if not reader.skip("ADD") or says(reader.rest(), ",", "ADD"):
            return None
        reader.skip("COLUMN")
        reader.skip("IF", "NOT", "EXISTS")
        return Definition("table", table, column=reader.take().name, schema=schema)
    if not reader.skip("CREATE"):
        return None
    virtual = reader.skip("VIRTUAL")
    reader.skip("UNIQUE")
    kind = reader.take().symbol
    if kind not in _KINDS:
        return None
    reader.skip("CONCURRENTLY")
    reader.skip("IF", "NOT", "EXISTS")
    schema, name = _name(reader)
    on = _its_table(reader) if kind in ("INDEX", "TRIGGER") else None
    return Definition(kind.lower(), name, virtual, schema=schema, on=on)


def is_there(execute: Execute, sql: str, error: str) -> bool:
    """Whether a definition failed because what it makes is there, of the same kind and for the same table: SQLite says
    the same when a table has one column twice, another thing has the name, or a part of it does."""
    made = defined_by(sql)
    if made is None or not ("already exists" in error or "duplicate column name" in error or "already a" in error):
        return False
    if made.column is not None:
        return any(True for _ in execute(_COLUMN, (made.name, made.column)))
    return any(
        kind == made.kind and (kind != "table" or made.virtual == (not rootpage))
        for kind, rootpage in execute(_THING, (made.name, made.on))
    )


def _its_table(reader: Reader) -> str:
    while reader.next is not NOTHING and not reader.skip("ON"):
        reader.take()
    return _name(reader)[1]


def _name(reader: Reader) -> tuple[str | None, str]:
    """The schema, where one is named, and the name."""
    name = reader.take().name
    return (name, reader.take().name) if reader.skip(".") else (None, name)
