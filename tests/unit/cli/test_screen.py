"""The screen of `top` while somebody is asked who does not answer, in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import sys
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from telemetry_bus.cli.top.rates import Course
from telemetry_bus.cli.top.screen import Screen

from ..sampling import report

DEADLINE_S = 30.0


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal that stands for standard input; what is written to this descriptor is typed."""
    master, slave = pty.openpty()
    with open(slave, "r+b", buffering=0) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
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


def test_a_terminal_of_another_size_gets_another_picture(keyboard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not with the next sample."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    columns, course = 80, Course()
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((columns, 5)))
    with open(sys.stdin.fileno(), "w", closefd=False) as output, Screen(course, output) as screen:
        screen.show({"time": "2026-01-02 03:04:05", **course.add(report(), 0.0)})
        for columns in (70, 30):
            assert screen.wait(0.0)
            shown = ""
            while columns != len(shown.split("\x1b[H")[-1].split("\r\n")[-1]) or shown.count("\r\n") % 4:
                assert select.select([keyboard], [], [], DEADLINE_S)[0], shown
                shown += os.read(keyboard, 1 << 16).decode()
