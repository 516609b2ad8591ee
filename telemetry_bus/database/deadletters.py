"""Jobs that can never succeed, kept whole with their error in a table of the target database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any

import msgpack

from ..encoding.values import pack_job
from ..errors import shorten, without_values
from ..jobs import Failure, Template
from ..runtime.throttle import Pace
from .dialects import Connection
from .ledger import timestamp

logger = logging.getLogger("telemetry_bus")

#: Characters of an error with its traceback. The end is kept: it names the statement's place in the writer.
MAX_ERROR_TEXT = 8 * 1024
#: So many failures of one kind are logged in full per period; a thousand of them must hide neither the others nor
#: anything else.
LOGGED_PER_PERIOD = 5

_STORE = """INSERT INTO telemetry_bus_dead_letters (stream, sequence, failed_at, error_type, error, statement, job)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (stream, sequence) DO UPDATE SET failed_at = excluded.failed_at, error_type = excluded.error_type,
    error = excluded.error, statement = excluded.statement, job = excluded.job"""
_AFTER = """SELECT stream, sequence, error_type, error, statement FROM telemetry_bus_dead_letters
    WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?"""
_GET = """SELECT id, stream, sequence, failed_at, error_type, error, statement, job
    FROM telemetry_bus_dead_letters WHERE id = ?"""
_IDS = "SELECT id FROM telemetry_bus_dead_letters ORDER BY id"
_COUNT = "SELECT count(*) FROM telemetry_bus_dead_letters"
_UPDATE = "UPDATE telemetry_bus_dead_letters SET error_type = ?, error = ?, statement = ? WHERE id = ?"
_DELETE = "DELETE FROM telemetry_bus_dead_letters WHERE id = ? RETURNING id"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row of the table. `job` is `codec.pack_job` of it; `failed_at` is UTC."""

    id: int
    stream: bytes
    sequence: int
    failed_at: str
    error_type: str
    error: str
    statement: str | None
    job: bytes


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What became of a dead letter: `ok` and gone, or still there with this error."""

    id: int
    ok: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The database refused a job: the driver's exception, and the statement that met it.

    `text` is the error's message, its traceback below it, within bounds. The exception itself lets go of its
    traceback: the frames in it hold the whole batch and this refusal, and only the collector, which seldom looks,
    would find that circle.
    """

    error: BaseException
    statement: str | None
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _text(self.error))
        link: BaseException | None = self.error
        while link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__

    @property
    def error_type(self) -> str:
        return type(self.error).__name__

    def failure(self, stream: bytes, sequence: int) -> Failure:
        return Failure(stream, sequence, self.error_type, self.text, self.statement)


class DeadLetters:
    """The rows of `telemetry_bus_dead_letters`. Runs inside the transaction that stands, where there is one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def store(self, failure: Failure, template: Template, payload: Any) -> None:
        self._connection.own(
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
        return [Failure(*row) for row in self._connection.own(_AFTER, (stream, sequence, limit))]

    def ids(self) -> list[int]:
        return [id for (id,) in self._connection.own(_IDS)]

    def get(self, id: int) -> DeadLetter | None:
        rows = self._connection.own(_GET, (id,))
        return DeadLetter(*rows[0]) if rows else None

    def count(self) -> int:
        return int(self._connection.own(_COUNT)[0][0])

    def update(self, id: int, refusal: Refusal) -> None:
        self._connection.own(_UPDATE, (refusal.error_type, refusal.text, refusal.statement, id))

    def delete(self, ids: Iterable[int]) -> int:
        """The number of those that were there."""
        return sum(len(self._connection.own(_DELETE, (id,))) for id in ids)


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
        kept: bytes = msgpack.packb([template.ensure, template.statements, payload])
        return kept
