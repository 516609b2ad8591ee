"""Some thousand inputs for each target, and whether the oracle that judges them would notice."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ("-P", "-m", "tests.fuzz")

INPUTS = {"codec": 4000, "jobs": 3000, "control": 4000, "journal": 1000}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def counts(output: str, target: str) -> tuple[int, int, int]:
    """Inputs, rejected ones, and taken ones, of a target's line."""
    found = re.search(rf"^{target} +([\d,]+) +([\d,]+) +([\d,]+) ", output, re.MULTILINE)
    assert found is not None, output
    inputs, rejected, taken = (int(number.replace(",", "")) for number in found.groups())
    return inputs, rejected, taken


@pytest.mark.slow
@pytest.mark.parametrize("target", INPUTS)
def test_hostile_input_meets_only_typed_errors(tmp_path: Path, target: str) -> None:
    """Everything is refused by name or taken, honest jobs beside it are applied, memory stays within its limit; and
    the inputs are such that many get through the first check and many do not."""
    ended = run(tmp_path, *PROGRAM, "--target", target, "--inputs", str(INPUTS[target]), "--seed", "1")
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    inputs, rejected, taken = counts(ended.stdout, target)
    assert INPUTS[target] == inputs == rejected + taken
    assert rejected > inputs / 5
    assert taken > inputs / 20
    assert [] == list(tmp_path.iterdir())


@pytest.mark.integration
def test_hostile_input_to_a_real_writer(tmp_path: Path) -> None:
    """The same over both sockets: the writer lives and counts, and an honest producer's rows are all there."""
    ended = run(tmp_path, *PROGRAM, "--target", "sockets", "--inputs", "1500", "--seed", "1")
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    inputs, rejected, taken = counts(ended.stdout, "sockets")
    assert 1500 == inputs == rejected + taken
    assert rejected > 500


#: Something broken, and what the fuzzer says of it. The code runs before the fuzzer's `main`.
BREAKS = {
    "another error": (
        "jobs",
        "RuntimeError: broken",
        """
from telemetry_bus.protocol.messages import Jobs
def decode(frames): raise RuntimeError("broken")
Jobs.decode = decode
""",
    ),
    "an error while answering": (
        "control",
        "UnicodeEncodeError",
        """
from telemetry_bus.protocol import messages
import writer_daemon.operator as operator
operator.answer = lambda daemon, command: messages.Answer(False, "\\ud800")
""",
    ),
    "an honest job is not taken": (
        "jobs",
        "was not taken",
        """
from telemetry_bus.protocol.writer import WriterProtocol
WriterProtocol.jobs = lambda self, message, now: self._stream(message.stream, now)
""",
    ),
    "an honest job is lost": (
        "jobs",
        "was not taken",  # the fence: the ledger does not stand where the next job begins
        """
from telemetry_bus.database import Writer
settle = Writer.settle
def lossy(self, runs):
    return settle(self, [run for run in runs if run.first % 7 or run.stream != b"an honest stream"])
Writer.settle = lossy
""",
    ),
    "malformed messages are not counted": (
        "jobs",
        "counted 0 times",
        """
from telemetry_bus.writer.intake import Intake
Intake.count_malformed = lambda self, error: None
""",
    ),
    "no checksum": (
        "journal",
        "is not what was written",
        """
from telemetry_bus.encoding import records
records.crc32 = lambda data, seed: 0
""",
    ),
    "a journal that stays": (
        "journal",
        "neither deleted nor",
        """
from telemetry_bus.writer.adoption import Adopter
Adopter._quarantine = lambda self, path, damage: None
""",
    ),
    "too slow": (
        "codec",
        "longer than",
        """
import time
fuzz.HANG_S = 0.2
targets.Codec.take = lambda self, given: time.sleep(60)
""",
    ),
    "too much memory": (
        "codec",
        "are the limit",
        """
sys.argv += ["--memory", "1"]
""",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_found(tmp_path: Path, name: str) -> None:
    """Exit code 1 and what is wrong; the input is kept, and the command that is printed finds it again."""
    target, says, broken = BREAKS[name]
    program = tmp_path / "broken.py"
    program.write_text(
        f"import sys\nfrom tests.fuzz import __main__ as fuzz, targets\n{broken}\nsys.exit(fuzz.main())\n"
    )
    (tmp_path / "kept").mkdir()
    ended = run(tmp_path, str(program), "--target", target, "--inputs", "600", "--keep", "kept")
    assert 1 == ended.returncode, ended.stdout + ended.stderr
    assert says in ended.stdout
    assert "wrong 1" in ended.stdout
    if name == "too much memory":
        return
    (kept,) = (tmp_path / "kept").iterdir()
    alone, together = (shlex.split(line)[1:] for line in ended.stdout.splitlines() if line.startswith("  scripts/fuzz"))
    assert ["--target", target, "--replay", f"kept/{kept.name}"] == alone
    commands = [together, alone] if name in ("another error", "too slow") else [together]
    for command in commands:
        again = run(tmp_path, str(program), *command, "--keep", "kept")
        assert 1 == again.returncode
        assert says in again.stdout


def test_inputs_are_made_again_from_their_numbers(tmp_path: Path) -> None:
    """An input depends on seed, target and number, on nothing before it."""
    code = """
import zlib
from tests.fuzz import __main__ as fuzz
print([zlib.crc32(repr(fuzz.make_input(target, 5, number)).encode()) for target in fuzz.TARGETS for number in NUMBERS])
"""
    many = json.loads(run(tmp_path, "-c", code.replace("NUMBERS", "range(40)")).stdout)
    alone = json.loads(run(tmp_path, "-c", code.replace("NUMBERS", "[39]")).stdout)
    assert 5 == len(set(alone))
    assert many[39::40] == alone
