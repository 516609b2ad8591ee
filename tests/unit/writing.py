"""What the tests of the writer share: jobs made by hand, and a look at the database from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from telemetry_bus.config import Database, parse_database
from telemetry_bus.database import Writer
from telemetry_bus.jobs import Run, Template

EVENTS = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER)"
INSERT_EVENT = "INSERT INTO events (name, size) VALUES (?, ?)"


def template(*statements: str | tuple[str, bool], ensure: tuple[str, ...] = ()) -> Template:
    """A template; a statement alone takes one row, `(sql, True)` takes many."""
    return Template(ensure, tuple((s, False) if isinstance(s, str) else s for s in statements))


EVENT = template(INSERT_EVENT, ensure=(EVENTS,))


class Stream:
    """Numbers the jobs of one stream."""

    def __init__(self, name: str = "a") -> None:
        self.id = name.encode().ljust(16, b".")
        self.last = 0

    def run(self, jobs: Template, *payloads: Any) -> Run:
        first = self.last + 1
        self.last += len(payloads)
        return Run(self.id, first, jobs, list(payloads))


def database(folder: Path) -> Database:
    return parse_database(folder / "telemetry.db")


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Writer]:
    """A writer on a private file, closed at the end."""
    with closing(Writer(database(folder), **options)) as writer:
        yield writer


def rows(folder: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a reader sees."""
    with closing(sqlite3.connect(database(folder).path or "")) as reader:
        return reader.execute(sql, parameters).fetchall()


def execute(folder: Path, *statements: str) -> None:
    """Somebody else writes."""
    with closing(sqlite3.connect(database(folder).path or "", isolation_level=None)) as other:
        for sql in statements:
            other.execute(sql)


def sqlite_error(code: int, message: str = "injected") -> sqlite3.OperationalError:
    """An error as the driver raises it for a result code of SQLite."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def once(method: Callable[..., Any], error: BaseException, *, after: bool = False) -> Callable[..., Any]:
    """`method`, but the first call raises: instead of it, or `after` it has done its work."""
    calls = count()

    def failing(*args: Any, **kwargs: Any) -> Any:
        first = next(calls) == 0
        if first and not after:
            raise error
        result = method(*args, **kwargs)
        if first:
            raise error
        return result

    return failing
