"""Kills writer and producers at random while they work at full speed, and counts what is lost, doubled or torn.

The oracle stands outside of what is killed. Each run of a producer notes the number of its last accepted job in
memory that it shares with the oracle, after `submit` has returned: everything up to that number must be in the
tables exactly once, in order, whole. The job that follows was being submitted at the kill: it may be there or not.

The time is cut into rounds, each with a database of its own, so that an hour needs no more disk than one round.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from telemetry_bus.config import parse_database

from ...support.processes import Interrupt
from .oracle import Tally, judge
from .stage import Stage

ROUND_S = 20.0


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


def one_round(seconds: float, producers: int, kill_every: float, chance: random.Random) -> Tally:
    """Work, kill, let a writer adopt the rest, and judge. The folder stays when something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-torture-"))
    stage = Stage(parse_database(folder / "torture.db"), chance)
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
    judge(folder / "torture.db", stage.accepted(), stage.tally)
    if stage.tally.failed:
        stage.tally.findings.append(f"kept for a look: {folder}")
    else:
        shutil.rmtree(folder)
    return stage.tally


if __name__ == "__main__":
    Interrupt.install()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("torture: interrupted", file=sys.stderr)
        sys.exit(130)
