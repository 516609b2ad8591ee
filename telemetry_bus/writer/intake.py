"""From messages to committed rows: the part of a writer that the process and the thread share."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..config import Database
from ..database.stats import Histogram
from ..database.writer import Writer
from ..encoding.records import CHUNK_BYTES
from ..errors import DatabaseFault, LedgerMoved, ProtocolError, shorten
from ..jobs import Failure, Run
from ..protocol.messages import Control, Hello, Jobs
from ..protocol.writer import WriterProtocol
from ..runtime.throttle import Pace

logger = logging.getLogger("telemetry_bus.writer")

#: While the database is at fault, it is tried again after so long, doubling up to the limit.
RETRY_AFTER_S = 0.1
RETRY_LIMIT_S = 5.0
#: With more jobs than these pending, those that a process waits for are committed before the others.
SMALL_BATCH_JOBS = 1000
#: Processes wait for jobs as long as the last such message is not older than this.
HURRY_S = 1.0
#: The log is looked at when so much was committed, and once a second.
CHECK_LOG_AFTER_BYTES = 1024 * 1024
#: Jobs that are unpacked and not committed, in bytes of the messages that they came in, while streams get their turn.
MAX_PENDING_BYTES = 2 * 1024 * 1024
#: What batches are sorted into by their number of jobs, and by the time from their beginning to their end.
_BATCH_BOUNDS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 20_000, 50_000)
_SECONDS_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Failures are counted by so many types of error; those of further types together.
_ERROR_TYPES = 20
OTHER_TYPES = "other"

Route = TypeVar("Route", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is committed when it has so many jobs or bytes, or when its oldest job has waited for `delay_s`; for
    `step_s`, if no process waits for any of it: producers send together, so that they can be committed together.

    It has fewer jobs when so many take longer than `seconds`: other streams wait that long for the next one. It has at
    most `hurried_jobs` while processes wait for jobs.
    Measured: larger batches no longer fit into the processor's caches when they are unpacked, and are slower.
    """

    jobs: int = 10_000
    bytes: int = 1024 * 1024
    delay_s: float = 0.0
    seconds: float = 0.05
    hurried_jobs: int = 2_500
    step_s: float = 0.005


class Intake(Generic[Route]):
    """Gathers a batch from messages, has it committed, and knows whom to tell.

    When the database is at fault the batch is kept and tried again with backoff; nobody's job is blamed, and
    `fault` says what is wrong.
    """

    def __init__(
        self, writer: Writer, database: Database, limits: BatchLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.writer = writer
        self.protocol: WriterProtocol[Route] = WriterProtocol(os.urandom(8), os.getpid(), database, writer)
        self.fault: DatabaseFault | None = None
        self.malformed = 0
        self.last_commit = clock()
        self.last_failure: str | None = None
        self.on_hello: Callable[[bytes], None] = lambda stream: None
        self.on_failures: Callable[[Sequence[Failure]], None] = lambda failures: None
        self.batch_jobs = Histogram(_BATCH_BOUNDS)
        self.commit_seconds = Histogram(_SECONDS_BOUNDS)
        self.failures: Counter[str] = Counter()
        self.faults = 0
        self.refused = 0
        self.checkpoints: Counter[str] = Counter()
        self._database = database
        self._limits = limits
        self._clock = clock
        self.pace = Pace(logger, clock)
        #: Whether the batch takes more.
        self.room = True
        self._since: float | None = None  # when the oldest pending job came
        self._patient = True  # whether no process waits for what is pending
        self.log_due = False
        self._written = 0  # bytes of the jobs that were committed since the log was looked at
        self._urgent: set[bytes] = set()  # streams that have sent less than they could, because a process waits
        self._urgent_alone = False  # whether the last batch was of those alone
        self._hurry_until = 0.0
        self._retry_at = 0.0
        self._backoff = RETRY_AFTER_S
        self._portion = limits.jobs  # of one batch, as long as jobs are as quick as they were

    def takes(self, stream: bytes) -> bool:
        """Whether the batch takes more of this stream: a full one also does, while it has none of the stream's jobs."""
        protocol = self.protocol
        aside = self.fault is None and protocol.pending_bytes < MAX_PENDING_BYTES and protocol.settled(stream)
        return self.room or aside

    @property
    def step_in(self) -> float:
        """Seconds until the messages have come that are sent in step with what is pending; else 0."""
        if self._since is None or not self._patient or self.fault is not None:
            return 0.0
        return max(0.0, self._since + self._limits.step_s - self._clock())

    @property
    def streams(self) -> int:
        """How many streams are known."""
        return len(self.protocol._streams)

    @property
    def pending_since(self) -> float | None:
        """When the oldest job of the batch came, by the clock; None when nothing is pending."""
        return self._since

    def jobs(self, message: Jobs) -> None:
        """Take a message of jobs. One that cannot be taken is counted and logged; go-back-N brings it again."""
        now = self._clock()
        try:
            self.protocol.jobs(message, now)
        except ProtocolError as error:
            self.count_malformed(error)
        except DatabaseFault as fault:
            self.degrade(fault)
        if self.protocol.pending:
            self._since = now if self._since is None else self._since
            self._patient = self._patient and message.patient
            if not message.patient and len(message.records) < CHUNK_BYTES:
                self._urgent.add(message.stream)
                self._hurry_until = now + HURRY_S
        self._look_for_room()

    def control(self, route: Route, message: Control, *, unread: bool = False) -> None:
        """Take a producer's word. `unread`: messages of its stream wait that `jobs` has not been given."""
        now = self._clock()
        gone = self.protocol.jobs_gone
        try:
            self.protocol.control(route, message, now, unread=unread)
        except ProtocolError as error:
            self.count_malformed(error)
        except DatabaseFault as fault:
            self.degrade(fault)
        if isinstance(message, Hello):
            self.on_hello(message.stream)
            self.refused += not self._database.is_called(message.database)
            log_gone(self.protocol.jobs_gone - gone, message.stream)
        if self.fault is not None and isinstance(message, Hello):
            self.protocol.warn(route, message.stream, str(self.fault))

    def replies(self, *, lazy: bool = False) -> list[tuple[Route, Control]]:
        """What to tell whom now. When `lazy`, acknowledgements that no process waits for are kept for another time."""
        found: list[tuple[Route, Control]] = []
        try:
            found.extend(self.protocol.replies(lazy=lazy))
        except DatabaseFault as fault:
            self.degrade(fault)
        return found

    def count_malformed(self, error: ProtocolError) -> None:
        """Count a message that makes no sense, and log it unless one was logged a moment ago."""
        self.malformed += 1
        self.pace.log(
            logging.WARNING,
            "dropped a malformed message (%d so far): %s",
            self.malformed,
            shorten(str(error)),
            extra={"malformed": self.malformed},
        )

    def due_in(self) -> float | None:
        """Seconds until `commit` has something to do: 0 at once, None: nothing is pending."""
        now = self._clock()
        if self.fault is not None:
            return max(0.0, self._retry_at - now)
        if self._since is None:
            return None
        if not self.room:
            return 0.0
        delay_s = max(self._limits.delay_s, self._limits.step_s if self._patient else 0.0)
        return max(0.0, self._since + delay_s - now)

    def commit(self) -> None:
        """Commit the batch, or the first part of it, if it is time. Afterwards `replies` has the acknowledgements."""
        now = self._clock()
        if self.fault is not None and now < self._retry_at:
            return
        try:
            if self.fault is not None:
                self._look_again()
            if self.protocol.pending:
                runs = self._batch()
                offered = sum(len(run.payloads) for run in runs)
                waited = self.writer.commit_seconds
                failures, rest = self.writer.settle(runs)
                waited = self.writer.commit_seconds - waited
                pending, pending_bytes = self.protocol.pending_jobs, self.protocol.pending_bytes
                self.protocol.decided(failures, runs, rest)
                jobs = pending - self.protocol.pending_jobs
                self._written += pending_bytes - self.protocol.pending_bytes
                self.last_commit = self._clock()
                seconds = self.last_commit - now
                self._fit_portion(offered, jobs, seconds - waited)
                self._count(jobs, failures, seconds)
                if failures:
                    self.on_failures(failures)
                    self.last_failure = failures[-1].error.partition("\n")[0]
            elif self.fault is not None:
                self.writer.last_sequences([b""])
                self.writer.checkpoint(idle=True)  # reading works where nothing can be written
        except LedgerMoved as moved:
            self._met_fence(moved)
            return
        except DatabaseFault as fault:
            self.degrade(fault)
            return
        if not self.protocol.pending:
            self._since = None
            self._patient = True
        if self.fault is not None:
            self.pace.log(logging.WARNING, "the database works again")
            self.fault = None
            self._backoff = RETRY_AFTER_S
        self._look_for_room()
        self.log_due = self._written >= CHECK_LOG_AFTER_BYTES or self.writer.behind

    def write_back(self) -> None:
        """Keep the log short: when that is due, and after the acknowledgements, which do not wait for it."""
        self.log_due, self._written = False, 0
        try:
            self.writer.checkpoint(idle=False)
            self._count_checkpoint()
        except DatabaseFault as fault:
            self.checkpoints["failed"] += 1
            self.degrade(fault)

    def _batch(self) -> Sequence[Run]:
        """The pending jobs that are committed now. Those that a process waits for do not wait for the many of others,
        but every second batch is of all streams."""
        protocol, urgent = self.protocol, self._urgent
        self._urgent = set()
        many = protocol.pending_jobs > SMALL_BATCH_JOBS
        self._urgent_alone = bool(urgent) and many and not self._urgent_alone
        most = self._most()
        if self._urgent_alone and (runs := protocol.portion(most, urgent)):
            return runs
        return protocol.pending if protocol.pending_jobs <= most else protocol.portion(most)

    def _most(self) -> int:
        """Jobs of one batch."""
        hurried = self._clock() < self._hurry_until
        return min(self._portion, self._limits.hurried_jobs) if hurried else self._portion

    def maintain(self, *, idle: bool) -> None:
        """The database's housekeeping; about once a second."""
        self.pace.tick()
        try:
            self.writer.maintain(idle=idle)
            self._count_checkpoint()
            if self.writer.written_by_others():
                self._look_again()
            self.end_streams()
        except DatabaseFault as fault:
            self.checkpoints["failed"] += 1
            self.degrade(fault)

    def end_streams(self) -> None:
        """Tell the ledger which streams are over. When that fails it is no loss: it remembers them for longer."""
        if (ended := self.protocol.ended) and self.fault is None:
            try:
                self.writer.end_streams(ended)
            except DatabaseFault as fault:
                self.degrade(fault)
            self.protocol.ended = set()

    def _met_fence(self, moved: LedgerMoved) -> None:
        """Nothing of the batch was applied. What is left of it is due at once."""
        self.pace.log(logging.WARNING, "a batch is looked at again: %s", moved)
        try:
            self._look_again()
        except DatabaseFault as fault:
            self.degrade(fault)

    def _look_again(self) -> None:
        """Compare what is known with the ledger, and say what it lacks. Raises `DatabaseFault`."""
        behind = sum(self.protocol.look_again().values())
        if not self.protocol.pending:
            self._since = None
            self._patient = True
        self._look_for_room()
        if behind:
            logger.error(
                "the ledger has gone back by %d jobs: the database was deleted, replaced or restored; "
                "producers are asked for what they still have",
                behind,
                extra={"jobs": behind},
            )

    def degrade(self, fault: DatabaseFault) -> None:
        """The database is at fault: take nothing more until it works again."""
        self.faults += 1
        if self.fault is None:
            self.pace.log(
                logging.ERROR,
                "the database is at fault, jobs are kept and tried again: %s",
                fault,
                about=str(fault),
                exc_info=fault,
                extra={"jobs": self.protocol.pending_jobs},
            )
            self._backoff = RETRY_AFTER_S
        self.fault = fault
        self.room = False
        self._retry_at = self._clock() + self._backoff
        self._backoff = min(RETRY_LIMIT_S, 2 * self._backoff)

    def _look_for_room(self) -> None:
        protocol, limits = self.protocol, self._limits
        within = protocol.pending_jobs < self._most() and protocol.pending_bytes < limits.bytes
        self.room = self.fault is None and within

    def _fit_portion(self, offered: int, jobs: int, worked: float) -> None:
        """Of `offered` jobs so many are committed, for which the writer `worked` so many seconds, without those for the
        disk, which would not have been quicker with fewer jobs. Small batches say little of large ones."""
        limits = self._limits
        late = worked > limits.seconds and not self._urgent_alone
        if late or 2 * offered >= self._portion:
            quick = jobs * limits.seconds / worked if worked > 0 else limits.jobs
            self._portion = max(1, min(limits.jobs, 2 * self._portion, int(quick)))

    def _count(self, jobs: int, failures: Sequence[Failure], seconds: float) -> None:
        logger.debug("commit %d jobs", jobs)
        self.batch_jobs.add(jobs)
        self.commit_seconds.add(seconds)
        for failure in failures:
            known = failure.error_type in self.failures or len(self.failures) < _ERROR_TYPES
            self.failures[failure.error_type if known else OTHER_TYPES] += 1

    def _count_checkpoint(self) -> None:
        """The writer has looked whether to write its log back, and has done so where that was due."""
        self.checkpoints["held_up" if self.writer.behind else "ok"] += 1


def log_gone(jobs: int, stream: bytes) -> None:
    """Say it, if the ledger stands so many jobs behind what its producer knows to be committed."""
    if jobs:
        logger.error(
            "%d jobs that stream %s had committed are not in the database: it was deleted, replaced or restored",
            jobs,
            stream.hex(),
            extra={"jobs": jobs, "stream": stream.hex()},
        )
