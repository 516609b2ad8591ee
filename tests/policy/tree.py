"""Draws the tree of the packages, each module with the first line of its docstring, and writes it into the page."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("telemetry_bus", "writer_daemon", "producers")

_BEGIN, _END = "<!-- drawn by scripts/draw-tree -->\n\n```\n", "```\n\n<!-- end of the tree -->"
_INDENT = "  "
#: Fixed, so that a long name changes one line and not all.
_WIDTH = 26


def page(text: str, root: Path = ROOT) -> str:
    """The page with the tree as the code is now."""
    before, _, rest = text.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    assert found, f"{PAGE.name} has no place for the tree"
    return before + _BEGIN + tree(root) + _END + after


def tree(root: Path = ROOT) -> str:
    """A line for each package and module, modules before the packages beside them."""
    lines = [line for name in PACKAGES for line in _lines(root / name, "")]
    return "".join(f"{name.ljust(_WIDTH)}{text}\n" for name, text in lines)


def _lines(package: Path, indent: str) -> Iterator[tuple[str, str]]:
    yield f"{indent}{package.name}/", _first_line(package / "__init__.py")
    for path in sorted(package.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}{_INDENT}{path.stem}", _first_line(path)
    for path in sorted(package.glob("*/__init__.py")):
        yield from _lines(path.parent, indent + _INDENT)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
