"""`import telemetry_bus` stays light: a program that only might record something does not pay for the libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["sqlalchemy", "zmq"])
def test_import_leaves_the_libraries_alone(library: str) -> None:
    """They are imported when a store is first used."""
    program = f"import sys, telemetry_bus; print({library!r} in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ("", "False\n") == (ended.stderr, ended.stdout)
