"""The rows that everybody writes, and the count that tells whether they arrived."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]

BUSY_S = 60.0


@dataclass(frozen=True)
class Target:
    """A table, and the statement that puts a row into it."""

    table: str
    ddl: str
    sql: str

    def check(self, database: Path, expected: int) -> None:
        """Raises `RowsMissing` unless the table has exactly so many rows."""
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=BUSY_S)
        try:
            (found,) = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        finally:
            connection.close()
        if found != expected:
            raise RowsMissing(f"{database}: {found:,} rows in {self.table}, {expected:,} expected")


class RowsMissing(Exception):
    """A contender has not done its work: its time means nothing."""


FETCHES = Target(
    "fetches",
    """CREATE TABLE IF NOT EXISTS fetches (
    url TEXT NOT NULL, host TEXT, status INTEGER, took_ms REAL, bytes INTEGER, method TEXT, at TIMESTAMP)""",
    "INSERT INTO fetches (url, host, status, took_ms, bytes, method, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
)


def fetches(count: int, first: int = 0) -> list[Row]:
    """So many rows of seven columns."""
    return list(each_fetch(count, first))


def each_fetch(count: int, first: int = 0) -> Iterator[Row]:
    """The same rows one by one, for those whose memory is measured."""
    for number in range(first, first + count):
        yield (
            f"https://news.example.com/local/{number:07d}",
            "news.example.com",
            200,
            number % 900 / 7,
            10_000 + number,
            "newspaper4k",
            "2026-01-01 00:00:00",
        )


def bylines() -> Target:
    """The table of cleaned bylines, and the statement with its 27 columns."""
    from producers.byline.tables import SESSIONS
    from telemetry_bus.tables import insert_job

    job = insert_job(SESSIONS, dict(zip(SESSIONS.c.keys(), _byline(0), strict=False)))
    return Target(SESSIONS.name, job.ensure[0], job.statements[0].sql)


def byline_rows(count: int, first: int = 0) -> list[Row]:
    """So many rows of the 27 columns that a session of byline cleaning records."""
    return [_byline(number) for number in range(first, first + count)]


def chunks(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """The rows in their order, so many together; the last chunk may be shorter."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _byline(number: int) -> Row:
    name = f"Jane Q. Reporter {number % 997}"
    return (
        f"{number:032x}",
        f"article-{number:08d}",
        f"link-{number:08d}",
        f"source-{number % 40}",
        "The Example Gazette",
        f"By {name}, Staff Writer",
        34,
        6,
        datetime(2026, 1, 1, tzinfo=UTC).isoformat(" "),
        "standard",
        "example-gazette",
        f'["{name}"]',
        1,
        name,
        0.875,
        number % 90 / 7,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
        0,
        0,
        "[]",
        "[]",
    )
