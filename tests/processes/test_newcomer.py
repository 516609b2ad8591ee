"""Who is new is told what is wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from . import newcomer


@pytest.mark.slow
@pytest.mark.integration
def test_a_mistake_is_told_in_the_terminal() -> None:
    """By the program, and by the commands that are asked then; and the page shows it."""
    page = newcomer.PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="new") as name:
        for scene, outcomes in zip(newcomer.SCENES, newcomer.played(Path(name)), strict=True):
            assert scene.text in page
            for (command, told), (_, output) in zip(scene.commands.items(), outcomes, strict=True):
                assert told in " ".join(output.split()), command
                assert command in page
