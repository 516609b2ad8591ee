"""The lock that makes a writer the only one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.runtime import locks as instance
from telemetry_bus.runtime.locks import InstanceLock, is_held

HOLDER = """
import os, sys
from pathlib import Path
from telemetry_bus.runtime.locks import InstanceLock
lock = InstanceLock.acquire(Path(sys.argv[1]))
print("held" if lock else "busy", flush=True)
if sys.argv[2:] == ["fork"] and os.fork() == 0:
    lock.release()
    print("released", flush=True)
os.read(0, 1)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "writer.lock"


def acquire(path: Path) -> InstanceLock:
    lock = InstanceLock.acquire(path)
    assert lock is not None
    return lock


def test_exclusive(path: Path) -> None:
    """One holder at a time, in one process too; it is private, and stays when it is released."""
    lock = acquire(path)
    assert InstanceLock.acquire(path) is None
    assert is_held(path)
    lock.release()
    lock.release()
    assert not is_held(path)
    assert 0o100600 == path.stat().st_mode
    acquire(path).release()


def test_free_at_the_death_of_its_process(path: Path) -> None:
    """Another process holds it as long as it lives, and no longer, however it ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert b"held\n" == holder.stdout.readline()
        assert is_held(path)
        assert InstanceLock.acquire(path) is None
        holder.kill()
        holder.wait()
    acquire(path).release()


def test_forked_child_that_releases(path: Path) -> None:
    """A child lets go of its parent's lock: the parent keeps it, and when it is dead the child does not."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "fork"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert [b"held\n", b"released\n"] == [holder.stdout.readline() for _ in range(2)]
        assert is_held(path)
        holder.kill()
        holder.wait()
        assert not is_held(path)


def test_replaced_file(path: Path) -> None:
    """A holder notices that its file was removed or replaced; the next one locks the new file."""
    lock = acquire(path)
    assert lock.valid()
    path.unlink()
    assert not lock.valid()
    other = acquire(path)
    assert other.valid()
    assert not lock.valid()
    for one in (lock, other):
        one.release()


def test_replaced_while_it_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is locked is the file that stands at the path, not one that stood there a moment ago."""
    flock = fcntl.flock

    def replace_it(fd: int, kind: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", replace_it)
    before = len(os.listdir("/proc/self/fd"))
    lock = acquire(path)
    assert lock.valid()
    lock.release()
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_look_does_not_keep_a_writer_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who asks whether the lock is held, at the very moment, is not taken for a holder."""
    acquire(path).release()
    looker = os.open(path, os.O_RDWR)
    fcntl.flock(looker, fcntl.LOCK_SH)
    real = instance._lock

    def then_the_look_ends(path: Path, kind: int) -> int | None:
        fd = real(path, kind)
        if kind == fcntl.LOCK_EX:
            os.close(looker)
            monkeypatch.setattr(instance, "_lock", real)
        return fd

    monkeypatch.setattr(instance, "_lock", then_the_look_ends)
    lock = acquire(path)
    assert is_held(path)
    lock.release()


def test_lookers_do_not_see_each_other(path: Path) -> None:
    """Two who look at once do not take each other for a holder; a look leaves no file and no descriptor behind."""
    assert not is_held(path)
    assert not path.exists()
    acquire(path).release()
    before = len(os.listdir("/proc/self/fd"))
    with path.open() as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        assert not is_held(path)
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """A link in the place of the lock is an error: somebody might make us create a file elsewhere."""
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        InstanceLock.acquire(path)
    assert not (tmp_path / "elsewhere").exists()


def test_no_descriptor_is_left_of_an_interrupt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while it locks leaves nothing open."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        InstanceLock.acquire(path)
    assert before == len(os.listdir("/proc/self/fd"))
