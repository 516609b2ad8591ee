"""What others do to the database under a writer: restore it, break it, read it for long, change its tables."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from telemetry_bus import FlushTimeout, TelemetryStore

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import event, pair

pytestmark = pytest.mark.integration

#: A writer that warns of a log of a megabyte.
WARY_WRITER = """
import sys
from telemetry_bus.database import writer as core
from writer_daemon.__main__ import main

core.ALARM_LOG_BYTES = 1 << 20
core.ALARM_PERIOD_S = 0
sys.exit(main())
"""


def other(bus: Bus) -> closing[sqlite3.Connection]:
    """Somebody else's connection."""
    return closing(sqlite3.connect(bus.path, isolation_level=None, timeout=10))


@pytest.mark.slow
def test_a_database_restored_from_a_backup(bus: Bus) -> None:
    """An older copy takes the file's place: what is lost is counted, logged and in the status; producers go on behind
    what they know to be committed, and nothing comes twice."""
    bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        for number in range(1, 11):
            pair(store, "p", number)
        store.flush()
        backup = bus.home / "backup.db"
        with other(bus) as reader, closing(sqlite3.connect(backup)) as copy:
            reader.backup(copy)
        for number in range(11, 31):
            pair(store, "p", number)
        store.flush()
        os.replace(backup, bus.path)
        for number in range(31, 41):
            pair(store, "p", number)
        store.flush()
        assert {"p": [*range(1, 11), *range(31, 41)]} == bus.numbers("events") == bus.numbers("details")
    status = bus.status()
    assert ("degraded", 20) == (status["state"], status["jobs_gone"])
    assert [(40,)] == bus.rows("SELECT last_sequence FROM telemetry_bus_ledger")
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_a_database_that_is_corrupted_and_mended(bus: Bus) -> None:
    """Its pages are overwritten: degraded, jobs are kept, nobody is blamed. With the intact file back in its place
    everything is applied."""
    writer = bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        for number in range(1, 3001):
            pair(store, "p", number)
        store.flush()
        intact = bus.home / "intact.db"
        with other(bus) as reader, closing(sqlite3.connect(intact)) as copy:
            reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            reader.backup(copy)
        with bus.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        for number in range(3001, 6001):
            pair(store, "p", number)
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says that it is degraded")
        assert "malformed" in bus.status()["last_error"]
        with pytest.raises(FlushTimeout, match="malformed"):
            store.flush(1.5)
        assert 3000 <= store.stats().pending
        os.replace(intact, bus.path)
        store.flush()
    assert {"p": list(range(1, 6001))} == bus.numbers("events") == bus.numbers("details")
    assert writer.poll() is None
    bus.another_job()
    bus.sound()


@pytest.fixture
def read_only(bus: Bus) -> Iterator[Bus]:
    """The database is there and cannot be written to; the bus folder can."""
    bus.run("with TelemetryStore(database) as store: pair(store, 'p', 1)")
    bus.ask("stop")
    wait_until(lambda: not bus.owned, "the writer has left")
    bus.path.chmod(0o444)
    mounted = os.geteuid() == 0  # root may write to any file, but not to a disk that is mounted read-only
    if mounted:
        for words in (["--bind"], ["-o", "remount,bind,ro"]):
            done = subprocess.run(["mount", *words, bus.path, bus.path], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield bus
    if mounted:
        subprocess.run(["umount", "--lazy", bus.path], capture_output=True)


def test_a_database_that_may_not_be_written_to(read_only: Bus) -> None:
    """`flush` says why nothing is written; jobs wait in the journal until the right is there."""
    bus = read_only
    with TelemetryStore(bus.path) as store:
        pair(store, "p", 2)
        errors = []

        def said() -> bool:
            with pytest.raises(FlushTimeout) as caught:
                store.flush(0.2)
            errors.append(str(caught.value))
            return "readonly" in errors[-1]

        wait_until(said, "flush says why")
        assert 1 == store.stats().pending
        if os.geteuid() == 0:
            subprocess.run(["mount", "-o", "remount,bind,rw", bus.path, bus.path], check=True)
        bus.path.chmod(0o600)
        store.flush()
    assert {"p": [1, 2]} == bus.numbers("events") == bus.numbers("details")
    bus.another_job()
    bus.sound()


@pytest.mark.slow
def test_a_reader_that_holds_its_snapshot_for_long(bus: Bus) -> None:
    """Writes go on, the reader sees what it saw, the growing log is in the status and warned of. When the reader has
    finished, the log shrinks by itself."""
    program = bus.home / "wary.py"
    program.write_text(WARY_WRITER)
    writer = bus.answers(bus.start_command(str(program), "--database", bus.database.url))
    with TelemetryStore(bus.path, spawn=False) as store, other(bus) as reader:
        event(store, "p", 1)
        store.flush()
        reader.execute("BEGIN")
        assert [(1,)] == reader.execute("SELECT count(*) FROM events").fetchall()
        number = 1
        while bus.status()["wal_bytes"] < 3 << 20:
            for _ in range(5000):
                number += 1
                event(store, "p", number)
            store.flush()
        assert {"p": list(range(1, number + 1))} == bus.numbers()
        wait_until(lambda: "a reader has kept it" in bus.errors(writer), "the writer warns")
        assert [(1,)] == reader.execute("SELECT count(*) FROM events").fetchall()
        assert bus.status()["wal_bytes"] >= 3 << 20
        reader.execute("COMMIT")
        wait_until(lambda: bus.status()["wal_bytes"] == 0, "the log is empty")
        event(store, "p", number + 1)
        store.flush()
    assert {"p": list(range(1, number + 2))} == bus.numbers()
    bus.sound()


def test_a_table_that_somebody_drops(bus: Bus) -> None:
    """It is made again by the next job that defines it; jobs of other tables notice nothing."""
    bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "p", 1)
        store.flush()
        with other(bus) as connection:
            connection.execute("DROP TABLE details")
        for number in range(2, 101):
            pair(store, "p", number)
            event(store, "q", number)
        store.flush()
        assert 0 == store.stats().failed
    assert {"p": list(range(2, 101))} == bus.numbers("details")
    assert {"p": list(range(1, 101)), "q": list(range(2, 101))} == bus.numbers("events")
    bus.sound()


@pytest.mark.slow
def test_a_table_that_somebody_alters(bus: Bus) -> None:
    """A column is gone for good: its jobs become dead letters, each once. The drift is in the status and is logged
    once, however many jobs meet it; jobs of other tables notice nothing, and in the old shape all can be retried."""
    writer = bus.answering_writer()
    with TelemetryStore(bus.path, spawn=False) as store:
        pair(store, "p", 1)
        store.flush()
        with other(bus) as connection:
            connection.execute("ALTER TABLE details RENAME COLUMN number TO numeral")
        for number in range(2, 102):
            pair(store, "p", number)
            store.execute("INSERT INTO notes VALUES (?)", (number,), ensure=["CREATE TABLE IF NOT EXISTS notes (n)"])
        store.flush()
        assert 100 == store.stats().failed
        assert [(number,) for number in range(2, 102)] == bus.rows("SELECT n FROM notes ORDER BY rowid")
        assert {"p": [1]} == bus.numbers("events")
        status = bus.status()
        assert ["details: missing number"] == status["drift"]
        assert 1 == bus.errors(writer).count("schema drift")
        letters = bus.rows("SELECT sequence FROM telemetry_bus_dead_letters ORDER BY sequence")
        assert [(sequence,) for sequence in range(2, 202, 2)] == letters
        with other(bus) as connection:
            connection.execute("ALTER TABLE details RENAME COLUMN numeral TO number")
        assert all(result["ok"] for result in bus.ask("dead-letters retry", ids=None))
    assert {"p": list(range(1, 102))} == bus.numbers("events") == bus.numbers("details")
    bus.another_job()
    bus.sound()
