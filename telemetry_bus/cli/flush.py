"""`telemetry-bus flush`: a barrier for all producers of a database."""

from __future__ import annotations

import argparse
import time

from ..config import DEFAULT_TIMEOUT
from ..errors import FlushTimeout, JournalCorrupt
from ..runtime.folder import JOURNAL_SUFFIX
from . import exit_codes
from .arguments import Parser, seconds
from .calling import POLL_S, Caller
from .output import Output, counted
from .survey import Bus, Journals

#: A look reads whole journals. Rest so many times as long as it took.
_REST = 1


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "flush",
        run,
        "wait until the journals are empty",
        "Wait until every job that is in a journal now, of living and of dead producers, is committed or a dead letter."
        "\nStarts a writer if none runs, unless TELEMETRY_BUS_SPAWN is 0.",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=DEFAULT_TIMEOUT, metavar="S", help="give up after S seconds (%(default)g)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    bus.demand("flush")
    barrier = wait_for_journals(bus, arguments.timeout)
    if spoiled := [name for name in barrier.names if any(bus.folder.quarantine.glob(f"{name}.*"))]:
        raise JournalCorrupt(
            f"{', '.join(spoiled)} could not be read to the end",
            operation="flush",
            subject=str(bus.folder.quarantine),
            hint="what could be read is applied, and the file kept there",
        )
    if output.as_json:
        output.document({"flushed": True, "jobs": barrier.jobs, "journals": len(barrier.names)})
    elif barrier.names:
        output.line(f"{counted(barrier.jobs, 'job')} of {counted(len(barrier.names), 'journal')} decided, none waits")
    else:
        output.line("no job waits")
    return exit_codes.DONE


def wait_for_journals(bus: Bus, timeout: float) -> Barrier:
    """Return when what is in the journals now is decided. Raises `FlushTimeout`, and `WriterAbsent`."""
    barrier = Barrier(bus.journals())
    if not barrier.reached:
        _wait(bus, barrier, timeout)
    return barrier


class Barrier:
    """What has to be decided: the jobs that were in the journals at the first look."""

    def __init__(self, journals: Journals) -> None:
        waiting = [journal for journal in journals.readable if journal.pending_bytes]
        self._ends = {journal.stream: journal.end for journal in waiting}
        self._damaged = set(journals.damaged)
        self.jobs = journals.pending_jobs
        #: The files of the journals that count.
        self.names = [*(journal.stream.hex() + JOURNAL_SUFFIX for journal in waiting), *journals.damaged]

    @property
    def reached(self) -> bool:
        return not self._ends and not self._damaged

    def look(self, journals: Journals) -> None:
        """Take away what is decided: a journal that is gone, empty, or has come past its mark."""
        found = {journal.stream: journal for journal in journals.readable}
        self._ends = {
            stream: end
            for stream, end in self._ends.items()
            if stream in found and found[stream].end - found[stream].pending_bytes < end
        }
        self._damaged &= journals.damaged.keys()

    def __str__(self) -> str:
        left = counted(len(self._ends) + len(self._damaged), "journal")
        return f"{left} ({len(self._damaged)} damaged)" if self._damaged else left


def _wait(bus: Bus, barrier: Barrier, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with Caller(bus, timeout) as caller:
        while True:
            caller.ensure()
            began = time.monotonic()
            caller.call()
            journals = bus.journals()
            barrier.look(journals)
            if barrier.reached:
                return
            if began >= deadline:
                trouble = "".join(f"; {name}: {text}" for name, text in [*journals.damaged.items()][:1])
                raise FlushTimeout(
                    f"{counted(journals.pending_jobs, 'job')} waiting in {barrier} after {timeout:g} s{trouble}; "
                    f"the writer: {caller.known()}",
                    operation="flush",
                    subject=bus.database.masked,
                    hint="they are safe and will be written",
                )
            time.sleep(max(POLL_S, _REST * (time.monotonic() - began)))
