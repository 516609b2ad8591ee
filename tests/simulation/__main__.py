"""Runs simulated worlds, one per seed, in all cores, and stops at the first that breaks a promise.

What a world is: tests/simulation/world.py. A seed decides everything, so that a world can be seen again with every
step told. With --teeth the protocol is broken on purpose, in one way after the other, and the worlds are counted that
notice it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from .ground import Violation
from .mutations import MUTATIONS, Mutation
from .scale import memory_folder, small_world
from .world import STEPS, World

#: A process takes so many seeds at a time and then says what came of them.
BLOCK = 20
#: Seconds between two words of progress, on a terminal and elsewhere.
REFRESH_S, REPORT_S = 0.2, 10.0
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.teeth:
        return teeth(options.first, options.seeds, options.steps)
    mutation = _named(options.mutation) if options.mutation else None
    if options.tell:
        return tell(options.first, options.seeds, options.steps, mutation)
    total, interrupted = simulate(options.first, options.seeds, options.steps, options.jobs, mutation)
    print(total.summary())
    if total.violations:
        seed, text = min(total.violations)
        print(f"world {seed}: {text}\nsee it happen: {_command(seed, options)}")
        return 1
    if total.missing:
        print("a process ended before its worlds did")
        return 1
    return INTERRUPTED if interrupted else 0


@dataclass
class Total:
    """What came of the worlds so far."""

    wanted: int
    worlds: int = 0
    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    worlds_with: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    missing: bool = False

    def line(self) -> str:
        return f"{self.seconds:7.1f} s {self.worlds:12,} of {self.wanted:,} worlds, {len(self.violations)} violations"

    def summary(self) -> str:
        """Each kind of event: how often, and in which share of the worlds."""
        lines = [
            f"{count:12,} {self.worlds_with[kind] / self.worlds:7.1%}  {kind}"
            for kind, count in sorted(self.events.items())
            if count
        ]
        return "\n".join([*lines, f"{self.worlds:,} worlds in {self.seconds:.1f} s, {len(self.violations)} violations"])


def simulate(first: int, seeds: int, steps: int, jobs: int, mutation: Mutation | None) -> tuple[Total, bool]:
    """Worlds in `jobs` processes; and whether somebody interrupted it."""
    context = multiprocessing.get_context("fork")
    total, began, interrupted = Total(seeds), time.monotonic(), False
    shared, stop = context.Value("q", first), context.Event()
    receivers: list[Connection] = []
    processes: list[ForkProcess] = []
    for _ in range(min(jobs, seeds)):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(shared, first + seeds, steps, mutation, sender, stop))
        process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    try:
        with _progress(total) as show:
            while receivers:
                _gather(receivers, total, stop)
                total.seconds = time.monotonic() - began
                show()
    except KeyboardInterrupt:
        interrupted = True
        stop.set()
        while receivers:  # they end after the world they are at
            _gather(receivers, total, stop)
    for process in processes:
        process.join()
    total.seconds = time.monotonic() - began
    total.missing = any(process.exitcode for process in processes)
    return total, interrupted


def tell(first: int, seeds: int, steps: int, mutation: Mutation | None) -> int:
    """Every step of some worlds, in this process."""
    with _place(mutation) as folder:
        for seed in range(first, first + seeds):
            print(f"world {seed}, {steps} steps:")
            try:
                World(seed, folder, print, only_loss=_only_loss(mutation)).run(steps)
            except Violation as violation:
                print(f"world {seed}: {violation}")
                return 1
    print(f"{seeds} worlds without a violation")
    return 0


def teeth(first: int, seeds: int, steps: int) -> int:
    """A Markdown table: each mutation, and in how many worlds it is found. 1 when one is found nowhere."""
    print(f"| what is broken | found by so many of {seeds} worlds |\n| --- | ---: |")
    dull = 0
    for mutation in MUTATIONS:
        found = 0
        with _place(mutation) as folder:
            for seed in range(first, first + seeds):
                try:
                    World(seed, folder, only_loss=mutation.only_loss).run(steps)
                except Violation:
                    found += 1
        dull += not found
        print(f"| {mutation.words} | {found} |", flush=True)
    return 1 if dull else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="so many worlds (default 10000; with --teeth 200)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), metavar="J", help="processes")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="S", help="of a world (default %(default)d)")
    parser.add_argument("--tell", action="store_true", help="print every step, in one process")
    parser.add_argument("--mutation", metavar="TEXT", help="with the defect that has these words; see --teeth")
    parser.add_argument("--teeth", action="store_true", help="each deliberate defect, and how many worlds find it")
    options = parser.parse_args(arguments)
    if options.seeds is None:
        options.seeds = 200 if options.teeth else 10_000
    if min(options.seeds, options.jobs, options.steps) < 1 or options.first < 0:
        parser.error("--seeds, --jobs and --steps are at least 1, --first is not negative")
    if options.mutation and not _named(options.mutation):
        parser.error(f"--mutation: no defect, or more than one, has the words {options.mutation!r}")
    return options


def _named(words: str) -> Mutation | None:
    found = [mutation for mutation in MUTATIONS if words in mutation.words]
    return found[0] if len(found) == 1 else None


def _command(seed: int, options: argparse.Namespace) -> str:
    words = ["scripts/simulate", "--first", str(seed), "--seeds", "1", "--steps", str(options.steps), "--tell"]
    if options.mutation:
        words += ["--mutation", options.mutation]
    return shlex.join(words)


def _work(shared: Any, end: int, steps: int, mutation: Mutation | None, sender: Connection, stop: Event) -> None:
    """A process: blocks of seeds until there are no more, or the parent has enough."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with _place(mutation) as folder:
        while not stop.is_set():
            with shared.get_lock():
                first, shared.value = shared.value, min(shared.value + BLOCK, end)
            block = Total(0)
            for seed in range(first, min(first + BLOCK, end)):
                if stop.is_set() or block.violations:
                    break
                _live(block, seed, steps, folder, _only_loss(mutation))
            if not block.worlds:
                return
            sender.send(block)
            if block.violations:
                return


def _live(block: Total, seed: int, steps: int, folder: Path, only_loss: bool) -> None:
    world = World(seed, folder, only_loss=only_loss)
    try:
        world.run(steps)
    except Violation as violation:
        block.violations.append((seed, str(violation)))
    block.worlds += 1
    block.events += world.tally
    block.worlds_with.update(kind for kind, count in world.tally.items() if count)


def _gather(receivers: list[Connection], total: Total, stop: Event) -> None:
    for ready in wait(receivers, REFRESH_S):
        assert isinstance(ready, Connection)
        try:
            block: Total = ready.recv()
        except EOFError:
            ready.close()
            receivers.remove(ready)
            continue
        total.worlds += block.worlds
        total.events += block.events
        total.worlds_with += block.worlds_with
        total.violations += block.violations
        if block.violations:
            stop.set()


@contextmanager
def _progress(total: Total) -> Iterator[Any]:
    """A line that is written over and over on a terminal, and now and then a new one elsewhere."""
    terminal = sys.stdout.isatty()
    said = -REPORT_S

    def show() -> None:
        nonlocal said
        if total.seconds - said >= (REFRESH_S if terminal else REPORT_S):
            said = total.seconds
            print("\r" + total.line() if terminal else total.line(), end="" if terminal else "\n", flush=True)

    try:
        yield show
    finally:
        if terminal:
            print("\r\x1b[K", end="", flush=True)


@contextmanager
def _place(mutation: Mutation | None) -> Iterator[Path]:
    """A folder for worlds, and their limits."""
    with memory_folder() as folder, small_world() as patch:
        if mutation:
            mutation.apply(patch)
        yield folder


def _only_loss(mutation: Mutation | None) -> bool:
    return mutation is not None and mutation.only_loss


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
