"""Kills writer and producers at random while they work at full speed, and counts what is lost, doubled or torn.

The oracle stands outside of what is killed. Each run of a producer notes the number of its last accepted job in
memory that it shares with the oracle, after `submit` has returned: everything up to that number must be in the
tables exactly once, in order, whole. The job that follows was being submitted at the kill: it may be there or not.

The time is cut into rounds, each with a database of its own, so that an hour needs no more disk than one round.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from telemetry_bus import Job, Statement, TelemetryStore
from telemetry_bus.config import Database, parse_database
from telemetry_bus.reading import open_reader
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

TABLES = ("lefts", "rights")
#: What each job brings along. Within a table the ids tell the order in which rows were applied.
ENSURE = [
    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, number INTEGER NOT NULL, "
    "part INTEGER NOT NULL, text TEXT)"
    for table in TABLES
]
INSERT = {table: f"INSERT INTO {table} (run, number, part, text) VALUES (?, ?, ?, ?)" for table in TABLES}

ROUND_S = 20.0
#: How long a writer may take to adopt everything that a round leaves behind.
SETTLE_S = 120.0
#: A small journal is full, and its ring comes round, many times a second; a large one leaves much to adopt.
JOURNAL_BYTES = (512 * 1024, 4 * 1024 * 1024, 32 * 1024 * 1024)
#: Runs of producers in one round, at most.
MAX_RUNS = 100_000
#: A glance looks at so many rows at the end of each table.
GLANCE_ROWS = 20_000

#: `length_of` once more, for the database.
WRONG_TEXT = """SELECT run, number, part FROM {table}
    WHERE length(text) IS NOT CASE WHEN number % 5000 = 1 THEN 60000 ELSE number * 7 % 40 END LIMIT 5"""

#: Number and part of the rows of one run in one table, in order of their ids.
Rows = list[tuple[int, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="for how long (default %(default)g)")
    parser.add_argument("--producers", type=int, default=4, metavar="N", help="at a time (default %(default)d)")
    parser.add_argument(
        "--kill-every", type=float, default=0.5, metavar="S", help="seconds between faults, on average (default 0.5)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the choices; their timing is the machine's")
    options = parser.parse_args(arguments)
    if not (options.seconds > 0 and options.kill_every > 0 and options.producers > 0):
        parser.error("--seconds, --producers and --kill-every are above 0")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    chance = random.Random(seed)
    print(f"seed {seed}, {options.producers} producers, a fault every {options.kill_every:g} s", flush=True)
    print(Tally.HEADING, flush=True)
    total = Tally()
    began = time.monotonic()
    while (left := options.seconds - (time.monotonic() - began)) > 0 and not total.failed:
        total.add(one_round(min(ROUND_S, left), options.producers, options.kill_every, chance))
        print(total.line(time.monotonic() - began), flush=True)
    print(
        f"submitted {total.submitted:,}, kills {total.kills:,}, "
        f"lost {total.lost}, doubled {total.doubled}, torn {total.torn}"
    )
    for finding in total.findings:
        print(finding)
    return 1 if total.failed else 0


@dataclass
class Tally:
    """What was done, and what was found. Anything in `findings`, or counted as wrong, is a failure."""

    HEADING = (
        "   time     submitted   writers killed   producers killed   frozen   asked to leave   lost   doubled   torn"
    )

    submitted: int = 0
    writers_killed: int = 0
    producers_killed: int = 0
    frozen: int = 0
    asked: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.writers_killed + self.producers_killed

    @property
    def wrong(self) -> int:
        return self.lost + self.doubled + self.torn + len(self.findings)

    @property
    def failed(self) -> bool:
        return self.wrong > 0

    def add(self, other: Tally) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def line(self, seconds: float) -> str:
        return (
            f"{seconds:5.0f} s {self.submitted:13,} {self.writers_killed:16,} {self.producers_killed:18,} "
            f"{self.frozen:8,} {self.asked:16,} {self.lost:6} {self.doubled:9} {self.torn:6}"
        )


# One round


def one_round(seconds: float, producers: int, kill_every: float, chance: random.Random) -> Tally:
    """Work, kill, let a writer adopt the rest, and judge. The folder stays when something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-torture-"))
    stage = Stage(parse_database(folder / "torture.db"), producers, chance)
    try:
        stage.torment(seconds, kill_every)
        stage.end()
    except KeyboardInterrupt:
        stage.clear()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        stage.clear()
    judge(folder / "torture.db", stage.accepted(), stage.tally)
    if stage.tally.failed:
        stage.tally.findings.append(f"kept for a look: {folder}")
    else:
        shutil.rmtree(folder)
    return stage.tally


class Stage:
    """Producers, their writer, and the faults that befall them."""

    def __init__(self, database: Database, producers: int, chance: random.Random) -> None:
        assert database.path is not None
        self.tally = Tally()
        self._database = database
        self._path = database.path
        self._folder = BusFolder.of(database)
        self._chance = chance
        self._context = multiprocessing.get_context("fork")
        shared = memoryview(mmap.mmap(-1, 2 * 8 * MAX_RUNS)).cast("Q")
        self._accepted, self._leave = shared[:MAX_RUNS], shared[MAX_RUNS:]
        self._runs = itertools.count()
        self._cast = [self._start() for _ in range(producers)]
        self._writer: subprocess.Popen[bytes] | None = None

    def torment(self, seconds: float, kill_every: float) -> None:
        """One fault after the other."""
        faults: list[tuple[Callable[[], None], int]] = [
            (self._kill_writer, 35),
            (self._kill_producer, 30),
            (self._kill_both, 10),
            (self._kill_all, 5),
            (self._freeze_writer, 5),
            (self._ask_writer, 10),
            (self._ask_producer, 5),
        ]
        kinds, weights = zip(*faults, strict=True)
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            time.sleep(min(self._chance.expovariate(1 / kill_every), end - now))
            self._chance.choices(kinds, weights)[0]()
            glance(self._path, self.tally)
            self._replace()

    def end(self) -> None:
        """Some producers end by themselves, the others are killed; then a writer adopts what is left."""
        for process, run in self._cast:
            if self._chance.random() < 0.5:
                self._leave[run] = 1
            else:
                self._kill(process)
        for process, run in self._cast:
            process.join(SETTLE_S)
            self._check_exit(process, run)
        self._cast = []
        deadline = time.monotonic() + SETTLE_S
        while self._folder.journal_paths() and time.monotonic() < deadline:
            if not is_held(self._folder.writer_lock) and (self._writer is None or self._writer.poll() is not None):
                command = ["-P", "-m", "writer_daemon", "--database", self._database.url, "--spawned"]
                self._writer = subprocess.Popen([sys.executable, *command], start_new_session=True)
            time.sleep(0.02)
        if left := self._folder.journal_paths():
            self.tally.findings.append(f"{len(left)} journals were not adopted within {SETTLE_S:g} s")
        if self._folder.quarantine.exists():
            self.tally.findings.append("a journal was found damaged and put into quarantine")

    def clear(self) -> None:
        """Nobody is left, whatever happened."""
        for process, _ in self._cast:
            process.kill()
            process.join()
        for kind in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            while (pids := self._writers()) and time.monotonic() < deadline:
                for pid in pids:
                    _signal(pid, kind)
                time.sleep(0.1)
        if self._writer is not None:
            self._writer.wait()

    def accepted(self) -> list[int]:
        """The last accepted number of each run."""
        runs = next(self._runs)
        accepted = self._accepted[:runs].tolist()
        self.tally.submitted = sum(accepted)
        return accepted

    def _start(self) -> tuple[ForkProcess, int]:
        run = next(self._runs)
        process = self._context.Process(target=_unasked, args=(produce, self._path, run, self._accepted, self._leave))
        process.start()
        return process, run

    def _replace(self) -> None:
        """A new producer for each that has ended."""
        for place, (process, run) in enumerate(self._cast):
            if not process.is_alive():
                self._check_exit(process, run)
                self._cast[place] = self._start()

    def _check_exit(self, process: ForkProcess, run: int) -> None:
        if process.exitcode not in (0, -signal.SIGKILL):
            self.tally.findings.append(f"the producer of run {run} ended with {process.exitcode}")

    def _kill_writer(self) -> None:
        for pid in self._writers():
            self.tally.writers_killed += _signal(pid, signal.SIGKILL)

    def _kill_producer(self) -> None:
        self._kill(self._chance.choice(self._cast)[0])

    def _kill_both(self) -> None:
        self._kill_writer()
        self._kill_producer()

    def _kill_all(self) -> None:
        for process, _ in self._cast:
            self._kill(process)
        self._kill_writer()

    def _kill(self, process: ForkProcess) -> None:
        process.kill()
        process.join()
        self.tally.producers_killed += 1

    def _freeze_writer(self) -> None:
        """For longer than producers wait before they ask, and often for longer than they take it for alive."""
        pids = self._writers()
        for pid in pids:
            self.tally.frozen += _signal(pid, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.6, 2.5))
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    def _ask_writer(self) -> None:
        for pid in self._writers():
            self.tally.asked += _signal(pid, signal.SIGTERM)

    def _ask_producer(self) -> None:
        self._leave[self._chance.choice(self._cast)[1]] = 1
        self.tally.asked += 1

    def _writers(self) -> list[int]:
        """The processes that are, or are about to become, the writer of this database."""
        ours = os.fsencode(self._database.url)
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with suppress(OSError):
                    words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                    if b"writer_daemon" in words and ours in words:
                        found.append(int(entry.name))
        return found


def _signal(pid: int, kind: signal.Signals) -> bool:
    """Whether there was somebody to get it."""
    with suppress(ProcessLookupError):
        os.kill(pid, kind)
        return True
    return False


# A producer


def _unasked(work: Callable[..., None], *arguments: Any) -> None:
    """In a process of its own: an interrupt of the whole group is for the parent alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    work(*arguments)


def produce(database: Path, run: int, accepted: memoryview, leave: memoryview) -> None:
    """Submit job after job; note each one after it was accepted. Asked to leave, end without a flush."""
    store = TelemetryStore(database, journal_bytes=JOURNAL_BYTES[run % len(JOURNAL_BYTES)])
    number = 0
    while not leave[run]:
        number += 1
        submit(store, run, number)
        accepted[run] = number


def submit(store: TelemetryStore, run: int, number: int) -> None:
    """One job, in one of the ways there are to hand it in."""
    text = "x" * length_of(number)
    rows = {
        table: [(run, number, part, text) for part in range(1, parts + 1)]
        for table, parts in zip(TABLES, parts_of(number), strict=True)
    }
    match number % 3:
        case 0:
            store.execute(INSERT["lefts"], rows["lefts"][0], ensure=ENSURE)
        case 1:

            def job(connection: Any) -> None:
                for row in rows["lefts"]:
                    connection.execute(INSERT["lefts"], row)
                connection.executemany(INSERT["rights"], rows["rights"])

            store.submit(job, ensure=ENSURE)
        case 2:
            store.submit(Job(tuple(Statement(INSERT[table], tuple(rows[table])) for table in TABLES), tuple(ENSURE)))


def parts_of(number: int) -> tuple[int, int]:
    """How many rows job `number` of any run has in the two tables."""
    return ((1, 0), (2, 1), (1, 3))[number % 3]


def length_of(number: int) -> int:
    """Of its text: mostly little, so that jobs are many; now and then more than a message usually holds."""
    return 60_000 if number % 5000 == 1 else number * 7 % 40


# The oracle


def judge(database: Path, accepted: Sequence[int], tally: Tally) -> None:
    """Compare a database that nobody writes to any more with what was accepted."""
    if not database.exists():
        tally.lost += sum(accepted)
        return
    with closing(sqlite3.connect(database)) as connection:
        if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            tally.findings.append(f"integrity check: {found[:5]}")
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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("torture: interrupted", file=sys.stderr)
        sys.exit(130)
