"""`telemetry-bus doctor`: what is wrong with a bus, and how to mend it."""

from __future__ import annotations

import argparse
import os
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

from ..errors import ConfigError
from . import exit_codes
from .arguments import Parser
from .output import Output, counted, printable
from .survey import Bus

if TYPE_CHECKING:
    from .checks import Finding

_STATE_WIDTH = len("problem")
_LEAST_WIDTH = 20


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "doctor", run, "look for what is wrong, and say how to mend it",
        "Look at the database, the bus folder, the writer and the environment, and say how to mend what is wrong.\n"
        "Changes nothing and starts nobody. A problem makes the exit code 1, a warning does not.",
    )
    parser.add_argument("--full", action="store_true", help="look into the indexes too: integrity_check, which is slow")


def run(arguments: argparse.Namespace, output: Output) -> int:
    from .checks import Case, examine  # they bring SQLAlchemy, which the other commands need not wait for

    found = dict(examine(Case(_bus(arguments.database), full=arguments.full)))
    if output.as_json:
        output.array(
            {"check": name, "state": finding.state, "message": finding.message, "hint": finding.hint}
            for name, finding in found.items()
        )
    else:
        _show(found, output)
    wrong = any(finding.state == "problem" for finding in found.values())
    return exit_codes.FAILED if wrong else exit_codes.DONE


def _bus(database: str | None) -> Bus | None:
    """None when the environment names a database that cannot be; that is a finding, and not the caller's mistake."""
    try:
        return Bus.of(database)
    except ConfigError:
        if database is not None or not os.environ.get("TELEMETRY_DATABASE_URL"):
            raise
        return None


def _show(found: dict[str, Finding], output: Output) -> None:
    """One line each, which a terminal wraps below its beginning."""
    states, width = [finding.state for finding in found.values()], max(map(len, found))
    columns = get_terminal_size().columns if output.on_terminal else None
    for name, finding in found.items():
        begin = f"{finding.state:<{_STATE_WIDTH}}  {name:<{width}}  "
        text = printable(f"{finding.message} ({finding.hint})" if finding.hint else finding.message)
        lines = wrap(text, max(columns - len(begin), _LEAST_WIDTH), break_on_hyphens=False) if columns else [text]
        for line in lines:
            output.line(f"{begin}{line}")
            begin = " " * len(begin)
    output.line(
        f"{counted(len(found), 'check')}, {counted(states.count('problem'), 'problem')}, "
        f"{counted(states.count('warning'), 'warning')}"
    )
