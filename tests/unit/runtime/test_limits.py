"""What sockets take of the system is tried before."""

from __future__ import annotations

import _thread
import os
from errno import EMFILE, ENOMEM
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.errors import WriterError
from telemetry_bus.runtime import limits
from telemetry_bus.runtime.folder import BusFolder
from writer_daemon.sockets import Sockets

from ...support.clock import wait_until


def test_nothing_is_left_of_the_trial() -> None:
    """Neither threads nor descriptors."""
    before, descriptors = _thread._count(), os.listdir("/proc/self/fd")
    limits.need_for_sockets()
    wait_until(lambda: before == _thread._count(), "its threads end")
    assert descriptors == os.listdir("/proc/self/fd")


def test_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told; those that could be had have ended."""
    start, left = _thread.start_new_thread, [1]

    def starts_one(*arguments: Any) -> object:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        return start(*arguments)

    before = _thread._count()
    monkeypatch.setattr(_thread, "start_new_thread", starts_one)
    with pytest.raises(OSError, match=r"can't start new thread: see ulimit -u"):
        limits.need_for_sockets()
    wait_until(lambda: before == _thread._count(), "the one that could be had ends")


def test_hints() -> None:
    """Each is true for its cause."""
    assert "open files" in limits.way_out(OSError(EMFILE, "too many"))
    assert "ulimit -a" in limits.way_out(OSError(ENOMEM, "no memory"))


def test_a_writer_without_room_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and is not ended by the library."""

    def no_room() -> None:
        raise OSError(ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("writer_daemon.sockets.need_for_sockets", no_room)
    with pytest.raises(WriterError, match=r"open sockets: Cannot allocate memory .*ulimit -a"):
        Sockets(BusFolder(tmp_path))
