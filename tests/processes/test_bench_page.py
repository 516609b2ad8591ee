"""The figures of the pages are written from a run: what stands in a block is replaced, what stands around it stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..support.bus import ROOT

pytestmark = pytest.mark.integration

WAYS = ("json", "logging", "sqlite-normal", "sqlite-full", "queue", "opentelemetry", "bus", "bus-0")
CASES = [f"{crowding}x{work}" for crowding in (1, 2) for work in ("0.2", "1", "5", "50")]
PARTS = ("submitting", "sending", "zeromq", "writer", "producer", "all")
KEYS = {
    "bus": ["rows_per_s", "calling_cpu_us"],
    "executemany": ["rows_per_s"],
    "bus-worst": ["worst_ms"],
    "scale": ["rows_per_s_64", "rows_per_s_4"],
    "latency": ["p99_ms"],
    "latency-idle": ["acknowledged_ms"],
    "interference": [f"{way}_{case}_us" for way in WAYS for case in CASES],
    "job-cost": [
        *(f"{way}_{rate}_{part}_us" for way in ("bus", "bus-0") for rate in (40, 200, 1000, 10000) for part in PARTS),
        *("background_percent", "background_percent_0", "idle_percent"),
    ],
}


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Of two rounds: each figure is 1 in the first and 3 in the second, those of the bus twice that."""
    rounds = [
        {name: {key: value * (1 + key.startswith("bus_")) for key in keys} for name, keys in KEYS.items()}
        for value in (1, 3)
    ]
    return {"about": dict.fromkeys(("processor", "system", "run", "load before", "load after"), "1"), "rounds": rounds}


def fill(folder: Path, run: dict[str, Any], *pages: Path) -> subprocess.CompletedProcess[str]:
    figures = folder / "figures.json"
    figures.write_text(json.dumps(run))
    command = [sys.executable, "-P", "-m", "benchmarks.page", str(figures), *map(str, pages)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})


def test_pages_are_filled(tmp_path: Path, run: dict[str, Any]) -> None:
    """Medians stand in their blocks, ratios are of one round, and a goal says whether it is met; twice is as once."""
    pages = [Path(shutil.copy(ROOT / name, tmp_path)) for name in ("README.md", "docs/performance.md")]
    before = [page.read_text() for page in pages]
    assert "" == fill(tmp_path, run, *pages).stderr
    readme, performance = (page.read_text() for page in pages)
    assert "a record takes 4.00 µs of CPU" in readme
    assert "| bus ÷ a JSON line, 1, 1 ms | 1.00 | 2.00 | ≤ 1 | missed |" in performance
    assert "| rows a second, four producers ÷ executemany |  | 1.00 | ≥ 1 | met |" in performance
    for old, new in zip(before, (readme, performance), strict=True):
        assert old.partition("<!-- bench:")[0] == new.partition("<!-- bench:")[0]
        assert old.rpartition("<!-- end -->")[2] == new.rpartition("<!-- end -->")[2]
    fill(tmp_path, run, *pages)
    assert [readme, performance] == [page.read_text() for page in pages]


def test_what_was_not_measured_is_named(tmp_path: Path, run: dict[str, Any]) -> None:
    """A run of other measures writes no half of a page."""
    page = Path(shutil.copy(ROOT / "docs" / "performance.md", tmp_path))
    before = page.read_text()
    for figures in run["rounds"]:
        del figures["bus-worst"]
    assert "the run has no worst_ms of bus-worst\n" == fill(tmp_path, run, page).stderr
    assert before == page.read_text()
