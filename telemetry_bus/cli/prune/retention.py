"""Which rows of a table are old, and the statement that deletes them by their keys."""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ...errors import ConfigError, DatabaseFault
from ...sql.tokens import fold
from ..output import counted

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: So long ago there is a date, whatever today is.
_LONGEST = timedelta(days=365_000)
_AGE = re.compile(rf"([0-9]+)([{''.join(_UNITS)}])")
#: The names under which a table has its key, unless a column has taken the name.
_ROWIDS = ("rowid", "_rowid_", "oid")
_TABLES = r"""SELECT name, rootpage > 0 FROM sqlite_master WHERE type = 'table'
    AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'telemetry\_bus\_%' ESCAPE '\' ORDER BY name"""
_COLUMNS = "SELECT name, pk FROM pragma_table_xinfo(?) ORDER BY cid"
_CHILDREN = """SELECT child.name, key.id, key."from", key."to", key.on_delete
    FROM sqlite_master AS child, pragma_foreign_key_list(child.name) AS key
    WHERE child.type = 'table' AND key."table" = ? COLLATE NOCASE ORDER BY child.name, key.id, key.seq"""
#: What a foreign key says that takes its rows along, or lets go of them.
_YIELDING = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


@dataclass(frozen=True)
class Extent:
    """Rows of a table: all, the old ones with the first and the last time of theirs, those without a time."""

    rows: int
    old: int
    oldest: str | None
    newest: str | None
    timeless: int


@dataclass(frozen=True)
class Old:
    """The rows of `table` whose `column` is a time before `cutoff`, as it is written in SQL.

    A time is text that begins with a date, with a blank or a T before the hours, in UTC or with an offset; SQLite's
    `datetime()` brings all of these into one form, whole seconds in UTC. Anything else, NULL too, is never old.
    """

    table: str
    column: str
    key: tuple[str, ...]
    cutoff: str

    @classmethod
    def find(cls, connection: sqlite3.Connection, table: str, column: str, cutoff: datetime) -> Old:
        """Raises `ConfigError` for a table or a column that is not there, naming those that are."""
        tables = dict(connection.execute(_TABLES).fetchall())
        name = _named(table, list(tables))
        if name is None:
            raise mistake(f"there is no table {table!r} to prune", table, f"tables: {', '.join(tables) or 'none'}")
        if not tables[name]:
            raise mistake(f"{name} is a virtual table", table, "prune the table that it is made from")
        columns = dict(connection.execute(_COLUMNS, (name,)).fetchall())
        found = _named(column, list(columns))
        if found is None:
            raise mistake(f"{name} has no column {column!r}", table, f"--column; columns: {', '.join(columns)}")
        text = cutoff.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return cls(name, found, _key(connection, name, columns), text)

    @property
    def condition(self) -> str:
        """The comparison of texts is for an index, and lets through two days too many: offsets, and blank or T.
        Bytes are greater than all texts."""
        column, at = quoted(self.column), datetime.fromisoformat(self.cutoff)
        return (
            f"{column} < '{at + timedelta(days=2):%Y-%m-%d}' AND {self._is_time}"
            f" AND datetime({column}) < '{self.cutoff}'"
        )

    @property
    def delete(self) -> str:
        """Deletes the row with one key, if it is old still."""
        keys = " AND ".join(f"{part} = ?" for part in self.key)
        return f"DELETE FROM {quoted(self.table)} WHERE {keys} AND {self.condition}"

    def extent(self, connection: sqlite3.Connection) -> Extent:
        column = quoted(self.column)
        return Extent(
            *connection.execute(
                f"SELECT count(*), count(*) FILTER (WHERE {self.condition}), "
                f"min(datetime({column})) FILTER (WHERE {self.condition}), "
                f"max(datetime({column})) FILTER (WHERE {self.condition}), "
                f"count(*) FILTER (WHERE typeof({column}) <> 'text' OR NOT {self._is_time} "
                f"OR datetime({column}) IS NULL) "
                f"FROM {quoted(self.table)}"
            ).fetchone()
        )

    def keys(self, connection: sqlite3.Connection, limit: int) -> list[tuple[Any, ...]]:
        """The keys of old rows, the oldest first."""
        return connection.execute(
            f"SELECT {', '.join(self.key)} FROM {quoted(self.table)} WHERE {self.condition} "
            f"ORDER BY {quoted(self.column)} LIMIT ?",
            (limit,),
        ).fetchall()

    def refuse_children(self, connection: sqlite3.Connection) -> None:
        """Raises `DatabaseFault` when rows of another table refer to old rows, and their foreign key forbids it."""
        keys: dict[tuple[str, int], list[tuple[str, str | None]]] = {}
        for child, number, ours, theirs, on_delete in connection.execute(_CHILDREN, (self.table,)).fetchall():
            if on_delete not in _YIELDING:
                keys.setdefault((child, number), []).append((ours, theirs))
        primary = [name for name, _ in sorted(_primary(connection, self.table), key=lambda column: column[1])]
        for (child, _), pairs in keys.items():
            same = " AND ".join(
                f"parent.{quoted(theirs or primary[place])} = child.{quoted(ours)}"
                for place, (ours, theirs) in enumerate(pairs)
            )
            ((count,),) = connection.execute(
                f"SELECT count(*) FROM {quoted(child)} AS child WHERE EXISTS "
                f"(SELECT 1 FROM {quoted(self.table)} AS parent WHERE {same} AND {self._of_parent})"
            ).fetchall()
            refuse_orphans(self.table, child, count, itself=fold(child) == fold(self.table))

    @property
    def _of_parent(self) -> str:
        return self.condition.replace(quoted(self.column), f"parent.{quoted(self.column)}")

    @property
    def _is_time(self) -> str:
        """A number alone would count as a Julian day, and hours alone as a day of the year 2000."""
        return f"{quoted(self.column)} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"


def age(text: str) -> timedelta:
    """90d, 12h, 30m, 8w. Raises `ValueError`."""
    match = _AGE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError(f"{text!r} is not an age such as 90d, 12h, 30m or 8w")
    with suppress(OverflowError):
        if (span := timedelta(**{_UNITS[match[2]]: int(match[1])})) <= _LONGEST:
            return span
    raise ValueError(f"{text!r} is longer than there are dates")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _key(connection: sqlite3.Connection, table: str, columns: dict[str, int]) -> tuple[str, ...]:
    """What names one row of a table."""
    taken = {fold(name) for name in columns}
    for name in _ROWIDS:
        if name not in taken:
            try:
                connection.execute(f"SELECT {name} FROM {quoted(table)} LIMIT 0")
            except sqlite3.OperationalError:  # WITHOUT ROWID
                break
            return (name,)
    primary = sorted((place, name) for name, place in columns.items() if place)
    if not primary:
        raise mistake(f"{table} has no key by which a row can be deleted", table, "rename its column rowid")
    return tuple(quoted(name) for _, name in primary)


def _primary(connection: sqlite3.Connection, table: str) -> list[tuple[str, int]]:
    return [(name, place) for name, place in connection.execute(_COLUMNS, (table,)) if place]


def _named(name: str, names: list[str]) -> str | None:
    """The one that SQLite means by `name`, whatever the case of its ASCII letters. Of two tables that differ in others,
    it is the one that is named."""
    return next((known for known in names if known == name), None) or next(
        (known for known in names if fold(known) == fold(name)), None
    )


def refuse_orphans(table: str, child: str, count: int, *, itself: bool) -> None:
    """Raises `DatabaseFault` when so many rows of `child` refer to old rows of the table."""
    if count:
        raise DatabaseFault(
            f"{counted(count, 'row')} of {child} would refer to nothing; nothing was deleted",
            operation="prune",
            subject=table,
            hint="set those references to NULL first" if itself else f"prune {child} first",
        )


def mistake(message: str, table: str, hint: str) -> ConfigError:
    return ConfigError(message, operation="prune", subject=table, hint=hint)
