"""Gives nonsense and hostile input to every part of the bus that reads what others wrote.

Each input is made from the seed, the name of its target and its number, so that it can be made again. Wrong is: an
exception that is not the part's own error, an input that takes for ever, a damaged record that is believed, an honest
job beside it that is not applied exactly once, and more memory than the limit.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from traceback import format_exc
from types import FrameType
from typing import Any

import msgpack

from . import hostile, targets
from .hostile import Input

#: After so many inputs a target begins anew, and what honest producers handed in is counted.
ROUND = 2000
#: No input may take longer.
HANG_S = 30.0
MEMORY_MIB = 512
#: Real sockets and a real writer get this part of the inputs, and no more than so many.
SOCKET_SHARE, SOCKET_LIMIT = 0.01, 10_000


class Hang(BaseException):
    """An input took too long. Nobody catches it on the way."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="in all (default %(default)d)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the inputs (default %(default)d)")
    parser.add_argument("--target", choices=TARGETS, metavar="NAME", help=f"only one of {', '.join(TARGETS)}")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="start", help="number of the first input")
    parser.add_argument("--memory", type=int, default=MEMORY_MIB, metavar="MIB", help="limit (default %(default)d)")
    parser.add_argument("--keep", type=Path, default=Path(), metavar="DIR", help="where a failing input is kept")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give this kept input to --target, nothing else")
    options = parser.parse_args(arguments)
    if min(options.inputs, options.memory) < 1 or options.start < 0:
        parser.error("--inputs and --memory are at least 1, --from is not negative")
    if not options.keep.is_dir():
        parser.error(f"--keep: there is no folder {options.keep}")
    if options.replay and not options.target:
        parser.error("--replay wants the --target of the input")
    frames = _kept(options.replay, parser) if options.replay else None
    with _quiet():
        if frames is not None:
            tallies = [_run(options.target, [(0, Input(frames))], options)]
        else:
            tallies = _run_all(options)
    return _report(tallies, options.memory)


def _kept(path: Path, parser: argparse.ArgumentParser) -> Any:
    """The frames of a kept input."""
    try:
        return msgpack.unpackb(path.read_bytes())
    except (OSError, ValueError, msgpack.UnpackException) as error:
        parser.error(f"--replay: {path} cannot be read: {error}")


def _run_all(options: argparse.Namespace) -> list[Tally]:
    """Every target in turn, until one shows something wrong."""
    names = [options.target] if options.target else list(TARGETS)
    print(f"seed {options.seed}", flush=True)
    print(Tally.HEADING, flush=True)
    tallies = []
    for name in names:
        count = options.inputs if options.target else int(options.inputs * TARGETS[name].share)
        if name == "sockets":
            count = min(count, SOCKET_LIMIT)
        numbers = range(options.start, options.start + count)
        tally = _run(name, ((n, make_input(name, options.seed, n)) for n in numbers), options)
        print(tally.line(), flush=True)
        tallies.append(tally)
        if tally.finding:
            break
    return tallies


def make_input(name: str, seed: int, number: int) -> Input:
    """The input with this number."""
    return TARGETS[name].make(Random(f"{seed}/{name}/{number}"))


@dataclass
class Tally:
    """What one target was given, and how it took it."""

    HEADING = "target       inputs   rejected      taken   inputs/s   peak MiB"

    name: str
    inputs: int = 0
    rejected: int = 0
    seconds: float = 0.0
    peak_mib: int = 0
    finding: str = ""
    advice: list[str] = field(default_factory=list)

    def line(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0
        return (
            f"{self.name:8} {self.inputs:10,} {self.rejected:10,} {self.inputs - self.rejected:10,} "
            f"{rate:10,.0f} {self.peak_mib:10,}"
        )


def _run(name: str, inputs: Iterable[tuple[int, Input]], options: argparse.Namespace) -> Tally:
    """Give inputs to a target until one shows something wrong."""
    tally = Tally(name)
    began = time.monotonic()
    number, given = 0, Input([])
    try:
        with _target(name) as target:
            for number, given in inputs:  # noqa: B007  # the last one is told of
                with _time_limit():
                    tally.rejected += target.take(given)
                tally.inputs += 1
                if tally.inputs % ROUND == 0:
                    with _time_limit():
                        tally.rejected += target.judge()
            with _time_limit():
                tally.rejected += target.judge()
                tally.peak_mib = target.peak_mib()
            if tally.peak_mib > options.memory:
                tally.finding = f"{tally.peak_mib} MiB of memory, {options.memory} are the limit"
    except (Exception, Hang):
        tally.finding = format_exc()
        kept = options.keep / f"fuzz-{name}-{options.seed}-{number}.input"
        kept.write_bytes(msgpack.packb(given.frames))
        first = number - number % ROUND
        tally.advice = [
            f"scripts/fuzz --target {name} --replay {kept}",
            f"scripts/fuzz --target {name} --seed {options.seed} --from {first} --inputs {number - first + 1}",
        ]
    tally.seconds = time.monotonic() - began
    return tally


def _report(tallies: list[Tally], limit: int) -> int:
    inputs, seconds = sum(tally.inputs for tally in tallies), sum(tally.seconds for tally in tallies)
    rejected = sum(tally.rejected for tally in tallies)
    peak = max(tally.peak_mib for tally in tallies)
    rate = inputs / seconds if seconds else 0
    print(
        f"inputs {inputs:,} in {seconds:.0f} s ({rate:,.0f}/s), rejected {rejected:,}, taken {inputs - rejected:,}, "
        f"peak memory {peak} MiB of {limit}, wrong {sum(bool(tally.finding) for tally in tallies)}"
    )
    for tally in tallies:
        if tally.finding:
            print(tally.finding)
            if tally.advice:
                print("again, the input alone:\n  " + "\nand with those before it:\n  ".join(tally.advice))
            return 1
    return 0


@contextmanager
def _time_limit() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"longer than {HANG_S:g} s")


class _Formats(logging.Handler):
    """Makes every log line, as a real handler does, and drops it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record).encode()


@contextmanager
def _quiet() -> Iterator[None]:
    """Log lines are made and dropped, and a hang raises; afterwards all is as before."""
    logger = logging.getLogger("telemetry_bus")
    before = signal.signal(signal.SIGALRM, _hang), logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [_Formats()]
    try:
        yield
    finally:
        handler, logger.propagate, logger.handlers = before
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _target(name: str) -> Iterator[targets.Target]:
    base = Path("/dev/shm")  # nothing here is about disks
    folder = Path(tempfile.mkdtemp(prefix="telemetry-fuzz-", dir=base if base.is_dir() else None))
    with ExitStack() as life:
        life.callback(shutil.rmtree, folder, ignore_errors=True)
        yield TARGETS[name].open(folder, life)


@dataclass(frozen=True)
class _Kind:
    """How a target is opened, how its inputs are made, and which part of all inputs it gets."""

    open: Callable[[Path, ExitStack], targets.Target]
    make: Callable[[Random], Input]
    share: float


def _both(chance: Random) -> Input:
    if chance.random() < 0.5:
        return hostile.jobs_input(chance)
    return _control(chance)


def _control(chance: Random) -> Input:
    return hostile.control_input(chance, targets.MEMORY)


TARGETS: dict[str, _Kind] = {
    "codec": _Kind(targets.Codec, hostile.codec_input, 0.35),
    "jobs": _Kind(targets.Messages, hostile.jobs_input, 0.34),
    "control": _Kind(targets.ControlMessages, _control, 0.22),
    "journal": _Kind(targets.Journals, hostile.journal_input, 0.08),
    "sockets": _Kind(targets.RealSockets, _both, SOCKET_SHARE),
}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("fuzz: interrupted", file=sys.stderr)
        sys.exit(130)
