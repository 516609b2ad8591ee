"""Producers, their writer, and the faults of one round."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkProcess

from telemetry_bus.config import Database
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from ...support.processes import Interrupt, send, state, uninterrupted, writers_of
from .oracle import Tally, glance
from .producer import FORK, LEAVE, produce

#: How long a writer may take to adopt everything that a round leaves behind.
SETTLE_S = 120.0
#: Runs of producers in one round, at most.
MAX_RUNS = 100_000
#: How long children may take to leave.
CHILD_S = 20.0
#: Children that producers have forked and that live at a time.
MAX_CHILDREN = 3


class Stage:
    """Producers, their writer, and the faults that befall them."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        assert database.path is not None
        self.tally = Tally()
        self._database = database
        self._path = database.path
        self._folder = BusFolder.of(database)
        self._chance = chance
        self._context = multiprocessing.get_context("fork")
        shared = memoryview(mmap.mmap(-1, 3 * 8 * MAX_RUNS)).cast("Q")
        self._accepted, self._asked, self._pids = (shared[n * MAX_RUNS : (n + 1) * MAX_RUNS] for n in range(3))
        self._runs = itertools.count(0, 2)  # the next number is that of the child that a run may fork
        self._last_run = 0
        self._cast: list[tuple[ForkProcess, int]] = []
        self._writer: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def begin(self, producers: int) -> None:
        """Start the producers."""
        with Interrupt.held():
            self._cast = [self._start() for _ in range(producers)]

    def torment(self, seconds: float, kill_every: float) -> None:
        """One fault after the other."""
        faults: list[tuple[Callable[[], None], int]] = [
            (self._kill_writer, 35),
            (self._kill_producer, 30),
            (self._kill_both, 10),
            (self._kill_all, 5),
            (self._freeze_writer, 5),
            (self._displace_writer, 10),
            (self._ask_writer, 10),
            (self._ask_producer, 5),
            (self._fork_producer, 10),
            (self._lock_database, 3),
        ]
        kinds, weights = zip(*faults, strict=True)
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            Interrupt.check()
            time.sleep(min(self._chance.expovariate(1 / kill_every), end - now))
            self._chance.choices(kinds, weights)[0]()
            glance(self._path, self.tally)
            self._replace()

    def end(self) -> None:
        """Some producers end by themselves, the others are killed; then a writer adopts what is left."""
        for process, run in self._cast:
            if self._chance.random() < 0.5:
                self._asked[run] = LEAVE
            else:
                self._kill(process)
        for run in self._children():
            self._asked[run] = LEAVE
        for process, run in self._cast:
            process.join(SETTLE_S)
            self._check_exit(process, run)
        self._cast = []
        deadline = time.monotonic() + SETTLE_S
        while self._children() and time.monotonic() < deadline - SETTLE_S + CHILD_S:
            time.sleep(0.02)
        for run in self._children():  # Python itself stands still where a thread had asked for its lock at the fork
            self.tally.producers_killed += send(self._pids[run], signal.SIGKILL)
        while self._folder.journal_paths() and time.monotonic() < deadline:
            if not is_held(self._folder.writer_lock) and (self._writer is None or self._writer.poll() is not None):
                self._writer = self._start_writer()
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
        for run in self._children():
            send(self._pids[run], signal.SIGKILL)
        for kind in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            while (pids := self._writers()) and time.monotonic() < deadline:
                for pid in pids:
                    send(pid, kind)
                time.sleep(0.1)
        for writer in (self._writer, *self._others):
            if writer is not None:
                writer.wait()

    def accepted(self) -> list[int]:
        """The last accepted number of each run."""
        runs = self._last_run + 2
        accepted = self._accepted[:runs].tolist()
        self.tally.submitted = sum(accepted)
        return accepted

    def _start(self) -> tuple[ForkProcess, int]:
        run = self._last_run = next(self._runs)
        process = self._context.Process(
            target=uninterrupted, args=(produce, self._path, run, self._accepted, self._asked, self._pids)
        )
        process.start()
        return process, run

    def _replace(self) -> None:
        """A new producer for each that has ended."""
        for place, (process, run) in enumerate(self._cast):
            if not process.is_alive():
                self._check_exit(process, run)
                with Interrupt.held():
                    self._cast[place] = self._start()

    def _check_exit(self, process: ForkProcess, run: int) -> None:
        if process.exitcode not in (0, -signal.SIGKILL):
            self.tally.findings.append(f"the producer of run {run} ended with {process.exitcode}")

    def _kill_writer(self) -> None:
        for pid in self._writers():
            self.tally.writers_killed += send(pid, signal.SIGKILL)

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
            self.tally.frozen += send(pid, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.6, 2.5))
        for pid in pids:
            send(pid, signal.SIGCONT)

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
            send(pid, signal.SIGCONT)

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
        self.tally.frozen += len(pids)
        return pids

    def _start_writer(self) -> subprocess.Popen[bytes]:
        command = ["-P", "-m", "writer_daemon", "--database", self._database.url, "--spawned"]
        return subprocess.Popen([sys.executable, *command], start_new_session=True)

    def _ask_writer(self) -> None:
        for pid in self._writers():
            self.tally.asked += send(pid, signal.SIGTERM)

    def _ask_producer(self) -> None:
        self._asked[self._chance.choice(self._cast)[1]] = LEAVE
        self.tally.asked += 1

    def _fork_producer(self) -> None:
        """As a library does it that Python does not know of: no hook runs, and the child goes on with the same store.
        Where there are enough such children one is killed."""
        children = self._children()
        if len(children) >= MAX_CHILDREN:
            self.tally.producers_killed += send(self._pids[self._chance.choice(children)], signal.SIGKILL)
            return
        run = self._chance.choice(self._cast)[1]
        if not self._pids[run + 1] and self._asked[run] != LEAVE:
            self._asked[run] = FORK
            self.tally.forks += 1

    def _lock_database(self) -> None:
        """Another program writes for longer than the writer waits."""
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # the writer is at work all the time
                return
            time.sleep(self._chance.uniform(0.5, 3.0))
            connection.execute("ROLLBACK")
        self.tally.locks += 1

    def _children(self) -> list[int]:
        """The runs of forked children that are alive. Their parents are dead or do not wait for them."""
        return [
            run for run in range(1, self._last_run + 2, 2) if self._pids[run] and state(self._pids[run]) not in "ZX"
        ]

    def _writers(self) -> list[int]:
        return writers_of(self._database.url)
