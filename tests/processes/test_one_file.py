"""One database file under two names: one writer, or a typed refusal."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from telemetry_bus import DatabaseFault, FlushTimeout, TelemetryStore
from telemetry_bus.cli import survey
from telemetry_bus.cli.checks.case import Case
from telemetry_bus.cli.checks.writer import owner
from telemetry_bus.cli.status import status

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import pair
from ..support.mounts import mounted

WAIT_S = 120.0
pytestmark = [pytest.mark.integration, pytest.mark.slow]


def expect_refused(store: TelemetryStore, why: str) -> None:
    """`flush` says why, once the writer that cannot start has said it."""

    def said() -> bool:
        with pytest.raises(FlushTimeout) as caught:
            store.flush(0.2)
        return why in str(caught.value)

    wait_until(said, "flush says why")


@pytest.fixture(params=["a link", "a mount"])
def second(bus: Bus, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Another name of the database, which is there."""
    bus.run("with TelemetryStore(database) as store: pair(store, 'first', 1)")
    bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")
    (bus.home / "elsewhere").mkdir()
    path: Path = bus.home / "elsewhere" / "two.db"
    if request.param == "a link":
        os.link(bus.path, path)
        yield path
        return
    path.touch()
    with mounted("--bind", bus.path, at=path):
        yield path


def test_a_producer_on_each_name(bus: Bus, second: Path) -> None:
    """The second one is refused as long as the first one's writer lives, and says so; then its jobs are written too."""
    other = Bus(second.parent, second)
    with TelemetryStore(bus.path) as one, TelemetryStore(second) as two:
        pair(one, "one", 1)
        one.flush()
        for number in range(1, 11):
            pair(two, "two", number)
        expect_refused(two, "under another name")
        for number in range(2, 101):
            pair(one, "one", number)
        one.flush()
        one.shutdown()
        bus.ask("stop")
        two.flush()
        found = other.numbers()
        assert (list(range(1, 101)), list(range(1, 11))) == (found["one"], found["two"])
        two.shutdown()
        other.ask("stop")
    wait_until(lambda: not other.owned and not bus.owned, "the writers have left")
    other.close()
    assert [("ok",)] == bus.rows("PRAGMA integrity_check")


def test_those_who_wait_are_told_at_once(bus: Bus, second: Path) -> None:
    """A writer that may not write by this name is not waited for, at the end of a `with` neither; `status` and `doctor`
    say why there is none, as long as that is so."""
    bus.answering_writer()
    began = time.monotonic()
    two = TelemetryStore(second, timeout=WAIT_S)
    pair(two, "two", 1)
    with pytest.raises(FlushTimeout, match="under another name"):
        two.flush()
    with pytest.raises(FlushTimeout, match="under another name"), two:
        pass
    assert time.monotonic() - began < WAIT_S
    seen = Case(survey.Bus.of(str(second)), {})
    assert "under another name" in status(seen.bus)["last_error"]
    found = owner(seen)
    assert ("problem", True) == (found.state, "under another name" in found.message)
    bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")
    assert status(seen.bus)["last_error"] is None
    with TelemetryStore(second) as after:
        pair(after, "two", 2)
    other = Bus(second.parent, second)
    wait_until(lambda: sorted(other.numbers().get("two", [])) == [1, 2], "what was left is written")
    other.ask("stop")
    wait_until(lambda: not other.owned, "the writer has left")
    other.close()


def test_thread_mode_on_a_second_name(bus: Bus, second: Path) -> None:
    """The first job raises, beside a writer process and beside a thread of this very process."""
    bus.answering_writer()
    with TelemetryStore(second, mode="thread") as store, pytest.raises(DatabaseFault, match="under another name"):
        pair(store, "two", 1)
    bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")
    with TelemetryStore(bus.path, mode="thread") as one, TelemetryStore(second, mode="thread") as two:
        pair(one, "one", 1)
        with pytest.raises(DatabaseFault, match="under another name"):
            pair(two, "two", 1)
        one.flush()
        one.shutdown()
        pair(two, "two", 1)
        two.flush()


def test_another_bus_folder(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two settings of `TELEMETRY_BUS_DIR` make two writers of one file."""
    bus.answering_writer()
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path / "folders"))
    with (
        TelemetryStore(bus.path, mode="thread") as store,
        pytest.raises(DatabaseFault, match="for another bus folder"),
    ):
        pair(store, "two", 1)


@contextmanager
def log_left(bus: Bus, producer: str) -> Iterator[None]:
    """The writer of this name was killed: of its 100 flushed jobs 99 are in its log, and not in the file."""
    bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store, closing(sqlite3.connect(bus.path)) as reader:
        pair(store, producer, 1)
        store.flush()
        reader.execute("BEGIN")  # keeps the log from being moved into the database
        reader.execute("SELECT count(*) FROM events").fetchall()
        for number in range(2, 101):
            pair(store, producer, number)
        store.flush()
        bus.kill_writers()
        wait_until(lambda: not bus.owned, "the writer is gone")
        yield
        reader.execute("COMMIT")


def test_a_log_under_another_name(bus: Bus, second: Path) -> None:
    """The first name does not lead to it: that one is refused until the log is played back."""
    other = Bus(second.parent, second)
    refused = pytest.raises(DatabaseFault, match=f"opened as {second} before")
    with log_left(other, "two"), TelemetryStore(bus.path, mode="thread") as store, refused:
        pair(store, "one", 1)
    other.next_comes()
    other.ask("stop")
    wait_until(lambda: not other.owned, "the writer has left")
    with TelemetryStore(bus.path, mode="thread") as store:
        pair(store, "one", 1)
    assert (list(range(1, 101)), [1]) == (bus.numbers()["two"], bus.numbers()["one"])
    other.close()


def test_a_file_that_was_renamed_without_its_log(bus: Bus) -> None:
    """Refused as long as its log lies there under the old name; one that is renamed along is played back."""
    renamed = bus.path.with_name("renamed.db")
    refused = pytest.raises(DatabaseFault, match=f"rename it to {bus.path} again")
    with log_left(bus, "p"):
        bus.path.rename(renamed)
        with TelemetryStore(renamed, mode="thread") as store, refused:
            pair(store, "p", 101)
        Path(f"{bus.path}-wal").rename(f"{renamed}-wal")
        with TelemetryStore(renamed, mode="thread") as store:
            pair(store, "p", 101)
    with closing(sqlite3.connect(renamed)) as reader:
        assert [(101,)] == reader.execute("SELECT count(*) FROM events").fetchall()


def test_a_copy_is_another_file(bus: Bus) -> None:
    """Although it brings the name that its original was opened by, which has a log."""
    bus.answering_writer()
    bus.another_job()
    bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")
    copy = bus.path.with_name("copy.db")
    subprocess.run(["cp", "--archive", bus.path, copy], check=True)
    with log_left(bus, "p"), TelemetryStore(copy, mode="thread") as store:
        pair(store, "p", 1)


def test_two_mount_points_of_one_folder(bus: Bus, tmp_path: Path) -> None:
    """As two containers have one volume: one bus folder, and one writer, which knows what its producers mean."""
    second = tmp_path / "mounted"
    second.mkdir()
    with mounted("--bind", bus.path.parent, at=second):
        writer = bus.answering_writer()
        with TelemetryStore(bus.path, spawn=False) as one, TelemetryStore(second / bus.path.name, spawn=False) as two:
            pair(one, "one", 1)
            one.flush()
            pair(two, "two", 1)
            two.flush()
            assert writer.pid == one.stats().writer.pid == two.stats().writer.pid
    assert {"one": [1], "two": [1]} == bus.numbers()


def test_a_stopped_writer_of_the_same_name_keeps_nobody_out(bus: Bus) -> None:
    """Its folder is gone: the next one of this name goes on, and the ledger stands between the two."""
    first = bus.answering_writer()
    os.kill(first.pid, signal.SIGSTOP)
    subprocess.run(["rm", "-r", bus.folder.path], check=True)
    bus.answering_writer()
    bus.another_job()
    os.kill(first.pid, signal.SIGCONT)
    bus.finish(first, 5)
