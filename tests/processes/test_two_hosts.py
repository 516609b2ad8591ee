"""The demonstration of two hosts that write into one PostgreSQL server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..support.postgresql import binaries_or_skip
from ..support.processes import running

ROOT = Path(__file__).parents[2]


@pytest.mark.postgresql
@pytest.mark.integration
@pytest.mark.slow
def test_each_record_of_each_host_is_there_once() -> None:
    """Both hosts' rows arrive, none twice; no server and no writer is left."""
    binaries_or_skip()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # the server of a test that runs as root runs as another user
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "examples.demo", "--postgres", "--records", "400"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "") == (ended.returncode, ended.stderr)
        assert {} == running(folder)
    assert ["2 producers, 200 rows, 0"] * 2 == re.findall(r"host\d: (.*) of them", ended.stdout)
