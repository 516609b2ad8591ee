"""Hurts writer and producers at random while they work at full speed, and counts what is lost, doubled or torn.

They are killed, stopped, displaced, told to end and forked; their database is locked, and restored from a backup under
them; their bus folder is removed, and their disk filled. The oracle stands outside of what is killed. Each run of a
producer notes the number of its last accepted job in memory that it shares with the oracle, after `submit` has
returned: everything up to that number must be in the tables exactly once, in order, whole. The job that follows was
being submitted at the kill: it may be there or not. What a restored backup lacks must be what was told to be gone.

The time is cut into rounds, each with a database of its own, so that an hour needs no more disk than one round. They go
through the settings in turn, and the report has a column for each.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from telemetry_bus.config import parse_database

from ...support.processes import Interrupt
from .oracle import Kind, Tally
from .settings import SETTINGS, Setting, disk
from .stage import Stage

NIGHTLY_S = 3600.0
HEADING = "   time   setting     submitted   kills   other faults   lost   doubled   torn"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    chance = random.Random(seed)
    print(f"seed {seed}, {options.producers} producers, a fault every {options.kill_every:g} s")
    for number, setting in enumerate(SETTINGS, 1):
        print(f"setting {number}: {setting.words}")
    print(HEADING, flush=True)
    tallies = [Tally() for _ in SETTINGS]
    began = time.monotonic()
    try:
        for number, (setting, tally) in itertools.cycle(enumerate(zip(SETTINGS, tallies, strict=True), 1)):
            left = options.seconds - (time.monotonic() - began)
            if left <= 0 or any(each.failed for each in tallies):
                break
            done = one_round(setting, min(options.round, left), options.producers, options.kill_every, chance)
            tally.add(done)
            print(_line(time.monotonic() - began, number, done), flush=True)
    finally:
        print(report(tallies), flush=True)
    for finding in (finding for tally in tallies for finding in [*tally.details, *tally.findings]):
        print(finding)
    return 1 if any(tally.failed for tally in tallies) else 0


def one_round(setting: Setting, seconds: float, producers: int, kill_every: float, chance: random.Random) -> Tally:
    """Work, hurt, let a writer adopt the rest, and judge. The folder stays when something is wrong."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="telemetry-torture-"))
    with disk(folder, setting) as small_disk:
        stage = Stage(parse_database(folder / "torture.db"), setting, small_disk, chance)
        try:
            stage.begin(producers)
            stage.torment(seconds, kill_every)
            stage.end()
        except KeyboardInterrupt:
            stage.clear()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            stage.clear()
        stage.judge()
        tally = stage.tally
        tally.seconds = time.monotonic() - began
        if tally.failed:
            kept = shutil.copytree(folder, Path(tempfile.mkdtemp(prefix="telemetry-torture-kept-")) / "folder")
            tally.findings.append(f"kept for a look: {kept}")
    shutil.rmtree(folder)
    return tally


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="for how long (default %(default)g)")
    parser.add_argument(
        "--nightly", dest="seconds", action="store_const", const=NIGHTLY_S, help=f"for {NIGHTLY_S:g} seconds"
    )
    parser.add_argument("--round", type=float, default=20.0, metavar="N", help="of a round (default %(default)g)")
    parser.add_argument("--producers", type=int, default=4, metavar="N", help="at a time (default %(default)d)")
    parser.add_argument(
        "--kill-every", type=float, default=0.5, metavar="S", help="seconds between faults, on average (default 0.5)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the choices; their timing is the machine's")
    options = parser.parse_args(arguments)
    if not (options.seconds > 0 and options.round > 0 and options.kill_every > 0 and options.producers > 0):
        parser.error("--seconds, --round, --kill-every and --producers are above 0")
    return options


def _line(seconds: float, setting: int, tally: Tally) -> str:
    others = sum(count for kind, count in tally.done.items() if kind in Kind.faults()) - tally.kills
    return (
        f"{seconds:5.0f} s {setting:9} {tally.done[Kind.SUBMITTED]:13,} {tally.kills:7,} {others:14,} "
        f"{tally.lost:6} {tally.doubled:9} {tally.torn:6}"
    )


def report(tallies: Sequence[Tally]) -> str:
    """What was done and found in the rounds that have ended: for each setting, and together."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    columns = [*tallies, total]
    rows = {"seconds": [f"{tally.seconds:,.0f}" for tally in columns]}
    rows |= {kind.value: [f"{tally.done[kind]:,}" for tally in columns] for kind in Kind}
    rows |= {name: [f"{getattr(tally, name):,}" for tally in columns] for name in ("lost", "doubled", "torn")}
    names = [*(f"setting {number}" for number in range(1, len(tallies) + 1)), "together"]
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>14}" for name in names)]
    lines += [f"{name:{width}}" + "".join(f"{cell:>14}" for cell in cells) for name, cells in rows.items()]
    lines.append(
        f"submitted {total.done[Kind.SUBMITTED]:,}, kills {total.kills:,}, "
        f"lost {total.lost}, doubled {total.doubled}, torn {total.torn}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    Interrupt.install()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("torture: interrupted", file=sys.stderr)
        sys.exit(130)
