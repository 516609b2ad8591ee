"""`telemetry-bus top`: `status` again and again, with rates."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count

from .. import exit_codes
from ..arguments import Parser, positive, seconds
from ..output import Output
from ..status import STREAM_COLUMNS, fields, status, stream_cells
from ..survey import COUNTED_BYTES, Bus
from .rates import COUNTERS, Course, Report, most_urgent_first

DEFAULT_INTERVAL_S = 1.0
_LEAST_INTERVAL_S = 0.1
#: Terminals that cannot be drawn on.
_DUMB = ("", "dumb", "unknown")

#: Has `status` looked at; None when nobody wants to see it any more.
Look = Callable[[Callable[[], Report]], Report | None]
#: Waits so many seconds; False when nobody wants to see more.
Wait = Callable[[float], bool]


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "top",
        run,
        "watch the writer and the streams, with rates",
        "Watch the writer and the streams, with rates, until q or Ctrl-C. When standard output is no terminal, each\n"
        "sample is a block of text; with --json, a line. The first sample has no rates. What is seen does not change\n"
        "the exit code. When more than 256 KiB wait in a journal, its jobs are reckoned from the size of the first.",
    )
    parser.add_argument(
        "--interval", type=_interval, default=DEFAULT_INTERVAL_S, metavar="S", help="look every S seconds (%(default)g)"
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after N samples; else it goes on")


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus, course = Bus.of(arguments.database), Course()
    bus.demand("top")
    samples = partial(_samples, bus, course, arguments)
    if output.as_json:
        for sample in samples(_plainly, _sleep):
            output.document(sample)
            output.flush()
    elif output.on_terminal and os.environ.get("TERM", "") not in _DUMB:
        from .screen import Screen

        with Screen(course) as screen:
            for sample in samples(screen.meanwhile, screen.wait):
                screen.show(sample)
    else:
        for number, sample in enumerate(samples(_plainly, _sleep)):
            if number:
                output.line()
            _block(sample, output)
            output.flush()
    return exit_codes.DONE


def _samples(bus: Bus, course: Course, arguments: argparse.Namespace, look: Look, wait: Wait) -> Iterator[Report]:
    """`status` with rates, and the time of the look, once per interval as long as a look does not last longer."""
    for number in count(1):
        bus.folder.follow()
        began, taken = time.monotonic(), datetime.now(UTC)
        if (report := look(partial(status, bus, COUNTED_BYTES))) is None:
            return
        yield {"time": f"{taken:%Y-%m-%d %H:%M:%S}", **course.add(report, began)}
        if number == arguments.count or not wait(max(0.0, began + arguments.interval - time.monotonic())):
            return


def _plainly(look: Callable[[], Report]) -> Report:
    return look()


def _sleep(duration: float) -> bool:
    time.sleep(duration)
    return True


def _block(sample: Report, output: Output) -> None:
    """One sample as text, without an empty line: that is between samples."""
    rates = [f"{_told(sample['rates'][name])} {name.removesuffix('_per_s')}/s" for name in COUNTERS]
    output.fields({"time": f"{sample['time']} UTC", **fields(sample, output), "rates": ", ".join(rates)})
    if sample["streams"]:
        output.table(
            (*STREAM_COLUMNS, "jobs/s"),
            [
                (*stream_cells(stream, output), _told(stream["jobs_per_s"]))
                for stream in most_urgent_first(sample["streams"])
            ],
        )


def _told(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


def _interval(text: str) -> float:
    if (interval := seconds(text)) < _LEAST_INTERVAL_S:
        raise argparse.ArgumentTypeError(f"{text} is less than {_LEAST_INTERVAL_S:g} seconds")
    return interval
