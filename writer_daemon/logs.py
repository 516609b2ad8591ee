"""The writer's log: one event is one line, as text for people or as JSON, and writing it never hurts the writer.

A line is at most `MAX_LINE_BYTES` long and written at once: what several processes write to one pipe does not mix,
and journald does not cut it. A traceback is folded into its event's line, as ``\\n``: whoever reads a log line by line
(grep, journald, a collector) would take its other lines for events of their own, without time and level.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from telemetry_bus.errors import printable
from telemetry_bus.runtime.files import open_inside
from telemetry_bus.runtime.locks import leads_to

#: A writer that a producer started keeps this much log, and so many older ones.
LOG_BYTES = 1024 * 1024
LOG_FILES = 2
#: PIPE_BUF: a write of so many bytes to a pipe is whole (pipe(7)), and does not wait once poll(2) has said so.
MAX_LINE_BYTES = 4096

_STDERR = 2
#: What the texts of one JSON line are cut to, the first that lets it fit.
_CUTS = (2000, 1000, 400, 100, 30)
_CUT = " … "
#: sd-daemon(3): journald takes this at the beginning of a line for its priority.
_PRIORITIES = ((logging.CRITICAL, "<2>"), (logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(
    level: str, form: Literal["text", "json"], file: Path | None, environ: Mapping[str, str] = os.environ
) -> None:
    """Log to `file`, with rotation, or to standard error. For the program, not for a library."""
    handler = Lines(_STDERR) if file is None else LogFile(file)
    journald = file is None and is_journal(_STDERR, environ)
    handler.setFormatter(Json(journald) if form == "json" else Text(journald))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor leads to journald: `JOURNAL_STREAM` of systemd.exec(5) names its device and inode."""
    with suppress(OSError):
        found = os.fstat(fd)
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


def complain(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say why there is no writer, before there is a log."""
    prefix = _priority(logging.ERROR) if is_journal(_STDERR, environ) else ""
    with suppress(OSError):
        print(prefix + printable(text), file=sys.stderr)


class Text(logging.Formatter):
    """For people. For journald without time and process, which it knows, and with the priority."""

    def __init__(self, journald: bool = False) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        if self._journald:
            head = f"{_priority(record.levelno)}{record.levelname} {record.name}: "
        else:
            head = f"{self._time(record)} {record.levelname} {record.name}[{record.process}]: "
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return head + printable(text)

    def _time(self, record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


class Json(Text):
    """For machines: an object of ASCII characters. Always `time`, `level`, `logger`, `pid` and `message`; then what
    the event has to tell, and `error` and `traceback` of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        event |= {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS | event.keys()}
        if "traceback" in event:
            event["message"] = record.getMessage().removesuffix(f"\n{event['traceback']}")
        if record.exc_info and record.exc_info[1] is not None:
            event["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            event["traceback"] = self.formatException(record.exc_info)
        prefix = _priority(record.levelno) if self._journald else ""
        line = prefix + json.dumps(event, default=str)
        cuts = iter(_CUTS)
        while len(line) >= MAX_LINE_BYTES and (cut := next(cuts, None)):
            line = prefix + json.dumps({name: _cut(value, cut) for name, value in event.items()}, default=str)
        return line


class Lines(logging.Handler):
    """Writes to a descriptor, without ever waiting for its reader. What could not be written is counted, and told
    when it can be again."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lost = 0
        self._torn = False  # the disk was full in the middle of a line

    def emit(self, record: logging.LogRecord) -> None:
        if self._lost and self._write(_record("%d lines of this log could not be written", self._lost)):
            self._lost = 0
        if not self._write(record):
            self._lost += 1

    def _write(self, record: logging.LogRecord) -> bool:
        try:
            text = self.format(record)
        except Exception as error:  # a defect where it is logged
            text = self.format(_record("%r cannot be formatted: %r", record.msg, error))
        data = b"\n" * self._torn + _bounded(text)
        try:
            if not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                return False
            written = os.write(self._fd, data)
        except OSError:
            return False
        self._torn = written < len(data)
        return not self._torn


class LogFile(Lines):
    """A file, and `LOG_FILES` older ones beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(self._open())

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # go on in the old one
            if not leads_to(self._path, self._fd):  # somebody has rotated or removed it
                self._begin()
            elif os.fstat(self._fd).st_size >= LOG_BYTES:
                self._rotate()
        super().emit(record)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)
        super().close()

    def _rotate(self) -> None:
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, LOG_FILES + 1))]
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            with suppress(FileNotFoundError):
                newer.rename(older)
        self._begin()

    def _begin(self) -> None:
        """Go on in the file that now has the name, or in a new one; what libraries write to standard error too."""
        fresh = self._open()
        if os.path.sameopenfile(_STDERR, self._fd):
            os.dup2(fresh, _STDERR)
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)

    def _open(self) -> int:
        return open_inside(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _record(text: str, *args: object) -> logging.LogRecord:
    name, level = "telemetry_bus.writer", logging.WARNING
    return logging.makeLogRecord(
        {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text, "args": args}
    )


def _priority(level: int) -> str:
    return next((prefix for least, prefix in _PRIORITIES if level >= least), "<7>")


def _bounded(line: str) -> bytes:
    """A line's bytes with its end, cut in the middle if need be."""
    data = line.encode() + b"\n"
    if len(data) <= MAX_LINE_BYTES:
        return data
    half = (MAX_LINE_BYTES - len(_CUT.encode())) // 2
    head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return (head + _CUT + tail).encode()


def _cut(value: object, length: int) -> object:
    """A text in a length; anything else as it is."""
    if not isinstance(value, str) or len(value) <= length:
        return value
    return value[: length // 2] + _CUT + value[-length // 2 :]
