"""Runs a bus for a long time with everything that comes and goes, and shows that nothing grows.

Producers that stay, short-lived ones that end in every way or are killed, forks, bursts and lulls, a reader that holds
snapshots, jobs that the database refuses, texts that nobody has seen before, old rows deleted by jobs, an operator. In
the first part writers are killed and stopped now and then; in the second, longer one the writer is left in peace.

Measured are memory, descriptors and threads of the writer and of those who stay, and log, database, bus folder,
journals and pending jobs of the bus as a whole. Each process is a life; the bus as a whole has one in each part, of
which the second is judged. A series grows when the median of its life's last quarter is above

    max(harmless, 1.05 * median of the second quarter + allowance)

where `judging.py` says the two values of each kind. Lives that are short (of less than 60 s, or 32 samples)
are not judged. The exit code is 1 when a series grows, a journal was found damaged, a process ended as it should not,
or a job was not applied exactly once, which is judged outside of the bus.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...support.processes import Interrupt
from . import plot
from .judging import HEADING, Series, judge, line
from .oracle import Oracle
from .samples import Samples
from .stage import Stage

EXIT_STEADY, EXIT_GROWS, EXIT_USAGE = 0, 1, 2
#: The part with ended writers, of the whole; and how far apart those ends are, at least (there are two at least).
ROUGH, END_EVERY_S = 0.4, 240.0
#: Of each table, so that the database is as large at the end as after the first minute.
KEPT_ROWS = 5000
TICK_S = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1800.0, metavar="N", help="for how long (default %(default)g)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the choices; their timing is the machine's")
    parser.add_argument("--out", type=Path, metavar="FILE.svg", help="a plot of all series; wants matplotlib")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds < float("inf"):
        parser.error("--seconds is above 0")
    if options.out is not None and not options.out.parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.parent}")
    if options.out is not None and not plot.available():
        print("soak: a plot wants matplotlib: pip install '.[bench]'", file=sys.stderr)
        return EXIT_USAGE
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="telemetry-soak-"))
    try:
        soak = Soak(folder / "soak.db", options.seconds, random.Random(seed))
        soak.run()
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(HEADING)
    grows = _judge(soak.series)
    if options.out is not None:
        plot.draw(soak.series, soak.quiet_from, options.seconds, options.out)
    print(soak.summary())
    for finding in soak.oracle.tally.findings:
        print(finding)
    if soak.oracle.tally.failed:
        print(f"kept for a look: {folder}")
    else:
        shutil.rmtree(folder)
    print(f"{grows} series grow" if grows else "nothing grows")
    return EXIT_GROWS if grows or soak.oracle.tally.failed else EXIT_STEADY


def _judge(series: Sequence[Series]) -> int:
    """Print the table; how many grow."""
    grow = 0
    for one in series:
        if one.of == "bus, life 1":
            continue  # with ended writers: what waits then says nothing of growth
        verdict = judge(one)
        grow += verdict.grows is True
        print(line(one, verdict))
    return grow


@dataclass
class Errand:
    """Something that is done every so many seconds, by chance a little earlier or later."""

    every: float
    do: Callable[[], None]
    due: float


class Soak:
    """One run. A short one has the same parts as a long one, closer together."""

    def __init__(self, database: Path, seconds: float, chance: random.Random) -> None:
        self.oracle = Oracle(database)
        self.quiet_from = ROUGH * seconds
        self._seconds = seconds
        self._chance = chance
        self._began = time.monotonic()
        self._stage = Stage(database, chance, hold_s=min(10.0, seconds / 10), wave_jobs=min(1500, round(20 * seconds)))
        self._samples = Samples(database, self._stage.bus.folder.path)

    @property
    def series(self) -> list[Series]:
        return self._samples.series

    def run(self) -> None:
        """All of it, to the verdict of the oracle."""
        seconds, stage = self._seconds, self._stage
        ends = max(2, round(self.quiet_from / END_EVERY_S))
        end_every = self.quiet_from / ends
        errands = [
            Errand(max(0.5, seconds / 360), self._sample, 0),
            Errand(min(2.0, seconds / 10), self._glance, 0),
            Errand(min(1.5, seconds / 20), stage.welcome, 0),
            Errand(min(3.0, seconds / 20), stage.kill_guest, 0),  # twice as often as there comes one that stays
            *(
                Errand(min(longest, seconds / 4), do, min(longest, seconds / 4))
                for longest, do in ((30.0, self._lull), (45.0, self._status), (60.0, self._purge), (60.0, self._tell))
            ),
        ]
        try:
            stage.begin()
            for number in range(ends):
                self._live_until((number + 1) * end_every, errands)
                (stage.stop_writer if number % 2 == 0 else stage.kill_writer)()
                stage.board.next_wave()
            self._samples.renew()
            self._live_until(seconds, errands)
            stage.end()
            self.oracle.finish(stage.accepted())
        finally:
            stage.clear()
        self.oracle.tally.findings += stage.findings
        if self._samples.quarantined:
            self.oracle.tally.findings.append("a journal was found damaged and put into quarantine")

    def summary(self) -> str:
        """What was done, and whether each job was applied exactly once."""
        stage, tally = self._stage, self.oracle.tally
        return (
            f"{tally.jobs:,} jobs, {tally.letters} dead letters, {stage.started} short-lived producers, "
            f"{stage.killed} of them killed; writers: {stage.writers_killed} killed, {stage.writers_stopped} stopped; "
            f"lost {tally.lost}, doubled {tally.doubled}, torn {tally.torn}"
        )

    def _live_until(self, end: float, errands: Sequence[Errand]) -> None:
        while (now := self._now()) < end:
            Interrupt.check()
            for errand in errands:
                if errand.due <= now:
                    errand.do()
                    errand.due = self._now() + errand.every * self._chance.uniform(0.8, 1.2)
            time.sleep(TICK_S)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _sample(self) -> None:
        self._samples.take(self._now(), self._stage.status(), self._stage.people())

    def _glance(self) -> None:
        """What was judged may be deleted, except some rows: ids begin anew in an empty table."""
        self.oracle.glance()
        for at, seen in enumerate(self.oracle.seen):
            self._stage.board.deletable[at] = max(0, seen - KEPT_ROWS)

    def _lull(self) -> None:
        """Long enough for the writer to find that it is idle, which it looks for once a second."""
        self._stage.board.lull(min(3.5, self._seconds / 10))

    def _status(self) -> None:
        self._stage.command("status", codes=(0, 1, 3))

    def _purge(self) -> None:
        if letters := self.oracle.purge():
            self._stage.command("dead-letters", "purge", *map(str, letters), "--yes")

    def _tell(self) -> None:
        jobs = sum(last for _, last in self._stage.accepted())
        print(f"{self._now():6.0f} s, {jobs:,} jobs", flush=True)


if __name__ == "__main__":
    logging.getLogger("telemetry_bus").setLevel(logging.CRITICAL)  # jobs fail on purpose; the oracle counts them
    Interrupt.install()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("soak: interrupted", file=sys.stderr)
        sys.exit(130)
