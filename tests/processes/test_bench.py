"""The measurement in small: what comes out of it, and that a contender which loses rows has no figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..support.bus import ROOT

pytestmark = pytest.mark.integration

ROWS, ROUNDS = 1000, 2
#: Runs the measurement with a contender that puts a row too few into the table.
LOSES_A_ROW = """
import runpy
import sys
from benchmarks import one_process
one_process.chunks = lambda rows, size: [rows[1:]]
runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_two_contenders(tmp_path: Path) -> None:
    """Each round has the raw figures of both, a ratio is of one round's two, the picture names them, and neither
    files nor processes are left."""
    document, picture = tmp_path / "out.json", tmp_path / "out.svg"
    ended = _run(
        tmp_path,
        "-P",
        "-m",
        "benchmarks",
        "--only",
        "bus",
        "executemany",
        "--rounds",
        f"{ROUNDS}",
        "--rows",
        f"{ROWS}",
        "--producers",
        "2",
        "--json",
        str(document),
        "--plot",
        str(picture),
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert max(map(len, ended.stdout.splitlines())) <= 100
    found = json.loads(document.read_text())
    assert [["bus", "executemany"]] * ROUNDS == [list(figures) for figures in found["rounds"]]
    assert [{ROWS}] * ROUNDS == [{one["rows"] for one in figures.values()} for figures in found["rounds"]]
    (ratio,) = [one for one in found["figures"] if one["label"] == "bus ÷ executemany"]
    each = [figures["bus"]["rows_per_s"] / figures["executemany"]["rows_per_s"] for figures in found["rounds"]]
    assert each == ratio["values"]
    assert ratio["met"] is (ratio["median"] >= 1)
    root = ElementTree.parse(picture).getroot()
    assert root.tag.endswith("svg")
    texts = {text.strip() for element in root.iter() for text in (element.text or "",)}
    assert {"bus, a job for each row", "executemany, one process", "bus ÷ executemany"} <= texts
    assert {document, picture} == set(tmp_path.iterdir())


def test_a_row_is_missing(tmp_path: Path) -> None:
    """No figure: one line that says what was found, and 1."""
    ended = _run(
        tmp_path,
        "-c",
        LOSES_A_ROW,
        "--only",
        "executemany",
        "--rows",
        f"{ROWS}",
    )
    assert 1 == ended.returncode
    assert ended.stderr.startswith("bench: executemany: ")
    assert ended.stderr.endswith(f": {ROWS - 1} rows in fetches, {ROWS:,} expected\n")
    assert "rows per second" not in ended.stdout
    assert [] == list(tmp_path.iterdir())


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )
