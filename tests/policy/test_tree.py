"""The page of the architecture is true: its tree is that of the code, its words are used where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .tree import PACKAGES, PAGE, ROOT, page, tree


def glossary() -> list[tuple[list[str], list[str]]]:
    """The words of each row of the table, and the files that it names."""
    table = PAGE.read_text(encoding="utf-8").partition("| word | meaning | where |")[2].partition("\n\n")[0]
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    return [(words.removeprefix("| ").split(", "), re.findall("`([^`]+)`", where)) for words, _, where in rows]


def test_the_page_has_the_tree_of_the_code() -> None:
    """A module that came, went or says something else of itself is drawn again."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run scripts/draw-tree, and commit the page with the code"


def test_modules_stand_before_packages_with_their_first_line(tmp_path: Path) -> None:
    """A line for each, indented as deep as it lies."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""What is first.\n\nMore."""')
    (tmp_path / "producers" / "b.py").write_text('"""The module."""')
    (tmp_path / "producers" / "a").mkdir()
    (tmp_path / "producers" / "a" / "__init__.py").write_text("")
    lines = [
        re.sub("  +", lambda gap: gap[0] if gap.start() == 0 else " | ", line) for line in tree(tmp_path).splitlines()
    ]
    assert ["telemetry_bus/ | What is first.", "writer_daemon/ | What is first."] == lines[:2]
    assert ["producers/ | What is first.", "  b | The module.", "  a/ | "] == lines[2:]


@pytest.mark.parametrize(("words", "where"), glossary(), ids=lambda found: found[0])
def test_each_word_is_used_where_the_page_says(words: list[str], where: list[str]) -> None:
    """The glossary names files that are there, and each of its words stands in one of them."""
    texts = [(ROOT / path).read_text(encoding="utf-8").lower() for path in where]
    assert texts
    assert [] == [word for word in words if not any(re.search(_in_code(word), text) for text in texts)]


def _in_code(word: str) -> str:
    """A word as code and comments may write it: `DeadLetter`, `in_flight`, `back-pressure`, decided, decides."""
    return re.sub("[ -]", "[ _-]?", word.lower())
