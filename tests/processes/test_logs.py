"""The log of a real writer in trouble, as an operator and a machine read it; and one that cannot be written."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import zmq

from telemetry_bus import TelemetryStore

from ..support.bus import Bus
from ..support.clock import wait_until
from ..support.jobs import event

pytestmark = pytest.mark.integration

#: Stands in rows only; no log may show it.
SECRET = "s3cret-value"
TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a TEXT NOT NULL UNIQUE CHECK (length(a) < 40), b)"
POISON = 300


def poison(store: TelemetryStore) -> int:
    """Jobs that fail, each with a secret among its values, in every way that quotes something; their number."""
    before = store.stats().submitted
    good = ("INSERT INTO t (a, b) VALUES (?, ?)", (SECRET, 1))
    store.execute(*good, ensure=[TABLE])
    for number in range(POISON):
        store.execute("INSERT INTO t (a, b) VALUES (NULL, ?)", (f"{SECRET} {number}",))
    for sql, values in (
        good,
        ("INSERT INTO t (a, b) VALUES (?, ?)", (SECRET * 10, 1)),
        ("INSERT INTO t (a, id) VALUES (?, ?)", (SECRET + "2", SECRET)),
        ("INSERT INTO t (a) VALUES (json_extract('{}', ?))", (f"{SECRET}'\"",)),
        ("INSERT INTO t (a) VALUES (json(?))", (f"{{{SECRET}",)),
        ("INSERT INTO nowhere (a, b) VALUES (?, ?)", (SECRET, SECRET)),
        ("INSERT INTO t (a) VALUES (?)\nFORM\n<0>x", (SECRET,)),
    ):
        store.execute(sql, values)
    store.flush()
    return store.stats().submitted - before - 1


def malformed(bus: Bus, count: int) -> None:
    context = zmq.Context()
    try:
        raw = context.socket(zmq.PUSH)
        raw.connect(bus.folder.endpoint("jobs"))
        for _ in range(count):
            raw.send(SECRET.encode())
        wait_until(lambda: bus.status()["malformed"] >= count, "all are counted")
    finally:
        context.destroy(linger=1000)


def locked(bus: Bus, store: TelemetryStore) -> None:
    """Somebody holds the database's lock for a while."""
    with closing(sqlite3.connect(bus.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        event(store, "p", 1)
        wait_until(lambda: bus.status()["state"] == "degraded", "the writer says so")
        other.execute("ROLLBACK")
    store.flush()


def troubled(bus: Bus, *options: str, **environment: str) -> tuple[list[str], int]:
    """The lines of a writer's whole life in trouble, at level DEBUG, and how many jobs failed."""
    writer = bus.answering_writer("--log-level", "debug", *options, **environment)
    with TelemetryStore(bus.path, spawn=False) as store:
        failed = poison(store)
        locked(bus, store)
    malformed(bus, 200)
    writer.send_signal(signal.SIGTERM)
    bus.finish(writer)
    assert [(failed,)] == bus.rows("SELECT count(*) FROM telemetry_bus_dead_letters")
    return bus.errors(writer).splitlines(), failed


@pytest.mark.slow
def test_the_log_for_machines(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """Every line is an object with the keys that are always there; what repeats is counted and no line shows a value
    of a row, in the producer's log neither."""
    lines, failed = troubled(bus, "--log-format", "json")
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for found in events:
        assert ["time", "level", "logger", "pid", "message"] == list(found)[:5]
    assert bus.database.masked == events[0]["database"]
    letters = [found for found in events if "is a dead letter" in found["message"] and "left_out" not in found]
    assert len(letters) < 50 < failed
    for found in letters:
        assert {"stream", "sequence", "statement", "error", "traceback"} <= found.keys()
        assert "Traceback" not in found["message"]
    for kind, total in (("is a dead letter", failed), ("a malformed message", 200)):
        alike = [found for found in events if kind in found["message"]]
        assert total == sum(found.get("left_out", 1) for found in alike)
    (fault,) = [found for found in events if "is at fault" in found["message"]]
    assert "DatabaseFault: write: database is locked" in fault["error"]
    assert "Traceback" in fault["traceback"]
    assert SECRET not in "\n".join(lines)
    assert SECRET not in caplog.text
    assert caplog.text.count("failed for good") < 50
    assert "OperationalError: malformed JSON" in caplog.text, "the flood before it has not hidden it"
    assert any("…" in found["error"] and "JSON path" in found["error"] for found in letters)
    assert any('near "FORM"' in found["error"] for found in letters)


@pytest.mark.slow
def test_the_log_for_people_in_journald(bus: Bus) -> None:
    """Each line has its priority and nothing that journald knows itself, also where a statement tries to forge one."""
    (errors := bus.home / "errors0").touch()
    found = errors.stat()
    lines, _ = troubled(bus, JOURNAL_STREAM=f"{found.st_dev}:{found.st_ino}")
    levels = {"<3>ERROR", "<4>WARNING", "<6>INFO", "<7>DEBUG"}
    assert levels == {line.partition(" ")[0] for line in lines}
    for line in lines:
        assert re.match(r"<\d>[A-Z]+ telemetry_bus(\.writer)?: ", line)
        assert line.isprintable()
    assert SECRET not in "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&- >&- <&-", "2> >(exec true)", "2>unread"])
def test_a_log_that_cannot_be_written(bus: Bus, where: str) -> None:
    """Disk full, closed, a reader that has gone or does not read: the writer works and leaves as ever."""
    os.mkfifo(unread := bus.home / "unread")
    reader = os.open(unread, os.O_RDONLY | os.O_NONBLOCK)
    writer = bus.start_under(["bash", "-c", f'cd {bus.home}; exec "$@" {where}', "bash"], "--log-level", "debug")
    bus.answers(writer)
    with TelemetryStore(bus.path, spawn=False) as store:
        for number in range(1, 501):
            event(store, "p", number)
            store.execute("INSERT INTO nowhere VALUES (?)", (number,))
        store.flush()
    for fd in range(3):
        assert str(bus.folder.path) not in os.readlink(f"/proc/{writer.pid}/fd/{fd}"), "no file of the bus is there"
    writer.send_signal(signal.SIGTERM)
    bus.finish(writer)
    os.close(reader)
    assert {"p": list(range(1, 501))} == bus.numbers()


def test_an_early_end_has_a_priority_too(bus: Bus) -> None:
    """Wrong settings, found before there is a log, are errors for journald."""
    (errors := bus.home / "errors0").touch()
    found = errors.stat()
    writer = bus.start_command(
        "-P",
        "-m",
        "writer_daemon",
        "--database",
        "mysql://there/x\n<6>y",
        JOURNAL_STREAM=f"{found.st_dev}:{found.st_ino}",
    )
    bus.finish(writer, 2)
    (line,) = bus.errors(writer).splitlines()
    assert line.startswith("<3>telemetry-writer: ")


PROGRAM = """
import logging
from telemetry_bus import TelemetryStore
with TelemetryStore(sys.argv[1], mode="thread") as store:
    store.execute("INSERT INTO nowhere VALUES (1)")
    store.flush()
loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
print([logger.name for logger in loggers if any(type(one) is not logging.NullHandler for one in logger.handlers)])
"""


def test_the_library_adds_no_handler(bus: Bus) -> None:
    """A program decides where its log goes. One that does not still sees an error of the bus, as Python shows it."""
    program = bus.start(PROGRAM)
    assert "[]\n" == bus.finish(program)
    assert "no such table: nowhere" in bus.errors(program)
