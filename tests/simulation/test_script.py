"""`scripts/simulate`: worlds in many processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ("-P", "-m", "tests.simulation")


def test_script_runs_worlds_in_processes() -> None:
    """It says how many there were and what happened in them."""
    ended = simulate("--seeds", "41", "--jobs", "2")
    assert (0, "") == (ended.returncode, ended.stderr)
    *events, last = ended.stdout.splitlines()
    assert last.startswith("41 worlds in ")
    assert last.endswith(" s, 0 violations")
    assert any(line.endswith("  message lost") for line in events)


def test_script_stops_at_a_violation_and_tells_how_to_see_it() -> None:
    """The command that it prints runs the same world, tells every step, and ends with the same violation."""
    ended = simulate("--seeds", "100000", "--jobs", "2", "--mutation", "a second writer does not mind")
    assert (1, "") == (ended.returncode, ended.stderr)
    found, command = ended.stdout.splitlines()[-2:]
    assert found.endswith(": a second writer has the lock")
    script, *arguments = shlex.split(command.removeprefix("see it happen: "))
    assert "scripts/simulate" == script
    told = simulate(*arguments)
    assert 1 == told.returncode
    assert found == told.stdout.splitlines()[-1]
    assert any(" writer starts " in line for line in told.stdout.splitlines())


def test_script_is_interrupted() -> None:
    """Ctrl-C ends every process, and what was done so far is told."""
    script = subprocess.Popen(
        [sys.executable, "-u", *PROGRAM, "--seeds", "1000000000", "--jobs", "2"],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    with script:
        assert " worlds, 0 violations" in script.stdout.readline()
        os.killpg(script.pid, signal.SIGINT)
        rest, errors = script.communicate(timeout=60)
    assert (130, "") == (script.returncode, errors)
    assert rest.splitlines()[-1].endswith(" s, 0 violations")
    with pytest.raises(ProcessLookupError):
        os.killpg(script.pid, 0)


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *PROGRAM, *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
