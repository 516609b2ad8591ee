"""`telemetry-bus stop`: the writer finishes and leaves."""

from __future__ import annotations

import argparse
import time

from ..config import DEFAULT_TIMEOUT
from ..control import ask
from ..errors import WriterAbsent, WriterBusy
from . import exit_codes
from .arguments import Parser, seconds
from .calling import POLL_S
from .output import Output
from .survey import Bus


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "stop",
        run,
        "ask the writer to finish and leave",
        "Ask the writer to finish and leave; returns when the database is free. Producers start the next one\n"
        "when they have something to write.",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=DEFAULT_TIMEOUT, metavar="S", help="give up after S seconds (%(default)g)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    bus.demand("stop")
    pid = stop(bus, arguments.timeout) if bus.held else None
    if output.as_json:
        output.document({"stopped": pid is not None, "pid": pid})
    else:
        output.line("no writer runs" if pid is None else f"writer {pid} has left")
    return exit_codes.DONE


def stop(bus: Bus, timeout: float) -> int | None:
    """The process that has left; None when it was gone before it could be asked.

    Raises `WriterBusy` when the owner is a program in thread mode, does not answer, or does not leave in time.
    """
    deadline = time.monotonic() + timeout
    if (owner := bus.owner()).is_program:
        raise _busy(bus, owner.silence(), "end that program")
    try:
        pid = int(ask(bus.folder, "stop", timeout)["pid"])
    except WriterAbsent:
        if not bus.held:
            return None
        raise _busy(bus, bus.owner().silence(), "end it by its process id; nothing is lost") from None
    while bus.held and bus.owner().pid in (None, pid):  # another one: a producer has started it meanwhile
        if time.monotonic() >= deadline:
            raise _busy(bus, f"process {pid} has not left after {timeout:g} s", "telemetry-bus status tells more")
        time.sleep(POLL_S)
    return pid


def _busy(bus: Bus, message: str, hint: str) -> WriterBusy:
    return WriterBusy(message, operation="stop", subject=bus.database.masked, hint=hint)
