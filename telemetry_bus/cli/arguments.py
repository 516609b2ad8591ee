"""The grammar of the command line: a parser that fails in one line, and options that every command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from ..config import check_seconds
from ..encoding.values import INT64_MAX
from ..errors import ConfigError
from .exit_codes import EPILOG
from .output import Output

#: What carries out a command; its result is the exit code.
Run = Callable[[argparse.Namespace, Output], int]

#: Beside the longest name of a command.
_HELP_COLUMN = 26
#: Longer lines are hard to read, however wide the terminal is.
_PROSE_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """Raises `ConfigError` instead of printing its usage and leaving. Takes the global options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(epilog=EPILOG, allow_abbrev=False, formatter_class=_Formatter, **options)
        # Without a default, so that a command does not undo what stands before it: see `global_defaults`.
        add = self.add_argument_group("global options, before or behind the command").add_argument
        add("--database", metavar="URL", default=argparse.SUPPRESS, help="URL or path; else TELEMETRY_DATABASE_URL")
        add("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
        add("--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from")
        self._commands: Any = None

    def command(self, name: str, run: Run | None, summary: str, description: str = "") -> Parser:
        """The parser of a command called `name`, which `run` carries out; None: a group of further commands."""
        if self._commands is None:
            self._commands = self.add_subparsers(title="commands", metavar="COMMAND", required=True)
        description = description or f"{summary[0].upper()}{summary[1:]}."
        parser: Parser = self._commands.add_parser(name, help=summary, description=description)
        if run is not None:
            parser.set_defaults(run=run)
        return parser

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, hint=f"{self.prog} --help")


class _Formatter(argparse.HelpFormatter):
    """Wraps what is prose, and leaves the table of exit codes as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text == EPILOG else super()._fill_text(text, min(width, _PROSE_WIDTH), indent)


def global_defaults() -> argparse.Namespace:
    """What the global options are when they are not given."""
    return argparse.Namespace(database=None, json=False, traceback=False)


def seconds(text: str) -> float:
    """The type of an option that is a time."""
    try:
        return check_seconds("seconds", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


def positive(text: str) -> int:
    """The type of an id or a count: what the database can hold."""
    if text.isascii() and text.isdigit() and 0 < (number := int(text[:20])) <= INT64_MAX:
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
