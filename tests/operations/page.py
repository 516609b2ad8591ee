"""The console blocks of the operations page: commands, what the page shows of their answers, and who runs them.

    <!-- run: backup -->
    ```console
    $ telemetry-bus backup copy.db
    /…/copy.db: … in … s, checked
    $ telemetry-bus status          # exit code 3
    ```

`run` names the test, here `test_backup`. The lines below a command are its answer, where `…` stands for anything; a
command without such lines may answer what it likes. Blanks count as one. The exit code is 0 unless a comment names
another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"

_FENCE = re.compile(r"(?:^<!-- run: (?P<name>[^\n]+) -->\n)?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT_CODE = re.compile(r"# exit code (\d+)$")


@dataclass
class Command:
    """One command of a block. `shown` are the lines below it."""

    line: int
    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        found = _EXIT_CODE.search(self.text)
        return int(found[1]) if found else 0

    def answers(self, output: str) -> bool:
        """Whether this is the answer that the page shows."""
        parts = " ".join(self.shown).split("…")
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in parts)
        return not self.shown or re.fullmatch(pattern.replace(".*", r"\s*.*\s*"), " ".join(output.split())) is not None


@dataclass(frozen=True)
class Block:
    """A console block, and the name of the test that runs it; None when no comment stands before it."""

    line: int
    scenario: str | None
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return f"line {self.line}"


def console_blocks() -> list[Block]:
    """All of them, in the page's order."""
    return list(_blocks(PAGE.read_text(encoding="utf-8")))


def _blocks(text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        yield Block(line, found["name"], tuple(_commands(found["text"], line + 1)))


def _commands(text: str, line: int) -> Iterator[Command]:
    command: Command | None = None
    for number, words in enumerate(text.splitlines(), line):
        if words.startswith("$ "):
            if command is not None:
                yield command
            command = Command(number, words[2:])
        elif command is None:
            raise ValueError(f"line {number}: a console block begins with a command, behind a $")
        elif command.text.endswith("\\") and not command.shown:
            command.text += f"\n{words}"
        else:
            command.shown.append(words)
    if command is not None:
        yield command
