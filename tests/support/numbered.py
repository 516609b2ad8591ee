"""Numbered jobs: runs of producers whose job `number` leaves rows in two tables that an oracle can foretell."""

from __future__ import annotations

TABLES = ("lefts", "rights")
#: What each job brings along. Within a table the ids tell the order in which rows were applied.
ENSURE = [
    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, number INTEGER NOT NULL, "
    "part INTEGER NOT NULL, text TEXT)"
    for table in TABLES
]
INSERT = {table: f"INSERT INTO {table} (run, number, part, text) VALUES (?, ?, ?, ?)" for table in TABLES}

Row = tuple[int, int, int, str]
#: Number and part of the rows of one run in one table, in order of their ids.
Rows = list[tuple[int, int]]


def parts_of(number: int) -> tuple[int, int]:
    """How many rows job `number` of any run has in the two tables."""
    return ((1, 0), (2, 1), (1, 3))[number % 3]


def rows_of(run: int, number: int, text: str) -> dict[str, tuple[Row, ...]]:
    """The rows of a job for each table."""
    return {
        table: tuple((run, number, part, text) for part in range(1, parts + 1))
        for table, parts in zip(TABLES, parts_of(number), strict=True)
    }
