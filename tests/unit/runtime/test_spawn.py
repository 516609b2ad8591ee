"""Starting a writer: once, not too often, and with word of what went wrong. No process is started here."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.runtime import spawn
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock, is_held
from telemetry_bus.runtime.spawn import BACKOFF_LIMIT_S, BACKOFF_S, STARTING_LIMIT_S, Spawner


class Child:
    """A writer process as its starter sees it. No process has its number."""

    pid = 2**22 + 1

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command = command
        self.options = options
        self.returncode: int | None = None
        os.write(options["stderr"], b"first line\nlast line of the log\n")

    def poll(self) -> int | None:
        return self.returncode


class Started(list[Child]):
    """The writers that were started; `error` keeps the next one from starting."""

    error: OSError | None = None

    def __call__(self, command: list[str], **options: Any) -> Child:
        if self.error is not None:
            raise self.error
        self.append(Child(command, **options))
        return self[-1]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(spawn, "_children", [])
    monkeypatch.setattr(spawn, "_is_ours", lambda child: True)
    return started


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> BusFolder:
    folder = BusFolder.of(parse_database(tmp_path / "x.db"))
    folder.prepare()
    return folder


def make(folder: BusFolder, clock: Clock, *, enabled: bool = True) -> Spawner:
    database = parse_database(folder.path.with_suffix(""))
    return Spawner(database, folder, enabled=enabled, clock=clock)


@pytest.fixture
def spawner(folder: BusFolder, clock: Clock, started: Started) -> Iterator[Spawner]:
    spawner = make(folder, clock)
    yield spawner
    spawner.close()


def hold(path: Path) -> InstanceLock:
    lock = InstanceLock.acquire(path)
    assert lock is not None
    return lock


def test_one_is_started(spawner: Spawner, started: Started, tmp_path: Path) -> None:
    """Once, however often it is asked for: with our interpreter, in a session of its own."""
    for _ in range(3):
        spawner.ensure()
    (child,) = started
    database = f"sqlite:///{(tmp_path / 'x.db').resolve()}"
    python, *_, program, option, url, spawned = child.command
    assert (sys.executable, "--database", database, "--spawned") == (python, option, url, spawned)
    assert "writer_daemon" in program
    assert child.options["start_new_session"]
    assert "/" == child.options["cwd"]
    assert spawner.busy
    assert "one is being started" == spawner.known()


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_the_writer_finds_the_same_folder(
    tmp_path: Path, clock: Clock, started: Started, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """It stands in another current folder: `TELEMETRY_BUS_DIR` is handed on as an absolute path, if it is set."""
    monkeypatch.chdir(tmp_path)
    if value is not None:
        monkeypatch.setenv("TELEMETRY_BUS_DIR", value)
    database = parse_database(tmp_path / "x.db")
    folder = BusFolder.of(database)
    folder.prepare()
    with closing(Spawner(database, folder, enabled=True, clock=clock)) as spawner:
        spawner.ensure()
    monkeypatch.chdir("/")
    environ = started[0].options["env"]
    assert folder.path == BusFolder.of(parse_database(started[0].command[-2]), None, environ).path


def test_not_when_one_runs(
    spawner: Spawner, started: Started, folder: BusFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the database is seen by the lock, whether it answers or not; this very process is told as that."""
    lock = hold(folder.writer_lock)
    spawner.ensure()
    assert [] == started
    assert spawner.known().startswith("this very process owns the database")
    for owner, says in ((4711, "process 4711 runs and has not answered"), (None, "one runs and has not answered")):
        monkeypatch.setattr(spawn, "holder", lambda path, owner=owner: owner)
        assert says == spawner.known()
    lock.release()
    assert "none runs" == spawner.known()


def test_not_when_it_is_turned_off(folder: BusFolder, clock: Clock, started: Started) -> None:
    """Then it says so."""
    with closing(make(folder, clock, enabled=False)) as spawner:
        spawner.ensure()
        assert ([], "none runs, and starting one is turned off") == (started, spawner.known())


def test_one_of_many_starts_it(folder: BusFolder, clock: Clock, started: Started) -> None:
    """Of those who find none at the same moment one starts it; the others wait until it has answered or ended."""
    with closing(make(folder, clock)) as one, closing(make(folder, clock)) as other:
        one.ensure()
        for _ in range(3):
            other.ensure()
        assert 1 == len(started)
        one.settled()
        other.ensure()
        assert 2 == len(started), "the first one answered, and is gone already"


def test_one_who_was_stopped_while_it_starts(folder: BusFolder, clock: Clock, started: Started) -> None:
    """Who holds the right to start one for too long, with no writer to show for it, is not waited for."""
    lock = hold(folder.spawn_lock)
    with closing(make(folder, clock)) as spawner:
        spawner.ensure()
        clock.now += STARTING_LIMIT_S - 0.01
        spawner.ensure()
        assert [] == started
        clock.now += 0.02
        spawner.ensure()
        assert 1 == len(started)
    lock.release()


def test_one_that_came_meanwhile(
    folder: BusFolder, spawner: Spawner, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the right to start one another may have come: look again."""
    answers = iter([False, True])
    monkeypatch.setattr(spawn, "is_held", lambda path: next(answers))
    spawner.ensure()
    monkeypatch.undo()
    assert [] == started
    assert not is_held(folder.spawn_lock)


def test_backoff(spawner: Spawner, started: Started, clock: Clock) -> None:
    """One that fails to start again and again is started less and less often, and never more seldom than the limit."""
    began, waits = [], []
    for failure in range(1200):
        spawner.ensure()
        assert failure + 1 == len(started)
        began.append(clock.now)
        started[-1].returncode = 4
        spawner.ensure()
        waits.append(spawner._retry_at - clock.now)
        assert failure + 1 == len(started), "not at once"
        clock.now = spawner._retry_at
    assert BACKOFF_S == pytest.approx(waits[0])
    assert 2 * BACKOFF_S == pytest.approx(waits[1])
    assert sorted(waits) == pytest.approx(waits)
    assert BACKOFF_LIMIT_S == pytest.approx(waits[-1])


def test_an_answer_ends_the_backoff(spawner: Spawner, started: Started, clock: Clock) -> None:
    """A writer that has answered makes the next failure the first one."""
    for _ in range(5):
        spawner.ensure()
        started[-1].returncode = 4
        spawner.ensure()
        clock.now += BACKOFF_LIMIT_S
    spawner.settled()
    spawner.ensure()
    started[-1].returncode = 4
    spawner.ensure()
    assert BACKOFF_S == pytest.approx(spawner._retry_at - clock.now)


@pytest.mark.parametrize("code", [0, 3])
def test_only_an_answer_is_a_success(spawner: Spawner, started: Started, clock: Clock, code: int) -> None:
    """Whatever its exit code, a program that ends without an answer is not started again at once."""
    for failure in range(1, 6):
        spawner.ensure()
        assert failure == len(started)
        started[-1].returncode = code
        spawner.ensure()
        assert BACKOFF_S * 2 ** (failure - 1) == pytest.approx(spawner._retry_at - clock.now)
        assert failure == len(started), "not at once"
        assert f"the last one ended with exit code {code}; " in spawner.known()
        clock.now = spawner._retry_at


def test_an_exit_code_that_was_not_seen(
    spawner: Spawner, started: Started, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Where another has collected the child, `Popen` says 0: that is told as what it is."""
    monkeypatch.setattr(spawn, "_is_ours", lambda child: False)
    spawner.ensure()
    started[0].returncode = 0
    spawner.ensure()
    assert "with an exit code that another part of this program has taken" in spawner.known()
    assert spawner._retry_at > clock.now


def test_a_writer_that_answered_and_ended(spawner: Spawner, started: Started) -> None:
    """It was a success: the next one may start at once."""
    spawner.ensure()
    spawner.settled()
    started[0].returncode = -9
    spawner.ensure()
    assert 2 == len(started)


def test_what_is_known_of_a_failure(spawner: Spawner, started: Started, folder: BusFolder) -> None:
    """Its exit code and the last line of its log are told; then others may try."""
    spawner.ensure()
    started[0].returncode = -9
    spawner.ensure()
    known = "the last one ended with exit code -9; the end of its log: last line of the log"
    assert known == spawner.known()
    assert not is_held(folder.spawn_lock)
    assert not spawner.busy


def test_log_that_cannot_be_read(spawner: Spawner, started: Started, folder: BusFolder) -> None:
    """Then the reason for that is told instead; an empty one is called empty, a long line is cut."""
    for content, says in ((None, "(unreadable: "), (b"", "(empty)"), (b"\xff" * 5000, "…")):
        spawner.ensure()
        if content is None:
            folder.log.unlink()
        else:
            folder.log.write_bytes(content)
        started[-1].returncode = 1
        spawner.ensure()
        assert says in spawner.known()
        assert 500 > len(spawner.known())
        spawner.settled()
        spawner._retry_at = 0.0


def test_one_that_cannot_be_started(spawner: Spawner, started: Started, clock: Clock, folder: BusFolder) -> None:
    """An error of the system is a failure like any other, and leaves no lock and no descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))
    started.error = OSError("too many processes")
    spawner.ensure()
    assert "could not be started: too many processes" == spawner.known()
    assert not is_held(folder.spawn_lock)
    assert before == len(os.listdir("/proc/self/fd"))
    started.error = None
    spawner.ensure()
    assert [] == started
    clock.now += BACKOFF_S
    spawner.ensure()
    assert 1 == len(started)


def test_close(folder: BusFolder, clock: Clock, started: Started) -> None:
    """A writer that runs goes on by itself, and is collected later, so that it is no zombie."""
    spawner = make(folder, clock)
    spawner.ensure()
    spawner.close()
    spawner.close()
    assert [*started] == spawn._children
    assert not is_held(folder.spawn_lock)
    started[0].returncode = 0
    make(folder, clock, enabled=False).ensure()
    assert [] == spawn._children


def test_forgotten(folder: BusFolder, clock: Clock, started: Started) -> None:
    """A spawner that nobody closes takes no process with it that still runs: Python would warn of that."""
    make(folder, clock).ensure()
    gc.collect()
    assert [*started] == spawn._children


def test_after_a_fork(folder: BusFolder, clock: Clock, started: Started) -> None:
    """The child neither waits for the parent's writer nor keeps its lock."""
    before = len(os.listdir("/proc/self/fd"))
    earlier, spawner = make(folder, clock), make(folder, clock)
    earlier.ensure()
    earlier.close()
    spawner.ensure()
    spawner.after_fork()
    assert ([0, 0], []) == ([child.returncode for child in started], spawn._children)
    assert not spawner.busy
    assert before == len(os.listdir("/proc/self/fd"))


class Pipe(io.BytesIO):
    """The standard input of a child, whose text outlives its end."""

    text = b""

    def close(self) -> None:
        self.text = self.getvalue()
        super().close()


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("postgresql://u:secret@h/x", "", b"postgresql://u:secret@h/x"),
        ("postgresql://u@h/x", "secret", b"postgresql://u:secret@h/x"),
        ("postgresql://u:secret@h/x", "another", b"postgresql://u:secret@h/x"),
        ("postgresql://u@h/x", "", b""),
    ],
    ids=["in the URL", "in the environment", "in both", "nowhere"],
)
def test_a_password_goes_through_a_pipe(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, password: str, expected: bytes
) -> None:
    """It stands neither on the command line of a writer nor in its environment, whoever knows it."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", "postgresql://u:secret@h/x")
    monkeypatch.setenv("PGPASSWORD", password)
    monkeypatch.setattr(Child, "stdin", Pipe(), raising=False)
    database = parse_database(url)
    Spawner(database, BusFolder.of(database), enabled=True).ensure()
    child = started[0]
    assert (subprocess.PIPE if expected else subprocess.DEVNULL) == child.options["stdin"]
    assert expected == child.stdin.text  # type: ignore[attr-defined]
    assert "postgresql://u@h/x" in child.command
    assert "secret" not in f"{child.command} {child.options['env']}"
