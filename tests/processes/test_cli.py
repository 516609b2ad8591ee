"""The command `telemetry-bus`, with real producers and a real writer."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetry_bus.cli import exit_codes

from ..support.bus import Bus
from ..support.clock import DEADLINE_S, wait_until

pytestmark = pytest.mark.integration

#: Hands in jobs, and leaves them in its journal.
LEAVES_JOBS = """
store = TelemetryStore(database, spawn=False)
for number in range(int(sys.argv[2])):
    event(store, "left", number)
"""
#: Says that it is there, and lives on until a file is.
LIVES_ON = """
print("ready", flush=True)
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
"""
THREAD_MODE = """
store = TelemetryStore(database, mode="thread")
event(store, "thread", 1)
store.flush()
"""
#: Jobs that fail: three whose table is missing, with bytes, and two whose id is taken.
FAILS = """
with TelemetryStore(database) as store:
    event(store, "good", 1)
    for number in range(3):
        store.execute("INSERT INTO later (number, data) VALUES (?, ?)", (number, b"\\x00\\xff"))
    for number in range(2):
        store.execute("INSERT INTO events (id, producer, number) VALUES (1, ?, ?)", ("bad", number), ensure=ENSURE)
"""
#: Somebody mends the cause.
MENDS = """
import sqlite3
with sqlite3.connect(database) as connection:
    connection.execute("CREATE TABLE later (number, data)")
"""

Command = Callable[..., "Told"]


class Told:
    """What one run of the command printed."""

    def __init__(self, output: str, errors: str) -> None:
        self.output = output
        self.errors = errors

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@pytest.fixture
def command(bus: Bus) -> Iterator[Command]:
    """Runs `telemetry-bus`; at the end, with the command itself, the writer is asked to leave, and seen gone."""

    def run(*words: str, code: int = exit_codes.DONE, **environment: str) -> Told:
        # By the environment, so that it does not look like a writer of this database.
        environment = {"TELEMETRY_DATABASE_URL": bus.database.url, **environment}
        process = bus.start_command("-m", "telemetry_bus", *words, **environment)
        output, _ = process.communicate(timeout=DEADLINE_S)
        told = Told(output, bus.errors(process))
        assert code == process.returncode, told.errors + told.output
        assert told.errors.count("\n") <= 1
        assert not set("\x1b─│") & set(told.output)
        return told

    yield run
    run("stop")
    assert not bus.owned
    wait_until(lambda: not bus.writers(), "the writer is gone")


def test_status_tells_of_the_writer(bus: Bus, command: Command) -> None:
    """All keys of the contract, with the figures of the writer that answers; exit code 0."""
    writer = bus.answering_writer()  # which does not end for want of work, however long commands take
    bus.run("with TelemetryStore(database) as store:\n    event(store, 'p', 1)\n    pair(store, 'p', 2)\n")
    bus.settle()
    told = command("status", "--json").json
    assert ["running", writer.pid, bus.database.url, 0, [], 2, 3, 0, 0, 0, None, []] == [
        told[key]
        for key in (
            "state",
            "pid",
            "database",
            "pending_jobs",
            "streams",
            "jobs_committed",
            "rows_committed",
            "dead_letters",
            "duplicates_dropped",
            "resends_requested",
            "last_error",
            "drift",
        )
    ]
    assert {"version", "epoch", "uptime_s", "batches", "commit_ms", "ddl_cached", "wal_bytes"} <= told.keys()
    assert {"p50", "p99"} == told["commit_ms"].keys()
    lines = command("status").output.splitlines()
    assert "state         running" == lines[0]
    assert f"writer        process {told['pid']}, version {told['version']}, up " in "\n".join(lines)


@pytest.mark.slow
def test_status_of_a_writer_that_does_not_answer_is_degraded(bus: Bus, command: Command) -> None:
    """It is stopped, and holds the lock: not absent, and not well."""
    writer = bus.answering_writer()
    writer.send_signal(signal.SIGSTOP)
    told = command("status", "--json", code=exit_codes.DEGRADED).json
    assert ("degraded", writer.pid) == (told["state"], told["pid"])
    assert "does not answer" in told["last_error"]
    writer.send_signal(signal.SIGCONT)
    wait_until(lambda: bus.status_or_none(), "the writer answers again")
    assert "running" == command("status", "--json").json["state"]


@pytest.mark.slow
def test_flush_has_the_jobs_of_the_dead_written(bus: Bus, command: Command) -> None:
    """No writer runs: one is started, and nothing waits when the command returns."""
    bus.run(LEAVES_JOBS, "100")
    told = command("status", "--json", code=exit_codes.ABSENT).json
    assert (100, False) == (told["pending_jobs"], told["streams"][0]["alive"])
    assert "100 jobs of 1 journal decided, none waits\n" == command("flush").output
    assert {"left": list(range(100))} == bus.numbers()
    assert 0 == command("status", "--json").json["pending_jobs"]
    assert "no job waits\n" == command("flush").output


@pytest.mark.slow
def test_flush_has_the_jobs_of_the_living_written(bus: Bus, command: Command) -> None:
    """A producer that may not start a writer waits for one; its journal counts."""
    go = bus.home / "go"
    process = ready(bus.start(LEAVES_JOBS + LIVES_ON, "50", str(go)))
    told = command("status", "--json", code=exit_codes.ABSENT).json
    assert [(process.pid, True, 50)] == [(s["pid"], s["alive"], s["pending_jobs"]) for s in told["streams"]]
    assert {"flushed": True, "jobs": 50, "journals": 1} == command("flush", "--json").json
    assert {"left": list(range(50))} == bus.numbers()
    go.touch()
    bus.finish(process)


@pytest.mark.slow
def test_flush_starts_nobody_where_that_is_turned_off(bus: Bus, command: Command) -> None:
    """It says how many jobs wait, and why; a writer that somebody else starts lets it succeed."""
    bus.run(LEAVES_JOBS, "7")
    told = command("flush", "--timeout", "0.2", code=exit_codes.FAILED, TELEMETRY_BUS_SPAWN="0")
    assert "7 jobs waiting in 1 journal after 0.2 s; the writer: none runs" in told.errors
    assert ("", []) == (told.output, bus.writers())
    bus.start_writer()
    command("flush", TELEMETRY_BUS_SPAWN="0")
    assert {"left": list(range(7))} == bus.numbers()


@pytest.mark.slow
def test_flush_tells_why_a_writer_cannot_start(bus: Bus, command: Command) -> None:
    """With the end of its log."""
    bus.run(LEAVES_JOBS, "1")
    bus.path.write_bytes(b"no database" * 1000)
    told = command("flush", "--timeout", "5", code=exit_codes.FAILED)
    assert "exit code 4; the end of its log: " in told.errors
    assert "file is not a database" in told.errors


def test_flush_tells_of_a_journal_that_is_damaged(bus: Bus, command: Command) -> None:
    """The writer puts it aside; the command does not say that all is well."""
    bus.run(LEAVES_JOBS, "3")
    (bus.folder.journals / f"{'0' * 32}.journal").touch()
    told = command("flush", code=exit_codes.FAILED)
    assert f"{'0' * 32}.journal could not be read to the end" in told.errors
    assert {"left": [0, 1, 2]} == bus.numbers()


@pytest.mark.slow
def test_stop_returns_when_the_writer_has_left(bus: Bus, command: Command) -> None:
    """The database is free then; without a writer the command says so, and all is well."""
    writer = bus.answering_writer()
    assert f"writer {writer.pid} has left\n" == command("stop").output
    assert not bus.owned
    bus.finish(writer)
    assert "no writer runs\n" == command("stop").output
    assert {"stopped": False, "pid": None} == command("stop", "--json").json


@pytest.mark.slow
def test_stop_does_not_wait_for_a_writer_that_cannot_hear(bus: Bus, command: Command) -> None:
    """One that is stopped: the command ends in time, and names the process."""
    writer = bus.answering_writer()
    writer.send_signal(signal.SIGSTOP)
    told = command("stop", "--timeout", "0.2", code=exit_codes.FAILED)
    assert f"process {writer.pid} owns the database and does not answer" in told.errors
    writer.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_program_in_thread_mode_takes_no_orders(bus: Bus, command: Command) -> None:
    """It owns the database and has nobody who answers: each command says so."""
    go = bus.home / "go"
    program = ready(bus.start(THREAD_MODE + LIVES_ON, "", str(go)))
    reason = f"process {program.pid} owns the database in thread mode"
    assert reason in command("status", "--json", code=exit_codes.DEGRADED).json["last_error"]
    assert reason in command("stop", code=exit_codes.FAILED).errors
    assert "no job waits\n" == command("flush").output
    go.touch()
    bus.finish(program)


@pytest.mark.slow
def test_dead_letters_are_mended_and_run_again(bus: Bus, command: Command) -> None:
    """Each result is told; what was mended is applied once and gone, the rest keeps its letter."""
    bus.run(FAILS)
    assert [1, 2, 3, 4, 5] == [letter["id"] for letter in command("dead-letters", "list", "--json").json]
    assert [["no such table: later"]] * 2 == [
        [result["error"] for result in command("dead-letters", "retry", id, "--json", code=exit_codes.FAILED).json]
        for id in "12"
    ]
    bus.run(MENDS)
    told = command("dead-letters", "retry", "4", "2", "99", code=exit_codes.FAILED)
    assert [
        "99: there is no such dead letter",
        "4: UNIQUE constraint failed: events.id",
        "2: applied",
        "1 applied, 2 failed",
    ] == told.output.splitlines()
    told = command("dead-letters", "retry", "--all", "--json", code=exit_codes.FAILED)
    assert {1: True, 3: True, 4: False, 5: False} == {result["id"]: result["ok"] for result in told.json}
    assert [(0, b"\0\xff"), (1, b"\0\xff"), (2, b"\0\xff")] == bus.rows("SELECT * FROM later ORDER BY number")
    assert [4, 5] == [letter["id"] for letter in command("dead-letters", "list", "--json").json]
    assert "2 dead letters deleted\n" == command("dead-letters", "purge", "--all", "--yes").output
    assert "0 applied, 0 failed\n" == command("dead-letters", "retry", "--all").output


@pytest.mark.slow
def test_retry_starts_a_writer(bus: Bus, command: Command) -> None:
    """None runs any more; where starting one is turned off, the command says so."""
    bus.run(FAILS)
    bus.run(MENDS)
    command("stop")
    told = command("dead-letters", "retry", "1", code=exit_codes.ABSENT, TELEMETRY_BUS_SPAWN="0")
    assert "starting one is turned off" in told.errors
    assert "1: applied\n1 applied, 0 failed\n" == command("dead-letters", "retry", "1").output


@pytest.mark.slow
def test_retry_of_more_than_one_message_holds(bus: Bus, command: Command) -> None:
    """Hundreds of letters, each with as long an error as there may be: everyone is decided, and told."""
    bus.run("""
with TelemetryStore(database) as store:
    for number in range(300):
        store.execute(f"INSERT INTO [{chr(0x1F600) * 4000}] VALUES ({number})")
""")
    command("stop")
    told = command("dead-letters", "retry", "--all", "--json", code=exit_codes.FAILED).json
    assert [(id, False) for id in range(1, 301)] == [(result["id"], result["ok"]) for result in told]
    assert 300 == len(command("dead-letters", "list", "--json").json)


@pytest.mark.slow
def test_an_export_can_be_read_back(bus: Bus, command: Command) -> None:
    """With values and bytes, without a writer."""
    bus.run(FAILS)
    command("stop")
    target = bus.home / "letters.jsonl"
    command("dead-letters", "export", str(target))
    letters = [json.loads(line) for line in target.read_text().splitlines()]
    assert [[[0, {"base64": "AP8="}]]] == [statement["rows"] for statement in letters[0]["statements"]]
    assert [(1, bus.rows("SELECT hex(stream) FROM telemetry_bus_dead_letters")[0][0].lower())] == [
        (letters[0]["id"], letters[0]["stream"])
    ]
    assert target.read_text() == command("dead-letters", "export", "-").output


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Wait until a program says that it is there."""
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    return process
