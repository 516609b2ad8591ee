"""How fast the bus is beside other ways to write the same rows, and what it costs, in one interleaved run.

Each round runs everything once, one after the other, so that a change of the machine's speed hits all; ratios are of
one round's two figures, and what is shown is the median over the rounds. All contenders write the same rows, built
before the clock starts, to SQLite with WAL and synchronous=FULL, except where the name says otherwise. The clock runs
from the common start of all processes until the last row is committed, and then the rows are counted. Slow contenders
get fewer rows: their rate is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import util
from pathlib import Path
from typing import Any

from rich.console import Console

from . import machine, plot, table
from .catalogue import MEASURES, Result, Round, results
from .crowd import ProcessFailed
from .rows import RowsMissing
from .setting import Measure, Setting

EXIT_DONE, EXIT_FAILED = 0, 1
ROUNDS, ROWS = 5, 400_000
QUICK_ROUNDS, QUICK_ROWS = 3, 50_000
MIN_ROWS = 1000


class MeasureFailed(Exception):
    """There are no figures: something was lost, or has ended early."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    for name in [name for name in os.environ if name.startswith("TELEMETRY_")]:
        del os.environ[name]  # a setting of the user's would be measured too
    named = [MEASURES[name] for name in dict.fromkeys(options.only or MEASURES)]
    measures = [measure for measure in named if measure.possible()]
    for measure in named:
        if measure not in measures:
            print(f"left out, because {measure.trial[0]} does not work here: {measure.name}", file=sys.stderr)
    paper = Console(width=None if sys.stdout.isatty() else table.WIDTH)
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-", dir=options.folder) as folder:
        about = {
            "run": f"{options.rounds} rounds of {options.rows:,} rows, {options.producers} producers",
            **machine.describe(Path(folder)),
            "load before": f"{machine.load():.1f}",
        }
        table.head(about, paper)
        rounds = []
        for number in range(options.rounds):
            now = [measure for measure in measures if not (options.quick and number and measure.rare)]
            rounds.append(_round(number, now, options, Path(folder)))
    about["load after"] = f"{machine.load():.1f}"
    found = results(rounds)
    table.show(found, paper)
    paper.print(f"load of the machine: {about['load before']} before, {about['load after']} after", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(_document(about, rounds, found), indent=2, ensure_ascii=False) + "\n")
    if options.plot:
        plot.draw(about, found, options.plot)
    return EXIT_DONE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = "\n".join(f"  {measure.name:20} {measure.about}" for measure in MEASURES.values())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog=f"names for --only:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="measure these alone")
    add("--rounds", type=int, metavar="N", help=f"(default {ROUNDS})")
    add("--rows", type=int, metavar="N", help=f"of the fast contenders in each round (default {ROWS:,})")
    add("--producers", type=int, default=4, metavar="N", help="(default %(default)s)")
    add("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_ROWS:,} rows; the rarer ones once")
    add("--folder", type=Path, metavar="FOLDER", help="on the disk to measure; else the one for temporary files")
    add("--json", type=Path, metavar="FILE", help="write all figures of all rounds to FILE")
    add("--plot", type=Path, metavar="FILE.svg", help="draw the figures; wants matplotlib")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.only or () if name not in MEASURES]:
        parser.error(f"--only: there is no {unknown[0]!r}; --help names all")
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if options.rows is None:
        options.rows = QUICK_ROWS if options.quick else ROWS
    for name, least in (("rounds", 1), ("producers", 1), ("rows", MIN_ROWS)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {least} or more")
    for name in ("json", "plot"):
        if (path := getattr(options, name)) is not None and (path.is_dir() or not path.parent.is_dir()):
            parser.error(f"--{name}: {path} cannot be a file")
    if options.plot is not None and options.plot.suffix not in plot.FORMS:
        parser.error(f"--plot: the name ends in one of {', '.join(plot.FORMS)}")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"--folder: there is no folder {options.folder}")
    wanted = {module for name in options.only or MEASURES for module in MEASURES[name].wants}
    if options.plot:
        wanted.add("matplotlib")
    if missing := sorted(module for module in wanted if util.find_spec(module) is None):
        parser.error(f"{', '.join(missing)} must be installed first: pip install '.[bench]'")
    return options


def _round(number: int, measures: Sequence[Measure], options: argparse.Namespace, folder: Path) -> Round:
    figures = {}
    for measure in measures:
        _tell(f"round {number + 1} of {options.rounds}: {measure.about}")
        with tempfile.TemporaryDirectory(prefix=f"{measure.name}-", dir=folder) as own:
            setting = Setting(Path(own), options.rows, options.producers)
            began = time.monotonic()
            try:
                found = measure.run(setting)
            except (ProcessFailed, RowsMissing) as failure:
                raise MeasureFailed(f"{measure.name}: {failure}") from failure
            figures[measure.name] = {**found, "took_s": time.monotonic() - began}
    _tell("")
    return figures


def _tell(words: str) -> None:
    """On a terminal, one line that is written over; without a thread, which those who are forked would inherit."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def _document(about: dict[str, str], rounds: Sequence[Round], found: Sequence[Result]) -> dict[str, Any]:
    """Everything, for a machine to read; figures with a goal say whether it was met."""
    return {
        "about": about,
        "figures": [
            {**asdict(result.figure), "median": result.median, "values": list(result.values), "met": result.met}
            for result in found
        ],
        "rounds": rounds,
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    try:
        sys.exit(main())
    except MeasureFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        sys.exit(130)
