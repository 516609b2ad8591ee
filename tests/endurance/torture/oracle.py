"""Compares the database with what was accepted, after a round and, as any reader may, in the midst of it."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from telemetry_bus.config import parse_database
from telemetry_bus.reading import open_reader

from ...support.numbered import TABLES, Rows, parts_of
from ...support.oracle import Harm

#: A glance looks at so many rows at the end of each table.
GLANCE_ROWS = 20_000

#: `producer.length_of` once more, for the database.
WRONG_TEXT = """SELECT run, number, part FROM {table} WHERE length(text) IS NOT
    CASE WHEN run / 2 % 3 = 2 AND number % 60000 = 6 THEN 8000000 WHEN number % 5000 = 1 THEN 60000
    ELSE number * 7 % 40 END LIMIT 5"""

#: What a writer says in its log of jobs that a producer knows to be committed, and the database no longer has.
_GONE = re.compile(r"(\d+) jobs that stream ([0-9a-f]{32}) had committed are not in the database")


class Kind(StrEnum):
    """What is counted, in the order of the report."""

    SUBMITTED = "jobs submitted"
    LARGE = "of these with 8 MB"
    WRITERS_KILLED = "writers killed"
    PRODUCERS_KILLED = "producers killed"
    WRITERS_STOPPED = "writers stopped, while other things happen"
    PRODUCERS_STOPPED = "producers stopped, likewise"
    ZOMBIES = "stopped writers that another displaced"
    ASKED = "writers and producers told to end"
    FORKS = "forks that Python does not see"
    LOCKS = "databases locked by another program"
    READERS = "readers that hold their snapshot"
    CHECKPOINTS = "checkpoints by another program"
    RESTORES = "databases restored under a writer"
    GONE_TOLD = "jobs gone with a restore, and told"
    GONE_UNKNOWN = "jobs gone whose producers had ended or have no journal"
    FOLDERS = "bus folders removed"
    DISKS = "disks filled"
    REFUSED = "submits refused, and tried again"

    @classmethod
    def faults(cls) -> set[Kind]:
        """Those that are something done to the bus."""
        return set(cls) - {cls.SUBMITTED, cls.LARGE, cls.GONE_TOLD, cls.GONE_UNKNOWN, cls.REFUSED}


@dataclass
class Tally(Harm):
    """What was done, and what was found. Anything in `findings`, or counted as wrong, is a failure."""

    seconds: float = 0.0
    done: Counter[Kind] = field(default_factory=Counter)
    #: Of which runs what is lost, doubled or torn is.
    details: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.done[Kind.WRITERS_KILLED] + self.done[Kind.PRODUCERS_KILLED]

    def add(self, other: Tally) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Restore:
    """A backup that has taken the database's place: for each run the last job that the backup had, and the last one
    that could be in the database it replaced. `over`: runs without a journal, which nobody can tell of."""

    had: Mapping[int, int]
    until: Sequence[int]
    over: Collection[int]


@dataclass
class Taken:
    """What restores have taken back, and what writers have told of it: jobs gone, by the names of their streams."""

    restores: list[Restore] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    _lines: set[str] = field(default_factory=set)

    def hear(self, log: Path) -> None:
        """Read a log, which may have been read before; its lines begin with the time."""
        if log.exists():
            for line in set(log.read_text(errors="replace").splitlines()) - self._lines:
                if found := _GONE.search(line):
                    self._lines.add(line)
                    self.told[found[2]] += int(found[1])

    def from_run(self, run: int, missing: Collection[int], *, over: bool) -> set[int]:
        """Of the numbers that are missing of a run, those for which the restores account that came when the run was
        over, or those for which the others do: each has taken what follows the backup's last job, without a hole, and
        no more than was there."""
        accounted: set[int] = set()
        for restore in self.restores:
            if run < len(restore.until) and over == (run in restore.over):
                number = restore.had.get(run, 0) + 1
                while number in missing and number <= restore.until[run]:
                    accounted.add(number)
                    number += 1
        return accounted


def judge(
    database: Path, accepted: Sequence[int], tally: Tally, taken: Taken | None = None, streams: Sequence[str] = ()
) -> None:
    """Compare a database that nobody writes to any more with what was accepted. `streams` names those of the runs;
    empty for one that has none."""
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
        taken = taken or Taken()
        streams = streams or [f"{run:032x}" for run in range(len(accepted))]
        for run, (last, found) in enumerate(zip(accepted, rows, strict=True)):
            _judge_run(run, last, found, tally, taken, streams[run])
        _judge_ledger(connection, tables, [found for found, name in zip(rows, streams, strict=True) if name], tally)
    if unknown := set(taken.told) - set(streams):
        tally.findings.append(f"jobs of streams that no run has are said to be gone: {sorted(unknown)}")


def _judge_run(run: int, accepted: int, found: Sequence[Rows], tally: Tally, taken: Taken, stream: str) -> None:
    last = accepted + 1 if any(rows and rows[-1][0] > accepted for rows in found) else accepted
    missing = set(range(1, last + 1)).difference(*(map(_number, rows) for rows in found))
    gone = taken.from_run(run, missing, over=False)
    if len(gone) != (told := taken.told[stream]):
        tally.findings.append(f"run {run}: {len(gone)} jobs are gone with a restore, {told} are said to be")
    tally.done[Kind.GONE_TOLD] += len(gone)
    unknown = taken.from_run(run, missing, over=True) - gone
    tally.done[Kind.GONE_UNKNOWN] += len(unknown)
    gone |= unknown
    if all(rows == expected(at, last, gone) for at, rows in enumerate(found)):
        return
    counts = [Counter(rows) for rows in found]
    numbers = {number for rows in found for number, _ in rows}
    before = tally.wrong
    wrong = []
    for number in sorted((numbers | set(range(1, last + 1))) - gone):
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
        else:
            continue
        wrong.append(number)
    if wrong:
        tally.details.append(f"run {run}: {len(wrong)} jobs from {wrong[0]} to {wrong[-1]}, {accepted} were accepted")
    if any(rows != sorted(rows) for rows in found):
        tally.findings.append(f"run {run}: rows are out of order")
    elif tally.wrong == before:
        tally.findings.append(f"run {run}: rows that no job has")


def _number(row: tuple[int, int]) -> int:
    return row[0]


def expected(at: int, last: int, gone: Collection[int] = ()) -> Rows:
    """What table number `at` must hold of a run whose jobs 1 to `last` were applied, in order; without those `gone`."""
    numbers = (number for number in range(1, last + 1) if number not in gone)
    return [(number, part) for number in numbers for part in range(1, parts_of(number)[at] + 1)]


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
