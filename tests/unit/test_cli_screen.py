"""The screen of `top` while somebody is asked who does not answer, in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from telemetry_bus.cli.rates import Course
from telemetry_bus.cli.screen import Screen

from .sampling import report

DEADLINE_S = 60.0


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal that stands for standard input and output; what is written to this descriptor is typed."""
    master, slave = pty.openpty()
    with open(slave, "r+b", buffering=0) as raw, open(slave, "w", closefd=False) as output:
        monkeypatch.setattr(sys, "stdin", raw)
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setenv("TERM", "xterm")
        yield master
        os.close(master)
        monkeypatch.undo()


def test_keys_are_heeded_while_somebody_is_asked(keyboard: int) -> None:
    """A writer in the middle of a long transaction does not answer: q need not wait for it, other keys do nothing."""
    asked, answers = Event(), Event()

    def look() -> dict[str, Any]:
        asked.set()
        answers.wait(DEADLINE_S)
        return report()

    with Screen(Course()) as screen:
        os.write(keyboard, b"x q")
        assert screen.meanwhile(look) is None
    assert asked.is_set()
    answers.set()


def test_an_answer_and_a_failure_come_through(keyboard: int) -> None:
    """Though another thread has asked."""
    with Screen(Course()) as screen:
        assert report() == screen.meanwhile(report)
        with pytest.raises(ZeroDivisionError):
            screen.meanwhile(lambda: {"": 1 // 0})
        assert screen.wait(0.0)
        os.write(keyboard, b"Q")
        assert not screen.wait(DEADLINE_S)
