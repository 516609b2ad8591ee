"""What stands in which folder: the product knows none of the others, and these know what they are built on alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("telemetry_bus", "writer_daemon", "producers")
#: What each folder may import of this project, beside the product.
MAY = {
    **dict.fromkeys(PRODUCT, ()),
    "benchmarks": ("benchmarks", "tests.support.postgresql"),
    "examples": ("examples", "tests.support.postgresql"),
    "tests/support": ("tests.support",),
    "tests": ("tests",),
}
#: A room of the tests knows itself and what all share; beyond that, these know another one.
SHARED = ("tests.support", "tests.conftest")
ALSO = {
    "tests/operations": ("tests.endurance.restarts", "tests.systemd.conftest"),
    "tests/systemd": ("tests.endurance.restarts",),
    "tests/upgrades": ("tests.processes.conftest",),
}
DOOR_LINES = 20
DOORS = [path for path in sorted((ROOT / "scripts").iterdir()) if " -P -m " in path.read_text("utf-8")]
OURS = ("benchmarks", "examples", "tests", "scripts", "deploy")
MENTION = re.compile(rf"\b(import|from)\s+({'|'.join(OURS)})\b")


def imports(module: str, source: str) -> Iterator[str]:
    """The absolute names of what a module's source imports."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{name}.{alias.name}" for alias in node.names) if node.module is None else [name]


def complaints(path: str, source: str) -> list[str]:
    """What a file, named from the root of the project, may not import."""
    folder = next((name for name in MAY if path.startswith(f"{name}/") and name != "tests"), "tests")
    allowed = MAY[folder]
    if folder == "tests":
        room = "/".join(path.split("/")[:2])
        allowed = (*SHARED, room.removesuffix(".py").replace("/", "."), *ALSO.get(room, ()))
    if folder in PRODUCT and not MENTION.search(source):
        return []  # sooner than by parsing it
    names = imports(path.removesuffix(".py").replace("/", "."), source)
    return [
        f"{path} must not import {name}"
        for name in names
        if name.partition(".")[0] in OURS and not any(f"{name}.".startswith(f"{one}.") for one in allowed)
    ]


def test_folders_know_what_they_may() -> None:
    """Tests, benchmarks and the example use the product, tests share `tests/support`; nothing knows `scripts`."""
    folders = (*PRODUCT, "benchmarks", "examples", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    assert [] == [
        problem for path in files for problem in complaints(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("telemetry_bus/store.py", "from tests.support import clock"),
        ("producers/values.py", "import benchmarks.rows"),
        ("benchmarks/rows.py", "from tests.support.clock import wait_until"),
        ("tests/support/bus.py", "from ..processes import conftest"),
        ("tests/processes/test_bench.py", "import benchmarks"),
        ("tests/fuzz/targets.py", "from ..simulation import world"),
        ("tests/fuzz/targets.py", "from .. import simulation"),
        ("tests/unit/sql/test_statements.py", "import scripts.fuzz"),
        ("tests/conftest.py", "from .processes.conftest import bus"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str) -> None:
    """The rules find what they are there for."""
    assert 1 == len(complaints(path, source))


def test_scripts_are_doors() -> None:
    """No Python lies in `scripts`, and no door is long: what they start has a folder of its own."""
    assert {"bench", "demo", "fuzz", "restarts", "simulate", "soak", "three-modes", "torture"} == {
        path.name for path in DOORS
    }
    for path in (ROOT / "scripts").iterdir():
        text = path.read_text("utf-8")
        assert text.startswith("#!/usr/bin/env bash\n"), path.name
        assert path not in DOORS or len(text.splitlines()) <= DOOR_LINES, path.name


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_a_door_leads_to_a_program_of_its_name(path: Path) -> None:
    """The program's usage has the name of the door, which is what people type."""
    (module,) = re.findall(r" -P -m ([\w.]+) ", path.read_text("utf-8"))
    program = ROOT / module.replace(".", "/") / "__main__.py"
    assert f'prog="scripts/{path.name}"' in program.read_text("utf-8")
