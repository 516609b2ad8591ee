"""python -m tests.simulation FIRST COUNT [--tell]: as many worlds as one likes; stops at the first that goes wrong."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from .world import World, small_world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, help="how many")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--tell", action="store_true", help="print every step")
    options = parser.parse_args()
    with small_world(), tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.count):
            place = Path(folder, str(seed))
            try:
                World(seed, place, print if options.tell else None).run(options.steps)
            except BaseException:
                print(f"world {seed}, {options.steps} steps:")
                raise
            shutil.rmtree(place)
    print(f"{options.count} worlds without a violation")


if __name__ == "__main__":
    main()
