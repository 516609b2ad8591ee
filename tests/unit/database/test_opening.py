"""How a SQLite database is opened for writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.database import writer as core
from telemetry_bus.database.sqlite.opening import LOG_BYTES, file_system, refuse_network_file_system
from telemetry_bus.errors import ConfigError

from ..writing import EVENT, EVENTS, Stream, execute, opened, rows, template

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /mnt rw - tmpfs tmpfs rw
31 30 0:41 / /mnt/far rw shared:9 - nfs4 server:/export rw
32 31 0:42 / /mnt/far/near rw - xfs /dev/vdb rw
33 22 0:43 / /a\040b rw - fuse.sshfs me@host: rw
34 22 0:44 / /mnt/twice rw - cifs //host/share rw
35 22 0:45 / /mnt/twice rw - ext4 /dev/vdc rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS.lstrip())
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x.db", "ext4"),
        ("/mnt/x.db", "tmpfs"),
        ("/mnt/far/deep/x.db", "nfs4"),
        ("/mnt/far/near/x.db", "xfs"),
        ("/mnt/farther/x.db", "tmpfs"),
        ("/a b/x.db", "fuse.sshfs"),
        ("/mnt/twice/x.db", "ext4"),
    ],
)
def test_the_nearest_and_latest_mount_says_the_file_system(mounts: Path, path: str, kind: str) -> None:
    """The longest mount point wins, and of two on one place the later."""
    assert kind == file_system(Path(path), mounts)


@pytest.mark.parametrize("path", ["/mnt/far/x.db", "/a b/x.db"])
def test_a_network_file_system_is_refused_with_a_hint(mounts: Path, path: str) -> None:
    """The log needs shared memory, which is not to be had over a network."""
    with pytest.raises(ConfigError, match="put the database on a disk of this machine"):
        refuse_network_file_system(Path(path), mounts)


def test_a_database_on_a_network_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a file made there."""
    monkeypatch.setattr("telemetry_bus.database.sqlite.opening.file_system", lambda path, mounts: "nfs4")
    with pytest.raises(ConfigError, match="the file system is nfs4"), opened(tmp_path):
        pass
    assert not (tmp_path / "telemetry.db").exists()


def test_a_file_system_that_cannot_be_told_is_accepted(tmp_path: Path) -> None:
    """There is no list of mounts outside Linux."""
    refuse_network_file_system(tmp_path / "x.db", tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "pragma", "value"),
    [
        ({}, "journal_mode", "wal"),
        ({}, "synchronous", 2),
        ({"durability": "normal"}, "synchronous", 1),
        ({}, "foreign_keys", 1),
        ({}, "trusted_schema", 1),
        ({}, "auto_vacuum", 2),
        ({}, "wal_autocheckpoint", 0),
        ({}, "journal_size_limit", LOG_BYTES),
        ({"ledger": False}, "wal_autocheckpoint", 1000),
        ({"busy_timeout": 0.25}, "busy_timeout", 250),
    ],
)
def test_pragmas(tmp_path: Path, options: dict[str, Any], pragma: str, value: object) -> None:
    """The settings that durability, safety and speed rest on are in force."""
    with opened(tmp_path, **options) as writer:
        writer.driver_connection.set_authorizer(None)
        assert (value,) == writer.driver_connection.execute(f"PRAGMA {pragma}").fetchone()


def test_jobs_may_use_the_operator_regexp(tmp_path: Path) -> None:
    """SQLite leaves its function to the program; it searches as Python does, and NULL stays NULL."""
    add = template("INSERT INTO events (name, size) VALUES (?, ? REGEXP 'b+$')", ensure=(EVENTS,))
    with opened(tmp_path) as writer:
        assert [] == writer.apply([Stream().run(add, ["x", "abb"], ["y", "ba"], ["z", None])])
    assert [("x", 1), ("y", 0), ("z", None)] == rows(tmp_path, "SELECT name, size FROM events")


def test_another_process_database_keeps_what_it_has(tmp_path: Path) -> None:
    """An existing file is turned to the write-ahead log, and its tables and vacuum mode stay."""
    execute(tmp_path, "PRAGMA auto_vacuum=NONE", "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    with opened(tmp_path):
        assert [(1,)] == rows(tmp_path, "SELECT a FROM mine")
        assert [("wal",)] == rows(tmp_path, "PRAGMA journal_mode")
        assert [(0,)] == rows(tmp_path, "PRAGMA auto_vacuum")


class TestCheckpoints:
    """The writer moves the log into the database, when nobody waits for it."""

    def test_an_idle_writer_empties_the_log(self, tmp_path: Path) -> None:
        """Afterwards the database file alone holds everything."""
        with opened(tmp_path) as writer:
            writer.apply([Stream().run(EVENT, ["x", 1])])
            assert 0 < writer.snapshot().wal_bytes
            writer.maintain(idle=True)
            assert 0 == writer.snapshot().wal_bytes

    def test_only_the_checkpoint_does_not_wait(self, tmp_path: Path) -> None:
        """The batch after it waits for a lock as before."""
        with opened(tmp_path, busy_timeout=0.25) as writer:
            writer.apply([Stream().run(EVENT, ["x", 1])])
            writer.maintain(idle=True)
            writer.driver_connection.set_authorizer(None)
            assert (250,) == writer.driver_connection.execute("PRAGMA busy_timeout").fetchone()

    def test_a_writer_that_leaves_empties_the_log_beside_readers(self, tmp_path: Path) -> None:
        """A reader that only stands by does not keep the log long."""
        with closing(sqlite3.connect(tmp_path / "telemetry.db")) as reader:
            with opened(tmp_path) as writer:
                writer.apply([Stream().run(EVENT, ["x", 1])])
                assert [("x",)] == reader.execute("SELECT name FROM events").fetchall()
            assert 0 == (tmp_path / "telemetry.db-wal").stat().st_size

    def test_a_busy_writer_waits_for_a_long_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Below the limit nothing is done; above it the log begins anew with the next batch."""
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(EVENT, ["x", 1])])
            written = writer.snapshot().wal_bytes
            writer.maintain(idle=False)
            writer.apply([stream.run(EVENT, ["y", 1])])
            assert written < writer.snapshot().wal_bytes
            written = writer.snapshot().wal_bytes
            monkeypatch.setattr("telemetry_bus.database.sqlite.connection.LOG_BYTES", 1)
            writer.maintain(idle=False)
            writer.apply([stream.run(EVENT, ["z", 1])])
            assert written == writer.snapshot().wal_bytes

    def test_a_long_log_that_was_moved_is_no_alarm(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The file keeps its length until the next batch; nobody is in the way."""
        monkeypatch.setattr("telemetry_bus.database.sqlite.connection.LOG_BYTES", 1)
        monkeypatch.setattr(core, "ALARM_LOG_BYTES", 0)
        with opened(tmp_path) as writer:
            writer.apply([Stream().run(EVENT, ["x", 1])])
            writer.maintain(idle=False)
            assert 0 < writer.snapshot().wal_bytes
        assert "" == caplog.text

    def test_a_reader_is_not_waited_for_and_warned_of(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A long log that a reader keeps from being moved is told of once a minute."""
        now = [0.0]
        monkeypatch.setattr(core, "ALARM_LOG_BYTES", 0)
        with opened(tmp_path, clock=lambda: now[0], busy_timeout=60.0) as writer:
            writer.apply([Stream().run(EVENT, ["x", 1])])
            with closing(sqlite3.connect(tmp_path / "telemetry.db", isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM events").fetchall()
                writer.apply([Stream("b").run(EVENT, ["y", 1])])
                for now[0] in (1.0, 30.0, 90.0):
                    writer.maintain(idle=True)
            assert 2 == caplog.text.count("a reader has kept it from being written back")
            assert writer.behind
            writer.maintain(idle=True)
            assert not writer.behind
            assert 0 == writer.snapshot().wal_bytes
