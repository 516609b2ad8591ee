"""What the service manager is told, when, and what happens when nobody listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from writer_daemon.notify import Notifier

SECOND = 1_000_000


class Manager:
    """The other end of `NOTIFY_SOCKET`, and the clock that the notifier looks at."""

    def __init__(self, address: str) -> None:
        self.now = 0.0
        self.environ = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def notifier(self, **environ: str) -> Notifier:
        return Notifier({**self.environ, **environ}, lambda: self.now)

    def heard(self) -> list[str]:
        """The messages since the last look."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


def status(line: str, progress: int = 0) -> Callable[[], Any]:
    """What the loop says of itself."""
    return lambda: SimpleNamespace(line=lambda: line, progress=progress)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """At a path, and at an abstract name."""
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@telemetry-{os.getpid()}-{tmp_path}")
    yield manager
    manager.close()


def test_ready_comes_with_the_first_turn(manager: Manager) -> None:
    """What is said before the loop runs does not count as ready; its first turn does, with the status."""
    notifier = manager.notifier()
    notifier.say("opening")
    assert ["STATUS=opening"] == manager.heard()
    notifier.turn(status("running"))
    assert ["READY=1\nSTATUS=running"] == manager.heard()


def test_a_start_that_makes_progress_is_given_more_time(manager: Manager) -> None:
    """Once a second, whatever the number of turns; one that stands still only tells its status. Ready comes with the
    first turn of a writer that is, and not a second later."""
    notifier = manager.notifier()
    more = f"EXTEND_TIMEOUT_USEC={180 * SECOND}\nSTATUS=adopting"
    for second, reached, heard in ((0, 1, more), (0.5, 2, None), (1, 2, more), (2, 2, "STATUS=adopting"), (3, 3, more)):
        manager.now = float(second)
        notifier.starting(status("adopting", reached))
        assert ([] if heard is None else [heard]) == manager.heard()
    manager.now = 3.1
    notifier.turn(status("running"))
    assert ["READY=1\nSTATUS=running"] == manager.heard()


def test_the_status_is_looked_at_once_a_second(manager: Manager) -> None:
    """However often the loop comes round, and it is sent only when it is another one."""
    notifier = manager.notifier()
    asked = []

    def asked_status() -> Any:
        asked.append(manager.now)
        return status("first" if manager.now < 2 else "second")()

    for quarter in range(13):
        manager.now = quarter / 4
        notifier.turn(asked_status)
    assert [0, 1, 2, 3] == asked
    assert ["READY=1\nSTATUS=first", "READY=1\nSTATUS=second"] == manager.heard()


def test_the_status_is_one_line(manager: Manager) -> None:
    """A line of its own would be an assignment of its own."""
    manager.notifier().say("one\nWATCHDOG=trigger\ttwo \udcff")
    assert ["STATUS=one WATCHDOG=trigger two \\udcff"] == manager.heard()


def test_a_watchdog_hears_of_turns_at_half_its_interval(manager: Manager) -> None:
    """And of nothing when there are none: no turn, no message."""
    notifier = manager.notifier(WATCHDOG_USEC=str(4 * SECOND), WATCHDOG_PID=str(os.getpid()))
    beats = []
    for second in range(7):
        manager.now = float(second)
        notifier.turn(status("running"))
        if "WATCHDOG=1" in manager.heard():
            beats.append(second)
    assert [0, 2, 4, 6] == beats
    assert 2 == notifier.due_in()
    manager.now = 100.0
    assert [] == manager.heard()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog(manager: Manager, environ: dict[str, str]) -> None:
    """It is not set, makes no sense, or is meant for another process."""
    notifier = manager.notifier(**environ)
    notifier.turn(status("running"))
    assert ["READY=1\nSTATUS=running"] == manager.heard()
    assert float("inf") == notifier.due_in()


def test_stopping(manager: Manager) -> None:
    """It is told before the last batch is finished."""
    manager.notifier().stopping()
    (message,) = manager.heard()
    assert "STOPPING=1" == message.partition("\n")[0]


def test_ready_is_said_again_until_it_has_arrived(tmp_path: Path) -> None:
    """A manager that does not listen for a moment does not keep a service from ever being ready. Nothing is raised,
    and the watchdog's message is tried again before it is too late, not at once."""
    address, now = str(tmp_path / "notify"), 0.0
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(20 * SECOND)}, lambda: now)
    notifier.turn(status("running"))
    assert 1 == notifier.due_in()
    manager = Manager(address)
    now = 1.0
    notifier.turn(status("running"))
    assert ["WATCHDOG=1", "READY=1\nSTATUS=running"] == manager.heard()
    manager.close()


def test_a_manager_that_does_not_read_is_not_waited_for(manager: Manager) -> None:
    """Its queue is full: the writer goes on."""
    notifier = manager.notifier()
    for _ in range(5000):
        notifier.say("x" * 1000)
    assert 0 < len(manager.heard()) < 5000


@pytest.mark.parametrize("environ", [None, {}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "4000000"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is made, the status is not even asked for."""
    monkeypatch.setattr("writer_daemon.notify.socket", None)
    notifier = Notifier(environ)
    notifier.turn(lambda: pytest.fail("asked"))
    notifier.starting(lambda: pytest.fail("asked"))
    notifier.say("opening")
    notifier.stopping()
    assert float("inf") == notifier.due_in()


@pytest.mark.integration
@pytest.mark.usefixtures("no_writer_left")
@pytest.mark.parametrize("spawned", [False, True])
def test_a_writer_speaks_for_its_own_service_only(manager: Manager, database: Path, spawned: bool) -> None:
    """It tells how it starts, and that it is ready when its sockets are bound. One that a producer has started says
    nothing: the socket in its environment is that of the producer's service."""
    ended = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "writer_daemon",
            "--database",
            str(database),
            "--idle-timeout",
            "0.1",
            *(["--spawned"] if spawned else []),
        ],
        env={**os.environ, **manager.environ, "WATCHDOG_USEC": str(SECOND)},
        capture_output=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    ready = [
        "STATUS=waiting for the database",
        "STATUS=opening the database",
        "WATCHDOG=1",
        "READY=1\nSTATUS=0 jobs committed, 0 pending, running",
    ]
    assert ([] if spawned else ready) == manager.heard()[:4]
