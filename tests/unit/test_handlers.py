"""The logging handler: what it writes of a record, whatever the record holds, and that it never disturbs."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from logging.config import dictConfig
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import pytest

from telemetry_bus import ConfigError, JournalFull, ReentrantSubmit, StoreClosed, TelemetryError, get_store
from telemetry_bus.handlers import MAX_EXTRA_VALUES, MAX_TABLE_CHARS, MAX_TEXT_CHARS, TelemetryHandler
from telemetry_bus.jobs import MAX_JOB_BYTES
from telemetry_bus.producer.sender_thread import Sender
from telemetry_bus.testing import RecordedJobs

Attached = Callable[..., TelemetryHandler]

TABLE = "log_records"


class Unspeakable:
    """Has no text."""

    def __str__(self) -> str:
        raise LookupError("no words")

    __repr__ = __str__


class Refusing(RecordedJobs):
    """Takes no job: raises the errors that it was given, in turn, the last one for ever."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def execute(self, *_: Any, **__: Any) -> int:
        raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]


@pytest.fixture
def jobs() -> RecordedJobs:
    return RecordedJobs()


@pytest.fixture
def logger() -> logging.Logger:
    """A logger of the test's own, outside of the tree of loggers: no other handler listens to it."""
    return logging.Logger("program", logging.DEBUG)


@pytest.fixture
def attached(logger: logging.Logger) -> Attached:
    """Makes a handler of the logger."""

    def attach(store: RecordedJobs, **options: Any) -> TelemetryHandler:
        handler = TelemetryHandler(store, **options)
        logger.addHandler(handler)
        return handler

    return attach


def written(jobs: RecordedJobs, table: str = TABLE) -> dict[str, Any]:
    """The one record that was written."""
    (record,) = jobs.inserted(table)
    return record


# What is written


def test_columns(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A record becomes a row with the documented columns; the time is UTC with six digits of a second."""
    attached(jobs)
    record = logger.makeRecord(
        logger.name, logging.WARNING, "/folder/crawler.py", 7, "%d of %s", (3, "pages"), None, "visit"
    )
    record.created, record.process, record.threadName = 1700000000.5, 42, "worker"
    logger.handle(record)
    assert {
        "created_at": "2023-11-14 22:13:20.500000",
        "level": "WARNING",
        "levelno": 30,
        "logger": logger.name,
        "message": "3 of pages",
        "module": "crawler",
        "function": "visit",
        "line": 7,
        "process": 42,
        "thread": "worker",
        "exception": None,
        "extra": None,
    } == written(jobs)


def test_whole_seconds(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A time without a fraction has its six digits too, so that texts sort as times do."""
    attached(jobs)
    logger.handle(logging.makeLogRecord({"levelno": 20, "created": 1700000000.0}))
    assert "2023-11-14 22:13:20.000000" == written(jobs)["created_at"]


def test_definitions(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """Table and indexes come along, the same texts with every record."""
    attached(jobs, table="Order")
    logger.info("one")
    logger.info("two")
    first, second = jobs.jobs
    assert first.ensure == second.ensure
    assert 3 == len(first.ensure)
    assert ["one", "two"] == [record["message"] for record in jobs.inserted("order")]


@pytest.mark.parametrize(
    "table",
    [
        "",
        "two words",
        "1st",
        'a"b',
        "a;b",
        "täble",
        "a.b",
        "a" * (MAX_TABLE_CHARS + 1),
        "line\n",
        "sqlite_log",
        "Telemetry_Bus_ledger",
        None,
        7,
    ],
)
def test_table_names(table: Any, jobs: RecordedJobs) -> None:
    """What is not a plain name, or is somebody else's, is refused when the handler is made."""
    with pytest.raises(ConfigError, match="table"):
        TelemetryHandler(jobs, table=table)


@pytest.mark.parametrize("table", ["a", "_", "Log2", "order", "a" * MAX_TABLE_CHARS])
def test_plain_table_names(table: str, jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """Letters, digits and underscores are a name, and words of SQL as well."""
    attached(jobs, table=table)
    logger.info("text")
    assert "text" == written(jobs, table)["message"]


def test_level_and_filters(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """They work as for any handler."""
    handler = attached(jobs, level=logging.WARNING)
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.info("too low")
    logger.error("secret")
    logger.error("open")
    assert "open" == written(jobs)["message"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters return records since Python 3.12")
def test_filter_that_changes(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """The record that a filter returns is the one that is written."""
    changing: Any = lambda record: logging.makeLogRecord({**vars(record), "msg": "other"})  # noqa: E731
    attached(jobs).addFilter(changing)
    logger.error("one")
    assert "other" == written(jobs)["message"]


def test_exception_and_stack(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A traceback is kept, and the stack behind it; the record itself is left as it was for other handlers."""
    attached(jobs)
    try:
        raise ValueError("broken")
    except ValueError:
        record = logger.makeRecord(logger.name, 40, __file__, 1, "failed", (), sys.exc_info(), sinfo="Stack: here")
    before = dict(vars(record))
    logger.handle(record)
    text = written(jobs)["exception"]
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: broken\nStack: here")
    assert before == vars(record)


def test_exception_as_text(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """What a queue has made of a traceback is taken as it is; `exc_info` without an exception is none."""
    attached(jobs)
    logger.handle(logging.makeLogRecord({"levelno": 20, "exc_text": "Traceback of long ago", "exc_info": None}))
    logger.error("nothing is wrong", exc_info=True)
    assert ["Traceback of long ago", None] == [record["exception"] for record in jobs.inserted(TABLE)]


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"url": "/a", "took": 1.5, "tags": ["x", None, True]}, {"url": "/a", "took": 1.5, "tags": ["x", None, True]}),
        ({"kind": ValueError("bad"), "left": 1}, {"kind": "bad", "left": 1}),
        ({"ratio": float("nan"), "left": 1}, {"ratio": "nan", "left": 1}),
        ({"odd": {(1, 2): 3}}, {"odd": "{(1, 2): 3}"}),
        ({"odd": Unspeakable()}, {"odd": "<Unspeakable that cannot be shown: LookupError>"}),
        ({"text": "\udc80 é"}, {"text": "\udc80 é"}),
        ({"many": {1}}, {"many": "{1}"}),
        ({"nested": [ValueError("bad"), 1]}, {"nested": ["bad", 1]}),
        ({"headers": MappingProxyType({"a": 1})}, {"headers": {"a": 1}}),
    ],
)
def test_extra(
    extra: dict[str, Any], text: dict[str, Any], jobs: RecordedJobs, logger: logging.Logger, attached: Attached
) -> None:
    """What came with `extra=` is JSON; what JSON has no form for is its text, and its neighbours stay as they are."""
    handler = attached(jobs)
    logger.info("text", extra=extra)
    assert 0 == handler.failures
    assert text == json.loads(written(jobs)["extra"], parse_constant=pytest.fail)


def test_extra_in_a_circle(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A value that holds itself, and one that is nested without end, become texts."""
    attached(jobs)
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    logger.info("text", extra={"circle": circle, "deep": deep})
    assert {"circle": "[[...]]", "deep": "<list that cannot be shown: RecursionError>"} == json.loads(
        written(jobs)["extra"]
    )


# Any record


def test_arguments_that_do_not_fit(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A message that cannot be formatted is written with its arguments and the reason."""
    handler = attached(jobs)
    logger.info("%d pages", "three")
    assert (
        "%d pages [arguments ('three',): TypeError: %d format: a real number is required, not str]"
        == (written(jobs)["message"])
    )
    assert 0 == handler.failures


def test_values_without_a_text(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A message, an argument or an exception that cannot be shown costs its text, not the record."""
    handler = attached(jobs)
    logger.info(Unspeakable())
    logger.info("%s", Unspeakable())
    logger.handle(logging.makeLogRecord({"levelno": 20, "msg": "third", "exc_info": (ValueError, Unspeakable(), None)}))
    assert 3 == len(jobs.jobs)
    assert 0 == handler.failures
    assert all("cannot be shown" in record["message"] for record in jobs.inserted(TABLE)[:2])


def test_lone_surrogates(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """They are written as escapes, wherever they stand."""
    attached(jobs)
    texts = {"msg": "é \udc80", "name": "n\udc80", "threadName": "t\ud800", "exc_text": "\udc80"}
    logger.handle(logging.makeLogRecord({"levelno": 20, **texts}))
    row = written(jobs)
    assert ("é \\udc80", "n\\udc80", "t\\ud800", "\\udc80") == (
        row["message"],
        row["logger"],
        row["thread"],
        row["exception"],
    )


@pytest.mark.parametrize("letter", ["x", "\U0001f600", "\udc80"])
def test_huge_texts(letter: str, jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """Beginning and end of what is too long are kept, and the record fits into a job."""
    handler = attached(jobs)
    huge = "first " + letter * MAX_JOB_BYTES + " last"
    logger.handle(logging.makeLogRecord({"levelno": 20, "msg": huge, "exc_text": huge, "value": huge, "other": 1}))
    assert 0 == handler.failures
    row = written(jobs)
    for text in (row["message"], row["exception"], json.loads(row["extra"])["value"]):
        assert text.startswith("first ")
        assert text.endswith(" last")
        assert f"{len(huge)} characters" in text
    assert MAX_TEXT_CHARS >= len(row["extra"])
    assert 1 == json.loads(row["extra"])["other"]
    if letter == "x":
        assert MAX_TEXT_CHARS == len(row["message"]) + (len(row["message"]) % 2)


def test_as_long_as_may_be(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A text of exactly the limit is whole."""
    attached(jobs)
    logger.info("x" * MAX_TEXT_CHARS)
    assert "x" * MAX_TEXT_CHARS == written(jobs)["message"]


def test_many_values(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """Of very many long values some are kept, within the limit."""
    attached(jobs)
    logger.info("text", extra={f"value{number}" * 50: "\udc80" * 10_000 for number in range(1000)})
    text = written(jobs)["extra"]
    assert MAX_EXTRA_VALUES == len(json.loads(text))
    assert MAX_TEXT_CHARS >= len(text)


# Never into the program


@pytest.mark.parametrize(
    "error", [JournalFull("full"), StoreClosed("closed"), ReentrantSubmit(), OSError(), RecursionError()]
)
def test_errors_are_counted(
    error: Exception, logger: logging.Logger, attached: Attached, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a store raises, the program goes on; the first of a kind is told on the standard error."""
    handler = attached(Refusing(error))
    for _ in range(3):
        logger.info("text")
    assert 3 == handler.failures
    assert 1 == capsys.readouterr().err.count("--- Logging error ---")


def test_each_kind_is_told(logger: logging.Logger, attached: Attached, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of different kinds are each told once."""
    handler = attached(Refusing(JournalFull("full"), JournalFull("full"), StoreClosed("closed")))
    for _ in range(5):
        logger.info("text")
    told = capsys.readouterr().err
    assert 5 == handler.failures
    assert (1, 1) == (told.count("JournalFull: full"), told.count("StoreClosed: closed"))


def test_silence(
    logger: logging.Logger, attached: Attached, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `logging.raiseExceptions` they are only counted."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = attached(Refusing(StoreClosed("closed")))
    logger.info("text")
    assert (1, "") == (handler.failures, capsys.readouterr().err)


def test_nowhere_to_tell(logger: logging.Logger, attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard error that is closed, or a report that fails in another way, does not reach the program either."""

    def fails(_: logging.LogRecord) -> None:
        raise TelemetryError("I/O operation on closed file")

    handler = attached(Refusing(StoreClosed("closed")))
    monkeypatch.setattr(handler, "handleError", fails)
    logger.info("text")
    assert 1 == handler.failures


def test_a_record_that_is_none(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A record made by hand, without what records have, is counted and left."""
    handler = attached(jobs)
    logger.handle(logging.makeLogRecord({"levelno": 20, "created": float("inf")}))
    assert (1, []) == (handler.failures, jobs.jobs)


def test_an_interrupt_passes(logger: logging.Logger, attached: Attached) -> None:
    """Ctrl-C during a log call ends the program as anywhere else, and the next record is written."""
    handler = attached(Refusing(KeyboardInterrupt(), StoreClosed("closed")))
    with pytest.raises(KeyboardInterrupt):
        logger.info("text")
    logger.info("text")
    assert 1 == handler.failures


# Never in a circle


@pytest.mark.parametrize("name", ["telemetry_bus", "telemetry_bus.writer"])
def test_loggers_of_the_bus(name: str, jobs: RecordedJobs) -> None:
    """What the bus logs is left out, by whatever way it comes."""
    handler = TelemetryHandler(jobs)
    record = logging.makeLogRecord({"name": name, "levelno": logging.ERROR})
    assert not handler.handle(record)
    handler.emit(record)
    handler.handle(logging.makeLogRecord({"name": "telemetry_business"}))
    assert "telemetry_business" == written(jobs)["logger"]


def test_records_within_a_record(logger: logging.Logger, attached: Attached) -> None:
    """A store, or an argument, that logs while a record is being written is not heard; the next record is."""

    class Talking(RecordedJobs):
        def execute(self, *arguments: Any, **options: Any) -> int:
            logger.info("within the store")
            return super().execute(*arguments, **options)

    class Argument:
        def __str__(self) -> str:
            logger.info("within the argument")
            return "text"

    attached(jobs := Talking())
    logger.info("%s 1", Argument())
    logger.info("%s 2", Argument())
    assert ["text 1", "text 2"] == [record["message"] for record in jobs.inserted(TABLE)]


def test_another_thread_meanwhile(logger: logging.Logger, attached: Attached) -> None:
    """While one thread writes a record, another one writes its own and does not wait for it."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(RecordedJobs):
        def execute(self, sql: str, parameters: Any = (), **options: Any) -> int:
            if "slow" in parameters:
                inside.set()
                assert leave.wait(30)
            return super().execute(sql, parameters, **options)

    attached(jobs := Slow())
    thread = threading.Thread(target=logger.info, args=("slow",))
    thread.start()
    assert inside.wait(30)
    try:
        (other := threading.Thread(target=logger.info, args=("quick",))).start()
        other.join(30)
        assert "quick" == written(jobs)["message"]
    finally:
        leave.set()
        thread.join()
    assert ["quick", "slow"] == [record["message"] for record in jobs.inserted(TABLE)]


def test_threads_of_a_store(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """What is logged in a thread that a store runs is left out, also behind a queue; other records of a queue are
    not."""
    queue: SimpleQueue[Any] = SimpleQueue()
    handler = TelemetryHandler(jobs)
    logger.addHandler(handler)
    logger.addHandler(QueueHandler(queue))

    class OfTheBus(threading.Thread):
        def run(self) -> None:
            logger.info("of the bus")
            listener.start()
            listener.stop()  # the record has been looked at then, while its thread lives

    listener = QueueListener(queue, handler)
    thread = OfTheBus(target=Sender._run)
    thread.start()
    thread.join()
    assert [] == jobs.jobs
    logger.info("of the program")
    listener.start()
    listener.stop()
    assert ["of the program"] * 2 == [record["message"] for record in jobs.inserted(TABLE)]


def test_threads_of_the_program(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """A thread of the program that does nothing but submit is not a store's: what its job logs is written."""
    attached(jobs)
    thread = threading.Thread(target=jobs.submit, args=(lambda connection: logger.info("within a job"),))
    thread.start()
    thread.join()
    assert "within a job" == written(jobs)["message"]


# The end


def test_the_store_stays_open(jobs: RecordedJobs, logger: logging.Logger, attached: Attached) -> None:
    """`flush` and `close` leave the store alone, and a record that comes later is written."""
    handler = attached(jobs)
    handler.flush()
    handler.close()
    logger.info("late")
    assert "late" == written(jobs)["message"]


# Formatters, and what configurations say


class AsJson(logging.Formatter):
    """Replaces `format`, as formatters of JSON do."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"text": record.getMessage(), "has": [record.exc_info, record.exc_text, record.stack_info]})

    def formatException(self, ei: Any) -> str:
        return f"a {ei[0].__name__}"


@pytest.mark.parametrize(
    ("formatter", "message", "exception"),
    [
        (logging.Formatter("%(levelname)s of %(name)s: %(message)s"), "ERROR of program: one 2", "Traceback"),
        (logging.Formatter("{levelno} {message}", style="{"), "40 one 2", "Traceback"),
        (AsJson(), '{"text": "one 2", "has": [null, null, null]}', "a ValueError"),
        (logging.Formatter(logging.BASIC_FORMAT), "one 2", "Traceback"),
        (logging.Formatter("%(nothing)s"), "one %d [arguments (2,): ValueError: Formatting field", "Traceback"),
        (None, "one 2", "Traceback"),
    ],
    ids=["style %", "style {", "JSON", "of basicConfig", "broken", "none"],
)
def test_a_formatter_is_honoured(
    jobs: RecordedJobs,
    logger: logging.Logger,
    attached: Attached,
    formatter: logging.Formatter | None,
    message: str,
    exception: str,
) -> None:
    """It makes the message and the traceback, each for its column; other handlers get the record as it was."""
    attached(jobs).setFormatter(formatter)
    records: list[logging.LogRecord] = []
    logger.addFilter(lambda record: records.append(record) is None)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("one %d", 2)
    found = written(jobs)
    assert (True, True) == (found["message"].startswith(message), found["exception"].startswith(exception))
    (record,) = records
    assert (None, True) == (record.exc_text, record.exc_info is not None)


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_configuration_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """By path or URL; the program's shared store of that database writes, and options arrive."""
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "sync")
    database = tmp_path / "log.db"
    name = f"configured.{form}"
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "short: %(message)s"}},
            "handlers": {
                "bus": {
                    "class": "telemetry_bus.handlers.TelemetryHandler",
                    "store": form.format(database),
                    "table": "program_log",
                    "level": "WARNING",
                    "formatter": "short",
                }
            },
            "loggers": {name: {"handlers": ["bus"], "level": "DEBUG", "propagate": False}},
        }
    )
    with get_store(database) as store:
        logging.getLogger(name).warning("one")
        logging.getLogger(name).info("two")
        with store.connection() as connection:
            assert [("short: one",)] == connection.execute("SELECT message FROM program_log").fetchall()


@pytest.mark.parametrize(
    "wrong", [5, "mysql://host/x", object(), b"log.db", ["log.db"]], ids=lambda it: type(it).__name__
)
def test_what_is_no_store_is_told_when_it_is_configured(wrong: Any) -> None:
    """Not at the first record."""
    with pytest.raises(ConfigError):
        TelemetryHandler(wrong)
