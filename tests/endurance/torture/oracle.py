"""Compares the database with what was accepted, after a round and, as any reader may, in the midst of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from telemetry_bus.config import parse_database
from telemetry_bus.reading import open_reader

from ...support.numbered import TABLES, Rows, parts_of
from ...support.oracle import Harm

#: A glance looks at so many rows at the end of each table.
GLANCE_ROWS = 20_000

#: `jobs.length_of` once more, for the database.
WRONG_TEXT = """SELECT run, number, part FROM {table}
    WHERE length(text) IS NOT CASE WHEN number % 5000 = 1 THEN 60000 ELSE number * 7 % 40 END LIMIT 5"""


@dataclass
class Tally(Harm):
    """What was done, and what was found. Anything in `findings`, or counted as wrong, is a failure."""

    HEADING = (
        "   time     submitted   writers killed   producers killed   frozen   asked to leave   forked   locked   "
        "lost   doubled   torn"
    )

    submitted: int = 0
    writers_killed: int = 0
    producers_killed: int = 0
    frozen: int = 0
    asked: int = 0
    forks: int = 0
    locks: int = 0

    @property
    def kills(self) -> int:
        return self.writers_killed + self.producers_killed

    def add(self, other: Tally) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def line(self, seconds: float) -> str:
        return (
            f"{seconds:5.0f} s {self.submitted:13,} {self.writers_killed:16,} {self.producers_killed:18,} "
            f"{self.frozen:8,} {self.asked:16,} {self.forks:8,} {self.locks:8,} "
            f"{self.lost:6} {self.doubled:9} {self.torn:6}"
        )


def judge(database: Path, accepted: Sequence[int], tally: Tally) -> None:
    """Compare a database that nobody writes to any more with what was accepted."""
    if not database.exists():
        tally.lost += sum(accepted)
        return
    with closing(sqlite3.connect(database)) as connection:
        tally.check_integrity(connection)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        rows: list[list[Rows]] = [[[] for _ in TABLES] for _ in accepted]
        for at, table in enumerate(TABLES):
            if table in tables:
                for run, number, part in connection.execute(f"SELECT run, number, part FROM {table} ORDER BY id"):
                    rows[run][at].append((number, part))
                if wrong := connection.execute(WRONG_TEXT.format(table=table)).fetchall():
                    tally.findings.append(f"{table} has rows with a text that nobody wrote: {wrong}")
        for run, (last, found) in enumerate(zip(accepted, rows, strict=True)):
            _judge_run(run, last, found, tally)
        _judge_ledger(connection, tables, rows, tally)


def _judge_run(run: int, accepted: int, found: Sequence[Rows], tally: Tally) -> None:
    last = accepted + 1 if any(rows and rows[-1][0] > accepted for rows in found) else accepted
    if all(rows == expected(at, last) for at, rows in enumerate(found)):
        return
    counts = [Counter(rows) for rows in found]
    numbers = {number for rows in found for number, _ in rows}
    before = tally.wrong
    for number in sorted(numbers | set(range(1, last + 1))):
        if number > last:
            tally.findings.append(f"run {run}: job {number} is there, {accepted} were accepted")
            continue
        wanted = [{(number, part) for part in range(1, parts + 1)} for parts in parts_of(number)]
        there = [{row for row in rows if row in count} for rows, count in zip(wanted, counts, strict=True)]
        if any(count[row] > 1 for rows, count in zip(there, counts, strict=True) for row in rows):
            tally.doubled += 1
        elif not any(there):
            tally.lost += 1
        elif there != wanted:
            tally.torn += 1
    if any(rows != sorted(rows) for rows in found):
        tally.findings.append(f"run {run}: rows are out of order")
    elif tally.wrong == before:
        tally.findings.append(f"run {run}: rows that no job has")


def expected(at: int, last: int) -> Rows:
    """What table number `at` must hold of a run whose jobs 1 to `last` were applied, in order."""
    return [(number, part) for number in range(1, last + 1) for part in range(1, parts_of(number)[at] + 1)]


def _judge_ledger(connection: sqlite3.Connection, tables: set[str], rows: list[list[Rows]], tally: Tally) -> None:
    """Each run is a stream, so the ledger's last sequences are the runs' last jobs; none became a dead letter."""
    if "telemetry_bus_ledger" not in tables:
        return
    ledger = sorted(last for (last,) in connection.execute("SELECT last_sequence FROM telemetry_bus_ledger"))
    lasts = sorted(max(number for part in found for number, _ in part) for found in rows if any(found))
    if ledger != lasts:
        tally.findings.append(f"the ledger says {ledger}, the tables {lasts}")
    (letters,) = connection.execute("SELECT count(*) FROM telemetry_bus_dead_letters").fetchone()
    if letters:
        tally.findings.append(f"{letters} dead letters")


def glance(database: Path, tally: Tally) -> None:
    """Look as any reader may, in the midst of it: the last job of each run must be there as a whole."""
    if not database.exists():
        return
    last: list[dict[int, tuple[int, int]]] = []
    with closing(open_reader(parse_database(database), 10.0, None)) as connection:
        connection.execute("BEGIN")
        for table in TABLES:
            query = f"""SELECT run, number, part FROM {table}
                WHERE id IN (SELECT max(id) FROM {table} WHERE id > (SELECT max(id) FROM {table}) - ? GROUP BY run)"""
            try:
                found = connection.execute(query, (GLANCE_ROWS,)).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return
                raise
            last.append({run: (number, part) for run, number, part in found})
    for run in last[0].keys() & last[1].keys():
        number = last[0][run][0]
        whole = [_last_row(at, number) for at in range(len(TABLES))]
        if [last[0][run], last[1][run]] != whole:
            tally.torn += 1
            tally.findings.append(f"run {run}: a reader saw {last[0][run]} and {last[1][run]}, not {whole}")


def _last_row(at: int, number: int) -> tuple[int, int]:
    """The last row in table number `at` after job `number`."""
    while not parts_of(number)[at]:
        number -= 1
    return number, parts_of(number)[at]
