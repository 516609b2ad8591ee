"""The command `telemetry-report`."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from telemetry_bus import __version__

from ..destination import Destination
from ..extraction import ComprehensiveExtractionTelemetry
from .catalogue import add_database, add_report, add_reports, make_report
from .opening import errors_of_reading, open_store
from .progress import progress
from .rendering import render
from .rolling import add_options, rollup
from .serving import add_pages, serve
from .words import words

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """`telemetry-report`: print one report. Returns 0, 1 when it cannot be made; argparse exits with 2."""
    parser = argparse.ArgumentParser(prog="telemetry-report", description="What the telemetry producers recorded.")
    parser.add_argument("--version", action="version", version=f"telemetry-bus {__version__}")
    add_database(parser)
    subparsers = parser.add_subparsers(dest="report", required=True, metavar="REPORT")
    add_reports(subparsers, with_database=True)
    about = "how far the hourly rollups reach; with --rebuild they are made from rows"
    add_options(add_report(subparsers, "rollup", about, with_database=True))
    add_pages(subparsers)
    given = parser.parse_args(arguments, argparse.Namespace(database=None))
    try:
        if sys.stdout is None:
            raise OSError("the standard output is closed")
        if given.report == "serve":
            return serve(given)
        writes = given.report == "rollup" and given.rebuild
        with (
            open_store(given.database, writes=writes) as store,
            progress(f"telemetry-report {given.report}", sys.stderr),
        ):
            if given.report == "rollup":
                report = rollup(store, given)
            else:
                telemetry = ComprehensiveExtractionTelemetry(store=store)
                report = make_report(given.report, given, telemetry, Destination(store, logger=_logger))
        render(report, given.format, sys.stdout, spreadsheet=given.spreadsheet)
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has seen enough, as with `| head`
        _give_up_what_is_buffered()
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell names the end by this signal
    except errors_of_reading() as error:
        return _failed(error)
    except OSError as error:
        _give_up_what_is_buffered()
        return _failed(error.strerror or error)
    except (TypeError, ValueError, ArithmeticError) as error:  # a column may hold anything in SQLite
        return _failed(f"the database holds what this report cannot read: {type(error).__name__}: {error}")
    return 0


def _give_up_what_is_buffered() -> None:
    """The interpreter would try to write it once more at its end, and complain."""
    if sys.stdout is not None:
        with suppress(io.UnsupportedOperation):  # what is no file of the system's is not written once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(why: object) -> int:
    """Say it in one line."""
    print(f"telemetry-report: {words('text', why)}", file=sys.stderr)
    return 1
