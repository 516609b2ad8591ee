"""Every job exactly once, judged from outside while old rows are deleted.

The oracle reads each row once, in the order of the ids, and only what it has read may be deleted. A job that is
applied a second time comes back as new rows with an old number.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from telemetry_bus.config import parse_database
from telemetry_bus.reading import open_reader

from ...support.numbered import TABLES, Rows, parts_of
from ...support.oracle import Harm
from .jobs import is_poison, poison_of

#: For a lock that is not free. Readers of a WAL wait for nobody, except while it is made or recovered.
PATIENCE_S = 30.0


@dataclass
class Tally(Harm):
    """What was found."""

    jobs: int = 0
    letters: int = 0


class Oracle:
    """Follows the tables and the dead letters of one database."""

    def __init__(self, database: Path) -> None:
        self.tally = Tally()
        self._database = database
        self._seen = [0 for _ in TABLES]
        self._next: defaultdict[int, int] = defaultdict(lambda: 1)
        self._letters: dict[tuple[int, int], int] = {}  # ids of those that are there, by run and number
        self._decided: set[tuple[int, int]] = set()  # poison jobs whose dead letter was seen
        self._ordered: set[tuple[int, int]] = set()  # to be purged

    @property
    def seen(self) -> tuple[int, ...]:
        """The last id that was read of each table."""
        return tuple(self._seen)

    def glance(self) -> None:
        """Read what is new, in one snapshot: each job must be there as a whole, and be next in its run."""
        if not self._database.exists():
            return
        found: defaultdict[int, list[Rows]] = defaultdict(lambda: [[] for _ in TABLES])
        with closing(open_reader(parse_database(self._database), PATIENCE_S, None)) as connection:
            connection.execute("BEGIN")
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not there.issuperset(TABLES):
                return
            letters = connection.execute("SELECT id, statement FROM telemetry_bus_dead_letters").fetchall()
            for at, table in enumerate(TABLES):
                new = f"SELECT id, run, number, part FROM {table} WHERE id > ? ORDER BY id"
                for row_id, run, number, part in connection.execute(new, (self._seen[at],)):
                    found[run][at].append((number, part))
                    self._seen[at] = row_id
        self._take_letters(letters)
        for run, rows in found.items():
            self._take_rows(run, rows)

    def purge(self) -> list[int]:
        """The ids of the dead letters that were seen. They may go from now on, and must not come again."""
        self._ordered.update(self._letters)
        return sorted(self._letters.values())

    def finish(self, accepted: Iterable[tuple[int, int]]) -> None:
        """Everything that was accepted, as pairs of run and last number, must be there; nobody writes any more."""
        self.glance()
        for run, last in accepted:
            self._pass_poison(run, last + 1)
            decided = self._next[run] - 1
            self.tally.jobs += decided
            self.tally.lost += max(0, last - decided)
            if decided > last + 1:
                self.tally.findings.append(f"run {run}: job {decided} is there, {last} were accepted")
        if self._database.exists():
            with closing(sqlite3.connect(self._database)) as connection:
                self.tally.check_integrity(connection)

    def _take_letters(self, letters: Sequence[tuple[int, str | None]]) -> None:
        now: dict[tuple[int, int], int] = {}
        for letter, statement in letters:
            job = poison_of(statement)
            if job is None or not is_poison(job[1]):
                self.tally.findings.append(f"dead letter {letter}, of a job that is good: {statement}")
            elif job in now or (job in self._decided and job not in self._letters):
                self.tally.doubled += 1
            else:
                now[job] = letter
        if gone := self._letters.keys() - now.keys() - self._ordered:
            self.tally.findings.append(f"dead letters of {sorted(gone)[:5]} are gone, and nobody purged them")
        self._ordered &= now.keys()
        self.tally.letters += len(now.keys() - self._decided)
        self._decided |= now.keys()
        self._letters = now

    def _take_rows(self, run: int, found: Sequence[Rows]) -> None:
        first = self._next[run]
        last = max(number for rows in found for number, _ in rows)
        self._next[run] = max(first, last + 1)
        for number in range(first, last + 1):
            if is_poison(number) and (run, number) not in self._decided:
                self.tally.lost += 1
        wanted = [
            [(number, part) for number in range(first, last + 1) for part in range(1, _parts(number)[at] + 1)]
            for at in range(len(TABLES))
        ]
        if list(found) != wanted:
            self._blame(run, first, last, found)

    def _blame(self, run: int, first: int, last: int, found: Sequence[Rows]) -> None:
        """Say what is wrong with these rows."""
        before = self.tally.lost, self.tally.doubled, self.tally.torn
        counts = [Counter(rows) for rows in found]
        parts_found = Counter(number for count in counts for number, _ in count)
        for number in sorted({*parts_found, *range(first, last + 1)}):
            wanted = sum(_parts(number))
            if number < first or any(many > 1 for count in counts for row, many in count.items() if row[0] == number):
                self.tally.doubled += 1
            elif wanted and not parts_found[number]:
                self.tally.lost += 1
            elif parts_found[number] != wanted:
                self.tally.torn += 1
        if before == (self.tally.lost, self.tally.doubled, self.tally.torn):
            self.tally.findings.append(f"run {run}: rows of jobs {first} to {last} are out of order")

    def _pass_poison(self, run: int, last: int) -> None:
        """A run may end with a poison job, of which no row tells."""
        while self._next[run] <= last and (run, self._next[run]) in self._decided:
            self._next[run] += 1


def _parts(number: int) -> tuple[int, int]:
    """How many rows job `number` of any run leaves in the two tables."""
    return (0, 0) if is_poison(number) else parts_of(number)
