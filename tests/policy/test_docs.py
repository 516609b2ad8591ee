"""What the documentation says is so: its examples run, its links lead somewhere, its options exist."""

from __future__ import annotations

import ast
import configparser
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from telemetry_bus.config import VARIABLES

ROOT = Path(__file__).parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
CODE = [path for package in ("telemetry_bus", "writer_daemon", "producers") for path in (ROOT / package).rglob("*.py")]

#: Runs the blocks of one page, given as JSON on standard input, one after the other in one namespace.
RUN_BLOCKS = """
import json, sys
namespace = {"__name__": "__main__"}
for page, line, code in json.load(sys.stdin):
    exec(compile("\\n" * line + code, page, "exec"), namespace)
"""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the number of the line its fence stands in, its text, why it is not run."""

    language: str
    line: int
    text: str
    not_run: str | None


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of one language, in order."""
    return [block for block in _blocks(page.read_text(encoding="utf-8")) if block.language == language]


def _blocks(text: str) -> Iterator[Block]:
    fence = re.compile(
        r"(?:^<!-- not run:(?P<reason>[^\n]*)-->\n+)?"
        r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```$",
        re.MULTILINE | re.DOTALL,
    )
    for found in fence.finditer(text):
        line = text.count("\n", 0, found.start("indent")) + 1
        code = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(found["language"], line, code, found["reason"])


@pytest.mark.integration
@pytest.mark.usefixtures("no_writer_left")
@each_page
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page run in order, as one program, in an empty folder of a user without settings; the
    tests among them pass."""
    examples = blocks(page, "python")
    for block in examples:
        assert block.not_run is None or block.not_run.strip(), f"line {block.line}: say why this is not run"
    program = [(str(page), block.line, block.text) for block in examples if block.not_run is None]
    (folder := tmp_path / "empty").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS],
        input=json.dumps(program),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    if tests := sum(len(re.findall(r"^def test_", code, re.MULTILINE)) for _, _, code in program):
        (folder := tmp_path / "another").mkdir()
        (folder / "test_page.py").write_text("\n".join(code for _, _, code in program), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "test_page.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"{tests} passed" in ended.stdout, ended.stdout + ended.stderr


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link points at a file or folder of the project."""
    prose = re.sub(r"^ *```.*?^ *```$|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(\s*<?([^)>\s]+)", prose) + re.findall(r"^\[[^]]+\]:\s*(\S+)", prose, re.MULTILINE)
    relative = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [] == [target for target in relative if not (page.parent / target).exists()]


@each_page
def test_options_exist(page: Path) -> None:
    """Every option and command that a console block shows is in the help of its program."""
    wrong = []
    for block in blocks(page, "console"):
        for words in _command_lines(block.text):
            wrong += [f"line {block.line}: {problem}" for problem in _wrong_words(words)]
    assert [] == wrong


def _command_lines(text: str) -> Iterator[list[str]]:
    """The words of each call of a program of ours, from its name on. Prompts (`$ `) mark commands, if there are any."""
    text = text.replace("\\\n", " ")
    for line in re.findall(r"^\$ (.*)", text, re.MULTILINE) or text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        for between, part in groupby(lexer, lambda word: set(word) <= set("|&;")):
            words = [] if between else [Path(word).name for word in part]
            if words[1:3] == ["-m", "writer_daemon"]:
                words = ["telemetry-writer", *words[3:]]
            starts = [at for at, word in enumerate(words) if word in _programs()]
            if starts:
                yield words[starts[0] :]


def _wrong_words(words: list[str]) -> Iterator[str]:
    command = words[:1]
    known = _help(*command)
    for before, word in pairwise(words):
        option = word.partition("=")[0]
        if option.startswith("-"):
            if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known):
                yield f"{shlex.join(command)} has no option {option}"
        elif re.search(rf"^ +{re.escape(word)}(?=\s)", _help(*command), re.MULTILINE):  # listed as a command
            command.append(word)
            known += _help(*command)
        elif _takes_command(_help(*command)) and not before.startswith("-"):
            yield f"{shlex.join(command)} has no command {word}"
            return


def _takes_command(text: str) -> bool:
    return text.partition("\n\n")[0].endswith(" ...")


@cache
def _programs() -> dict[str, str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(line.replace(" ", "").split("=") for line in lines)


@cache
def _help(program: str, *commands: str) -> str:
    module, _, function = _programs()[program].partition(":")
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(sys, "argv", [program, *commands, "--help"])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            getattr(import_module(module), function)()
    assert not ended.value.code
    return output.getvalue()


def test_environment_is_documented() -> None:
    """The variables that the code reads are those that the documentation names."""
    in_code = {
        node.value
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"TELEMETRY_[A-Z_]+", node.value)
    }
    in_docs = {
        name for page in PAGES for name in re.findall(r"\bTELEMETRY_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
    }
    assert in_code == in_docs
    assert in_code == VARIABLES, "config.VARIABLES is what an unknown name is told from"
