"""The table of faults in the documentation: every row is there, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: letter and number | fault | what must hold | tests | what was seen
ROW = re.compile(r"^\| ([A-Z]?)(\d+) \|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+)(\.py)?(?:::(\w+))?`|`::(\w+)`")


def rows() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = ROW.findall((ROOT / "docs" / "reliability.md").read_text())
    return found


def test_every_row_is_there_and_says_what_was_seen() -> None:
    """Each table has a letter, the first has none, and is numbered in order; no cell is empty."""
    tables: dict[str, list[int]] = {}
    for letter, number, *_ in rows():
        tables.setdefault(letter, []).append(int(number))
    assert "" in tables
    assert all(list(range(1, len(numbers) + 1)) == numbers for numbers in tables.values())
    assert all(cell.strip() for row in rows() for cell in row[1:])


def test_the_tests_of_a_row_exist() -> None:
    """A file, a folder, or a test by its name; `::name` is one of the file before it."""
    for letter, number, _, _, tests, _ in rows():
        named = [*NAMED.finditer(tests)]
        assert named, f"row {letter}{number} names no test"
        path = ROOT
        for found in named:
            file, suffix, name, further = found.groups()
            if file:
                path = ROOT / f"{file}{suffix or ''}"
            assert path.exists(), f"row {letter}{number}: {path}"
            if function := name or further:
                assert f"def {function}(" in path.read_text(), f"row {letter}{number}: {path}::{function}"
