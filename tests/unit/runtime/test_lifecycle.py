"""Forks and the end of the interpreter, with real processes."""

from __future__ import annotations

import subprocess
import sys
import weakref

import pytest

from telemetry_bus.runtime import lifecycle

PARTS = """
import os, sys, threading, weakref
from telemetry_bus.runtime import lifecycle

class Part:
    def __init__(self, name):
        self.name = name
        lifecycle.watch(self)
    def after_fork(self):
        print(self.name, "forked", os.getpid() != PARENT, flush=True)
    def at_exit(self, limit):
        print(self.name, "exits", 0 <= limit <= lifecycle.EXIT_LIMIT_S, flush=True)

PARENT = os.getpid()
part = Part("part")
"""


def run(program: str) -> list[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARTS + program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "" == ended.stderr
    return ended.stdout.splitlines()


def test_end_of_the_interpreter() -> None:
    """Each part is told of the end once, with what is left of the time."""
    assert ["part exits True"] == run("")


def test_unhandled_exception() -> None:
    """So it is when the program ends with `sys.exit`."""
    assert ["part exits True"] == run("sys.exit()")


def test_fork() -> None:
    """In a child each part is told before anything else; the parent hears nothing of it; both hear of their end."""
    lines = run("""
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
""")
    assert ["part forked True", "part exits True", "part exits True"] == lines


def test_fork_and_leave_at_once() -> None:
    """A child that calls `os._exit` hears of no end."""
    lines = run("""
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
""")
    assert ["part forked True", "part exits True"] == lines


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str) -> None:
    """A child of `multiprocessing`, which ends without atexit, tells the parts that it has made itself."""
    lines = run(f"""
import multiprocessing
context = multiprocessing.get_context("{method}")
from tests.unit import living
process = context.Process(target=living.make, args=("child's",))
process.start()
process.join()
""")
    assert "child's exits True" in lines
    assert "part exits True" == lines[-1]


def test_forgotten_parts() -> None:
    """A part that nobody holds is neither kept alive nor told."""
    assert ["True"] == run("""
gone = weakref.ref(part)
del part
print(gone() is None)
""")


def test_lock_that_another_thread_holds_at_the_fork() -> None:
    """A fork-safe lock is free in the child, whoever held it; in the parent it stays held."""
    lines = run("""
lock = lifecycle.ForkSafeLock()
held, done = threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if not pid:
    with lock, lock:
        print("free in the child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("held", lock._lock.acquire(blocking=False), flush=True)
done.set()
thread.join()
with lock, lock:
    print("re-entrant", flush=True)
""")
    assert ["part forked True", "free in the child", "held False", "re-entrant", "part exits True"] == lines


def test_rest_during_a_fork() -> None:
    """Parts that must rest come to rest before the fork, and go on in the parent; the child has `after_fork`."""
    lines = run("""
class Resting(Part):
    def before_fork(self):
        os.write(1, b"rests\\n")
    def after_fork_in_parent(self):
        os.write(1, b"goes on\\n")
    def after_fork(self):
        os.write(1, b"child\\n")
    def at_exit(self, limit):
        pass
del part
resting = Resting("resting")
lifecycle.rest_at_fork(resting)
read, write = os.pipe()
pid = os.fork()
if not pid:
    os.read(read, 1)
    os._exit(0)
os.write(write, b"x")
os.waitpid(pid, 0)
""")
    assert "rests" == lines[0]
    assert ["child", "goes on", "goes on", "rests"] == sorted(lines)  # the hook has a second turn, should one be lost


def test_a_part_that_fails_at_exit_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every store ends, and the failure is logged."""
    ended: list[str] = []

    class Part:
        def __init__(self, error: Exception | None) -> None:
            self.error = error

        def after_fork(self) -> None:
            raise AssertionError

        def at_exit(self, limit: float) -> None:
            if self.error is not None:
                raise self.error
            ended.append("in order")

    parts = [Part(None), Part(OSError("the disk is gone")), Part(None)]
    monkeypatch.setattr(lifecycle, "_living", weakref.WeakSet(parts))
    lifecycle._at_exit()
    assert ["in order", "in order"] == ended
    assert "a store did not end in order" in caplog.text
    assert "the disk is gone" in caplog.text
