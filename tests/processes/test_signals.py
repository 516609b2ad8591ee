"""How a writer is told to leave, and what its exit code says."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ..support.bus import Bus, Notes
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

#: Submits without end and notes what was accepted and what was acknowledged; asked to (word 0), flushes and ends.
PROGRAM = (
    Notes.OPEN
    + """
index = int(sys.argv[2])
store = TelemetryStore(database, spawn=False, journal_bytes=1 << 20, timeout=3600)
number = 0
while not noted[0]:
    number += 1
    pair(store, f"p{index}", number)
    noted[2 * index] = store.stats().acknowledged
    noted[2 * index + 1] = number
store.flush()
"""
)

#: A writer that waits inside its first batch until a file is there.
PATIENT_WRITER = """
import os, sys, time
from telemetry_bus.database.writer import Writer
from writer_daemon.__main__ import main

reached, go = sys.argv.pop(1), sys.argv.pop(1)

def failpoint(name):
    if name == "in-batch":
        open(reached, "w").close()
        while not os.path.exists(go):
            time.sleep(0.01)

Writer.failpoint = staticmethod(failpoint)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_told_to_leave_under_load(bus: Bus, kind: signal.Signals) -> None:
    """Exit code 0; whatever was acknowledged is committed; the rest is taken up by the next writer."""
    writer = bus.answering_writer()
    producers = [bus.start(PROGRAM, str(index)) for index in range(1, 5)]
    wait_until(lambda: all(bus.notes[2 * index] > 500 for index in range(1, 5)), "all of them are under way")
    writer.send_signal(kind)
    bus.finish(writer, 0)
    assert not bus.owned
    assert not bus.folder.socket_path("jobs").exists()
    acknowledged = {f"p{index}": bus.notes[2 * index] for index in range(1, 5)}
    committed = dict(bus.rows("SELECT producer, count(*) FROM events GROUP BY producer"))
    assert {} == {name: count for name, count in acknowledged.items() if committed[name] < count}
    bus.answering_writer()
    bus.notes[0] = 1
    for producer in producers:
        bus.finish(producer)
    expected = {f"p{index}": list(range(1, bus.notes[2 * index + 1] + 1)) for index in range(1, 5)}
    assert expected == bus.numbers("events") == bus.numbers("details")
    bus.sound()


def patient_writer(bus: Bus) -> subprocess.Popen[str]:
    """A writer that stands in the middle of a batch."""
    program = bus.home / "patient.py"
    program.write_text(PATIENT_WRITER)
    words = [str(program), str(bus.home / "reached"), str(bus.home / "go"), "--database", bus.database.url]
    writer = bus.answers(bus.start_command(*words))
    bus.run("""
store = TelemetryStore(database)
for number in range(1, 501):
    pair(store, "p", number)
""")
    wait_until((bus.home / "reached").exists, "it is in mid batch")
    return writer


def test_the_first_signal_finishes_the_batch(bus: Bus) -> None:
    """Told to leave in mid batch, the writer commits it before it leaves."""
    writer = patient_writer(bus)
    writer.send_signal(signal.SIGTERM)
    (bus.home / "go").touch()
    bus.finish(writer, 0)
    found = bus.numbers("events")["p"]
    assert list(range(1, len(found) + 1)) == found
    assert found == bus.numbers("details")["p"]
    bus.next_comes()
    assert list(range(1, 501)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]


def test_the_second_signal_leaves_at_once(bus: Bus) -> None:
    """Told twice in mid batch, the writer drops the batch and leaves; the next one takes it up."""
    writer = patient_writer(bus)
    writer.send_signal(signal.SIGTERM)
    while writer.poll() is None:
        writer.send_signal(signal.SIGTERM)
    bus.finish(writer, 6)
    assert {} == bus.numbers("events")
    bus.next_comes()
    assert list(range(1, 501)) == bus.numbers("events")["p"] == bus.numbers("details")["p"]


def test_a_second_writer_says_who_owns_the_database(bus: Bus) -> None:
    """Exit code 3, and a message of one line that names the owner; the owner is not disturbed."""
    first = bus.answering_writer()
    second = bus.start_writer()
    bus.finish(second, 3)
    (line,) = bus.errors(second).splitlines()
    assert f"process {first.pid} owns the database" in line
    assert first.pid == bus.status()["pid"]
    bus.next_comes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--database", "mysql://there/x"], "unknown kind of database"),
        (["--database", "sqlite://x.db"], "three slashes"),
        (["--database", ":memory:"], ":memory:"),
        (["--database", "/"], "is a folder"),
        (["--database", "x.db", "--batch-rows", "0"], "--batch-rows"),
        (["--database", "x.db", "--idle-timeout", "-1"], "not negative"),
        (["--database", "x.db", "--group", "no-such-group"], "no such group"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(bus: Bus, options: list[str], message: str) -> None:
    """Exit code 2, and a message that says what is wrong, without a traceback and without a password."""
    writer = bus.start_command("-P", "-m", "writer_daemon", *options)
    bus.finish(writer, 2)
    assert message in bus.errors(writer)
    assert "Traceback" not in bus.errors(writer)
    assert "secret" not in bus.errors(writer)


def test_a_file_that_is_no_database(bus: Bus) -> None:
    """Exit code 4; the file is left as it is."""
    bus.path.write_bytes(b"not a database\n" * 1000)
    writer = bus.start_writer()
    bus.finish(writer, 4)
    assert str(bus.path) in bus.errors(writer)
    assert "Traceback" not in bus.errors(writer)
    assert b"not a database\n" * 1000 == bus.path.read_bytes()


def test_a_producer_learns_why_no_writer_starts(bus: Bus) -> None:
    """When the writer cannot open the database, `flush()` says so, and the jobs wait in the journal."""
    bus.path.write_bytes(b"not a database\n" * 1000)
    output = bus.run("""
from telemetry_bus import FlushTimeout
store = TelemetryStore(database)
event(store, "p", 1)
for attempt in range(100):
    try:
        store.flush(0.3)
    except FlushTimeout as error:
        if "exit code 4" in str(error):
            print(error)
            break
""")
    assert "exit code 4" in output
    assert "file is not a database" in output
    bus.path.unlink()
    bus.next_comes()
    assert [1] == bus.numbers()["p"]


@pytest.mark.slow
def test_hangup_does_not_lose_anything(bus: Bus) -> None:
    """A writer whose terminal goes away ends; the next one takes up what it had."""
    writer = bus.answering_writer()
    producer = bus.start(PROGRAM, "1")
    wait_until(lambda: bus.notes[2] > 500, "it is under way")
    os.kill(writer.pid, signal.SIGHUP)
    writer.wait()
    bus.answering_writer()
    bus.notes[0] = 1
    bus.finish(producer)
    assert {"p1": list(range(1, bus.notes[3] + 1))} == bus.numbers("events") == bus.numbers("details")
    bus.sound()
