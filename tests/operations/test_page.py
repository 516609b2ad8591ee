"""No command of the page is left out, and what the page shows is looked at."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from .operator import Operator
from .page import Block, Command, console_blocks


def test_every_block_is_run() -> None:
    """Each console block names a test that is there, and each test has its blocks."""
    blocks = console_blocks()
    assert [] == [str(block) for block in blocks if block.scenario is None]
    tests = {
        node.name.removeprefix("test_").replace("_", "-")
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {block.scenario for block in blocks} == tests


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ([], "anything", True),
        (["whole"], "whole\n", True),
        (["whole"], "a whole\n", False),
        (["a  b"], "a    b\n", True),
        (["a … c"], "a b b c", True),
        (["a … c"], "a b", False),
        (["first", "…"], "first\nsecond\n", True),
        (["(.*)"], "anything", False),
    ],
)
def test_what_is_shown(shown: list[str], said: str, same: bool) -> None:
    """The whole answer counts, but for blanks and what `…` stands for."""
    assert same == Command(1, "command", shown).answers(said)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (Command(1, "false"), "line 1: false"),
        (Command(1, "true  # exit code 1"), "line 1: true"),
        (Command(1, "echo yes", ["no"]), "line 1: echo yes\nyes"),
        (Command(1, "exit 3"), "a command ended the shell"),
    ],
)
def test_what_the_operator_minds(command: Command, problem: str) -> None:
    """Another exit code, another answer, and the end of his shell."""

    def bash(script: str) -> tuple[int, str]:
        ended = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    operator = Operator(bash, [Block(1, "name", (Command(1, "true"), command))])
    with pytest.raises(AssertionError, match=problem):
        operator.goes_on()
