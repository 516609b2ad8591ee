"""The scripts: options that make no sense are refused before anything is started; an interrupt ends them cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What the doors in `scripts/` start.
PROGRAMS = {
    "bench": "benchmarks",
    "fuzz": "tests.fuzz",
    "restarts": "tests.endurance.restarts",
    "soak": "tests.endurance.soak",
    "torture": "tests.endurance.torture",
}


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("bench", ["--only", "bus", "nothing"], "--only"),
        ("bench", ["--rounds", "0"], "--rounds"),
        ("bench", ["--rows", "10"], "--rows"),
        ("bench", ["--folder", "/no/such/folder"], "--folder"),
        ("bench", ["--plot", "/no/such/folder/x.svg"], "--plot"),
        ("bench", ["--plot", "x.doc"], "--plot"),
        ("fuzz", ["--inputs", "0"], "--inputs"),
        ("fuzz", ["--keep", "/no/such/folder"], "--keep"),
        ("fuzz", ["--replay", "/no/such/file", "--target", "codec"], "--replay"),
        ("fuzz", ["--replay", __file__], "--target"),
        ("fuzz", ["--replay", __file__, "--target", "codec"], "--replay"),
        ("restarts", ["--restarts", "0"], "--restarts"),
        ("restarts", ["--rate", "-1"], "--rate"),
        ("soak", ["--seconds", "0"], "--seconds"),
        ("soak", ["--seconds", "nan"], "--seconds"),
        ("soak", ["--seconds", "1", "--out", "/no/such/folder/x.svg"], "--out"),
        ("torture", ["--seconds", "0"], "--seconds"),
        ("torture", ["--kill-every", "0"], "--kill-every"),
        ("torture", ["--producers", "0"], "--producers"),
    ],
)
def test_options_that_make_no_sense(
    script: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The usage under the name that people type, one line that names the option, and 2."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        import_module(f"{PROGRAMS[script]}.__main__").main(arguments)
    output, errors = capsys.readouterr()
    assert (2, "") == (ended.value.code, output)
    assert errors.startswith(f"usage: scripts/{script} ")
    last = errors.splitlines()[-1]
    assert last.startswith(f"scripts/{script}: error: ")
    assert said in last


@pytest.mark.integration
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("script", "arguments", "first_word"),
    [
        ("bench", ["--only", "bus"], "run "),
        ("fuzz", [], "seed "),
        ("soak", [], "seed "),
        ("torture", [], "seed "),
    ],
)
def test_an_interrupt(script: str, arguments: list[str], first_word: str, kind: signal.Signals, tmp_path: Path) -> None:
    """No traceback, of no process; nothing is left in the folder for temporary files."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", PROGRAMS[script], *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(first_word)
            while script != "fuzz" and not list(tmp_path.rglob("*.journal")):  # until producers are there
                assert process.poll() is None
                time.sleep(0.05)
            if kind is signal.SIGINT:
                os.killpg(process.pid, kind)  # as a terminal does
            else:
                process.send_signal(kind)
            _, errors = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (130, f"{script}: interrupted\n") == (process.returncode, errors)
    assert [] == list(tmp_path.iterdir())
