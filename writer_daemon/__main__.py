"""`telemetry-writer`: the writer of a telemetry bus, in the foreground."""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress

from telemetry_bus.errors import ConfigError, DatabaseFault, TelemetryError, WriterBusy
from telemetry_bus.paths import BusFolder

from . import exit_codes, logs, options
from .daemon import serve
from .notify import Notifier

logger = logging.getLogger("telemetry_bus.writer")

_CODES: tuple[tuple[type[TelemetryError], int], ...] = (
    (WriterBusy, exit_codes.BUSY),
    (DatabaseFault, exit_codes.NO_DATABASE),
    (ConfigError, exit_codes.USAGE),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the writer and return its exit code; see `exit_codes`."""
    try:
        given = options.parse(arguments)
        folder = BusFolder.of(given.database, given.group)
        os.umask(0o077 if folder.group is None else 0o007)
        folder.prepare()
        logs.configure(given.log_level, given.log_format, folder.log if given.spawned else None)
    except TelemetryError as error:
        print(f"telemetry-writer: {error}", file=sys.stderr)
        return exit_codes.USAGE
    _take_descriptors()
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


def _take_descriptors() -> None:
    """As many open files as the system lets us: each producer takes two, and without any left libzmq aborts."""
    with suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
