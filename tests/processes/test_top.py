"""`telemetry-bus top` beside producers and a writer that work: in pipes, and in terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from telemetry_bus.cli import exit_codes

from ..support.bus import ROOT, Bus
from ..support.clock import DEADLINE_S, wait_until

pytestmark = pytest.mark.integration

#: Hands in jobs until a file is there.
GOES_ON = """
with TelemetryStore(database, journal_bytes=1 << 20) as store:
    number = 0
    while not os.path.exists(sys.argv[2]):
        event(store, "p", number := number + 1)
        if number % 50 == 0:
            time.sleep(0.01)
"""
ENTERED, LEFT, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"


class Terminal:
    """A pseudo-terminal with `telemetry-bus top` in it."""

    def __init__(self, bus: Bus, columns: int, lines: int, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.settings = termios.tcgetattr(slave)
        self._slave = slave
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "telemetry_bus", "top", "--interval", "0.1", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=ROOT,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**inherited, "TERM": "xterm-256color", "TELEMETRY_DATABASE_URL": bus.database.url},
        )
        self.text = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def picture(self, lines: int, wanted: Callable[[list[str]], object]) -> list[str]:
        """The first whole picture of so many lines that is as wanted."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for drawn in reversed(self.text.split(HOME)[1:]):
                shown = _without_codes(drawn).split("\r\n")
                if len(shown) == lines and len(shown[-1]) == len(shown[0]) and wanted(shown):
                    return shown
            self._read(deadline)

    def end(self, code: int) -> None:
        """Wait for the end of the command; it has left the terminal as it found it."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            self._read(deadline, patience=0.01)
        assert code == self.process.returncode, self.text
        self._read(deadline, patience=0.0)
        assert (1, 1) == (self.text.count(ENTERED), self.text.count(LEFT))
        assert self.text.index("\x1b[?25l") < self.text.index("\x1b[?25h")  # the cursor is back
        assert self.settings == termios.tcgetattr(self._slave)
        assert "" == _without_codes(self.text.partition(LEFT)[2]).strip("^C\r\n")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self, deadline: float, patience: float = 1.0) -> None:
        assert time.monotonic() < deadline, self.text
        if select.select([self._master], [], [], patience)[0]:
            self.text += os.read(self._master, 1 << 16).decode()


def _without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.fixture
def working(bus: Bus) -> Iterator[Bus]:
    """A bus with a producer that hands in jobs all the time."""
    go = bus.home / "go"
    producer = bus.start(GOES_ON, str(go))
    wait_until(bus.path.exists, "there is a database")
    yield bus
    go.touch()
    bus.finish(producer)


@pytest.fixture
def open_terminal(bus: Bus) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals, and closes them at the end."""
    opened: list[Terminal] = []

    def open_one(*size: Any) -> Terminal:
        opened.append(Terminal(bus, *size))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


@pytest.mark.slow
def test_rates_of_writers_that_come_and_go(working: Bus) -> None:
    """A line of JSON for each sample: rates of the writer and of the stream. The writer is killed, and another one
    comes, whose counters begin anew: no rate is ever negative. Ctrl-C ends it without a word."""
    process = working.start_command(
        "-m", "telemetry_bus", "top", "--json", "--interval", "0.1", TELEMETRY_DATABASE_URL=working.database.url
    )
    assert process.stdout is not None
    samples = map(json.loads, process.stdout)
    before: dict[str, Any] = {"epoch": None}
    epochs = []
    for sample in samples:
        rates = [*sample["rates"].values(), *(stream["jobs_per_s"] for stream in sample["streams"])]
        assert all(rate is None or rate >= 0 for rate in rates)
        if sample["epoch"] is None:  # nobody answers for the moment
            continue
        if sample["epoch"] != before["epoch"]:
            assert {None} == set(sample["rates"].values())
        else:
            seconds = sample["uptime_s"] - before["uptime_s"]
            done = sample["jobs_committed"] - before["jobs_committed"]
            assert done == pytest.approx(sample["rates"]["jobs_per_s"] * seconds)
            if rates and all(rates) and sample["epoch"] not in epochs:
                epochs.append(sample["epoch"])
                if len(epochs) == 2:
                    break
                working.kill_writers()
        before = sample
    process.send_signal(signal.SIGINT)
    for _ in samples:
        pass
    assert (exit_codes.INTERRUPTED, "") == (process.wait(DEADLINE_S), working.errors(process))


def test_text_in_a_pipe(working: Bus) -> None:
    """A block for each sample, whole as soon as it is taken, without anything that steers a terminal."""
    process = working.start_command(
        "-m", "telemetry_bus", "top", "--count", "2", "--interval", "0.1", TELEMETRY_DATABASE_URL=working.database.url
    )
    text = working.finish(process)
    assert "" == working.errors(process)
    assert all(line.isprintable() for line in text.splitlines())
    first, second = text.split("\n\n")
    assert first.startswith("time          ")
    assert "- jobs/s, - rows/s" in first
    assert second.splitlines()[1].startswith("state  ")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 50)])
def test_a_picture_fills_the_terminal(
    columns: int, lines: int, working: Bus, open_terminal: Callable[..., Terminal]
) -> None:
    """And is drawn anew when the terminal gets another size; q ends it, and leaves the terminal as it was."""
    terminal = open_terminal(columns, lines)
    shown = terminal.picture(lines, lambda shown: re.search(r"jobs +[1-9].*/s .*committed", "\n".join(shown)))
    assert {columns} == set(map(len, shown))
    assert re.match(r"running  .*telemetry\.db  +\d\d:\d\d:\d\d UTC$", shown[0])
    table = next(at for at, line in enumerate(shown) if line.startswith("stream "))
    assert re.match(r"[0-9a-f]{8} +\d+  yes  ", shown[table + 1])
    terminal.resize(50, 10)
    smaller = terminal.picture(10, lambda shown: len(shown[0]) == 50)
    assert {50} == set(map(len, smaller))
    terminal.type("xq")
    terminal.end(exit_codes.DONE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (lambda terminal: terminal.type("\x03"), exit_codes.INTERRUPTED),
        (lambda terminal: terminal.process.terminate(), 128 + signal.SIGTERM),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_the_terminal_is_left_clean(
    bus: Bus, ends: Callable[[Terminal], None], code: int, open_terminal: Callable[..., Terminal]
) -> None:
    """However it ends; without a writer there is a picture too."""
    with closing(sqlite3.connect(bus.path)) as connection:
        connection.execute("CREATE TABLE t (x)")
    terminal = open_terminal(80, 24)
    assert terminal.picture(24, lambda shown: shown[0].startswith("absent "))[1].startswith("no writer runs")
    ends(terminal)
    terminal.end(code)
