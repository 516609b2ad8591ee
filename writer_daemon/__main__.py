"""`telemetry-writer`: the writer of a telemetry bus, in the foreground."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from telemetry_bus.errors import ConfigError, DatabaseFault, OtherName, TelemetryError, WriterBusy
from telemetry_bus.runtime.folder import BusFolder

from . import exit_codes, inheritance, logs, options
from .daemon import serve
from .notify import Notifier

logger = logging.getLogger("telemetry_bus.writer")

#: Lists and the like, alive at once: a full batch of jobs with two statements has a third of that.
COLLECT_AFTER = 200_000
#: What is larger is never kept by malloc; all that a batch of small jobs needs is smaller.
LARGE_BLOCK_BYTES = 1024 * 1024
#: Of mallopt(3).
M_MMAP_THRESHOLD = -3

_CODES: tuple[tuple[type[TelemetryError], int], ...] = (
    (WriterBusy, exit_codes.BUSY),
    (OtherName, exit_codes.OTHER_NAME),
    (DatabaseFault, exit_codes.NO_DATABASE),
    (ConfigError, exit_codes.USAGE),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the writer and return its exit code; see `exit_codes`."""
    _fill_closed_streams()
    try:
        given = options.parse(arguments)
        inheritance.undo(spawned=given.spawned)
        folder = BusFolder.of(given.database, given.group)
        os.umask(0o077 if folder.group is None else 0o007)
        folder.prepare()
        logs.configure(given.log_level, given.log_format, folder.log if given.spawned else None)
    except (TelemetryError, OSError) as error:
        logs.complain(f"telemetry-writer: {error}")
        return exit_codes.USAGE
    _spare_the_collector()
    _give_large_blocks_back()
    # What a spawned writer inherits is its producer's: it must not speak for that service.
    notifier = Notifier(None if given.spawned else os.environ)
    try:
        return serve(given, folder, notifier)
    except TelemetryError as error:
        logger.error("%s", error)
        notifier.say(str(error))
        return next((code for kind, code in _CODES if isinstance(error, kind)), exit_codes.FAILED)
    except Exception:  # the last place that can say what happened
        logger.exception("the writer failed")
        return exit_codes.FAILED


def _fill_closed_streams() -> None:
    """Where standard streams are closed, no file of ours may get their numbers: libraries write to these."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _spare_the_collector() -> None:
    """Have the collector look for cycles when there are more objects than a batch has rows. In rows there are none, and
    by default it walks all that are there after each 700: a third of the writer's time."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _give_large_blocks_back() -> None:
    """Have malloc map each large block by itself, and unmap it when it is free (mallopt(3)). By default it learns from
    the first jobs of some megabytes to keep such blocks among the small ones, and a fifth of the peak is holes."""
    with suppress(AttributeError, OSError):  # another library than glibc
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


if __name__ == "__main__":
    sys.exit(main())
