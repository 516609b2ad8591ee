"""Imports go downward only: reads them from the sources and fails on one that goes up or out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("telemetry_bus", "writer_daemon", "producers")

#: The rooms of `telemetry_bus`, from the ground up. A module imports only from its own layer and from those below it,
#: names that only the type checker needs included. Layer 0 needs nothing but the standard library.
LAYERS = {
    0: ("errors", "config", "postgresql_url", "jobs", "views"),
    1: ("sql", "encoding", "runtime"),
    2: ("protocol", "journal", "database"),
    3: ("producer", "writer", "control", "reading"),
    4: ("backends", "tables", "store"),
    5: ("handlers", "testing", "pytest_plugin", "cli", "__main__", "__init__"),
}

#: What some must not import, whatever its layer.
FORBIDDEN = {
    "telemetry_bus": ("writer_daemon", "producers"),  # the daemon is a command, the producers are clients
    "telemetry_bus.database": ("telemetry_bus.journal", "telemetry_bus.protocol"),  # it knows jobs and SQL only
    "telemetry_bus.journal": ("telemetry_bus.protocol",),  # a job is kept in one form, whoever carries it
    "telemetry_bus.protocol": ("telemetry_bus.journal",),
    "telemetry_bus.producer": ("telemetry_bus.writer", "telemetry_bus.database"),
    "telemetry_bus.writer": ("telemetry_bus.producer",),
    "writer_daemon": ("producers", "telemetry_bus.producer"),
}

#: Who may import a library; nobody else does.
OWNERS = {
    "zmq": ("telemetry_bus.producer.transport", "telemetry_bus.control", "writer_daemon"),
    "psycopg": (*(f"telemetry_bus.{room}.postgresql" for room in ("database", "reading", "runtime")),),
    "sqlalchemy": (
        "telemetry_bus.tables",
        *("telemetry_bus.store", "telemetry_bus.testing"),  # the names of types
        # what reads; what records does without
        *("producers.alchemy", "producers.columns", "producers.destination", "producers.other_types"),
        "producers.reports",
        "producers.extraction.counting",
        "producers.extraction.reads",
        "producers.extraction.rebuilding",
        "producers.byline.review",
        "producers.extraction.trends",
        "producers.overview",
        *("producers.extraction_outcomes.reads", "producers.operations.reads", "producers.operations.timeline"),
    ),
}

#: What producers may import of the bus.
PUBLIC = (
    "telemetry_bus",
    *(f"telemetry_bus.{name}" for name in ("config", "errors", "handlers", "tables", "testing")),
)


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the project by its dotted name; a package under the name of the package."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = sources()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    """A module imports its own layer and lower ones, and only the libraries that it owns."""
    path = MODULES[module]
    assert [] == complaints(module, path.read_text(encoding="utf-8"), package_of(module, path))


def test_no_circles() -> None:
    """Every module can be read after all those that it imports, names for the type checker alone included."""
    arrows = {
        module: {
            target
            for _, target in imports(ast.parse(path.read_text(encoding="utf-8")), package_of(module, path))
            if target in MODULES and target != module
        }
        for module, path in MODULES.items()
    }
    assert [] == circle(arrows)


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """One circle among the imports, its first module again at its end; empty when there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_a_circle_is_found() -> None:
    """The test above sees one that goes through three modules."""
    assert {"a", "b", "c"} == set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}))


def package_of(module: str, path: Path) -> str:
    """What a relative import in `module` starts from."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def complaints(module: str, source: str, package: str) -> list[str]:
    """What is wrong with the imports of `module`, a line for each."""
    if within(module, "telemetry_bus") and layer_of(module) is None:
        return [f"{module} stands in no layer: give it its place in LAYERS of {Path(__file__).name}"]
    return [
        f"{module}, line {line}, imports {target}: {problem}"
        for line, target in imports(ast.parse(source), package)
        for problem in problems(module, target)
    ]


def problems(module: str, target: str) -> Iterator[str]:
    """The rules that `module` breaks when it imports `target`."""
    library = target.partition(".")[0]
    layer, target_layer = layer_of(module), layer_of(target)
    if not within(module, *OWNERS.get(library, PACKAGES)):
        yield f"only {', '.join(OWNERS[library])} may import {library}"
    if layer == 0 and not (target_layer == 0 or library in sys.stdlib_module_names):
        yield "layer 0 is the standard library only"
    elif layer is not None and target_layer is not None and layer < target_layer:
        yield f"that is upward, from layer {layer} to layer {target_layer}"
    for inside, outside in FORBIDDEN.items():
        if within(module, inside) and within(target, *outside):
            yield f"{inside} must not know {', '.join(outside)}"
    if within(module, "producers") and within(target, "telemetry_bus") and target not in PUBLIC:
        yield f"producers import only the public names of {', '.join(PUBLIC)}"


def layer_of(module: str) -> int | None:
    """The layer of a module of `telemetry_bus`; None for one that has no place in the table."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0] or "__init__"
    return next((layer for layer, names in LAYERS.items() if package == "telemetry_bus" and name in names), None)


def within(module: str, *packages: str) -> bool:
    """Whether `module` is one of `packages` or stands inside one."""
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every module that is imported, wherever it is, for the type checker alone too."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*above, *([name] if name else [])])
                # `from package import name` may name a module or something in the package
                targets = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in names}
                yield from ((node.lineno, target) for target in sorted(targets))
            case _:
                yield from imports(node, package)


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("telemetry_bus.errors", "from .encoding import records", "layer 0 is the standard library only"),
        ("telemetry_bus.errors", "import msgpack", "layer 0 is the standard library only"),
        ("telemetry_bus.encoding.values", "def f():\n    from ..database import writer", "from layer 1 to layer 2"),
        ("telemetry_bus.encoding.values", "from telemetry_bus import TelemetryStore", "from layer 1 to layer 5"),
        ("telemetry_bus.encoding.values", "if TYPE_CHECKING:\n    from ..store import x", "from layer 1 to layer 4"),
        ("telemetry_bus.database.writer", "from ..journal.ring import Journal", "must not know telemetry_bus.journal"),
        ("telemetry_bus.journal.ring", "from ..protocol import messages", "must not know telemetry_bus.protocol"),
        (
            "telemetry_bus.producer.sender_thread",
            "from ..writer.intake import Intake",
            "must not know telemetry_bus.writer",
        ),
        ("telemetry_bus.writer.intake", "from ..producer import outbox", "must not know telemetry_bus.producer"),
        ("telemetry_bus.database.writer", "import zmq", "may import zmq"),
        ("telemetry_bus.journal.ring", "import sqlalchemy.sql", "may import sqlalchemy"),
        ("telemetry_bus.database.schema", "from sqlalchemy import Table", "may import sqlalchemy"),
        ("telemetry_bus.cli.status", "import writer_daemon.daemon", "must not know writer_daemon"),
        ("writer_daemon.daemon", "from telemetry_bus.producer import outbox", "must not know"),
        ("telemetry_bus.odds_and_ends", "", "stands in no layer"),
        ("producers.byline.recorder", "from telemetry_bus.store import TelemetryStore", "only the public names"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, problem: str) -> None:
    """The rules find what they are there for."""
    (complaint,) = complaints(module, source, module.rpartition(".")[0])
    assert problem in complaint


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("telemetry_bus.encoding.values", "from ..errors import JobError\nimport msgpack"),
        ("telemetry_bus.database.writer", "from . import lanes\nfrom ..errors import JobError"),
        ("producers.byline.recorder", "from telemetry_bus import get_store\nfrom .schema import TABLES"),
        ("telemetry_bus.tables", "import sqlalchemy\nfrom .errors import JobError"),
        ("writer_daemon.loop", "import zmq\nfrom telemetry_bus.database import Writer"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    """The rules leave alone what is allowed."""
    assert [] == complaints(module, source, module.rpartition(".")[0])
