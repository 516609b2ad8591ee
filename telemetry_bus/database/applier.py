"""Applies jobs: grouped as long as nothing goes wrong, else strictly in order, so that a bad job falls alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, Protocol

from ..encoding.values import unpack_job
from ..errors import JobFailed, ProtocolError
from ..jobs import Failure, Run, Template
from .batching import Lanes, Planner, consecutive
from .deadletters import DeadLetter, DeadLetters, refused
from .dialects import Connection, Dialect
from .ledger import Ledger
from .schema import Schema
from .stats import Statistics
from .transactions import bus_transaction

logger = logging.getLogger("telemetry_bus.writer")


class _Job(NamedTuple):
    stream: bytes
    sequence: int
    template: Template
    payload: Any


class FailPoints(Protocol):
    """Whose `failpoint` is called at each step of a transaction that a test may end the process at."""

    failpoint: Callable[[str], None]


def no_failpoint(name: str) -> None:
    """Outside of tests."""


class Applier:
    """Applies jobs through one connection.

    Every method is one or more whole transactions. What they raise is `DatabaseFault`; the transaction that stood
    was rolled back, except that nobody knows when COMMIT itself failed.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        statistics: Statistics,
        *,
        subject: str,
        statement_timeout: float,
        clock: Callable[[], float],
        points: FailPoints,
    ) -> None:
        self.schema = Schema(connection, dialect)
        self._connection = connection
        self._dialect = dialect
        self._ledger = Ledger(connection)
        self._letters = DeadLetters(connection.own)
        self._planner = Planner(dialect.fold)
        self._statistics = statistics
        self._subject = subject
        self._statement_timeout = statement_timeout
        self._clock = clock
        self._points = points
        self._committed = False
        self._rows = 0

    def apply(self, runs: Sequence[Run]) -> list[Failure]:
        """Apply all jobs, with dead letters and ledger. The failures, in order."""
        refusal = self._apply_grouped(runs)
        if refusal is None:
            return []
        logger.debug("replaying a batch in order: a job met %s", refusal.error_type)
        return self._apply_in_order(runs)

    def apply_alone(self, template: Template, payload: Any) -> JobFailed | None:
        """One job in a transaction of its own, without ledger and dead letters."""
        with self._transaction():
            return self._attempt(template, payload) or self._commit(1)

    def retry(self, letter: DeadLetter) -> JobFailed | None:
        """Apply a dead letter's job and delete the letter, or else write the new error into it."""
        refusal = self._retry(letter)
        if refusal is not None:
            with bus_transaction(self._connection, self._dialect):
                self._letters.update(letter.id, refusal)
        return refusal

    def _retry(self, letter: DeadLetter) -> JobFailed | None:
        try:
            job = unpack_job(letter.job)
        except ProtocolError as error:
            return refused(error, None)
        template = Template(job.ensure, tuple((statement.sql, True) for statement in job.statements))
        parts = [statement.rows for statement in job.statements]
        with self._transaction():
            refusal = self._attempt(template, parts[0] if len(parts) == 1 else parts)
            if refusal is not None:
                return refusal
            self._letters.delete([letter.id])
            return self._commit(1)

    def _apply_grouped(self, runs: Sequence[Run]) -> JobFailed | None:
        """All jobs in one transaction, or none: then the error that some job met."""
        with self._transaction():
            self._connection.limit_time(self._statement_timeout)
            try:
                self._pour(runs)
            except self._dialect.errors as error:
                return self._refusal(error, None)
            self._points.failpoint("in-batch")
            jobs = sum(len(run.payloads) for run in runs)
            self._ledger.record({run.stream: run.last for run in runs})
            return self._commit(jobs)

    def _pour(self, runs: Sequence[Run]) -> None:
        lanes = Lanes(self._connection)
        for template, group in consecutive(runs):
            if missing := self.schema.missing(template.ensure):
                self._rows += lanes.empty()
                for sql in missing:
                    self.schema.define(sql, template.ensure)
            plan = self._planner.plan(template, self.schema.tables())
            if plan.inserts is None:
                self._rows += lanes.empty()
                self._run_barrier(template, list(chain.from_iterable(run.payloads for run in group)))
            else:
                for run in group:
                    lanes.add(plan, run.payloads)
        self._rows += lanes.empty()

    def _run_barrier(self, template: Template, payloads: Sequence[Any]) -> None:
        if len(template.statements) == 1:
            ((sql, many),) = template.statements
            rows = list(chain.from_iterable(payloads)) if many else payloads
            self._connection.run_many(sql, rows)
            self._rows += len(rows)
        else:
            for payload in payloads:
                for sql, rows in template.fill(payload):
                    self._connection.run_many(sql, rows)
                    self._rows += len(rows)
        self.schema.touch()  # such a statement may have been CREATE TRIGGER

    def _apply_in_order(self, runs: Sequence[Run]) -> list[Failure]:
        jobs = [
            _Job(run.stream, sequence, run.template, payload)
            for run in runs
            for sequence, payload in enumerate(run.payloads, run.first)
        ]
        condemned: dict[tuple[bytes, int], JobFailed] = {}
        failures: list[Failure] = []
        parts = [jobs]
        while parts:
            part = parts.pop()
            outcome = self._replay(part, condemned)
            if isinstance(outcome, int):
                parts += [rest for rest in (part[outcome:], part[:outcome]) if rest]
            else:
                failures += outcome
        return failures

    def _replay(self, jobs: Sequence[_Job], condemned: dict[tuple[bytes, int], JobFailed]) -> list[Failure] | int:
        """Apply jobs one by one in one transaction: the failures.

        Or, when that cannot be one transaction, where to cut it in two; nothing of it is applied then. `condemned`
        holds the jobs that can only be buried, because they spoil the transaction that they stand in.
        """
        failures = []
        with self._transaction():
            for position, job in enumerate(jobs):
                refusal = condemned.get((job.stream, job.sequence)) if condemned else None
                if refusal is None:
                    refusal = self._attempt(job.template, job.payload)
                    if refusal is not None and not self._connection.in_transaction:
                        condemned[job.stream, job.sequence] = refusal
                        return position + 1
                if refusal is not None:
                    failures.append(_failure(job, refusal))
                    self._letters.store(failures[-1], job.template, job.payload)
            self._points.failpoint("in-batch")
            self._ledger.record({job.stream: job.sequence for job in jobs})
            refusal = self._commit(len(jobs) - len(failures))
            if refusal is None:
                return failures
            if len(jobs) == 1:
                if failures:
                    raise self._dialect.fault(_cause(refusal), "commit", self._subject) from refusal.__cause__
                condemned[jobs[0].stream, jobs[0].sequence] = refusal
            return (len(jobs) + 1) // 2

    def _attempt(self, template: Template, payload: Any) -> JobFailed | None:
        """Run one job inside the transaction that stands. When the database refuses it, it is undone.

        A job that misses a table or a column gets a second chance after its definitions: somebody may have
        dropped the table. A refused job may have ended the transaction.
        """
        refusal = self._run(template, payload)
        if (
            refusal is not None
            and template.ensure
            and self._dialect.is_missing(_cause(refusal))
            and self._connection.in_transaction
        ):
            self.schema.forget(template.ensure)
            refusal = self._run(template, payload)
            if refusal is not None and refusal.subject not in template.ensure:
                self.schema.suspect(template.ensure)  # executed again, and of no help
        return refusal

    def _run(self, template: Template, payload: Any) -> JobFailed | None:
        connection = self._connection
        connection.savepoint()
        mark = self.schema.mark()
        count = 0
        sql = None
        try:
            for sql in self.schema.missing(template.ensure):
                connection.limit_time(self._statement_timeout)
                self.schema.define(sql, template.ensure)
            for sql, rows in template.fill(payload):
                connection.limit_time(self._statement_timeout)
                if len(rows) == 1:
                    connection.run(sql, rows[0])
                else:
                    connection.run_many(sql, rows)
                count += len(rows)
        except self._dialect.errors as error:
            if connection.in_transaction:
                self.schema.abandon(mark)
                connection.rollback_to_savepoint()
            return self._refusal(error, sql)
        connection.release_savepoint()
        self._rows += count
        return None

    def _refusal(self, error: BaseException, sql: str | None) -> JobFailed:
        if self._dialect.blames_database(error):
            raise self._dialect.fault(error, "write", self._subject) from error
        return refused(error, sql)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction around the block; rolled back unless the block commits it."""
        self._points.failpoint("before-begin")
        self._committed = False
        self._rows = 0
        self.schema.touch()
        self._connection.begin()
        try:
            yield
        finally:
            if not self._committed:
                self.schema.abandon()
                self._connection.rollback()

    def _commit(self, jobs: int) -> JobFailed | None:
        """COMMIT, or the constraint error that only COMMIT finds; the transaction stands then."""
        self._points.failpoint("before-commit")
        began = self._clock()
        try:
            self._connection.commit()
        except self._dialect.errors as error:
            return self._refusal(error, None)
        self._committed = True
        self._statistics.committed(jobs, self._rows, self._clock() - began)
        self._points.failpoint("after-commit")
        self.schema.settle()
        return None


def _failure(job: _Job, refusal: JobFailed) -> Failure:
    return Failure(job.stream, job.sequence, refusal.error_type, refusal.traceback, refusal.subject or None)


def _cause(refusal: JobFailed) -> BaseException:
    """The driver's exception."""
    assert refusal.__cause__ is not None
    return refusal.__cause__
