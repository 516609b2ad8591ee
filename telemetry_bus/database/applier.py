"""Applies jobs: grouped as long as nothing goes wrong, else strictly in order, so that a bad job falls alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from ..encoding.values import unpack_job
from ..errors import DatabaseFault, EndedWriter, JobFailed, ProtocolError
from ..jobs import Failure, Run, Template
from .attempts import MAX_ENDED_SESSIONS, MAX_ENDED_WRITERS, MAX_FAULTS, Attempts
from .deadletters import DeadLetter, DeadLetters, refused
from .dialects import Connection, Dialect
from .families import OutOfOrder
from .lanes import Lanes, Planner, consecutive
from .ledger import Ledger, add_move, moves
from .schema import Schema
from .stats import Statistics
from .transactions import bus_transaction

logger = logging.getLogger("telemetry_bus.writer")


#: Rows of many jobs as few statements may take so long; then the jobs run one by one, each with limits of its own.
GROUP_LIMIT_S = 1.0
#: After so long what is done one by one is committed, so that the jobs of others get their turn.
PORTION_S = 0.25
#: Definitions are tried so often while other sessions are in the way.
MAX_DEFINING = 5
#: All statements of a job together may take so many times as long as one of them.
JOB_LIMIT = 2


class Settled(NamedTuple):
    """What became of the first jobs of a batch: the failures among them in order, and the jobs that are left."""

    failures: list[Failure]
    rest: list[Run]


class _Replayed(NamedTuple):
    """Jobs before `end` are committed, `failures` are the dead letters among them."""

    end: int
    failures: list[Failure]


class _Spoiled(NamedTuple):
    """Nothing was committed, because of the job `at`; or some job before `alone_to`, each of which must run alone."""

    at: int
    alone_to: int


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

    Every method is one or more whole transactions. What they raise is `DatabaseFault`, and `LedgerMoved` when the
    ledger does not stand where the jobs begin; the current transaction was rolled back, except that its outcome is
    unknown when COMMIT itself failed.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        statistics: Statistics,
        *,
        subject: str,
        statement_timeout: float,
        definition_timeout: float,
        attempts: Attempts,
        clock: Callable[[], float],
        points: FailPoints,
    ) -> None:
        self.schema = Schema(connection, dialect)
        self._connection = connection
        self._dialect = dialect
        self._ledger = Ledger(connection)
        self._letters = DeadLetters(connection.own)
        self._planner = Planner(dialect.fold, dialect.name)
        self._statistics = statistics
        self._subject = subject
        self._statement_timeout = statement_timeout
        self._definition_timeout = definition_timeout
        self._attempts = attempts
        self._clock = clock
        self._points = points
        self._committed = False
        self._rows = 0
        self._forgotten: set[tuple[str, ...]] = set()

    def settle(self, runs: Sequence[Run]) -> Settled:
        """Commit the first jobs of `runs`, with dead letters and ledger: all of them, unless some are slow or bad."""
        if self._dialect.is_server:
            ready = self._with_definitions(runs)
            if ready < len(runs):
                settled = self._settle(runs[:ready]) if ready else self._define_first(runs[0])
                return Settled(settled.failures, [*settled.rest, *runs[max(ready, 1) :]])
        return self._settle(runs)

    def _settle(self, runs: Sequence[Run]) -> Settled:
        self._attempts.batch(runs)
        if not (self._attempts.suspicious and self._attempts.concern(runs)):
            refusal = self._apply_grouped(runs)
            if refusal is None:
                return Settled([], [])
            self._raise_conflict(refusal)
            logger.debug("replaying a batch in order: a job met %s", refusal.error_type)
            self._attempts.suspect(runs)
            if self._dialect.blames_database(_cause(refusal)):
                self._count_ended(_cause(refusal))
                self._prove(refusal, 1)
        return self._apply_in_order(runs)

    def _with_definitions(self, runs: Sequence[Run]) -> int:
        """How many of them come before the first one with definitions that are not executed."""
        known: set[int] = set()
        for number, run in enumerate(runs):
            if id(run.template) not in known and self.schema.missing(run.template.ensure):
                return number
            known.add(id(run.template))
        return len(runs)

    def _define_first(self, run: Run) -> Settled:
        """Execute the definitions of these jobs; when they are refused, so are the jobs."""
        refusal = self._define(run.template.ensure)
        if refusal is None:
            return self._settle([run])
        return self._apply_in_order([run], {(run.stream, run.first + n): refusal for n in range(len(run.payloads))})

    def _define(self, ensure: tuple[str, ...]) -> JobFailed | None:
        """Execute what is missing of a list of definitions in a transaction of its own; the error if one is refused."""
        for _ in range(MAX_DEFINING):
            refusal = self._define_once(ensure)
            if refusal is None:
                return None
            error = _cause(refusal)
            late = self._dialect.is_late(error) and self.schema.too_slow(refusal.subject, self._definition_timeout)
            if not (late or self._dialect.is_made_meanwhile(error) or self._dialect.is_conflict(error)):
                break
        return self._believed(refusal)

    def _define_once(self, ensure: tuple[str, ...]) -> JobFailed | None:
        connection = self._connection
        missing = self.schema.missing(ensure)
        if missing and not all(map(connection.is_defined, missing)):
            sql = None
            connection.begin_definitions()
            try:
                for sql in missing:
                    connection.limit_time(self._definition_timeout)
                    self.schema.define(sql, ensure)
                connection.commit()
            except self._dialect.errors as error:
                return refused(error, sql)
            finally:
                connection.limit_time(None)
                if connection.in_transaction:
                    self.schema.abandon()
                    connection.rollback()
        else:
            for sql in missing:
                self.schema.define(sql, ensure)
        self.schema.settle()
        return None

    def apply_alone(self, template: Template, payload: Any) -> JobFailed | None:
        """One job in a transaction of its own, without ledger and dead letters."""
        refusal = self._defined(template)
        if refusal is None:
            with self._transaction():
                refusal = self._attempt(template, payload) or self._commit(1)
        if refusal is not None and self._forgets_definitions(template, refusal):
            return self.apply_alone(template, payload)
        return self._believed(refusal)

    def _defined(self, template: Template) -> JobFailed | None:
        """Where definitions stand apart, the reason why a job's are refused."""
        return self._define(template.ensure) if self._dialect.is_server else None

    def _forgets_definitions(self, template: Template, refusal: JobFailed) -> bool:
        """Where definitions stand apart: whether the job misses what they make, so that they are to be executed again.
        Once, unless what was missing came back in between."""
        if not (self._dialect.is_server and template.ensure and self._dialect.is_missing(_cause(refusal))):
            return False
        if template.ensure in self._forgotten:
            self.schema.suspect(template.ensure)
            self._forgotten.discard(template.ensure)
            return False
        self._forgotten.add(template.ensure)
        self.schema.forget(template.ensure)
        return True

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
        refusal = self._believed(self._defined(template))
        if refusal is not None:
            return refusal
        with self._transaction():
            refusal = self._attempt(template, parts[0] if len(parts) == 1 else parts)
            if refusal is None and not self._letters.delete([letter.id]):
                return refused(LookupError("the dead letter is gone: it was retried or purged meanwhile"), None)
            refusal = refusal or self._commit(1)
        if refusal is not None and self._forgets_definitions(template, refusal):
            return self._retry(letter)
        return self._believed(refusal)

    def _believed(self, refusal: JobFailed | None) -> JobFailed | None:
        """Raises `DatabaseFault` when the error speaks of the database; whoever waits for this job can try again."""
        if refusal is not None and self._dialect.blames_database(_cause(refusal)):
            raise self._fault(refusal) from _cause(refusal)
        return refusal

    def _apply_grouped(self, runs: Sequence[Run]) -> JobFailed | None:
        """All jobs in one transaction, or none: then the error that some job met."""
        limit_s = min(self._statement_timeout, GROUP_LIMIT_S)
        if self._dialect.is_server:
            self._connection.limit_time(limit_s)  # it is told with BEGIN
        with self._transaction():
            self._connection.limit_time(limit_s)
            try:
                self._pour(runs)
            except self._dialect.errors as error:
                return refused(error, None)
            finally:
                self._connection.limit_time(None)
            self._points.failpoint("in-batch")
            return self._seal(moves(runs), sum(len(run.payloads) for run in runs))

    def _pour(self, runs: Sequence[Run]) -> None:
        lanes = Lanes(self._connection)
        for template, group in consecutive(runs):
            if missing := self.schema.missing(template.ensure):
                self._rows += lanes.empty()
                self.schema.tables()  # so that a definition has only to add to them
                for sql in missing:
                    self.schema.define(sql, template.ensure)
            plan = self._planner.plan(template, self.schema.tables())
            if plan.inserts is None and plan.alone and len(runs) + len(runs[0].payloads) > 2:
                raise OutOfOrder("a job that only COMMIT judges stands alone")
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

    def _apply_in_order(
        self, runs: Sequence[Run], condemned: dict[tuple[bytes, int], JobFailed] | None = None
    ) -> Settled:
        """One job after the other, in transactions of about `PORTION_S`; what is left then waits for its turn.

        A job that spoils the transaction it stands in is buried in the next one, behind the jobs before it. When only
        COMMIT refuses what was done, and so names no job, each has a transaction of its own.
        """
        jobs = [
            _Job(run.stream, sequence, run.template, payload)
            for run in runs
            for sequence, payload in enumerate(run.payloads, run.first)
        ]
        condemned = {} if condemned is None else condemned
        failures: list[Failure] = []
        deadline = self._clock() + PORTION_S
        done, stop, alone = 0, len(jobs), 0
        while done < len(jobs) and (done == 0 or self._clock() < deadline):
            job = jobs[done]
            if self._lacks_definitions(job, condemned) and (refusal := self._define(job.template.ensure)):
                condemned[job.stream, job.sequence] = refusal
            outcome = self._replay(jobs, done, done + 1 if done < alone else stop, deadline, condemned)
            if isinstance(outcome, _Spoiled):
                deadline = self._clock() + PORTION_S
                stop = max(outcome.at, done + 1)
                alone = max(alone, outcome.alone_to)
            else:
                failures += outcome.failures
                done, stop = outcome.end, len(jobs)
        return Settled(failures, _behind(runs, done))

    def _replay(
        self,
        jobs: Sequence[_Job],
        start: int,
        stop: int,
        deadline: float,
        condemned: dict[tuple[bytes, int], JobFailed],
    ) -> _Replayed | _Spoiled:
        """Apply `jobs[start:stop]` one by one in one transaction, until the deadline; or nothing, and what spoiled it.

        On a server as many at a time as are good: half as many after a failure, twice as many after a success.
        `condemned` holds the jobs that can only be buried, because they spoil the transaction that they stand in.
        """
        failures: list[Failure] = []
        done: dict[bytes, tuple[int, int]] = {}
        end, refusal = start, None
        with self._transaction():
            # One session may be ended by anybody; after two, each job must be in flight alone.
            size = (stop - start) // 2 if self._dialect.is_server and self._attempts.ended_sessions < 2 else 0
            while end < stop and (end == start or self._clock() < deadline):
                group = jobs[end : min(end + size, stop)]
                if len(group) > 1:
                    fine = self._try_together(group, condemned)
                    for job in group if fine else ():
                        add_move(done, job.stream, job.sequence, job.sequence)
                        end += 1
                    size = 2 * size if fine else max(1, len(group) // 2)
                    continue
                job = jobs[end]
                if end > start and self._is_alone(job):
                    break
                if end > start and self._lacks_definitions(job, condemned):
                    break
                refusal = condemned.get((job.stream, job.sequence)) or self._give_up(job)
                if refusal is None:
                    self._attempts.at(job.stream, job.sequence)
                    refusal = self._attempt(job.template, job.payload)
                    if refusal is not None and self._forgets_definitions(job.template, refusal):
                        return _Spoiled(end, end)
                    if refusal is not None and self._spoils(refusal):
                        break
                if refusal is not None:
                    failures.append(_failure(job, refusal))
                    self._letters.store(failures[-1], job.template, job.payload)
                elif size:
                    size = 2
                add_move(done, job.stream, job.sequence, job.sequence)
                end, refusal = end + 1, None
                if self._is_alone(job):
                    break
            if refusal is None:
                if end > start + 1:
                    self._attempts.together()
                self._points.failpoint("in-batch")
                refusal = self._seal(done, end - start - len(failures))
                if refusal is None:
                    return _Replayed(end, failures)
                if end > start + 1:
                    return _Spoiled(start, end)
                if failures:
                    raise self._fault(refusal) from _cause(refusal)
                end = start
        self._condemn(jobs[end], refusal, condemned)
        return _Spoiled(end, end)

    def _count_ended(self, error: BaseException) -> None:
        if not self._connection.in_transaction and self._dialect.breaks_connection(error):
            self._attempts.ended_sessions += 1

    def _try_together(self, jobs: Sequence[_Job], condemned: Mapping[tuple[bytes, int], JobFailed]) -> bool:
        """Run jobs as few statements, as a part of the current transaction; False: nothing of it is done, because some
        job among them has to run alone."""
        if any((job.stream, job.sequence) in condemned or self._give_up(job) for job in jobs):
            return False
        if any(self._is_alone(job) or self._lacks_definitions(job, condemned) for job in jobs):
            return False
        connection, rows = self._connection, self._rows
        self._attempts.together()
        connection.savepoint()
        connection.limit_time(min(self._statement_timeout, GROUP_LIMIT_S))
        try:
            self._pour(_as_runs(jobs))
        except self._dialect.errors as error:
            self._count_ended(error)
            if not connection.in_transaction or self._dialect.is_conflict(error):
                raise self._dialect.fault(error, "write", self._subject) from error
            connection.rollback_to_savepoint()
            self._rows = rows
            return False
        finally:
            connection.limit_time(None)
        connection.release_savepoint()
        return True

    def _lacks_definitions(self, job: _Job, condemned: Mapping[tuple[bytes, int], JobFailed]) -> bool:
        """Whether definitions that stand apart have to be executed before the job."""
        lacks = self._dialect.is_server and self.schema.missing(job.template.ensure)
        return bool(lacks) and (job.stream, job.sequence) not in condemned

    def _is_alone(self, job: _Job) -> bool:
        """Whether only the COMMIT behind this very job may say what becomes of it."""
        return self._planner.plan(job.template, self.schema.tables()).alone

    def _spoils(self, refusal: JobFailed) -> bool:
        """Whether nothing more can be done in the current transaction."""
        return not self._connection.in_transaction or self._dialect.blames_database(_cause(refusal))

    def _condemn(self, job: _Job, refusal: JobFailed, condemned: dict[tuple[bytes, int], JobFailed]) -> None:
        """The job may only be buried; but when the database failed in it, only after it was tried again."""
        if self.schema.is_left_out(refusal.subject):
            return
        self._raise_conflict(refusal)
        if self._dialect.blames_database(_cause(refusal)):
            self._count_ended(_cause(refusal))
            times = self._attempts.failed(job.stream, job.sequence)
            self._prove(refusal, times)
            if times < MAX_FAULTS:
                return
        condemned[job.stream, job.sequence] = refusal

    def _raise_conflict(self, refusal: JobFailed) -> None:
        """Raises `DatabaseFault` when another transaction was in the way: no job is to blame."""
        if self._dialect.is_conflict(_cause(refusal)):
            raise self._fault(refusal) from _cause(refusal)

    def _prove(self, refusal: JobFailed, times: int) -> None:
        """Raises `DatabaseFault`, unless the database works: a job can cause nearly every error that speaks of it, as a
        number that is used up, or a text that does not fit into the memory."""
        error = _cause(refusal)
        unusable = self._dialect.breaks_connection(error) and times < MAX_FAULTS  # a fresh connection may be better
        if unusable or self._dialect.proves_fault(error) or not self._connection.has_room():
            raise self._fault(refusal) from error
        for probe in (self._ledger.probe, self._ledger.forget_probe):
            with bus_transaction(self._connection, self._dialect):
                probe()

    def _give_up(self, job: _Job) -> JobFailed | None:
        """The reason not to try a job again that writers have ended with."""
        statement = job.template.statements[0][0] if job.template.statements else None
        times = self._attempts.faults(job.stream, job.sequence)
        if self._dialect.is_server and times >= MAX_ENDED_SESSIONS:
            return refused(EndedWriter(f"{times} sessions of the server ended in the job"), statement)
        times = self._attempts.ended_writers(job.stream, job.sequence)
        if times < MAX_ENDED_WRITERS:
            return None
        return refused(EndedWriter(f"the job ended the writer, or {times} writers ended in it"), statement)

    def _fault(self, refusal: JobFailed) -> DatabaseFault:
        return self._dialect.fault(_cause(refusal), "write", self._subject)

    def _attempt(self, template: Template, payload: Any) -> JobFailed | None:
        """Run one job inside the transaction that stands. When the database refuses it, it is undone.

        A job that misses a table or a column gets a second chance after its definitions: somebody may have
        dropped the table. A refused job may have ended the transaction.
        """
        refusal = self._run(template, payload)
        late = refusal is not None and refusal.subject in template.ensure and self._dialect.is_late(_cause(refusal))
        if refusal is not None and late and self.schema.too_slow(refusal.subject, self._definition_timeout):
            if not self._connection.in_transaction:  # an interrupt may have ended it; the next one does without
                return refusal
            refusal = self._run(template, payload)
        if (
            refusal is not None
            and template.ensure
            and not self._dialect.is_server
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
                connection.limit_time(self._definition_timeout)
                self.schema.define(sql, template.ensure)
            deadline = self._clock() + JOB_LIMIT * self._statement_timeout
            for sql, rows in template.fill(payload):
                connection.limit_time(min(self._statement_timeout, deadline - self._clock()))
                if len(rows) == 1:
                    connection.run(sql, rows[0])
                else:
                    connection.run_many(sql, rows)
                count += len(rows)
        except self._dialect.errors as error:
            connection.limit_time(None)
            if connection.in_transaction and not self._dialect.blames_database(error):
                self.schema.abandon(mark)
                connection.rollback_to_savepoint()
            return refused(error, sql)
        connection.limit_time(None)
        connection.release_savepoint()
        self.schema.touch()  # as behind a barrier
        self._rows += count
        return None

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

    def _seal(self, done: Mapping[bytes, tuple[int, int]], jobs: int) -> JobFailed | None:
        """Ledger and COMMIT; or the error with which they refuse what the jobs did, and which names none of them."""
        try:
            self._ledger.advance(done)
        except DatabaseFault as fault:
            error = fault.__cause__
            if error is None or self._dialect.blames_database(error):
                raise
            return refused(error, None)
        refusal = self._commit(jobs)
        if refusal is None and self._attempts.suspicious:
            self._attempts.settled({stream: last for stream, (_, last) in done.items()})
        return refusal

    def _commit(self, jobs: int) -> JobFailed | None:
        """COMMIT, or the constraint error that only COMMIT finds; the transaction stands then."""
        self._points.failpoint("before-commit")
        began = self._clock()
        try:
            self._connection.commit()
        except self._dialect.errors as error:
            undone = self._dialect.is_of_memory(error) and self._connection.in_transaction
            if self._dialect.blames_database(error) and not undone:
                raise self._dialect.fault(error, "commit", self._subject) from error
            return refused(error, None)
        self._committed = True
        self._statistics.committed(jobs, self._rows, self._clock() - began)
        self._points.failpoint("after-commit")
        self.schema.settle()
        return None


def _as_runs(jobs: Sequence[_Job]) -> list[Run]:
    """Jobs of one template one behind the other, whatever their streams: for what looks at templates and values."""
    groups = [list(group) for _, group in groupby(jobs, attrgetter("template"))]
    return [
        Run(group[0].stream, group[0].sequence, group[0].template, [job.payload for job in group]) for group in groups
    ]


def _behind(runs: Sequence[Run], jobs: int) -> list[Run]:
    """What stands behind the first `jobs` of them."""
    left = []
    for run in runs:
        if jobs < len(run.payloads):
            left.append(Run(run.stream, run.first + jobs, run.template, run.payloads[jobs:]) if jobs else run)
        jobs = max(0, jobs - len(run.payloads))
    return left


def _failure(job: _Job, refusal: JobFailed) -> Failure:
    return Failure(job.stream, job.sequence, refusal.error_type, refusal.traceback, refusal.subject or None)


def _cause(refusal: JobFailed) -> BaseException:
    """The driver's exception."""
    assert refusal.__cause__ is not None
    return refusal.__cause__
