"""The operator: types what the page says, one block after the other, and reads the answers."""

from __future__ import annotations

import configparser
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .page import ROOT, Block

#: A guard against hanging, not a measure of speed.
DEADLINE_S = 600

#: Runs a script of bash: its exit code, and all that it said.
Shell = Callable[[str], tuple[int, str]]


class Operator:
    """Has the blocks of one test before him."""

    def __init__(self, shell: Shell, blocks: list[Block]) -> None:
        self._shell = shell
        self.left = list(blocks)
        #: What he types instead of a word of the page.
        self.instead: dict[str, str] = {}

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """The next block runs in a terminal of its own, and must have come to its end with the block of the caller."""
        with ThreadPoolExecutor(1) as terminal:
            running = terminal.submit(self.goes_on)
            yield
            running.result(DEADLINE_S)

    def goes_on(self) -> list[str]:
        """Run the next block in one shell. Each command must end with the exit code, and say, what the page shows. The
        answers, command by command."""
        block = self.left.pop(0)
        mark = f"--{secrets.token_hex(8)}--"
        script = "".join(f"{command.text}\necho {mark} $?\n" for command in block.commands)
        for word, other in self.instead.items():
            script = script.replace(word, other)
        _, said = self._shell(script)
        answers = re.split(rf"{mark} (\d+)\n", said)
        assert len(answers) == 2 * len(block.commands) + 1, f"{block}: a command ended the shell: {said}"
        for command, answer, code in zip(block.commands, answers[::2], answers[1::2], strict=False):
            print(f"$ {command.text}\n{answer}", end="")  # what a person sees: pytest -s
            where = f"line {command.line}: {command.text}\n{answer}"
            assert command.code == int(code), where
            assert command.answers(answer), where
        return answers[:-1:2]


def local_shell(folder: Path, environment: Mapping[str, str]) -> Shell:
    """A shell of this machine, in a folder, where the programs of this tree are found."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in stubs().items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "XDG_"))}
    settings = {**inherited, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **environment}

    def run(script: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["bash"],
            input=script,
            cwd=folder,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        return ended.returncode, ended.stdout

    return run


def stubs() -> dict[str, str]:
    """The programs that an installation makes, as small scripts that run this tree's code."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    found = {}
    for line in setup["options.entry_points"]["console_scripts"].strip().splitlines():
        name, module, function = re.split(r"\s*[=:]\s*", line)
        code = f"import sys; from {module} import {function} as main; sys.argv[0] = '{name}'; sys.exit(main())"
        found[name] = f'#!/bin/sh\nexec {sys.executable} -P -c "{code}" "$@"\n'
    return found
