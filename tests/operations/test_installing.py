"""Installing and upgrading, as the page says."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ..support.bus import Bus
from . import situations
from .operator import Operator, local_shell
from .page import ROOT, Block

#: What is needed to build and install.
SOURCES = ("telemetry_bus", "writer_daemon", "producers", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_install_and_upgrade(bus: Bus, blocks: list[Block]) -> None:
    """Into an environment of its own; later under a producer at work, which loses nothing."""
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(bus.home), "setuptools"]
    if (asked := subprocess.run(probe, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no package index can be reached: {asked.stderr.strip()}")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, bus.home / name)
    settings = {
        "TELEMETRY_DATABASE_URL": "data/telemetry.db",
        "PYTHONPATH": str(dependencies(bus.home / "dependencies")),
        "PIP_NO_DEPS": "1",
        "PIP_NO_COMPILE": "1",
    }
    operator = Operator(local_shell(bus.home, settings), blocks)
    operator.goes_on()
    with situations.under_load(bus, "a"):
        operator.goes_on()
    assert [] == operator.left


def dependencies(folder: Path) -> Path:
    """What this tree needs is here already; a folder with nothing of the tree itself."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("telemetry_bus", "__editable__", "pip", "setuptools")):
            (folder / entry.name).symlink_to(entry)
    return folder
