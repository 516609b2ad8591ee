"""Log records of the bus that wait until this thread holds no lock that a handler of the program may wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOGGERS = ("telemetry_bus", "telemetry_bus.writer")


class _Waiting(threading.local):
    depth = 0

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []


_waiting = _Waiting()


@contextmanager
def told_later(*, elsewhere: bool = False) -> Iterator[None]:
    """What this thread logs for the bus in the block is handled after it, the outermost one.

    `elsewhere`: the caller may hold locks of its own after it, too, as within a handler. Then a thread that holds none
    handles warnings and errors; the rest would only tell of the job that the record becomes.
    """
    _waiting.depth += 1
    try:
        yield
    finally:
        _waiting.depth -= 1
        if not _waiting.depth and (records := _waiting.records):
            _waiting.records = []
            if not elsewhere:
                _handle(records)
            elif records := [record for record in records if record.levelno >= logging.WARNING]:
                with suppress(RuntimeError):  # the interpreter ends
                    threading.Thread(target=_handle, args=(records,), name="telemetry-bus-log").start()


def _handle(records: list[logging.LogRecord]) -> None:
    for record in records:
        logging.getLogger(record.name).handle(record)


def _passes(record: logging.LogRecord) -> bool:
    if _waiting.depth:
        _waiting.records.append(record)
    return not _waiting.depth


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_passes)
