"""The processes of a soak: starts them, kills some, ends them all."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from telemetry_bus.cli.status import status
from telemetry_bus.cli.survey import Bus

from ...support.processes import Interrupt, send, uninterrupted, writers_of
from . import cast
from .board import FORKED, FORKED_EACH, Board

LONG_LIVED = 3
#: How long processes may take to end, and a writer to adopt what they leave behind.
SETTLE_S = 120.0
#: Of a command of the operator, the start of Python included.
COMMAND_S = 60.0


class Stage:
    """One database with everybody around it. `findings` tells of processes that did not end as they should."""

    def __init__(self, database: Path, chance: random.Random, hold_s: float, wave_jobs: int) -> None:
        self.board = Board()
        self.findings: list[str] = []
        self.started = self.killed = self.writers_killed = self.writers_stopped = 0
        self.bus = Bus.of(str(database))
        self._database = database
        self._chance = chance
        self._wave_jobs = wave_jobs
        self._context = multiprocessing.get_context("fork")
        self._runs = itertools.count(LONG_LIVED)
        self._guests: dict[ForkProcess, bool] = {}  # whether it is to be killed
        self._residents: dict[str, ForkProcess] = {}
        self._hold_s = hold_s

    def begin(self) -> None:
        """Start the processes that stay."""
        self.board.next_wave()
        with Interrupt.held():
            for run in range(LONG_LIVED):
                self._residents[f"producer {run + 1}"] = self._start(cast.stay, run, self._wave_jobs)
            self._residents["reader"] = self._start(cast.read, self._hold_s)

    def people(self) -> dict[str, int]:
        """The process ids of those who are there from beginning to end."""
        return {name: process.pid for name, process in self._residents.items() if process.pid is not None}

    def status(self) -> dict[str, Any]:
        """What `telemetry-bus status --json` says."""
        return status(self.bus)

    # What happens now and then

    def welcome(self) -> None:
        """A new short-lived producer; the ones that have ended are seen off."""
        for process in [process for process in self._guests if not process.is_alive()]:
            self._see_off("a short-lived producer", process, killed=self._guests.pop(process))
        way = self._chance.choice(cast.WAYS)
        with Interrupt.held():
            self._guests[self._start(cast.come_and_go, next(self._runs), way, self._wave_jobs)] = way == "stays"
        self.started += 1

    def kill_guest(self) -> None:
        """One of those that stay."""
        if victims := [process for process, stays in self._guests.items() if stays]:
            victims[0].kill()
            self.killed += 1
            victims[0].join()

    def kill_writer(self) -> None:
        for pid in self._writers():
            self.writers_killed += send(pid, signal.SIGKILL)

    def stop_writer(self) -> None:
        self.command("stop", codes=(0, 3))  # there may be none just now
        self.writers_stopped += 1

    def command(self, *words: str, codes: tuple[int, ...] = (0,)) -> None:
        """`telemetry-bus`, as an operator gives it."""
        command = [sys.executable, "-P", "-m", "telemetry_bus", *words, "--database", str(self._database)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)
        if ended.returncode not in codes:
            self.findings.append(f"{' '.join(words[:2])} ended with {ended.returncode}: {ended.stderr.strip()}")

    # The end

    def end(self) -> None:
        """Everybody leaves, whatever is pending; a writer adopts what is left."""
        self.board.leave()
        for name, process in self._residents.items():
            process.join(SETTLE_S)
            self._see_off(name, process, killed=False)
        for process, stays in self._guests.items():
            process.join(SETTLE_S)
            self._see_off("a short-lived producer", process, killed=stays)
        self.command("flush", "--timeout", f"{SETTLE_S:g}")
        deadline = time.monotonic() + SETTLE_S
        while self.bus.folder.journal_paths() and time.monotonic() < deadline:
            time.sleep(0.05)
        if left := self.bus.folder.journal_paths():
            self.findings.append(f"{len(left)} journals were not adopted within {SETTLE_S:g} s")

    def clear(self) -> None:
        """Nobody is left, whatever happened."""
        self.board.leave()
        for process in (*self._residents.values(), *self._guests):
            process.kill()
            process.join()
        for end in (self._ask_writers, self.kill_writer):
            deadline = time.monotonic() + 10
            while self._writers() and time.monotonic() < deadline:
                end()
                time.sleep(0.1)

    def accepted(self) -> Iterator[tuple[int, int]]:
        """Each run with the number of its last accepted job."""
        runs = next(self._runs)
        forked = range(FORKED, FORKED + LONG_LIVED * FORKED_EACH)
        for run in itertools.chain(range(runs), forked):
            if run < FORKED or self.board.accepted[run]:
                yield run, self.board.accepted[run]

    def _start(self, work: Callable[..., None], *arguments: Any) -> ForkProcess:
        process = self._context.Process(target=uninterrupted, args=(work, self._database, self.board, *arguments))
        process.start()
        return process

    def _see_off(self, name: str, process: ForkProcess, *, killed: bool) -> None:
        if process.exitcode not in ((0, -signal.SIGKILL) if killed else (0,)):
            self.findings.append(f"{name} ended with {process.exitcode}")

    def _ask_writers(self) -> None:
        for pid in self._writers():
            send(pid, signal.SIGTERM)

    def _writers(self) -> list[int]:
        return writers_of(self.bus.database.url)
