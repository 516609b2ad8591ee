"""What tables require that another program has made first: values for columns that with us may be NULL or are counted.

A library of models makes a key of eight bytes that SQLite does not count, a key of text, or columns that must not be
NULL and whose defaults only that library gives.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from telemetry_bus import Job, Statement

from .values import utc_text

Filler: TypeAlias = Callable[[], Any]
#: By column: what stands for a value that is missing.
Requirements: TypeAlias = Mapping[str, Filler]
#: The requirements of a table, given its name and definitions among which are those that we have for it.
Look: TypeAlias = Callable[[str, Sequence[str]], Requirements]

#: The columns of a table that must have a value and get none from the database, with their types and whether they are a
#: key. A key of the type INTEGER is counted by SQLite, any other may be NULL there, which is worse than none.
REQUIRED_COLUMNS = """SELECT name, type, pk FROM pragma_table_info(?)
    WHERE dflt_value IS NULL AND ("notnull" OR pk) AND NOT (pk AND upper(type) = 'INTEGER')"""

#: The statements of `schema`.
_INSERT = re.compile(r"INSERT INTO (?P<table>\w+)(?: AS stored)? \((?P<columns>[^)]*)\) (?:VALUES \(|SELECT )")
_REQUIRED_BY_US = re.compile(r"^\t(\w+) (?!.* AUTOINCREMENT).* NOT NULL", re.MULTILINE)
_TEXTS = ("CHAR", "CLOB", "TEXT", "BLOB", "JSON")
_KEY_BITS = 62


class _Insert(NamedTuple):
    """Where an insert goes, its columns, and its text in parts: to the first column, to the first value, the rest."""

    table: str
    columns: tuple[str, ...]
    parts: tuple[str, str, str]


@lru_cache(maxsize=256)
def _read_insert(sql: str) -> _Insert | None:
    """An insert of `schema`; None for any other statement."""
    found = _INSERT.match(sql)
    if found is None:
        return None
    first, values = found.start("columns"), found.end()
    columns = tuple(found["columns"].lower().split(", "))
    return _Insert(found["table"], columns, (sql[:first], sql[first:values], sql[values:]))


def requirements(found: Iterable[tuple[str, str, int]], table: str, definitions: Sequence[str]) -> Requirements:
    """From the rows of `REQUIRED_COLUMNS`; without the columns that are always given, for our definition wants them,
    too."""
    begin = f"CREATE TABLE IF NOT EXISTS {table} ("
    given = {name for text in definitions if text.startswith(begin) for name in _REQUIRED_BY_US.findall(text)}
    return {
        name: _filler(declared.upper(), bool(is_key)) for name, declared, is_key in found if name.lower() not in given
    }


def _filler(word: str, is_key: bool) -> Filler:
    """What stands for a missing value in a column of that type."""
    if is_key:
        return _numeric_key if "INT" in word else _text_key
    if "DATE" in word or "TIME" in word:
        return utc_text
    return str if any(part in word for part in _TEXTS) or not word else int


def fulfilled(job: Job, look: Look) -> Job:
    """`job` with a value wherever one is missing that its table requires."""
    inserts = [_read_insert(statement.sql) for statement in job.statements]
    required = [look(insert.table, job.ensure) if insert else {} for insert in inserts]
    if not any(required):
        return job
    return Job(tuple(map(_complete, job.statements, inserts, required)), job.ensure)


def _complete(statement: Statement, insert: _Insert | None, required: Requirements) -> Statement:
    if insert is None or not required:
        return statement
    ours = {name.lower(): fill for name, fill in required.items()}
    given = [ours.get(name) for name in insert.columns]
    added = [name for name in required if name.lower() not in insert.columns]
    names, places = "".join(f"{_quoted(name)}, " for name in added), "?, " * len(added)
    before, between, behind = insert.parts
    text = before + names + between + places + behind
    return Statement(text, tuple(_row(row, [required[name] for name in added], given) for row in statement.rows))


def _row(row: Sequence[Any], added: Sequence[Filler], given: Sequence[Filler | None]) -> tuple[Any, ...]:
    """Values behind those of the columns are of a condition."""
    columns = [fill() if value is None and fill else value for value, fill in zip(row, given, strict=False)]
    return (*(fill() for fill in added), *columns, *row[len(given) :])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _numeric_key() -> int:
    return secrets.randbits(_KEY_BITS)


def _text_key() -> str:
    return str(uuid.uuid4())
