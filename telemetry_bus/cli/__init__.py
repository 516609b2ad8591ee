"""The command `telemetry-bus`: one command of an operator, its answer, and failures in one line."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..errors import ConfigError, TelemetryError, WriterAbsent
from . import backup, dead_letters, doctor, exit_codes, flush, prune, service, status, stop, top
from .arguments import Parser, global_defaults
from .output import Output, printable

_COMMANDS = (status, top, flush, stop, dead_letters, doctor, prune, backup, service)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, see `exit_codes`. Prints help and exits as argparse does."""
    given = global_defaults()
    try:
        parser().parse_args(arguments, given)
        code: int = given.run(given, Output(as_json=given.json))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # who read it has seen enough, as with `| head`
        _silence_stdout()
        return exit_codes.FAILED
    except Exception as error:  # the last place that can say what happened
        if given.traceback:
            traceback.print_exc()
        print(f"telemetry-bus: {_in_one_line(error)}", file=sys.stderr)
        return _code(error)


def parser() -> Parser:
    """The whole command line."""
    whole = Parser(prog="telemetry-bus", description="Look after the telemetry bus of a database.")
    whole.add_argument("--version", action="version", version=f"telemetry-bus {__version__}")
    for command in _COMMANDS:
        command.add_to(whole)
    return whole


def _code(error: Exception) -> int:
    if isinstance(error, ConfigError):
        return exit_codes.USAGE
    return exit_codes.ABSENT if isinstance(error, WriterAbsent) else exit_codes.FAILED


def _in_one_line(error: Exception) -> str:
    if isinstance(error, TelemetryError | sqlite3.Error):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = f"{type(error).__name__}: {error} (a defect; --traceback shows where)"
    return printable(" ".join(text.split()))


def _silence_stdout() -> None:
    """What is still buffered has nowhere to go; Python would complain of it at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
