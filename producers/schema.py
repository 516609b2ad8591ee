"""Tables as the producers describe them, once: their definitions and their jobs are made from it.

Recording does without SQLAlchemy, which takes ten times as long to load as all the rest: `alchemy` makes its tables
from these for those who read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from telemetry_bus import Job, JobError, Statement, UnsupportedValue
from telemetry_bus.config import DialectName

from .kinds import INTEGER, SECOND, Convert, Kind
from .values import utc_now

Rows = Mapping[str, Any] | Iterable[Mapping[str, Any]]
#: What a row becomes that is there already: an SQL expression per column, for one database. `stored` is the row as it
#: was before, `excluded` the given one.
Changes = Callable[[DialectName], Mapping[str, str]]

#: What fills a column in when it is left out.
NOW = "CURRENT_TIMESTAMP"


class Column(NamedTuple):
    """A column. `default` is SQL, `references` names `table.column`.

    One that was `added` later is lacked by older databases: they get it at the first write. The database counts one
    that is `counted`.
    """

    name: str
    kind: Kind
    required: bool = False
    default: str | None = None
    key: bool = False
    references: str | None = None
    added: bool = False
    counted: bool = False


class Index(NamedTuple):
    """An index on `columns`, of the rows that are `where`. One that is `replaced` once had another definition: it is
    made again, once per writer."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None
    replaced: bool = False


def _nothing(dialect: DialectName) -> dict[str, str]:
    return {}


class Upsert(NamedTuple):
    """What tells rows apart, by a unique index on them where it says `where`, and what becomes of the one there.

    Rows that another program has left under one key become one, with `united` values: an aggregate by column. The first
    of them stays, which `id` tells.
    """

    key: tuple[str, ...]
    changes: Changes
    where: str | None = None
    united: Changes = _nothing


class Table:
    """A table: its columns in their order, and its indexes. Compared by identity.

    Rows of one that is `clustered` lie in the order of their key, where the database can do so.
    """

    __slots__ = ("clustered", "columns", "indexes", "name")

    def __init__(self, name: str, *columns: Column, indexes: Sequence[Index] = (), clustered: bool = False) -> None:
        self.name = name
        self.clustered = clustered
        self.columns = {column.name: column for column in columns}
        self.indexes = tuple(indexes)

    def __repr__(self) -> str:
        return f"<Table {self.name}>"

    def renamed(self, name: str) -> Table:
        """The same under another name; its indexes have names of their own."""
        indexes = [index._replace(name=index.name.replace(self.name, name)) for index in self.indexes]
        return Table(name, *self.columns.values(), indexes=indexes, clustered=self.clustered)


def serial_id() -> Column:
    """An integer key that the database counts."""
    return Column("id", INTEGER, required=True, key=True, counted=True)


def defaults_to_now(name: str, *, required: bool = False) -> Column:
    """A moment that is filled in when it is left out."""
    return Column(name, SECOND, required=required, default=NOW)


def insert_job(table: Table, rows: Rows, *, dialect: DialectName = "sqlite") -> Job:
    """The job that inserts `rows`: a mapping per row, by the columns' names.

    Raises `JobError` for a column that the table does not have, `UnsupportedValue` for a value that its kind refuses.
    """
    return _job(table, rows, None, dialect)


def upsert_job(table: Table, rows: Rows, *, upsert: Upsert, dialect: DialectName = "sqlite") -> Job:
    """The job that inserts `rows`, or changes those that are there. Raises as `insert_job`."""
    return _job(table, rows, upsert, dialect)


def statement(
    table: Table, given: tuple[str, ...], upsert: Upsert | None, dialect: DialectName = "sqlite", *, where: str = ""
) -> str:
    """The SQL of a row of the `given` columns, for values that are as they are stored; it is inserted where a condition
    holds, whose values come after those of the row."""
    return _insert(table, given, upsert, dialect, where).sql


def together(*jobs: Job) -> Job:
    """All as one job, in order."""
    return Job(tuple(chain.from_iterable(job.statements for job in jobs)), _union(*(job.ensure for job in jobs)))


@lru_cache(maxsize=128)
def _union(*definitions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(definitions)))


def with_room(job: Job, table: Table, upsert: Upsert, dialect: DialectName = "sqlite") -> Job:
    """`job`, and before it what makes room for the unique index of its upsert, and the index, in a table that another
    program has made without one: rows of one key become one. No-op where the index is."""
    (index,) = (each for each in table.indexes if each.unique and each.columns == upsert.key)
    *_, create = _index(table, index)
    room = (*_unite(table, upsert, index.name, dialect), create)
    ensure = tuple(text for text in job.ensure if text != create)
    return Job((*map(Statement, room), *job.statements), ensure)


def _unite(table: Table, upsert: Upsert, index: str, dialect: DialectName) -> Iterator[str]:
    name, where = table.name, f" AND {upsert.where}" if upsert.where else ""
    missing = f"NOT EXISTS (SELECT 1 FROM {_CATALOG[dialect]} = '{index}'){where}"
    groups = f"FROM {name} WHERE {missing} GROUP BY {', '.join(upsert.key)}"
    aggregates = upsert.united(dialect)
    values = ", ".join(f"{aggregate} AS {column}" for column, aggregate in aggregates.items())
    changes = ", ".join(f"{column} = united.{column}" for column in aggregates)
    united = f"SELECT min(id) AS id, {values} {groups} HAVING count(*) > 1"
    yield f"UPDATE {name} SET {changes} FROM ({united}) AS united WHERE {name}.id = united.id"
    yield f"DELETE FROM {name} WHERE {missing} AND id NOT IN (SELECT min(id) {groups})"


#: Where each database lists its indexes by name.
_CATALOG = {"sqlite": "sqlite_master WHERE name", "postgresql": "pg_indexes WHERE indexname"}


@lru_cache(maxsize=128)
def definitions(table: Table, dialect: DialectName = "sqlite") -> tuple[str, ...]:
    """The table's DDL, then that of columns that came later, then that of its indexes; each can be repeated."""
    exists = "" if dialect == "sqlite" else "IF NOT EXISTS "
    order = "\n WITHOUT ROWID" if table.clustered and dialect == "sqlite" else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} (\n\t" + ", \n\t".join(_parts(table, dialect)) + f"\n){order}",
        *(
            f"ALTER TABLE {table.name} ADD COLUMN {exists}{_column(column, dialect)}"
            for column in table.columns.values()
            if column.added
        ),
        *(text for index in sorted(table.indexes) for text in _index(table, index)),
    )


def _parts(table: Table, dialect: DialectName) -> Iterator[str]:
    columns = table.columns.values()
    yield from (_column(column, dialect) for column in columns)
    if not (dialect == "sqlite" and any(column.counted for column in columns)):  # there it is said with the column
        yield f"PRIMARY KEY ({', '.join(column.name for column in columns if column.key)})"
    for column in columns:
        if column.references:
            other, _, name = column.references.partition(".")
            yield f"FOREIGN KEY({column.name}) REFERENCES {other} ({name})"


def _column(column: Column, dialect: DialectName) -> str:
    word = "SERIAL" if column.counted and dialect == "postgresql" else column.kind.word(dialect)
    text = f"{column.name} {word}"
    if column.default is not None:
        text += f" DEFAULT {column.default}"
    if column.required or column.key:
        text += " NOT NULL"
    return text + " PRIMARY KEY AUTOINCREMENT" if column.counted and dialect == "sqlite" else text


def _index(table: Table, index: Index) -> Iterator[str]:
    if index.replaced:
        yield f"DROP INDEX IF EXISTS {index.name}"
    unique = "UNIQUE " if index.unique else ""
    where = f" WHERE {index.where}" if index.where else ""
    yield f"CREATE {unique}INDEX IF NOT EXISTS {index.name} ON {table.name} ({', '.join(index.columns)}){where}"


class _Insert(NamedTuple):
    """A statement, and the columns of its placeholders with what becomes of their values."""

    sql: str
    columns: tuple[tuple[str, Convert | None], ...]

    def row(self, mapping: Mapping[str, Any]) -> tuple[Any, ...]:
        now = utc_now()  # for the moments that are left out
        get = mapping.get
        try:
            return tuple(
                [get(name, now) if convert is None else convert(get(name, now)) for name, convert in self.columns]
            )
        except (TypeError, ValueError, LookupError, OverflowError):  # which one it is
            return tuple([_converted(name, convert, get(name, now)) for name, convert in self.columns])


def _job(table: Table, rows: Rows, upsert: Upsert | None, dialect: DialectName) -> Job:
    statements: list[tuple[str, list[tuple[Any, ...]]]] = []
    for mapping in [rows] if isinstance(rows, Mapping) else rows:
        insert = _insert(table, tuple(mapping), upsert, dialect)
        if not (statements and statements[-1][0] == insert.sql):
            statements.append((insert.sql, []))
        statements[-1][1].append(insert.row(mapping))
    return Job(tuple(Statement(sql, tuple(group)) for sql, group in statements), definitions(table, dialect))


@lru_cache(maxsize=256)
def _insert(
    table: Table, given: tuple[str, ...], upsert: Upsert | None, dialect: DialectName, where: str = ""
) -> _Insert:
    """Moments that default to now are bound, too: a table that another program has made may lack the default."""
    if unknown := [str(name) for name in given if name not in table.columns]:
        raise JobError(
            f"table {table.name} has no column {unknown[0]!r}",
            operation="upsert" if upsert else "insert",
            hint="it has " + ", ".join(table.columns),
        )
    bound = [column for column in table.columns.values() if column.name in given or column.default == NOW]
    names, places = ", ".join(column.name for column in bound), ", ".join("?" for _ in bound)
    target = f"{table.name} AS stored" if upsert else table.name
    row = f"SELECT {places} WHERE {where}" if where else f"VALUES ({places})"
    sql = f"INSERT INTO {target} ({names}) {row}"
    if upsert:
        sql += _conflict(upsert, dialect)
    return _Insert(sql, tuple((column.name, column.kind.conversion(dialect)) for column in bound))


def _conflict(upsert: Upsert, dialect: DialectName) -> str:
    where = f" WHERE {upsert.where}" if upsert.where else ""
    changes = ", ".join(f"{name} = {expression}" for name, expression in upsert.changes(dialect).items())
    return f" ON CONFLICT ({', '.join(upsert.key)}){where} DO UPDATE SET {changes}"


def _converted(name: str, convert: Convert | None, value: Any) -> Any:
    try:
        return value if convert is None else convert(value)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise UnsupportedValue(
            f"column {name!r} does not take a {type(value).__name__}: {error}",
            operation="insert",
            hint="give a number, or None",
        ) from error
