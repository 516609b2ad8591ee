"""Logging through the bus: with threads, forks, exits, and a store that itself is in the middle of something."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.database.writer import Writer
from telemetry_bus.handlers import TelemetryHandler

from .looking import DAEMON, EVENTS, INSERT, eventually, in_process_modes, in_sync_mode, in_thread_mode, on_both, rows

MESSAGES = "SELECT message FROM log_records ORDER BY id"
_PATIENCE_S = 30.0

#: Parent and child log; neither flushes, and the child ends as children of a server do.
FORK = """
import logging, os, sys
from telemetry_bus import TelemetryStore
from telemetry_bus.handlers import TelemetryHandler
logging.raiseExceptions = False
store = TelemetryStore(sys.argv[1], mode=sys.argv[2])
handler = TelemetryHandler(store)
logging.basicConfig(level=logging.INFO, handlers=[handler])
logging.info("before")
child = os.fork()
if child == 0:
    logging.info("child")
    os._exit(handler.failures)
logging.info("parent")
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
store.shutdown(wait=True)
print(code, handler.failures, end="")
"""

#: The first exit handler to be registered is the last to run: behind those of `logging` and of the store.
EXIT = """
import atexit
atexit.register(lambda: print(handler.failures) or logging.info("at exit") or print(handler.failures))
import logging, sys
from telemetry_bus import TelemetryStore
from telemetry_bus.handlers import TelemetryHandler
handler = TelemetryHandler(TelemetryStore(sys.argv[1], mode=sys.argv[2]))
logging.basicConfig(level=logging.INFO, handlers=[handler])
logging.info("in time")
"""


@pytest.fixture
def logger() -> logging.Logger:
    """A logger that no other handler listens to."""
    return logging.Logger("program", logging.DEBUG)


@pytest.fixture
def handler(store: TelemetryStore, logger: logging.Logger) -> TelemetryHandler:
    """The handler of the logger, with a store in each of the modes."""
    logger.addHandler(handler := TelemetryHandler(store))
    return handler


@pytest.fixture
def noisy_writer(monkeypatch: pytest.MonkeyPatch, logger: logging.Logger) -> list[str]:
    """The writer logs by a logger that is not the bus's, as a database's driver may; the threads it did so in."""
    threads: list[str] = []

    def talk(point: str) -> None:
        threads.append(threading.current_thread().name)
        logger.info("the writer is at %s", point)

    monkeypatch.setattr(Writer, "failpoint", staticmethod(talk))
    return threads


def test_record(store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger) -> None:
    """A record is a row that SQL can search: time, level, texts, `extra` as JSON; time and level are indexed."""
    try:
        raise LookupError("nowhere")
    except LookupError:
        logger.exception("no %s", "page", extra={"url": "/a"})
    ((created_at, level, levelno, message, exception, extra),) = rows(
        store, "SELECT datetime(created_at), level, levelno, message, exception, extra FROM log_records"
    )
    assert created_at is not None
    assert ("ERROR", 40, "no page", {"url": "/a"}) == (level, levelno, message, json.loads(extra))
    assert exception.endswith("LookupError: nowhere")
    assert {("ix_log_records_created_at",), ("ix_log_records_level",)} == set(
        rows(store, "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'log_records'")
    )
    assert 0 == handler.failures


@on_both
def test_a_word_of_sql(store: TelemetryStore, logger: logging.Logger) -> None:
    """A table may have any plain name."""
    logger.addHandler(TelemetryHandler(store, table="order"))
    logger.info("text")
    assert [("text",)] == rows(store, 'SELECT message FROM "order"')


@on_both
def test_threads(store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger) -> None:
    """Many threads log at once, and each one's records are there in order."""

    def work(name: str) -> None:
        for number in range(100):
            logger.info("%d", number)

    threads = [threading.Thread(target=work, name=name, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(store, "SELECT thread, message FROM log_records ORDER BY id")
    for name in "abcd":
        assert [str(number) for number in range(100)] == [message for thread, message in found if thread == name]
    assert (400, 0) == (len(found), handler.failures)


@pytest.mark.parametrize("mode", [DAEMON, "sync"])
@pytest.mark.usefixtures("no_writer_left")
def test_fork(mode: str, database: Path) -> None:
    """A child that is forked while its parent logs writes its own records, once."""
    assert "0 0" == run(FORK, database, mode)
    eventually(lambda: {"before", "child", "parent"} == set(messages(database)))
    assert 3 == len(messages(database))


@in_thread_mode
@pytest.mark.usefixtures("no_writer_left")
def test_fork_without_the_database(mode: str, database: Path) -> None:
    """In mode `thread` the database is the parent's: the child counts the record that it cannot write, and goes on."""
    assert "1 0" == run(FORK, database, mode)
    assert ["before", "parent"] == messages(database)


@pytest.mark.usefixtures("no_writer_left")
def test_exit(mode: str, database: Path) -> None:
    """What is logged while the interpreter ends, with `logging` and the store shut down, is written as well."""
    assert "0\n0\n" == run(EXIT, database, mode)
    eventually(lambda: ["in time", "at exit"] == messages(database))


@on_both
def test_a_closed_store(
    store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `shutdown` records are counted, and the program goes on."""
    logger.info("in time")
    store.shutdown(wait=True)
    logger.info("late")
    assert 1 == handler.failures
    assert "StoreClosed" in capsys.readouterr().err


@on_both
def test_in_the_middle_of_a_submit(
    store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that arises while this thread submits, as in a signal handler, is counted; the job is not harmed."""
    monkeypatch.setattr(logging, "raiseExceptions", False)

    class Number:
        def __index__(self) -> int:  # asked for when the job is encoded
            logger.info("within a submit")
            return 7

    store.execute(INSERT, ("a", Number()), ensure=[EVENTS])
    logger.info("afterwards")
    assert [("a", 7)] == rows(store, "SELECT name, size FROM events")
    assert [("afterwards",)] == rows(store, MESSAGES)
    assert 1 == handler.failures


@on_both
def test_in_a_job(store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger) -> None:
    """The callable of a job is the program's own code: what it logs is written."""

    def job(connection: Any) -> None:
        logger.info("within a job")
        connection.execute(INSERT, ("a", 1))

    store.submit(job, ensure=[EVENTS])
    assert [("within a job",)] == rows(store, MESSAGES)
    assert 0 == handler.failures


@on_both
@in_process_modes
def test_a_writer_that_logs(
    store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger, noisy_writer: list[str]
) -> None:
    """Records that writing a record brings about are left out, or there would be no end of them."""
    logger.info("one")
    store.flush()
    store.flush()  # what the first record may have brought about
    assert noisy_writer
    assert [("one",)] == rows(store, MESSAGES)
    assert 0 == handler.failures


@on_both
@in_sync_mode
def test_nobody_waits_for_ever(
    store: TelemetryStore, handler: TelemetryHandler, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread writes a record while another, in the middle of a job, logs: neither waits for the other's lock."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    in_job, in_record = threading.Event(), threading.Event()

    class Argument:
        def __str__(self) -> str:
            in_record.set()
            return "argument"

    def talk(point: str) -> None:
        if point == "before-commit" and threading.current_thread() is submitting:
            in_job.set()
            assert in_record.wait(_PATIENCE_S)
            logger.info("within a job")

    monkeypatch.setattr(Writer, "failpoint", staticmethod(talk))
    submitting = threading.Thread(target=store.execute, args=(INSERT, ("a", 1)), kwargs={"ensure": [EVENTS]})
    logging_one = threading.Thread(target=logger.info, args=("%s", Argument()))
    for thread in (submitting, logging_one):
        thread.daemon = True
    submitting.start()
    assert in_job.wait(_PATIENCE_S)
    logging_one.start()
    for thread in (submitting, logging_one):
        thread.join(_PATIENCE_S)
        assert not thread.is_alive()
    assert [("argument",)] == rows(store, MESSAGES)
    assert [("a",)] == rows(store, "SELECT name FROM events")


def run(program: str, database: Path, mode: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program, str(database), mode], capture_output=True, text=True, check=False
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    return ended.stdout


def messages(database: Path) -> list[str]:
    """What is written, read without the bus; nothing as long as there is no table."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)) as connection:
            return [message for (message,) in connection.execute(MESSAGES)]
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "unable to open" in str(error):
            return []
        raise


class Intercepting(logging.Handler):
    """As libraries of logging have it: all records of `logging`, the bus's too, go through one lock that is not
    re-entrant, and below it to their own sinks."""

    def __init__(self, *sinks: logging.Handler) -> None:
        super().__init__()
        self.troubles: list[str] = []
        self.seen: list[str] = []
        self._sinks = sinks
        self._turn = threading.Lock()
        self._owner = 0

    def handle(self, record: logging.LogRecord) -> bool:
        if self._owner == threading.get_ident():
            self.troubles.append(f"within the lock: {record.getMessage()}")
        elif not self._turn.acquire(timeout=_PATIENCE_S):
            self.troubles.append(f"no end: {record.getMessage()}")
        else:
            self._owner = threading.get_ident()
            try:
                self.seen.append(record.name)
                for sink in self._sinks:
                    sink.handle(record)
            finally:
                self._owner = 0
                self._turn.release()
        return True


@pytest.mark.usefixtures("no_writer_left")
def test_the_bus_logs_nothing_within_a_lock(mode: str, database: Path, logger: logging.Logger) -> None:
    """At level DEBUG, with four threads that log and submit: no record of the bus comes while this handler's lock is
    held, or while a lock of the bus is that the handler waits for."""
    bus = logging.getLogger("telemetry_bus")
    with TelemetryStore(database, mode=mode) as store:
        intercepting = Intercepting(TelemetryHandler(store))
        bus.setLevel(logging.DEBUG)
        bus.propagate = False
        for one in (bus, logger):
            one.addHandler(intercepting)

        def work(thread: int) -> None:
            for number in range(25):
                logger.info("%d of %d", number, thread)
                store.execute(INSERT, (f"{thread} {number}", 1), ensure=[EVENTS])

        try:
            threads = [threading.Thread(target=work, args=(thread,), daemon=True) for thread in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            store.flush()
        finally:
            bus.removeHandler(intercepting)
            bus.setLevel(logging.NOTSET)
            bus.propagate = True
    assert [] == intercepting.troubles
    assert "telemetry_bus" in intercepting.seen
    assert 100 == len(messages(database))


@on_both
@in_sync_mode
def test_a_warning_that_arises_within_a_handler_is_told_elsewhere(
    store: TelemetryStore, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """By a thread that holds no lock; what only tells of the record's own job is left out."""
    caplog.set_level(logging.DEBUG, logger="telemetry_bus")
    told: list[int] = []
    caplog.handler.addFilter(lambda record: told.append(threading.get_ident()) is None)
    logger.addHandler(TelemetryHandler(store))
    real = store.execute

    def telling(*arguments: Any, **options: Any) -> int:
        logging.getLogger("telemetry_bus.writer").warning("something to know")
        return real(*arguments, **options)

    store.execute = telling  # type: ignore[method-assign]
    logger.info("one")
    eventually(lambda: any("something to know" in record.getMessage() for record in caplog.records))
    assert threading.get_ident() not in told
    assert [] == [record for record in caplog.records if record.getMessage().startswith("commit job")]
