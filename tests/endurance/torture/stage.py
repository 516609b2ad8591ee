"""Producers, their writer, and the faults of one round."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkProcess
from pathlib import Path

from telemetry_bus.config import Database
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from ...support.numbered import TABLES
from ...support.processes import Interrupt, send, state, uninterrupted, writers_of
from .board import FORK, LEAVE, Board
from .oracle import Kind, Restore, Taken, Tally, glance, judge
from .producer import Part, is_large, produce
from .settings import DISK_BYTES, Setting, resize

#: How long a writer may take to adopt everything that a round leaves behind, and all to go on after a restore.
SETTLE_S = 120.0
#: How long it may take until nothing is left of producers that have ended, while others work; else the fault waits.
REST_S = 10.0
#: How long children may take to end.
CHILD_S = 20.0
#: Children that producers have forked and that live at a time.
MAX_CHILDREN = 3
#: How long it may take from the first job of a producer until that is noted.
BEGIN_S = 1.0
POLL_S = 0.02
READER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
time.sleep(3600)
"""


class Stage:
    """Producers, their writer, and the faults that befall them."""

    def __init__(self, database: Database, setting: Setting, small_disk: bool, chance: random.Random) -> None:
        assert database.path is not None
        self.tally = Tally()
        self._database = database
        self._path = database.path
        self._folder = BusFolder.of(database)
        self._log = database.path.with_name("producers.log")
        self._setting = setting
        self._small_disk = small_disk
        self._chance = chance
        self._context = multiprocessing.get_context("fork")
        self._board = Board()
        self._runs = itertools.count(0, 2)  # the next number is that of the child that a run may fork
        self._parts: list[Part] = []  # of each two runs
        self._cast: list[tuple[ForkProcess, int]] = []
        self._writer: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._stopped: list[int] = []
        self._reader: subprocess.Popen[bytes] | None = None
        self._backup: dict[int, int] | None = None
        self._taken = Taken()

    def begin(self, producers: int) -> None:
        """Start the producers."""
        if self._setting.clock_jumps:
            os.environ["TELEMETRY_WRITER_COMMAND"] = f"{sys.executable} -P -m {__package__}.clocks"
        with Interrupt.held():
            self._cast = [self._start(place) for place in range(producers)]

    def torment(self, seconds: float, kill_every: float) -> None:
        """One fault after the other."""
        kinds, weights = zip(*self._faults(), strict=True)
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            Interrupt.check()
            time.sleep(min(self._chance.expovariate(1 / kill_every), end - now))
            self._chance.choices(kinds, weights)[0]()
            glance(self._path, self.tally)
            self._replace()
            if self._chance.random() < 0.4:
                self._continue()

    def _faults(self) -> list[tuple[Callable[[], None], int]]:
        faults: list[tuple[Callable[[], None], int]] = [
            (self._kill_producer, 30),
            (self._kill_all, 5),
            (self._stop_producer, 5),
            (self._ask_producer, 5),
            (self._fork_producer, 10),
            (self._lock_database, 3),
            (self._hold_snapshot, 3),
            (self._checkpoint, 3),
            (self._back_up, 8),
            (self._restore_database, 10),
            (self._remove_folder, 4),
        ]
        if "thread" not in self._setting.modes:
            faults += [
                (self._kill_writer, 30),
                (self._kill_both, 10),
                (self._stop_writer, 5),
                (self._displace_writer, 10),
                (self._ask_writer, 10),
            ]
        if self._small_disk:
            faults.append((self._fill_disk, 10))
        return faults

    def end(self) -> None:
        """Some producers end by themselves, the others are killed; then a writer adopts what is left."""
        self._continue()
        for process, run in self._cast:
            if self._chance.random() < 0.5:
                self._board.asked[run] = LEAVE
            else:
                self._kill(process)
        for run in self._children():
            self._board.asked[run] = LEAVE
        for process, run in self._cast:
            process.join(SETTLE_S)
            self._check_exit(process, run)
        self._cast = []
        deadline = time.monotonic() + SETTLE_S
        self._until(lambda: not self._children(), CHILD_S)
        for run in self._children():  # Python itself stands still where a thread had asked for its lock at the fork
            self._killed(send(self._board.pids[run], signal.SIGKILL))
        while self._folder.journal_paths() and time.monotonic() < deadline:
            if not is_held(self._folder.writer_lock) and (self._writer is None or self._writer.poll() is not None):
                self._writer = self._start_writer()
            time.sleep(POLL_S)
        if left := self._folder.journal_paths():
            self.tally.findings.append(f"{len(left)} journals were not adopted within {SETTLE_S:g} s")
        self._look_at_folder()

    def clear(self) -> None:
        """No process is left, whatever happened."""
        self._continue()
        os.environ.pop("TELEMETRY_WRITER_COMMAND", None)
        for process, _ in self._cast:
            process.kill()
            process.join()
        for run in self._children():
            send(self._board.pids[run], signal.SIGKILL)
        for kind in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            while (pids := self._writers()) and time.monotonic() < deadline:
                for pid in pids:
                    send(pid, kind)
                time.sleep(0.1)
        for writer in (self._writer, *self._others):
            if writer is not None:
                writer.wait()

    def judge(self) -> None:
        """What was accepted, and what of it is there."""
        runs = range(2 * len(self._parts))
        accepted = self._board.accepted[: len(runs)].tolist()
        done = self.tally.done
        done[Kind.SUBMITTED] = sum(accepted)
        done[Kind.REFUSED] = sum(self._board.refused[: len(runs)])
        done[Kind.LARGE] = sum(is_large(run, number) for run in runs for number in range(6, accepted[run] + 1, 60_000))
        streams = [
            "" if self._parts[run // 2].mode == "sync" else self._board.stream(run) or f"{run:032x}" for run in runs
        ]
        judge(self._path, accepted, self.tally, self._taken, streams)

    # Producers

    def _start(self, place: int) -> tuple[ForkProcess, int]:
        run = next(self._runs)
        setting = self._setting
        linger_ms = self._chance.choice(setting.lingers)
        part = Part(setting.modes[place % len(setting.modes)], linger_ms, setting.clock_jumps, self._log)
        self._parts.append(part)
        process = self._context.Process(target=uninterrupted, args=(produce, self._path, run, part, self._board))
        process.start()
        return process, run

    def _replace(self) -> None:
        """A new producer for each that has ended."""
        for place, (process, run) in enumerate(self._cast):
            if not process.is_alive():
                self._check_exit(process, run)
                with Interrupt.held():
                    self._cast[place] = self._start(place)

    def _check_exit(self, process: ForkProcess, run: int) -> None:
        if process.exitcode not in (0, -signal.SIGKILL):
            self.tally.findings.append(f"the producer of run {run} ended with {process.exitcode}")

    def _children(self) -> list[int]:
        """The runs of forked children that are alive. Their parents are dead or do not wait for them."""
        pids = self._board.pids
        return [run for run in range(1, 2 * len(self._parts), 2) if pids[run] and state(pids[run]) not in "ZX"]

    def _living(self) -> list[int]:
        """The runs whose processes are alive and have a stream, or write themselves."""
        runs = [run for process, run in self._cast if process.is_alive()] + self._children()
        return [run for run in runs if self._board.accepted[run]]

    def _with_journals(self) -> set[int]:
        """The runs that have a journal: also one that has ended, if a forked child still holds its lock."""
        names = self._journals()
        return {run for run in range(2 * len(self._parts)) if self._board.stream(run) in names}

    def _killed(self, number: int = 1) -> None:
        self.tally.done[Kind.PRODUCERS_KILLED] += number

    def _kill(self, process: ForkProcess) -> None:
        process.kill()
        process.join()
        self._killed()

    def _kill_producer(self) -> None:
        self._kill(self._chance.choice(self._cast)[0])

    def _kill_all(self) -> None:
        for process, _ in self._cast:
            self._kill(process)
        self._kill_writer()

    def _stop_producer(self) -> None:
        pid = self._chance.choice(self._cast)[0].pid
        assert pid is not None
        self.tally.done[Kind.PRODUCERS_STOPPED] += send(pid, signal.SIGSTOP)
        self._stopped.append(pid)

    def _continue(self) -> None:
        """Those that stand still go on, and a reader lets go of what it has held."""
        for pid in self._stopped:
            send(pid, signal.SIGCONT)
        self._stopped.clear()
        if self._reader is not None:
            self._reader.kill()
            self._reader.wait()
            self._reader = None

    def _ask_producer(self) -> None:
        self._board.asked[self._chance.choice(self._cast)[1]] = LEAVE
        self.tally.done[Kind.ASKED] += 1

    def _fork_producer(self) -> None:
        """As a library does it that Python does not know of: no hook runs, and the child goes on with the same store.
        Where there are enough such children one is killed."""
        children, board = self._children(), self._board
        if len(children) >= MAX_CHILDREN:
            self._killed(send(board.pids[self._chance.choice(children)], signal.SIGKILL))
            return
        run = self._chance.choice(self._cast)[1]
        if not board.pids[run + 1] and board.asked[run] != LEAVE:
            board.asked[run] = FORK
            self.tally.done[Kind.FORKS] += 1

    # Their writer

    def _writers(self) -> list[int]:
        return writers_of(self._database.url)

    def _start_writer(self) -> subprocess.Popen[bytes]:
        command = ["-P", "-m", "writer_daemon", "--database", self._database.url, "--spawned"]
        return subprocess.Popen([sys.executable, *command], start_new_session=True)

    def _kill_writer(self) -> None:
        for pid in self._writers():
            self.tally.done[Kind.WRITERS_KILLED] += send(pid, signal.SIGKILL)

    def _kill_both(self) -> None:
        self._kill_writer()
        self._kill_producer()

    def _ask_writer(self) -> None:
        for pid in self._writers():
            self.tally.done[Kind.ASKED] += send(pid, signal.SIGTERM)

    def _stop_writer(self) -> None:
        """Often for longer than producers wait before they ask, or than they take it for alive."""
        for pid in self._writers():
            self.tally.done[Kind.WRITERS_STOPPED] += send(pid, signal.SIGSTOP)
            self._stopped.append(pid)

    def _displace_writer(self) -> None:
        """The names of its lock and its sockets are removed while it stands still. Another writer adopts a producer
        that is killed then, of which the first has jobs in hand; it goes on with these, and must not apply them."""
        pids = self._stop_between_transactions()
        time.sleep(self._chance.uniform(0.0, 0.3))
        for path in (self._folder.writer_lock, *map(self._folder.socket_path, ("jobs", "control"))):
            path.unlink(missing_ok=True)
        self._kill_producer()
        self._others.append(self._start_writer())
        time.sleep(self._chance.uniform(0.6, 2.0))
        for pid in pids:
            self.tally.done[Kind.ZOMBIES] += send(pid, signal.SIGCONT)

    def _stop_between_transactions(self) -> list[int]:
        """Writers that stand still and hold no lock of the database, if that comes about."""
        for _ in range(50):
            pids = self._writers()
            for pid in pids:
                send(pid, signal.SIGSTOP)
            try:
                with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError:
                for pid in pids:
                    send(pid, signal.SIGCONT)
                time.sleep(self._chance.uniform(0.0, 0.01))
        return pids

    # Their database, folder and disk

    def _lock_database(self) -> None:
        """Another program writes for longer than the writer waits."""
        with closing(sqlite3.connect(self._path, timeout=2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # the writer is at work all the time
                return
            time.sleep(self._chance.uniform(0.5, 3.0))
            connection.execute("ROLLBACK")
        self.tally.done[Kind.LOCKS] += 1

    def _hold_snapshot(self) -> None:
        """A reader whose transaction keeps the log from being written back as a whole."""
        if self._reader is None and self._path.exists():
            # a process of its own: producers are forked from this one, which must have no file of SQLite open then
            self._reader = subprocess.Popen([sys.executable, "-c", READER, self._path])
            self.tally.done[Kind.READERS] += 1

    def _checkpoint(self) -> None:
        """As a program does it that replicates the database, again and again, in each way."""
        with closing(sqlite3.connect(self._path, timeout=0.1, isolation_level=None)) as connection:
            for _ in range(100):
                how = self._chance.choice(("PASSIVE", "PASSIVE", "FULL", "RESTART", "TRUNCATE"))
                ((busy, _, _),) = connection.execute(f"PRAGMA wal_checkpoint({how})")
                self.tally.done[Kind.CHECKPOINTS] += not busy

    @property
    def _copy(self) -> Path:
        return self._path.with_name("backup.db")

    def _back_up(self) -> None:
        if self._backup is None and self._path.exists():
            with closing(sqlite3.connect(self._path, timeout=30)) as source:
                source.execute("VACUUM INTO ?", (str(self._copy),))
            with closing(sqlite3.connect(self._copy)) as copy:
                there = copy.execute("SELECT 1 FROM sqlite_master WHERE name = ?", TABLES[:1]).fetchone()
                self._backup = (
                    dict(copy.execute(f"SELECT run, max(number) FROM {TABLES[0]} GROUP BY run")) if there else {}
                )

    def _restore_database(self) -> None:
        """As `.restore` does it: the file stays, its content goes back; or another file takes its place. Under a writer
        that works, that stands still, or that is killed. Then all go on, and what is gone has been told."""
        self._back_up()
        if self._backup is None or not self._rests():
            return
        self._taken.hear(self._folder.log)
        pids = self._writers()
        how = self._chance.choice((None, signal.SIGSTOP, signal.SIGKILL))
        if how is signal.SIGSTOP:
            pids = self._stop_between_transactions()
        elif how is signal.SIGKILL:
            self._kill_writer()
        alive, journals = self._living(), self._with_journals()
        self._bring_back(in_place=self._chance.random() < 0.5)
        until = [number + 1 for number in self._board.accepted[: 2 * len(self._parts)]]
        journals |= self._with_journals()
        over = set(range(len(until))) - journals
        self._taken.restores.append(Restore(self._backup, until, over))
        self.tally.done[Kind.RESTORES] += 1
        if how is signal.SIGSTOP:
            time.sleep(self._chance.uniform(0.0, 1.0))
            for pid in pids:
                send(pid, signal.SIGCONT)
        if not self._until(lambda: all(last > until[run] for run, last in self._newest(alive).items()), SETTLE_S):
            stuck = {run: (until[run], last) for run, last in self._newest(alive).items()}
            self.tally.findings.append(f"after a restore not all go on within {SETTLE_S:g} s: {stuck}")
        self._copy.unlink(missing_ok=True)
        self._backup = None
        for log in (self._folder.log, self._log):
            self._taken.hear(log)

    def _bring_back(self, *, in_place: bool) -> None:
        if in_place:
            target = sqlite3.connect(self._path, timeout=30)
            with closing(target), closing(sqlite3.connect(self._copy)) as source:
                source.backup(target)
            return
        for beside in ("-wal", "-shm"):  # else SQLite would play the old log into the new file
            self._path.with_name(self._path.name + beside).unlink(missing_ok=True)
        os.replace(self._copy, self._path)

    def _remove_folder(self) -> None:
        """With the lock, the sockets and the journals of the living, who make theirs again."""
        if not self._rests():
            return
        self._look_at_folder()
        shutil.rmtree(self._folder.path, ignore_errors=True)
        self.tally.done[Kind.FOLDERS] += 1
        if self._chance.random() < 0.5:
            self._kill_writer()
        for _ in range(2):  # the second time for one that had just begun
            if not self._until(lambda: self._streams() <= self._journals(), SETTLE_S):
                self.tally.findings.append(f"journals were not made again within {SETTLE_S:g} s")
            time.sleep(BEGIN_S)
        if "thread" in self._setting.modes:
            self._kill_displaced()

    def _kill_displaced(self) -> None:
        """In mode thread one that had the database may have lost its place, and then waits until it is ended."""
        for process, run in self._cast:
            if self._board.accepted[run]:
                self._kill(process)
        for run in self._children():
            self._killed(send(self._board.pids[run], signal.SIGKILL))

    def _fill_disk(self) -> None:
        """It is as small as what lies on it, for a while."""
        folder = self._path.parent
        for _ in range(10):
            if resize(folder, shutil.disk_usage(folder).used + self._chance.randrange(1 << 20)):
                self.tally.done[Kind.DISKS] += 1
                time.sleep(self._chance.uniform(0.2, 3.0))
                break
        assert resize(folder, DISK_BYTES)

    def _look_at_folder(self) -> None:
        """What only it can tell."""
        for log in (self._folder.log, self._log):
            self._taken.hear(log)
        if self._folder.quarantine.exists():
            self.tally.findings.append("a journal was found damaged and put into quarantine")

    def _rests(self) -> bool:
        """Whether nothing is left of producers that have ended, and there is no second writer: then it is known what a
        restore or a removal takes."""

        self._continue()

        def rests() -> bool:
            board = self._board
            ending = [run for process, run in self._cast if process.is_alive() and board.asked[run] == LEAVE]
            return not ending and self._journals() <= self._streams() and len(self._writers()) < 2

        if self._until(rests, REST_S):
            return True
        for run in self._children():
            if not self._board.accepted[run]:  # it stands still, and holds the lock of its parent's journal
                self._killed(send(self._board.pids[run], signal.SIGKILL))
        return False

    def _journals(self) -> set[str]:
        return {path.stem for path in self._folder.journal_paths()}

    def _streams(self) -> set[str]:
        """Of the runs whose processes are alive."""
        return {self._board.stream(run) for run in self._living()} - {""}

    def _newest(self, runs: list[int]) -> dict[int, int]:
        """For each of these runs its last number in the database, as far as that is among the newest rows."""
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
                found = dict(
                    connection.execute(
                        f"""SELECT run, max(number) FROM {TABLES[0]}
                        WHERE id > (SELECT max(id) FROM {TABLES[0]}) - 200000 GROUP BY run"""
                    )
                )
        except sqlite3.OperationalError:  # restored from before there was a table
            found = {}
        return {run: found.get(run, 0) for run in runs}

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                return False
            Interrupt.check()
            time.sleep(POLL_S)
        return True
