"""The SQLite database that is copied: what is in it, and its rows in an order that stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...database.schema import BUS_TABLES
from ...database.sqlite.moved import TABLE as MOVED
from ...sql.tokens import fold, significant

_TABLES = r"""SELECT name, rootpage > 0, coalesce(sql, '') FROM sqlite_master
    WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY rowid"""
_SHADOWS = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"
_OTHERS = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger') ORDER BY rowid"
_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid'
_INDEXES = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?) ORDER BY seq DESC'
_INDEXED = 'SELECT name, "desc", coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno'
_TEXT = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?"
_LINKS = 'SELECT id, "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq'
_HIGHEST = "SELECT seq FROM sqlite_sequence WHERE name = ?"
#: The names under which a table has its key, unless a column has taken the name.
_ROWIDS = ("rowid", "_rowid_", "oid")
#: Which type holds values of these kinds.
_OF_VALUES = (("INTEGER", {"integer"}), ("REAL", {"integer", "real"}), ("BLOB", {"blob"}))


@dataclass(frozen=True)
class Column:
    """A column as SQLite has it; `type` is what its definition says, in upper case. `computed`: from other columns."""

    name: str
    type: str
    required: bool
    default: str | None
    key: int
    computed: bool


@dataclass(frozen=True)
class Index:
    """An index, or a constraint that has one (`text` is then empty). A column that is an expression has no name."""

    name: str
    unique: bool
    columns: tuple[tuple[str | None, bool, str], ...]
    text: str


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key. Without `keys` it points at the primary key."""

    columns: tuple[str, ...]
    parent: str
    keys: tuple[str, ...]
    on_update: str
    on_delete: str


@dataclass(frozen=True)
class Table:
    """A table with rows of its own. `order` is what its rows are read by; `highest` the highest number that was given
    to a row, where these are counted (`counted` is the column); `quoted`: names that its definition has in quotes;
    `checks`: what is in the parentheses of its CHECK constraints."""

    name: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    links: tuple[ForeignKey, ...]
    order: tuple[str, ...]
    counted: str | None
    highest: int
    rows: int
    quoted: frozenset[str]
    checks: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """All tables, and what is left behind, each with why."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


def content(connection: sqlite3.Connection) -> Content:
    """What is in the database, without the bus's own tables."""
    shadows = {name for (name,) in connection.execute(_SHADOWS)}
    own = {*BUS_TABLES, MOVED}
    tables, left_out = [], []
    for name, ordinary, sql in connection.execute(_TABLES).fetchall():
        if name in shadows or fold(name) in own:
            continue
        if ordinary:
            tables.append(_table(connection, name, sql))
        else:
            left_out.append(f"{name}: a virtual table, which is SQLite's own")
    left_out += [f"{name}: a {kind}, in SQLite's language" for kind, name in connection.execute(_OTHERS)]
    return Content(tuple(tables), tuple(left_out))


def rows(connection: sqlite3.Connection, table: Table, done: int) -> Iterator[Sequence[Any]]:
    """The rows of a table behind the first `done`. A text that is not UTF-8 is bytes."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    order = f" ORDER BY {', '.join(table.order)}" if table.order else ""
    sql = f"SELECT {names} FROM {quoted(table.name)}{order} LIMIT -1 OFFSET ?"
    try:
        for row in connection.execute(sql, (done,)):
            yield row
            done += 1
    except sqlite3.OperationalError as error:
        if "decode to UTF-8" not in str(error):
            raise
    else:
        return
    before, connection.text_factory = connection.text_factory, _text_or_bytes
    try:
        yield from connection.execute(sql, (done,))
    finally:
        connection.text_factory = before


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _table(connection: sqlite3.Connection, name: str, sql: str) -> Table:
    columns = tuple(
        Column(column, kind.upper(), bool(required), default, key, hidden in (2, 3))
        for column, kind, required, default, key, hidden in connection.execute(_COLUMNS, (name,))
    )
    order, has_rowid = _order(connection, name, columns)
    keys = [column for column in columns if column.key]
    counted = keys[0].name if has_rowid and len(keys) == 1 and keys[0].type == "INTEGER" else None
    ((number,),) = connection.execute(f"SELECT count(*) FROM {quoted(name)}")
    return Table(
        name,
        tuple(column if column.type else _typed(connection, name, column) for column in columns),
        tuple(_indexes(connection, name)),
        tuple(_links(connection, name)),
        order,
        counted,
        _highest(connection, name, counted),
        number,
        frozenset(token.name for token in significant(sql, "sqlite") if token.kind == "quoted"),
        tuple(_checks(sql)),
    )


def _order(connection: sqlite3.Connection, table: str, columns: Sequence[Column]) -> tuple[tuple[str, ...], bool]:
    """What its rows are ordered by, and whether they have a number of their own."""
    taken = {fold(column.name) for column in columns}
    for name in _ROWIDS:
        if name not in taken:
            try:
                connection.execute(f"SELECT {name} FROM {quoted(table)} LIMIT 0")
            except sqlite3.OperationalError:  # WITHOUT ROWID
                keys = sorted((column.key, column.name) for column in columns if column.key)
                return tuple(quoted(key) for _, key in keys), False
            return (name,), True
    return (), True  # a whole table is read in the order of what nothing names


def _highest(connection: sqlite3.Connection, table: str, counted: str | None) -> int:
    if counted is None:
        return 0
    ((highest,),) = connection.execute(f"SELECT coalesce(max({quoted(counted)}), 0) FROM {quoted(table)}")
    try:
        given = [int(number or 0) for (number,) in connection.execute(_HIGHEST, (table,))]
    except sqlite3.OperationalError:  # no table of this database was made with AUTOINCREMENT
        given = []
    return max(0, int(highest), *given)


def _typed(connection: sqlite3.Connection, table: str, column: Column) -> Column:
    """A column without a type, with the one that its values have."""
    kinds = {
        kind for (kind,) in connection.execute(f"SELECT DISTINCT typeof({quoted(column.name)}) FROM {quoted(table)}")
    }
    kinds.discard("null")
    found = next((word for word, those in _OF_VALUES if kinds and kinds <= those), "TEXT")
    return replace(column, type=found)


def _checks(sql: str) -> Iterator[str]:
    tokens = significant(sql, "sqlite")
    for place, token in enumerate(tokens):
        if token.symbol == "CHECK" and tokens[place + 1 : place + 2] and tokens[place + 1].text == "(":
            depth = 0
            for inner in tokens[place + 1 :]:
                depth += (inner.text == "(") - (inner.text == ")")
                if depth == 0:
                    yield sql[tokens[place + 1].end : inner.start].strip()
                    break


def _indexes(connection: sqlite3.Connection, table: str) -> Iterator[Index]:
    for name, unique, origin, _ in connection.execute(_INDEXES, (table,)).fetchall():
        if origin == "pk":
            continue
        columns = [(column, bool(down), order) for column, down, order in connection.execute(_INDEXED, (name,))]
        text = "".join(sql for (sql,) in connection.execute(_TEXT, (name,)) if sql)
        yield Index(name, bool(unique), tuple(columns), text)


def _links(connection: sqlite3.Connection, table: str) -> Iterator[ForeignKey]:
    found: dict[int, list[tuple[str, str, str | None, str, str]]] = {}
    for number, *link in connection.execute(_LINKS, (table,)):
        found.setdefault(number, []).append(tuple(link))
    for parts in found.values():
        parent, _, _, on_update, on_delete = parts[0]
        keys = tuple(key for _, _, key, _, _ in parts if key is not None)
        yield ForeignKey(tuple(column for _, column, *_ in parts), parent, keys, on_update, on_delete)
