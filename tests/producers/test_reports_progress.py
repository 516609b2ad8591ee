"""What a report says while it takes long."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest

from producers.reports import progress as module
from producers.reports.progress import progress

PATIENCE_S = 60.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def wait_for(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.001)
    monkeypatch.setattr(module, "EACH_S", 0.001)


def test_on_a_terminal() -> None:
    """One line, written again and again, and gone at the end."""
    terminal = Terminal()
    with progress("telemetry-report fields", terminal):
        wait_for(lambda: terminal.getvalue().count("telemetry-report fields reads a large table") > 2)
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_elsewhere() -> None:
    """One line, once: a log does not fill with them."""
    log = io.StringIO()
    with progress("telemetry-report fields", log):
        wait_for(log.getvalue)
        wait_for(lambda: log.getvalue().endswith("\n"))
    assert ["telemetry-report fields reads a large table: 0 s so far"] == log.getvalue().splitlines()


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a terminal nor elsewhere."""
    monkeypatch.setattr(module, "FIRST_S", PATIENCE_S)
    for stream in (Terminal(), io.StringIO()):
        with progress("x", stream):
            pass
        assert "" == stream.getvalue()


@pytest.mark.parametrize("stream", [Closed(), None])
def test_nobody_reads_it(stream: io.StringIO | None) -> None:
    """The report goes on, and what it raises comes through."""
    with pytest.raises(KeyError), progress("x", stream):
        raise KeyError
