"""What travels: a job, its statements, and the template that a job's values are poured into.

None is a dataclass: these take a fifth of the package's import, and a frozen one three times as long to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

#: One encoded job. Larger ones are refused at `submit`, so that a message never meets a socket's limit.
MAX_JOB_BYTES = 8 * 1024 * 1024
#: Rows and statements of one job: of a byte or two each they would fit into the limit above, and be two hundred times
#: as large when they are unpacked.
MAX_JOB_ROWS = 1_000_000

#: The values of one row, in the order of the placeholders, encoded or ready for the database's driver.
Row = Sequence[Any]


class Statement(NamedTuple):
    """One SQL text with positional `?` placeholders, and the rows to run it with, in order.

    A statement without placeholders has one empty row.
    """

    sql: str
    rows: Sequence[Row] = ((),)


class Job:
    """The atomic unit: definitions to ensure, then statements in order. All of it commits, or none."""

    __slots__ = ("ensure", "statements")

    def __init__(self, statements: tuple[Statement, ...] = (), ensure: tuple[str, ...] = ()) -> None:
        self.statements = statements
        self.ensure = ensure

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and (self.statements, self.ensure) == (other.statements, other.ensure)

    def __hash__(self) -> int:
        return hash((self.statements, self.ensure))

    def __repr__(self) -> str:
        return f"Job(statements={self.statements!r}, ensure={self.ensure!r})"

    def __call__(self, connection: Any) -> None:
        """Run the statements on a connection, so that a job can stand wherever a callable that writes is asked for."""
        for statement in self.statements:
            for row in statement.rows:
                connection.execute(statement.sql, row)

    def __add__(self, other: Job) -> Job:
        """Both as one job, this one first."""
        return Job(self.statements + other.statements, tuple(dict.fromkeys(self.ensure + other.ensure)))


class Template(NamedTuple):
    """A job without its values. Jobs of one template differ in nothing but their payload.

    `statements` holds the SQL texts, each with a flag that says whether its part of the payload is *many* rows
    (a sequence of rows) or one row. The payload of a template with exactly one statement is that statement's
    part itself; otherwise it is the sequence of the parts.
    """

    ensure: tuple[str, ...]
    statements: tuple[tuple[str, bool], ...]

    def fill(self, payload: Any) -> Iterator[tuple[str, Sequence[Row]]]:
        """Each statement's SQL with its rows."""
        parts = (payload,) if len(self.statements) == 1 else payload
        for (sql, many), part in zip(self.statements, parts, strict=True):
            yield sql, part if many else (part,)

    def job(self, payload: Any) -> Job:
        """The whole job, self-contained."""
        return Job(tuple(Statement(sql, rows) for sql, rows in self.fill(payload)), self.ensure)


class Run(NamedTuple):
    """Consecutive jobs of one stream that share a template: `payloads[i]` is job number `first + i`."""

    stream: bytes
    first: int
    template: Template
    payloads: Sequence[Any]

    @property
    def last(self) -> int:
        return self.first + len(self.payloads) - 1


class Failure(NamedTuple):
    """A job that became a dead letter, and why: as the writer knows it, and as its producer is told.

    `error_type` is the name of the driver's exception, `error` its text with the traceback below it,
    `statement` the SQL that failed.
    """

    stream: bytes
    sequence: int
    error_type: str
    error: str
    statement: str | None = None
