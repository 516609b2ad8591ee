"""What the bus itself tells and does, through its own command: a writer is asked as an operator would ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

#: The command ends by itself after 30 s; it may run letters again before that.
_MOST_S = 60.0
_DONE, _NOT_FOR_ALL, _NO_WRITER = 0, 1, 3


class Unanswered(Exception):
    """The command could not do it; the text is its own."""


def ask(database: str | None, *command: str) -> Any:
    """What `telemetry-bus COMMAND --json` answers. The URL goes by the environment, which no process list shows.

    Raises `Unanswered`.
    """
    environment = dict(os.environ)
    if database is not None:
        environment["TELEMETRY_DATABASE_URL"] = database
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "telemetry_bus", *command, "--json"],
            capture_output=True,
            text=True,
            timeout=_MOST_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"telemetry-bus {command[0]} has not answered for {_MOST_S:.0f} s") from error
    if ended.returncode in (_DONE, _NOT_FOR_ALL, _NO_WRITER) and ended.stdout:
        return json.loads(ended.stdout)
    raise Unanswered(ended.stderr.strip() or f"telemetry-bus {command[0]} has ended with {ended.returncode}")
