"""A store's stream: takes jobs from any thread, and keeps them in the journal until they are decided."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..config import OnFull
from ..encoding.records import Encoder, Position
from ..encoding.values import check_size
from ..errors import (
    ConfigError,
    JobTooLarge,
    JournalFull,
    JournalUnavailable,
    ReentrantSubmit,
    StoreClosed,
    shorten,
    without_values,
)
from ..jobs import MAX_JOB_BYTES, Failure, Job, Row
from ..journal.ring import Journal
from ..runtime.native import native, wait, wait_for
from ..runtime.throttle import Pace

if TYPE_CHECKING:
    from ..protocol.messages import Jobs
    from ..protocol.producer import Slice
    from ..runtime.folder import BusFolder

logger = logging.getLogger("telemetry_bus")

#: What `Outbox.wake_at` is while whoever sends is awake.
NEVER = inf
#: So many failures are kept for `failure()`.
_FAILURES_KEPT = 1000
#: So many of one kind are logged one by one in some seconds.
_FAILURES_LOGGED = 5


class OutboxCounts(NamedTuple):
    """Jobs of one stream since its beginning; `pending_bytes` as they lie in the journal."""

    submitted: int
    acknowledged: int
    pending_bytes: int
    dropped: int
    failed: int
    last_error: str | None

    @property
    def pending(self) -> int:
        return self.submitted - self.acknowledged


class Outbox:
    """Encodes and journals jobs under one lock; hands out slices to send; wakes those who wait for the outcome.

    `wake` is called after each job that ends behind `wake_at`, a place in the journal: `NEVER` while the thread that
    sends is awake. `wanted` is the last job that a process waits for. `log_failures` is off where the writer logs in
    this process. `full` says that the last job found no room, and none has come free since. `give_up` is called when
    the journal is torn; `torn_told` says that a submit has told so.
    """

    give_up: Callable[[Outbox], None]

    def __init__(
        self, journal: Journal, wake: Callable[[], None], *, on_full: OnFull, timeout: float, log_failures: bool = True
    ) -> None:
        self.journal = journal
        self.wake = wake
        self.wake_at: float = 0
        self.wanted = 0
        self._late = False  # no thread moves the jobs any more
        self._largest = min(MAX_JOB_BYTES, journal.ring_bytes // 2)
        self._on_full = on_full
        self._timeout = timeout
        self._log_failures = log_failures
        self._pace = Pace(logger, most=_FAILURES_LOGGED)
        self._dropped_pace = Pace(logger)
        self._encoder = Encoder(journal.define)
        # Re-entrant, so that a signal handler or a finalizer that submits in the middle of a submit of the same
        # thread meets an error and not a deadlock.
        self._lock = native("threading").RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._changed = native("threading").Condition(self._lock)
        self._refusals = 0
        self._busy = False
        self._closed = False
        self._refusal: tuple[str, str] | None = None
        self.full = False
        self.torn_told = False
        self._committed = 0
        self._dropped = self._dropped_told = 0
        self._failed = 0
        self._last_error: str | None = None
        self._failures: OrderedDict[int, Failure] = OrderedDict()
        self._first_failure: Failure | None = None  # since they were last taken
        self._failures_taken = 0

    # Submitting: nothing is logged here, since the caller may hold the lock of a handler of its own

    def put_row(self, sql: str, row: Row, ensure: tuple[str, ...]) -> int:
        """Submit a job of one statement and one row; the hot path. See `put`."""
        # `with self._lock` in half the time. A signal handler that raises comes when a call has ended, and another at
        # once: the first call on the way out must be the release itself.
        try:
            self._acquire()
            if self._busy or self._closed:
                self._refuse()
            try:
                self._busy = True
                record = self._encoder.row(sql, row, ensure)
                if len(record) > self._largest:
                    self._refuse_size(record, sql)
                sequence = self.journal.append(record) or self._when_full(record)
            finally:
                self._busy = False
        finally:
            try:  # noqa: SIM105  `suppress` would be such a call
                self._release()
            except RuntimeError:
                pass  # it was not ours: the wait for it was interrupted
        if self.journal.end[1] > self.wake_at:
            self.wake()
        return sequence

    def put(self, job: Job) -> int:
        """Submit a job; its sequence number, or 0 when the policy dropped it.

        Raises `JobTooLarge`, `UnsupportedValue`, `JournalFull`, `StoreClosed`; nothing is submitted then.
        """
        with self._lock:
            if self._busy or self._closed:
                self._refuse()
            try:
                self._busy = True
                record = self._encoder.job(job)
                if len(record) > self._largest:
                    self._refuse_size(record, job.statements[0].sql if job.statements else "")
                sequence = self.journal.append(record) or self._when_full(record)
            finally:
                self._busy = False
        if self.journal.end[1] > self.wake_at:
            self.wake()
        return sequence

    def _refuse_size(self, record: bytes, subject: str) -> NoReturn:
        check_size(len(record), subject)
        raise JobTooLarge(
            f"the job is {len(record)} bytes encoded, half a journal of {self.journal.ring_bytes} at most is taken",
            operation="submit",
            subject=subject,
            hint="raise journal_bytes, or split the job",
        )

    def _when_full(self, record: bytes) -> int:
        if self.journal.failed:
            self._refuse_failed()
        self.full = True
        if self._on_full == "drop":
            self._dropped = self.journal.drop()
            if not self._dropped_told:
                self.wake()
            return 0
        deadline = time.monotonic() + (self._timeout if self._on_full == "block" else 0)
        while (left := deadline - time.monotonic()) > 0:
            self._busy = False  # others may submit while this thread waits
            self.hurry(self.journal.end[0])
            wait(self._changed, left)
            if self._closed or self._busy:
                self._refuse()
            self._busy = True
            if sequence := self.journal.append(record):
                return sequence
            if self.journal.failed:
                self._refuse_failed()
        raise JournalFull(
            f"{self.journal.end[0] - self._committed} jobs are waiting for the writer",
            operation="submit",
            subject=str(self.journal.path or "in memory"),
            hint="see telemetry-bus status; a larger journal_bytes bridges longer pauses",
        )

    def _refuse_failed(self) -> NoReturn:
        """The journal's disk has failed. The thread that sends makes the file again, or gives the stream up."""
        self.torn_told = self.journal.torn
        self.wake()
        raise self.failed_error()

    def failed_error(self) -> JournalUnavailable:
        """Why nothing can be submitted to a journal that has failed."""
        if self.journal.torn:
            message = f"the file was cut short or cannot be read: of {self.pending} jobs in it some may be lost"
            hint = "what is intact is applied, and later jobs go to another file"
        else:
            message, hint = "the disk is full or broken", "free space; it is tried again every second"
        return JournalUnavailable(message, operation="submit", subject=str(self.journal.path), hint=hint)

    def _refuse(self) -> NoReturn:
        if self.journal.torn:
            self._refuse_failed()
        if self._refusal:
            message, hint = self._refusal
            raise ConfigError(message, operation="daemon mode", subject=str(self.journal.path), hint=hint)
        if self._closed:
            raise StoreClosed("the store is closed", operation="submit", hint="submit before shutdown()")
        raise ReentrantSubmit

    def wake_always(self, wake: Callable[[], None]) -> None:
        """From now on call `wake` after each job: the thread that slept and woke is gone."""
        with self._lock:
            self._late = True
            self.wake, self.wake_at = wake, 0

    def wake_after(self, place: float) -> None:
        """Call `wake` for a job that ends behind this place in the journal, unless it is called for each already."""
        with self._lock:
            if not self._late:
                self.wake_at = place

    # Sending; one thread

    def read(self, wanted: Slice) -> Jobs:
        """The message of a slice of the journal, which must hold a job of it. Raises `JournalUnavailable` when it is
        torn."""
        from ..protocol.messages import Jobs  # loaded by the sender's thread, so that submit need not wait for it

        start, end, known, rewind, patient = wanted
        end = end or self.journal.boundary(start)
        definitions, defined = self.journal.definitions(known)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("send jobs %d to %d", start[0] + 1, end[0])
        records = self.journal.read(start, end)
        if self.journal.torn:
            raise self.failed_error()
        return Jobs(
            self.journal.stream,
            rewind,
            start[0] + 1,
            end[0] - start[0],
            known[0] + 1,
            defined[0] - known[0],
            definitions,
            records,
            patient and known[0] == defined[0],
            self.journal.secret,
        )

    def settle(self, acknowledged: Position, committed: int, failures: Sequence[Failure]) -> None:
        """Jobs up to `committed` are settled, `failures` are those among them that are new; everything up
        to the end of a message, `acknowledged`, may leave the journal."""
        if not failures and committed <= self._committed and acknowledged[0] <= self.journal.trimmed[0]:
            return
        logger.debug("acknowledge jobs up to %d", committed)
        self._pace.tick()
        for failure in failures if self._log_failures else ():
            statement = shorten(failure.statement or "")
            error, traceback = without_values(failure.error, failure.statement or "")
            self._pace.log(
                logging.ERROR,
                "job %d failed for good and is a dead letter (telemetry-bus dead-letters list): %s: %s [%s]\n%s",
                failure.sequence,
                failure.error_type,
                error,
                statement,
                traceback,
                about=f"{failure.error_type} {statement}",
            )
        with self._lock:
            if acknowledged[0] > self.journal.trimmed[0]:
                self.journal.trim(acknowledged)
                self.full = False
            self._committed = max(self._committed, committed)
            for failure in failures:
                self._failed += 1
                self._last_error = failure.error.partition("\n")[0]
                self._failures[failure.sequence] = failure
                self._first_failure = self._first_failure or failure
                if len(self._failures) > _FAILURES_KEPT:
                    self._failures.popitem(last=False)
            self._changed.notify_all()

    def tell_dropped(self) -> None:
        """Log what was dropped since the last time. For the thread that sends: a caller may hold a log's lock."""
        if self._dropped > self._dropped_told:
            self._dropped_told = self._dropped
            self._dropped_pace.log(
                logging.WARNING,
                "the journal %s is full, and jobs are dropped: %d so far (see journal_bytes= and on_full=)",
                self.journal.path or "in memory",
                self._dropped,
                extra={"dropped": self._dropped},
            )

    def tell_left_out(self) -> None:
        """Log what was only counted so far: nothing more will be."""
        self.tell_dropped()
        self._dropped_pace.flush()
        self._pace.flush()

    def keep_journal(self, folder: BusFolder, pace: Pace) -> None:
        """If the journal's file was removed while jobs wait in it, or has failed, make it again; what prevents that is
        told. Where jobs in it cannot be read any more it is given up."""
        if not (self.pending or self.journal.failed) or not self.journal.lost():
            return
        if self.journal.torn:
            self.give_up(self)
            return
        try:
            folder.prepare()
            self.renew_journal()
        except (JournalUnavailable, ConfigError) as error:
            pace.log(logging.ERROR, "the journal's file is gone or has failed, and cannot be made again: %s", error)
            self.note_error(str(error))

    def renew_journal(self) -> None:
        """Make the journal's file again: it was removed, or has failed. Raises `JournalUnavailable`."""
        with self._lock:
            self.journal.renew()
        logger.info("the journal %s was removed or has failed, and is made again", self.journal.path)

    def note_error(self, text: str) -> None:
        """Keep something that went wrong in the background for `counts()`."""
        self._last_error = text

    # Waiting and looking

    def wait(self, sequence: int, timeout: float) -> bool:
        """Wait until every job up to `sequence` is decided; False when the time is over, the outbox closed, or a writer
        that was started meanwhile refused."""
        self.hurry(sequence)
        refusals = self._refusals

        def over() -> bool:
            return self._committed >= sequence or self._closed or self._refusals > refusals

        with self._lock:
            return bool(wait_for(self._changed, over, timeout)) and self._committed >= sequence

    def refuse(self) -> None:
        """The writer that was started may not write this database: those who wait are told now."""
        with self._lock:
            self._refusals += 1
            self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is pending, closed or not; whether that came about in time."""
        self.hurry(self.journal.end[0])
        with self._lock:
            wait_for(self._changed, lambda: not self.pending or self.journal.torn, timeout)
            return not self.pending

    def hurry(self, sequence: int) -> None:
        """A process waits for the jobs up to `sequence`: have them sent now, and committed at once."""
        self.wanted = max(self.wanted, sequence)
        self.wake()  # also because a submit that was interrupted behind the journal did not

    def failure(self, sequence: int) -> Failure | None:
        """Why a decided job failed, as long as that is kept; None for one that did not."""
        return self._failures.get(sequence)

    def take_failures(self) -> tuple[int, Failure | None]:
        """How many jobs have failed since this was last asked, and the first of them."""
        with self._lock:
            first, self._first_failure = self._first_failure, None
            number, self._failures_taken = self._failed - self._failures_taken, self._failed
            return number, first

    @property
    def last(self) -> int:
        """The sequence number of the last submitted job."""
        return self.journal.end[0]

    @property
    def committed(self) -> int:
        """How many jobs are decided."""
        return self._committed

    @property
    def pending(self) -> int:
        return self.journal.end[0] - self._committed

    def counts(self) -> OutboxCounts:
        with self._lock:
            return OutboxCounts(
                self.journal.end[0],
                self._committed,
                self.journal.end[1] - self.journal.trimmed[1],
                self._dropped,
                self._failed,
                self._last_error,
            )

    def close(self) -> None:
        """Take no more jobs."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def refuse_all(self, message: str, hint: str) -> None:
        """Nothing can be sent, ever: leave what is pending to a writer, and say so to those who submit."""
        logger.error("%s; %d jobs are left to the writer", message, self.pending)
        self._refusal = message, hint
        self.close()
        self.release()

    def release(self) -> bool:
        """After `close`, when nobody sends any more: delete the journal if everything in it is decided, else leave
        it to the writer. Returns whether it was deleted."""
        self.tell_left_out()
        with self._lock:
            if self.pending:
                self.journal.close()
                return False
            self.journal.remove()
            return True

    def abandon(self) -> None:
        """In a forked child: let go of the parent's journal without a look at any lock."""
        self.journal.abandon()
