"""`telemetry-bus prune` with real producers and a real writer."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from telemetry_bus.cli import exit_codes
from telemetry_bus.cli.prune.command import BATCH_ROWS

from ..support.bus import Bus
from ..support.clock import DEADLINE_S, wait_until

pytestmark = pytest.mark.integration

OLD, YOUNG = 40_000, 10_000

#: Makes the table, then old rows and young ones: blank and T, with and without fractions.
FILLS = f"""
import datetime
SEEN = "CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY, created_at TIMESTAMP, name TEXT, filler TEXT)"
INSERT = "INSERT INTO seen (created_at, name, filler) VALUES (?, ?, ?)"
now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
def times(days, count):
    for number in range(count):
        at = now - datetime.timedelta(days=days, seconds=number % 1000)
        yield at.isoformat(" T"[number % 2], timespec=("seconds", "microseconds")[number % 3 == 0])
with TelemetryStore(database) as store:
    for name, days, count in (("old", 100, {OLD}), ("young", 80, {YOUNG})):
        rows = [(at, name, "x" * 200) for at in times(days, count)]
        for start in range(0, count, 1000):
            store.executemany(INSERT, rows[start : start + 1000], ensure=[SEEN])
    store.execute(INSERT, (None, "timeless", ""))
"""
#: Goes on until a file is there; says how many.
PRODUCES = """
store = TelemetryStore(database)
number = 0
while not os.path.exists(sys.argv[2]):
    event(store, "beside", number)
    number += 1
    if number == 100:
        print("under way", flush=True)
    time.sleep(0.0005)
store.shutdown(wait=True)
print(number)
"""


def prune(bus: Bus, *words: str, code: int = exit_codes.DONE, **environment: str) -> tuple[str, str]:
    """What the command prints, and its errors."""
    command = ("-m", "telemetry_bus", "prune", "--database", str(bus.path), *words)
    process = bus.start_command(*command, **environment)
    return bus.finish(process, code), bus.errors(process)


@pytest.mark.slow
def test_the_old_rows_go_and_nothing_else(bus: Bus) -> None:
    """Beside a producer that loses nothing; what was counted before goes, and the file shrinks."""
    bus.run(FILLS)
    bus.settle()
    bus.ask("vacuum", pages=1)  # with nothing free it moves the log into the file
    before = bus.path.stat().st_size
    counted = json.loads(prune(bus, "--table", "seen", "--older-than", "90d", "--dry-run", "--json")[0])
    assert (OLD + YOUNG + 1, OLD, 1, 0) == tuple(counted[key] for key in ("rows", "old", "timeless", "deleted"))
    assert [(OLD + YOUNG + 1,)] == bus.rows("SELECT count(*) FROM seen")

    go = bus.home / "go"
    producer = bus.start(PRODUCES, str(go))
    assert producer.stdout is not None
    assert "under way\n" == producer.stdout.readline()
    told = json.loads(prune(bus, "--table", "seen", "--older-than", "90d", "--json")[0])
    go.touch()
    produced = int(bus.finish(producer))

    assert (OLD, 0, "INCREMENTAL", False) == tuple(
        told[key] for key in ("deleted", "left", "auto_vacuum", "interrupted")
    )
    assert [("timeless", 1), ("young", YOUNG)] == bus.rows("SELECT name, count(*) FROM seen GROUP BY name ORDER BY 1")
    assert {"beside": list(range(produced))} == bus.numbers()
    assert 0 < told["freed_bytes"]
    bus.settle()
    wait_until(lambda: bus.path.stat().st_size < before / 2, "the file has shrunk")
    bus.sound()


def test_what_is_not_there_is_refused(bus: Bus) -> None:
    """In one line, with what there is; nothing is deleted, and no writer started."""
    bus.run("event(get_store(database), 'p', 1)\nget_store(database).flush()\n")
    bus.kill_writers()
    _, errors = prune(bus, "--table", "nothing", "--older-than", "1d", code=exit_codes.USAGE)
    assert "there is no table 'nothing' to prune" in errors
    assert "tables: details, events" in errors
    _, errors = prune(bus, "--table", "events", "--older-than", "1d", code=exit_codes.USAGE)
    assert "events has no column 'created_at'" in errors
    assert "columns: id, producer, number" in errors
    assert [] == bus.writers()


def test_a_writer_is_started_or_asked_for(bus: Bus) -> None:
    """As `flush` does: none may be started where that is turned off."""
    with closing(sqlite3.connect(bus.path)) as connection:
        connection.execute("CREATE TABLE t (created_at)")
        connection.execute("INSERT INTO t VALUES ('2001-01-01 00:00:00')")
        connection.commit()
    words = ("--table", "t", "--older-than", "1d", "--timeout", str(DEADLINE_S))
    _, errors = prune(bus, *words, code=exit_codes.ABSENT, TELEMETRY_BUS_SPAWN="0")
    assert "no writer" in errors
    output, _ = prune(bus, *words)
    assert "1 of 1 row in t deleted: created_at before " in output
    assert "auto_vacuum is NONE" in output
    assert "PRAGMA auto_vacuum=INCREMENTAL; VACUUM" in output
    assert [] == bus.rows("SELECT * FROM t")


def test_a_batch_that_fails_is_told(bus: Bus) -> None:
    """A trigger forbids it: how many rows went before, why no more, and where the deletions are kept."""
    with closing(sqlite3.connect(bus.path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"2001-01-01 00:00:{n:02}") for n in range(50)])
        connection.execute("""CREATE TRIGGER keep BEFORE DELETE ON t WHEN old.id = 34
            BEGIN SELECT raise(ABORT, 'is needed'); END""")
        connection.commit()
    words = ("--table", "t", "--older-than", "1d", "--batch-rows", "10", "--timeout", str(DEADLINE_S))
    _, errors = prune(bus, *words, code=exit_codes.FAILED)
    assert "prune: 30 rows deleted, then: is needed" in errors
    assert "telemetry-bus dead-letters list" in errors
    assert 1 == errors.count("\n")
    assert [(20,)] == bus.rows("SELECT count(*) FROM t")
    assert [(1,)] == bus.rows("SELECT count(*) FROM telemetry_bus_dead_letters")


@pytest.mark.slow
def test_ctrl_c_ends_it_between_two_batches(bus: Bus) -> None:
    """What it says is deleted is what is gone, the oldest first."""
    with closing(sqlite3.connect(bus.path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at)")
        connection.executemany("INSERT INTO t VALUES (?, '2001-01-01 00:00:00')", [(n,) for n in range(100_000)])
        connection.commit()
    writer = bus.answering_writer()
    words = ("--table", "t", "--older-than", "1d", "--json", "--timeout", str(DEADLINE_S))
    process = bus.start_command("-m", "telemetry_bus", "prune", "--database", str(bus.path), *words)
    wait_until(lambda: bus.rows("SELECT count(*) FROM t") != [(100_000,)], "rows are being deleted")
    writer.send_signal(signal.SIGSTOP)  # the batch in hand has to wait, and is finished all the same
    process.send_signal(signal.SIGINT)
    writer.send_signal(signal.SIGCONT)
    told = json.loads(bus.finish(process, exit_codes.INTERRUPTED))
    assert told["interrupted"]
    assert 0 < told["deleted"] < 100_000
    assert [(told["left"], told["deleted"])] == bus.rows("SELECT count(*), min(id) FROM t")
    assert 100_000 == told["left"] + told["deleted"]
    assert 0 == told["deleted"] % BATCH_ROWS
