"""Time limits are monotonic: the clock of the day is read where a moment is stored or a file's age is asked for."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Where the clock of the day is right, and why.
ALLOWED = {
    "telemetry_bus/writer/adoption.py": "the age of a file; the name of a file in quarantine",
    "telemetry_bus/cli/prune/command.py": "rows are old by the clock of the day",
    "telemetry_bus/cli/deadletters/choice.py": "letters are old by the clock of the day",
    "telemetry_bus/cli/top/command.py": "a picture says when it was taken",
    "telemetry_bus/database/ledger.py": "the age of a row that another process wrote",
}
_CLOCK_OF_THE_DAY = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}


def readers() -> set[str]:
    found = set()
    for package in ("telemetry_bus", "writer_daemon"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in _CLOCK_OF_THE_DAY:
                        found.add(str(path.relative_to(ROOT)))
                    case ast.ImportFrom(module="time", names=names) if {"time", "time_ns"} & {n.name for n in names}:
                        found.add(str(path.relative_to(ROOT)))
    return found


def test_who_reads_the_clock_of_the_day() -> None:
    """Nobody else does: a clock that jumps by a day must not end or prolong any waiting."""
    assert readers() <= set(ALLOWED)


def test_the_list_is_not_longer_than_needed() -> None:
    """An entry that nobody needs would let a wrong use pass."""
    assert set(ALLOWED) <= readers()
