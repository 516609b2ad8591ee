"""The table of faults in the documentation: every row is there, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = 25

#: number | fault | what must hold | tests | what was seen
ROW = re.compile(r"^\| (\d+) \|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+)(\.py)?(?:::(\w+))?`|`::(\w+)`")


def rows() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = ROW.findall((ROOT / "docs" / "reliability.md").read_text())
    return found


def test_every_row_is_there_and_says_what_was_seen() -> None:
    """Numbered in order, without an empty cell."""
    assert [str(number) for number in range(1, ROWS + 1)] == [number for number, *_ in rows()]
    assert all(cell.strip() for row in rows() for cell in row)


def test_the_tests_of_a_row_exist() -> None:
    """A file, a folder, or a test by its name; `::name` is one of the file before it."""
    for number, _, _, tests, _ in rows():
        named = [*NAMED.finditer(tests)]
        assert named, f"row {number} names no test"
        path = ROOT
        for found in named:
            file, suffix, name, further = found.groups()
            if file:
                path = ROOT / f"{file}{suffix or ''}"
            assert path.exists(), f"row {number}: {path}"
            if function := name or further:
                assert f"def {function}(" in path.read_text(), f"row {number}: {path}::{function}"
