"""The command `telemetry-bus`: one command of an operator, its answer, and failures in one line."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from .. import __version__
from ..errors import ConfigError, TelemetryError, WriterAbsent, printable
from . import backup, doctor, exit_codes, flush, status, stop
from .arguments import Parser, global_defaults
from .copy import command as copy_command
from .deadletters import command as deadletters_command
from .ingest import command as ingest_command
from .output import Output
from .prune import command as prune_command
from .service import command as service_command
from .survey import NoDatabase
from .top import command as top_command

_COMMANDS = (
    *(status, top_command, flush, stop, deadletters_command),
    *(doctor, ingest_command, prune_command, backup, copy_command, service_command),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, see `exit_codes`. Prints help and exits as argparse does."""
    given = global_defaults()
    _open_what_is_closed()
    try:
        parser().parse_args(arguments, given)
        code: int = given.run(given, Output(as_json=given.json))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # who read it has seen enough, as with `| head`
        _give_up_what_is_buffered()
        return exit_codes.FAILED
    except Exception as error:  # the last place that can say what happened
        if given.traceback:
            traceback.print_exc()
        with suppress(OSError):  # nobody can be told
            print(f"telemetry-bus: {_in_one_line(error)}", file=sys.stderr)
        _give_up_what_is_buffered()
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
    if isinstance(error, NoDatabase):
        return exit_codes.MISSING
    return exit_codes.ABSENT if isinstance(error, WriterAbsent) else exit_codes.FAILED


def _in_one_line(error: Exception) -> str:
    if isinstance(error, TelemetryError | sqlite3.Error):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        if isinstance(error, PermissionError):
            text += " (run it as the user whose bus it is, or name another path)"
    else:
        text = f"{type(error).__name__}: {error} (a defect; --traceback shows where)"
    return printable(" ".join(text.split()))


def _open_what_is_closed() -> None:
    """After `>&-` what is printed has nowhere to go, and the next file that is opened must not take its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _give_up_what_is_buffered() -> None:
    """What cannot be written has nowhere to go; Python would complain of it at its exit, and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
