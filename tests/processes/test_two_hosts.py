"""The demonstration of two hosts that write into one PostgreSQL server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..support.postgresql import binaries_or_skip
from ..support.processes import running

ROOT = Path(__file__).parents[2]


only_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="only root makes namespaces")


@pytest.mark.postgresql
@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["two bus folders", pytest.param("network namespaces", marks=[pytest.mark.root, only_root])]
)
def test_each_record_of_each_host_is_there_once(kind: str) -> None:
    """Both hosts' rows arrive, none twice; no server, no writer and no namespace is left."""
    binaries_or_skip()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # the server of a test that runs as root runs as another user
        demo = subprocess.Popen(
            [sys.executable, "-P", "-m", "examples.demo", "--postgres", "--records", "400"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": folder,
                **({"PATH": "/nowhere"} if kind == "two bus folders" else {}),  # where there is no `ip`
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        output, errors = demo.communicate(timeout=300)
        assert (0, "") == (demo.returncode, errors)
        assert {} == running(folder)
    assert f"2 hosts: {kind}\n" in output
    if kind == "network namespaces":
        left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert f"tb{demo.pid}h" not in left
    assert ["2 producers, 200 rows, 0"] * 2 == re.findall(r"host\d: (.*) of them", output)
