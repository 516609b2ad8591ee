"""Runs random schemas and jobs, one scene per seed, through the real modes, and compares each with plain SQLite.

What a scene is: scenes.py beside this. Eight at a time share a database and a writer, each by a store of its own;
daemon mode has a real writer process. Each scene is also run in batches that end anywhere. A seed that differs is told
with what is different, and the exit code is 1; how jobs of eight stores fall into batches is the machine's choice.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from .comparing import TOGETHER, differences

#: Scenes until the next database.
CHUNK = 12 * TOGETHER
REPORT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/three-modes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=1000, metavar="N", help="how many scenes (default %(default)d)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default %(default)d)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="at a time (default %(default)d)"
    )
    options = parser.parse_args(arguments)
    if options.examples < 1 or options.processes < 1:
        parser.error("--examples and --processes are above 0")
    seeds = range(options.first, options.first + options.examples)
    began = told = time.monotonic()
    done, findings = 0, 0
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for chunk, found in pool.imap_unordered(differences, chunks):
            done, findings = done + len(chunk), findings + len(found)
            for text in found:
                print(text, flush=True)
            if time.monotonic() - told > REPORT_S or done == len(seeds):
                told = time.monotonic()
                print(f"{told - began:7.1f} s {done:10,} of {len(seeds):,} scenes, {findings} differ", flush=True)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
