"""Jobs that can never succeed, kept whole with their error in a table of the target database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from traceback import format_exception
from typing import Any

import msgpack

from ..encoding.values import pack_job, unpack_job
from ..errors import DatabaseFault, JobFailed, ProtocolError, shorten, split_error, without_values
from ..jobs import Failure, Job, Row, Template
from ..runtime.throttle import Pace
from .ledger import timestamp

logger = logging.getLogger("telemetry_bus")

#: Characters of an error with its traceback. The end is kept: it names the statement's place in the writer.
MAX_ERROR_TEXT = 8 * 1024
#: So many failures of one kind are logged in full per period; a thousand of them must hide neither the others nor
#: anything else.
LOGGED_PER_PERIOD = 5
#: What is said of an id that the table does not have.
UNKNOWN = "there is no such dead letter"

_STORE = """INSERT INTO telemetry_bus_dead_letters (stream, sequence, failed_at, error_type, error, statement, job)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (stream, sequence) DO UPDATE SET failed_at = excluded.failed_at, error_type = excluded.error_type,
    error = excluded.error, statement = excluded.statement, job = excluded.job"""
_AFTER = """SELECT stream, sequence, error_type, error, statement FROM telemetry_bus_dead_letters
    WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?"""
#: Without the jobs, which may have megabytes each.
_SUMMARIES = """SELECT id, stream, sequence, failed_at, error_type, error, statement
    FROM telemetry_bus_dead_letters ORDER BY id LIMIT ?"""
_NO_LIMIT = 2**63 - 1
_GET = """SELECT id, stream, sequence, failed_at, error_type, error, statement, job
    FROM telemetry_bus_dead_letters WHERE id = ?"""
_IDS = "SELECT id FROM telemetry_bus_dead_letters ORDER BY id"
_IDS_OF = "SELECT id FROM telemetry_bus_dead_letters WHERE stream = ? AND sequence = ?"
_COUNT = "SELECT count(*) FROM telemetry_bus_dead_letters"
_UPDATE = "UPDATE telemetry_bus_dead_letters SET error_type = ?, error = ?, statement = ? WHERE id = ?"
_DELETE = "DELETE FROM telemetry_bus_dead_letters WHERE id = ? RETURNING id"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row of the table. `failed_at` is UTC; `job` is packed, and empty in a summary."""

    id: int
    stream: bytes
    sequence: int
    failed_at: str
    error_type: str
    error: str
    statement: str | None
    job: bytes = b""

    def __post_init__(self) -> None:
        """Raises `DatabaseFault` for values that the bus does not write: another program has made the row."""
        numbers, data = (self.id, self.sequence), (self.stream, self.job)
        texts = (self.failed_at, self.error_type, self.error, self.statement or "")
        kinds = ((numbers, int), (texts, str), (data, bytes))
        if not all(isinstance(value, kind) for values, kind in kinds for value in values):
            raise DatabaseFault("a row is not of the bus's making", operation="dead letters", subject=f"id {self.id!r}")

    @property
    def first_line(self) -> str:
        return self.error.partition("\n")[0]

    @property
    def message(self) -> str:
        """The error without its traceback."""
        return split_error(self.error)[0]

    @property
    def traceback(self) -> str:
        return split_error(self.error)[1]

    def unpacked(self) -> Job | None:
        """The job; None when it was so wrong that it could only be kept as it came."""
        try:
            return unpack_job(self.job)
        except ProtocolError:
            return None


def refused(error: BaseException, statement: str | None) -> JobFailed:
    """The database refused a job: from the driver's exception, and the statement that met it.

    Its `traceback` is the error's message, the traceback below it, within bounds. The exception itself lets go of
    its traceback: the frames in it hold the whole batch and this error, and only the collector, which seldom looks,
    would find that circle.
    """
    failed = JobFailed(str(error), operation="apply", subject=statement or "")
    failed.error_type, failed.traceback = type(error).__name__, _text(error)
    failed.__cause__ = error
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return failed


#: An honest payload has three levels of lists.
_MAX_LEVELS = 32

#: Runs a statement of the bus: its rows.
Execute = Callable[[str, Row], Iterable[tuple[Any, ...]]]


class DeadLetters:
    """The rows of `telemetry_bus_dead_letters`. Runs inside the current transaction, where there is one."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def store(self, failure: Failure, template: Template, payload: Any) -> None:
        self._execute(
            _STORE,
            (
                failure.stream,
                failure.sequence,
                timestamp(),
                failure.error_type,
                failure.error,
                failure.statement,
                _pack(template, payload),
            ),
        )

    def after(self, stream: bytes, sequence: int, limit: int) -> list[Failure]:
        """The failures of a stream above a sequence, in order."""
        return [Failure(*row) for row in self._execute(_AFTER, (stream, sequence, limit))]

    def ids(self) -> list[int]:
        return [id for (id,) in self._execute(_IDS, ())]

    def ids_of(self, stream: bytes, sequence: int) -> list[int]:
        """The id of this job's letter; empty when it has none."""
        return [id for (id,) in self._execute(_IDS_OF, (stream, sequence))]

    def get(self, id: int) -> DeadLetter | None:
        """One of them, with its job."""
        return next((DeadLetter(*row) for row in self._execute(_GET, (id,))), None)

    def summaries(self, limit: int | None = None) -> Iterator[DeadLetter]:
        """The first `limit` of them, or all, without their jobs, in the order of their ids."""
        return (DeadLetter(*row) for row in self._execute(_SUMMARIES, (_NO_LIMIT if limit is None else limit,)))

    def count(self) -> int:
        return sum(number for (number,) in self._execute(_COUNT, ()))

    def update(self, id: int, failed: JobFailed) -> None:
        self._execute(_UPDATE, (failed.error_type, failed.traceback, failed.subject or None, id))

    def delete(self, ids: Iterable[int]) -> int:
        """The number of those that were there."""
        return sum(len(list(self._execute(_DELETE, (id,)))) for id in ids)


class FailureLog(Pace):
    """Logs failures with their traceback, without values."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logger, clock, most=LOGGED_PER_PERIOD)

    def write(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            stream, statement = failure.stream.hex(), shorten(failure.statement or "")
            error, traceback = without_values(failure.error, failure.statement or "")
            self.log(
                logging.ERROR,
                "job %d of stream %s is a dead letter: %s: %s [%s]\n%s",
                failure.sequence,
                stream,
                failure.error_type,
                error,
                statement,
                traceback,
                about=f"{failure.error_type} {statement}",
                extra={
                    "stream": stream,
                    "sequence": failure.sequence,
                    "statement": statement,
                    "error": f"{failure.error_type}: {error}",
                    "traceback": traceback,
                },
            )


def _text(error: BaseException) -> str:
    text = f"{error}\n{''.join(format_exception(error))}"
    if len(text) <= MAX_ERROR_TEXT:
        return text
    return f"{text[: MAX_ERROR_TEXT // 2]}\n…\n{text[-MAX_ERROR_TEXT // 2 :]}"


def _pack(template: Template, payload: Any) -> bytes:
    try:
        return pack_job(template.job(payload))
    except (TypeError, ValueError):  # the payload does not fit its template: keep it as it came
        kept: bytes = msgpack.packb([template.ensure, template.statements, _packable(payload)])
        return kept


def _packable(payload: Any, levels: int = _MAX_LEVELS) -> Any:
    """msgpack reads lists in lists that some of its versions cannot write: those below so many levels become text."""
    if not isinstance(payload, list):
        return payload
    return [_packable(value, levels - 1) for value in payload] if levels else "lists within lists, left out"
