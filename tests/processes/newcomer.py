"""What somebody sees who is new: small programs with a mistake, run in a terminal, and the commands that explain it."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "terminal.md"
_BEGIN, _END = "<!-- drawn by scripts/draw-terminal -->\n", "<!-- end of what is drawn -->\n"
_COLUMNS = 110
_TIMEOUT_S = 120

_DDL = '"CREATE TABLE IF NOT EXISTS visits (id INTEGER PRIMARY KEY, url TEXT NOT NULL, page TEXT)"'
FAILING = f"""\
from telemetry_bus import get_store

DDL = {_DDL}

store = get_store("telemetry.db")
for number in range(100):
    url = f"https://news.example/{{number}}" if number % 4 else None
    store.execute("INSERT INTO visits (url) VALUES (?)", (url,), ensure=[DDL])
store.flush()
print("100 visits recorded")
"""
DROPPING = f"""\
from telemetry_bus import TelemetryStore

DDL = {_DDL}

with TelemetryStore("telemetry.db", on_full="drop", journal_bytes=1 << 20) as store:
    for number in range(20_000):
        store.execute("INSERT INTO visits (url, page) VALUES (?, ?)", ("/", "x" * 1000), ensure=[DDL])
print("20000 visits recorded")
"""
PROGRAMS = {"failing.py": FAILING, "dropping.py": DROPPING}


class Scene(NamedTuple):
    """A mistake: what the page says of it, the variables, and commands, each with what it must tell."""

    text: str
    variables: Mapping[str, str]
    commands: Mapping[str, str]


SCENES = [
    Scene(
        "A quarter of the rows lacks what the table demands. The program says which are refused, and runs to its end;\n"
        "with `flush(raise_on_failure=True)` it would end there:",
        {},
        {
            "python failing.py": "is a dead letter (telemetry-bus dead-letters list): IntegrityError: NOT NULL",
            "telemetry-bus status --database telemetry.db": "25 jobs failed since the writer began",
            "telemetry-bus dead-letters list --database telemetry.db": "25 dead letters in 1 group",
        },
    ),
    Scene(
        "A path that was mistyped:",
        {},
        {
            "telemetry-bus status --database telemtry.db": "there is no such database",
            "telemetry-report errors --database telemtry.db": "there is no database",
        },
    ),
    Scene(
        'A journal that is too small for a burst, with `on_full="drop"`:',
        {},
        {
            "python dropping.py": "is full, and jobs are dropped",
            "telemetry-bus status --database telemetry.db": "jobs that found a full journal",
        },
    ),
    Scene(
        "A variable that is misspelt:",
        {"TELEMETERY_BUS_IDLE_TIMEOUT": "5"},
        {
            "python failing.py 2>&1 | head -1": "did you mean TELEMETRY_BUS_IDLE_TIMEOUT?",
            "telemetry-bus doctor --database telemetry.db | head -1": "did you mean TELEMETRY_BUS_IDLE_TIMEOUT?",
        },
    ),
    Scene(
        "One whose value is:",
        {"TELEMETRY_BUS_MODE": "demon"},
        {"python failing.py 2>&1 | tail -1": "'demon' is not one of daemon, thread, sync [TELEMETRY_BUS_MODE]"},
    ),
]

#: What is never twice the same.
_VARYING = [
    (r"/\S*/(failing|dropping)\.py", r"/home/me/\1.py"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "2026-12-01 09:30:00"),
    (r"process \d+", "process 4711"),
    (r"^[0-9a-f]{32}( +)\d+", r"5231160a9bd7c8bfe7e3a1f0b2c4d5e6\g<1>4711"),
    (r"epoch [0-9a-f]+", "epoch 8f6b45610ea11385"),
    (r"up \d:\d\d:\d\d", "up 0:00:01"),
    (r"\d+(\.\d+)? ms", "2.0 ms"),
    (r"in \d+ transactions?", "in 3 transactions"),
    (r"\d+ (KiB|MiB|bytes)( \(WAL\))", r"64 KiB\2"),
    (r"[0-9a-f]{32}\.journal", "5231160a9bd7c8bfe7e3a1f0b2c4d5e6.journal"),
    (r"line \d+, in", "line 100, in"),
    (r'"/\S*/telemetry_bus/', '"…/telemetry_bus/'),
    (r"dropped: \d+", "dropped: 18962"),
    (r"^(dropped +)[\d,]+", r"\g<1>18,962"),
    (r"[\d,]{5,} jobs, [\d,]{5,} rows", "1,038 jobs, 1,038 rows"),
]
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_SHOWN_LINES = 14
_HEAD, _TAIL = 7, 3


def page(old: str, folder: Path) -> str:
    """The page as it is now. `folder` is empty, and has a short path."""
    before, _, rest = old.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    assert found, f"{PAGE.name} has no place for what is drawn"
    return f"{before}{_BEGIN}\n{drawn(folder)}\n{_END}{after}"


def drawn(folder: Path) -> str:
    parts = []
    for scene, outcomes in zip(SCENES, played(folder), strict=True):
        settings = "".join(f"{name}={value} " for name, value in scene.variables.items())
        shown = [
            f"$ {settings}{command}{f'  # exit code {code}' if code else ''}\n{_fixed(output)}"
            for command, (code, output) in zip(scene.commands, outcomes, strict=True)
        ]
        parts.append(f"{scene.text}\n\n```console\n{''.join(shown)}```\n")
    return "\n".join(parts)


def played(folder: Path) -> Iterator[list[tuple[int, str]]]:
    """For each scene the exit codes and the output of its commands, from a folder of its own below this one."""
    for number, scene in enumerate(SCENES):
        (place := folder / str(number)).mkdir()
        for name, program in PROGRAMS.items():
            (place / name).write_text(program)
        try:
            outcomes = [_run(command, place, scene.variables) for command in scene.commands]
        finally:
            _run("telemetry-bus stop --database telemetry.db", place, {})
        yield [(code, output.replace(f"{place}/", "/srv/telemetry/")) for code, output in outcomes]


def _fixed(output: str) -> str:
    """Without what is never twice the same, and not too long."""
    for varying, fixed in _VARYING:
        output = re.sub(varying, fixed, output, flags=re.MULTILINE)
    lines = [line.rstrip() for line in output.splitlines()]
    if len(lines) > _SHOWN_LINES:
        lines = [*lines[:_HEAD], "…", *lines[-_TAIL:]]
    return "".join(f"{line}\n" for line in lines)


def _run(command: str, place: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """A command in a terminal: its exit code, and what it has written there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1", "TERM": "xterm"}
    environ |= variables
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, _COLUMNS))
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        ran = subprocess.Popen(["sh", "-c", command], cwd=place, env=environ, stdout=theirs, stderr=theirs)
        os.close(theirs)
        output = b""
        while chunk := _read(terminal):
            output += chunk
        return ran.wait(_TIMEOUT_S), _CONTROLS.sub("", output.decode().replace("\r\n", "\n"))


def _read(terminal: io.RawIOBase) -> bytes:
    try:
        return terminal.read(65536) or b""
    except OSError:  # nobody has it open any more
        return b""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="new") as name:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
