"""A `logging.Handler` that writes records through the bus, and never disturbs the program that logs."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from .config import DialectName
from .errors import ConfigError, shorten
from .runtime.told_later import told_later
from .sql.tokens import BUS_PREFIX

if TYPE_CHECKING:
    from .store import TelemetryStore

#: A longer message, exception or `extra` loses its middle: what a traceback ends with says most. All of a record,
#: at four bytes a character, then fits into a job, and into half of a journal of 2 MiB.
MAX_TEXT_CHARS = 64 * 1024
#: So many values of an `extra` that is too long are kept, each with its share of the room.
MAX_EXTRA_VALUES = 100
#: What PostgreSQL keeps of a name is 63 bytes, and the name of an index is longer than its table's.
MAX_TABLE_CHARS = 48

#: In JSON a character may become two escapes of six characters, and a name may be as long as its value.
_LONGEST_ESCAPE = 24

_COLUMNS = (
    "created_at",
    "level",
    "levelno",
    "logger",
    "message",
    "module",
    "function",
    "line",
    "process",
    "thread",
    "exception",
    "extra",
)
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{MAX_TABLE_CHARS - 1}}}")
_RESERVED = ("sqlite_", BUS_PREFIX)
_PACKAGE = __name__.partition(".")[0]
#: Whose functions the threads of a store run.
_THREAD_OWNERS = (f"{_PACKAGE}.producer.sender_thread", f"{_PACKAGE}.backends.thread")
#: What every record has; the rest came with `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_formatter = logging.Formatter()


class TelemetryHandler(logging.Handler):
    """Writes each record as a row of `table`, as a job of `store`: a store, or, as configurations have it, the path or
    URL of a database, of which it takes the shared store (`get_store`).

    With a formatter, `message` is what it makes of the record, and `exception` what it makes of a traceback.

    Nothing that goes wrong reaches the program that logs. A record that cannot be written is counted in `failures`,
    and the first of each kind of error is reported by `handleError`, which prints it to the standard error as long
    as `logging.raiseExceptions` is true.

    Left out, since writing them would call for the next: records of the loggers `telemetry_bus…`, those of the
    store's own threads, and those that arise in this thread while a record is being written.

    A full journal makes `store` wait, raise or drop: a store with `on_full="drop"` never lets the program wait, and
    counts what it drops in `store.stats()`.

    Raises `ConfigError` for a `table` that is not a plain name, and for what names no database.
    """

    def __init__(self, store: Any, table: str = "log_records", level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self.failures = 0
        _check_name(table)
        self._store: TelemetryStore = store if callable(getattr(store, "execute", None)) else _shared(store)
        self._ensure = definitions(table, getattr(self._store, "dialect", "sqlite"))
        self._sql = f'INSERT INTO "{table}" ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})'
        self._here = threading.local()
        self._reported: set[type[Exception]] = set()

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record if it passes the filters.

        Not under the handler's lock: a thread that holds one of the store's would wait here for one that holds this
        one, and waits there.
        """
        if self._is_left_out(record):
            return False
        passed: Any = self.filter(record)  # from Python 3.12 on it may be another record
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record in. Never raises."""
        if self._is_left_out(record):
            return
        self._here.writing = True
        try:
            with told_later(elsewhere=True):
                self._store.execute(self._sql, row(record, self.formatter), ensure=self._ensure)
        except Exception as error:  # a program must not fail because it logs
            self._failed(record, error)
        finally:
            self._here.writing = False

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Let it make the texts of messages and tracebacks. The one that `logging.basicConfig` gives every handler is
        left aside: it repeats level and logger, which have columns of their own."""
        basic = type(fmt) is logging.Formatter and fmt._fmt == logging.BASIC_FORMAT
        super().setFormatter(None if basic else fmt)

    def flush(self) -> None:
        """Nothing: a record is safe in the journal when it is logged. `store.flush()` waits until it can be read."""

    def close(self) -> None:
        """Let `logging` forget the handler. The store stays open: it belongs to the caller."""
        super().close()

    def _is_left_out(self, record: logging.LogRecord) -> bool:
        return (
            f"{record.name}.".startswith(f"{_PACKAGE}.")
            or getattr(self._here, "writing", False)
            or _is_of_the_bus(_thread_of(record))
        )

    def _failed(self, record: logging.LogRecord, error: Exception) -> None:
        self.acquire()
        try:
            self.failures += 1
            is_new = type(error) not in self._reported
            self._reported.add(type(error))
        finally:
            self.release()
        if is_new:
            with suppress(Exception):  # a closed standard error, a record that cannot be printed
                self.handleError(record)


def _check_name(table: object) -> None:
    """Raises `ConfigError` for what is no plain name of a table."""
    if not isinstance(table, str) or not _NAME.fullmatch(table) or table.lower().startswith(_RESERVED):
        raise ConfigError(
            f"{shorten(repr(table))} cannot name a table",
            operation="handler",
            subject="table",
            hint=f"up to {MAX_TABLE_CHARS} letters, digits and _, and not {' or '.join(_RESERVED)}…",
        )


def definitions(table: str, dialect: DialectName = "sqlite") -> tuple[str, ...]:
    """The definitions of a table of records and of its indexes."""
    number = "INTEGER" if dialect == "sqlite" else "BIGINT GENERATED BY DEFAULT AS IDENTITY"
    return (
        f"""CREATE TABLE IF NOT EXISTS "{table}" (
    id {number} PRIMARY KEY, created_at TIMESTAMP, level TEXT, levelno INTEGER, logger TEXT, message TEXT,
    module TEXT, function TEXT, line INTEGER, process INTEGER, thread TEXT, exception TEXT, extra TEXT)""",
        f'CREATE INDEX IF NOT EXISTS "ix_{table}_created_at" ON "{table}" (created_at)',
        f'CREATE INDEX IF NOT EXISTS "ix_{table}_level" ON "{table}" (level)',
    )


def _shared(database: object) -> TelemetryStore:
    from .store import get_store

    return get_store(database)


def row(record: logging.LogRecord, formatter: logging.Formatter | None = None) -> tuple[Any, ...]:
    """The values of a record's row: texts that any database takes, whatever the record holds."""
    moment = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
    return (
        moment.isoformat(" ", "microseconds"),
        _text(record.levelname),
        record.levelno,
        _text(record.name),
        _text(_message(record, formatter)),
        _text(record.module),
        _text(record.funcName),
        record.lineno,
        record.process,
        _text(record.threadName),
        _text(_exception(record, formatter or _formatter)),
        _extra(record),
    )


def _message(record: logging.LogRecord, formatter: logging.Formatter | None) -> str:
    """The formatted message; one that cannot be formatted stands there with its arguments and the reason."""
    try:
        return record.getMessage() if formatter is None else formatter.format(_without_traceback(record))
    except Exception as error:
        return f"{_shown(record.msg)} [arguments {_shown(record.args)}: {type(error).__name__}: {_shown(error)}]"


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    """A copy: a formatter adds the traceback, which has a column of its own, and leaves texts in the record."""
    bare = copy.copy(record)
    bare.exc_info = bare.exc_text = bare.stack_info = None
    return bare


def _exception(record: logging.LogRecord, formatter: logging.Formatter) -> str | None:
    """The traceback, and the stack if one was asked for."""
    parts: list[object] = [record.exc_text]
    if not record.exc_text and isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        try:
            parts = [formatter.formatException(record.exc_info)]
        except Exception as error:
            parts = [f"{_shown(record.exc_info[1])} [no traceback: {type(error).__name__}: {_shown(error)}]"]
    parts.append(record.stack_info)
    return "\n".join(_shown(part) for part in parts if part) or None


def _extra(record: logging.LogRecord) -> str | None:
    """What came with `extra=`, as JSON; what JSON cannot hold, as its text."""
    values = {str(name): value for name, value in vars(record).items() if name not in _STANDARD}
    if not values:
        return None
    text = _json(values) or _json({name: _fitting(value, MAX_TEXT_CHARS) for name, value in values.items()})
    if text is not None and len(text) <= MAX_TEXT_CHARS:
        return text
    share = MAX_TEXT_CHARS // min(len(values), MAX_EXTRA_VALUES) // _LONGEST_ESCAPE
    return _json(
        {_cut(name, share): _fitting(value, share) for name, value in islice(values.items(), MAX_EXTRA_VALUES)}
    )


def _fitting(value: Any, limit: int) -> Any:
    """The value if it has a JSON form that is short enough, else as much of its text."""
    form = _json(value)
    return value if form is not None and len(form) <= limit else _cut(_shown(value), limit)


def _json(value: Any) -> str | None:
    """JSON in ASCII, so that a lone surrogate does no harm; None for cycles, NaN, keys that are no text …"""
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except Exception:  # RecursionError, and what a value of somebody's class raises
        return None


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else _cut(_shown(value))


def _text(value: object) -> str | None:
    """A text that can be encoded and stored anywhere, within the limit; None stays None."""
    if value is None:
        return None
    text = _cut(value if isinstance(value, str) else _shown(value)).replace("\0", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """At most `limit` characters; the middle is left out, of a short text the end."""
    if len(text) <= limit:
        return text
    note = f"\n… {len(text)} characters in all …\n"
    kept = (limit - len(note)) // 2
    return text[:kept] + note + text[-kept:] if kept > len(note) else text[:limit]


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _thread_of(record: logging.LogRecord) -> threading.Thread | None:
    """The thread that made the record; another one than this when a queue lies between."""
    if record.thread in (None, threading.get_ident()) or record.process not in (None, os.getpid()):
        return threading.current_thread()
    return next((thread for thread in threading.enumerate() if thread.ident == record.thread), None)


def _is_of_the_bus(thread: threading.Thread | None) -> bool:
    """Whether it is a thread of a store; names of threads are the users' to choose."""
    return getattr(getattr(thread, "_target", None), "__module__", None) in _THREAD_OWNERS
