"""Restarts the writer's service while producers of another user submit, and counts what is lost or doubled.

The service is the one that `telemetry-bus install-service` sets up, on a systemd that is booted for it in namespaces of
its own: nothing of this machine is changed. Needs root. A restart is over when `systemctl restart` returns, that is,
when the next writer answers; the next one comes when that writer has committed something.

A submit waits only for a journal that is full. So it is told how full the fullest was, and how long the longest submit
took. The exit code is 1 when a job was lost or doubled, a writer ended otherwise than it was asked to, or, with a
--rate, when a producer had to wait.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from telemetry_bus.config import DEFAULT_JOURNAL_BYTES

from .machine import Machine
from .service import Load, Service

EXIT_SOUND, EXIT_WRONG, EXIT_USAGE = 0, 1, 2
#: A submit waits for a journal with less room than this; a job of this load has some 50 bytes.
ROOM_BYTES = 4096
KIB = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/restarts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--restarts", type=int, default=10, metavar="N", help="how many (default %(default)d)")
    parser.add_argument("--producers", type=int, default=4, metavar="N", help="at a time (default %(default)d)")
    parser.add_argument(
        "--rate",
        type=float,
        default=1000.0,
        metavar="N",
        help="jobs that each submits in a second, at most (default %(default)g); 0: as many as it can",
    )
    options = parser.parse_args(arguments)
    if not (options.restarts > 0 and options.producers > 0 and options.rate >= 0):
        parser.error("--restarts and --producers are above 0, and --rate is not negative")
    if os.geteuid() != 0:
        print("restarts: only root may boot a systemd", file=sys.stderr)
        return EXIT_USAGE
    folder = Path(tempfile.mkdtemp(prefix="telemetry-restarts-"))
    try:
        (folder / "machine").mkdir()
        with closing(Machine(folder / "machine")) as machine:
            if not machine.boots():
                print(f"restarts: systemd cannot be booted here: {machine.why_not()}", file=sys.stderr)
                return EXIT_USAGE
            machine.people()
            service = Service(machine, "restarts", 1 / options.rate if options.rate else 0.0)
            code = run(service, options.restarts, options.producers, paced=options.rate > 0)
            service.close()
            return code
    finally:
        shutil.rmtree(folder)


def run(service: Service, restarts: int, producers: int, *, paced: bool) -> int:
    """Restart, judge, and tell. The exit code."""
    service.prepare()
    service.control("start")
    began = time.monotonic()
    service.under_load(*(f"producer {number}" for number in range(1, producers + 1)))
    print(f"{producers} producers at work", flush=True)
    took = [restart(service, number) for number in range(1, restarts + 1)]
    load = service.end_load()
    jobs, seconds = sum(load.submitted.values()), time.monotonic() - began
    lost, doubled = missing(service, load)
    waited = load.fullest_bytes > DEFAULT_JOURNAL_BYTES - ROOM_BYTES
    clean = service.show("NRestarts", "Result") == ["0", "success"] and restarts == service.journal().count(" leaves\n")
    print(
        f"submitted {jobs:,} in {seconds:.1f} s ({jobs / seconds:,.0f}/s), "
        f"restarts {restarts}, the longest {max(took):.2f} s"
    )
    print(
        f"longest submit {load.longest_ms:.1f} ms; the fullest journal had {load.fullest_bytes / KIB:,.0f} of "
        f"{DEFAULT_JOURNAL_BYTES / KIB:,.0f} KiB: {'producers' if waited else 'nobody'} had to wait for room"
    )
    if not clean:
        print("a writer did not end as it was asked to:\n" + service.journal())
    print(f"lost {lost}, doubled {doubled}")
    return EXIT_WRONG if lost or doubled or not clean or (paced and waited) else EXIT_SOUND


def restart(service: Service, number: int) -> float:
    """One restart, in the middle of the work: its seconds."""
    service.commits()
    before, began = service.pid, time.monotonic()
    service.control("restart")
    took = time.monotonic() - began
    assert service.pid not in (0, before)
    print(f"restart {number}: {took:.2f} s", flush=True)
    return took


def missing(service: Service, load: Load) -> tuple[int, int]:
    """How many jobs are not in the table, and how many are there more often than once."""
    found = service.found()
    lost = doubled = 0
    for name, submitted in load.submitted.items():
        _, _, count, different = found.get(name, (0, 0, 0, 0))
        lost += submitted - different
        doubled += count - different
    return lost, doubled


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as cleanly as by an interrupt
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("restarts: interrupted", file=sys.stderr)
        sys.exit(130)
