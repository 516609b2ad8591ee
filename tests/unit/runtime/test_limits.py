"""What sockets take of the system is tried before."""

from __future__ import annotations

import threading
from errno import EMFILE, ENOMEM
from pathlib import Path

import pytest

from telemetry_bus.errors import WriterError
from telemetry_bus.runtime import limits
from telemetry_bus.runtime.folder import BusFolder
from writer_daemon.sockets import Sockets


def test_nothing_is_left_of_the_trial() -> None:
    """Neither threads nor descriptors."""
    before = threading.active_count()
    limits.need_for_sockets()
    assert before == threading.active_count()


def test_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told; those that could be had have ended."""
    start, left = threading._start_new_thread, [1]  # type: ignore[attr-defined]

    def starts_one(*arguments: object) -> object:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        return start(*arguments)

    before = threading.active_count()
    monkeypatch.setattr(threading, "_start_new_thread", starts_one)
    with pytest.raises(OSError, match=r"can't start new thread: see ulimit -u"):
        limits.need_for_sockets()
    assert before == threading.active_count()


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
