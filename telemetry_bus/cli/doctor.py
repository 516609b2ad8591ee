"""`telemetry-bus doctor`: what is wrong with a bus, and how to mend it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import ConfigError
from . import exit_codes
from .arguments import Parser
from .output import Output, counted
from .survey import Bus

if TYPE_CHECKING:
    from .checks import Finding

_STATE_WIDTH = len("problem")


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "doctor",
        run,
        "look for what is wrong, and say how to mend it",
        "Look at the database, the bus folder, the writer and the environment, and say how to mend what is wrong.\n"
        "Changes nothing and starts nobody. A problem makes the exit code 1, a database that is not there 4, a warning "
        "neither.",
    )
    parser.add_argument("--full", action="store_true", help="look into the indexes too: integrity_check, which is slow")


def run(arguments: argparse.Namespace, output: Output) -> int:
    from .checks import NAMES, Case, examine  # they bring SQLAlchemy, which the other commands need not wait for

    bus, states = _bus(arguments.database), []
    width = max(map(len, NAMES))

    def told() -> Iterator[tuple[str, Finding]]:
        """As they come: some checks take their time."""
        for name, finding in examine(Case(bus, full=arguments.full)):
            states.append(finding.state)
            yield name, finding

    if output.as_json:
        output.array(
            {"check": name, "state": finding.state, "message": finding.message, "hint": finding.hint}
            for name, finding in told()
        )
    else:
        for name, finding in told():
            text = f"{finding.message} ({finding.hint})" if finding.hint else finding.message
            output.sentence(text, begin=f"{finding.state:<{_STATE_WIDTH}}  {name:<{width}}  ", state=finding.state)
        output.line(
            f"{counted(len(states), 'check')}, {counted(states.count('problem'), 'problem')}, "
            f"{counted(states.count('warning'), 'warning')}"
        )
    if "problem" in states:
        return exit_codes.FAILED
    return exit_codes.MISSING if bus is not None and bus.missing else exit_codes.DONE


def _bus(database: str | None) -> Bus | None:
    """None when the environment names a database that cannot be; that is a finding, and not the caller's mistake."""
    try:
        return Bus.of(database)
    except ConfigError:
        if database is not None or not os.environ.get("TELEMETRY_DATABASE_URL"):
            raise
        return None
