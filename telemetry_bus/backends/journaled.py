"""What daemon and thread mode share: a stream with a journal, begun at the first job, and anew in a forked child."""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from ..config import StoreOptions
from ..encoding.stream_names import new_secret, stream_of
from ..errors import FlushTimeout, JournalUnavailable, ReentrantSubmit, StoreClosed
from ..jobs import Failure, Job, Row
from ..journal.ring import Journal
from ..producer.outbox import Outbox
from ..runtime import lifecycle
from ..runtime.folder import BusFolder
from ..runtime.lifecycle import EXIT_LIMIT_S, ForkSafeLock
from ..runtime.limits import way_out
from ..runtime.native import native

if TYPE_CHECKING:
    from sqlite3 import Connection

    from ..views import StoreStats, WriterView


logger = logging.getLogger("telemetry_bus")


#: While the writer takes over what is left at the end, it is looked for so often.
_LOOK_S = 0.02


class JournaledBackend:
    """A backend that submits to an outbox. Subclasses move what is in it: `_start` and `_stop`."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._outbox: Outbox | None = None
        self._closed = False
        self._ended = False  # by the end of the interpreter
        self._busy = False  # with the beginning of a stream
        self._torn: JournalUnavailable | None = None  # what became of the last stream, and is not told yet
        self._user = -1  # who has begun the stream
        self._beginning = ForkSafeLock()
        #: Once there is an outbox, its own method, without a way through here.
        self.put_row: Callable[[str, Row, tuple[str, ...]], int] = self._put_first_row
        lifecycle.watch(self)

    def _put_first_row(self, sql: str, row: Row, ensure: tuple[str, ...]) -> int:
        return self._begin().put_row(sql, row, ensure)

    def put(self, job: Job) -> int:
        return (self._outbox or self._begin()).put(job)

    @property
    def last(self) -> int:
        return self._outbox.last if self._outbox else 0

    @property
    def pending(self) -> int:
        return self._outbox.pending if self._outbox else 0

    @property
    def full(self) -> bool:
        return self._outbox is not None and self._outbox.full

    def wait(self, sequence: int, timeout: float) -> None:
        outbox = self._outbox
        began = time.monotonic()
        self._tell_torn()
        if outbox is not None and self._ended and not self._closed:
            timeout = min(timeout, EXIT_LIMIT_S)
            done = self._leave(outbox, timeout)
        else:
            done = outbox is None or outbox.wait(sequence, timeout)
        if outbox is None or done:
            return
        self._tell_torn()
        waited = time.monotonic() - began
        why = "the store is closed" if self._closed else f"the writer after {waited:.1f} s: {self._known()}"
        if os.geteuid() != self._user:
            why += f"; this process was user {self._user} when it began, and is user {os.geteuid()} now"
        raise FlushTimeout(
            f"{outbox.pending} jobs are waiting; {why}",
            operation="flush",
            subject=self._options.database.masked,
            hint="they are safe in the journal and will be written",
        )

    def _leave(self, outbox: Outbox, limit: float) -> bool:
        """The interpreter ends, and no thread of ours sends any more: leave the journal to the writer, and see it
        written. Whether it was, in time. Later jobs begin another stream."""
        with self._beginning:
            self._outbox, self.put_row = None, self._put_first_row
        outbox.close()
        if outbox.release() or outbox.journal.path is None:
            return not outbox.pending
        deadline = time.monotonic() + limit
        while outbox.journal.path.exists():
            if time.monotonic() >= deadline:
                return False
            self._late()
            time.sleep(_LOOK_S)
        return True

    def _give_up(self, outbox: Outbox) -> None:
        """Jobs in the journal cannot be read any more: leave it to the writer, as a process does that dies. What is
        intact in it is applied. Later jobs begin another stream."""
        with self._beginning:
            if self._outbox is not outbox:
                return
            error = outbox.failed_error()
            logger.error("%s", error)
            self._outbox, self.put_row = None, self._put_first_row
            self._torn = None if outbox.torn_told else error
            self._let_go(outbox)
        outbox.close()
        outbox.release()

    def _tell_torn(self) -> None:
        error, self._torn = self._torn, None
        if error is not None:
            raise error

    def failure(self, sequence: int) -> Failure | None:
        return self._outbox.failure(sequence) if self._outbox else None

    def take_failures(self) -> tuple[int, Failure | None]:
        return self._outbox.take_failures() if self._outbox else (0, None)

    def stats(self) -> StoreStats:
        from ..views import StoreStats

        outbox = self._outbox
        if outbox is None:
            return StoreStats(writer=self._writer())
        counts = outbox.counts()
        return StoreStats(
            submitted=counts.submitted,
            acknowledged=counts.acknowledged,
            pending=counts.pending,
            pending_bytes=counts.pending_bytes,
            dropped=counts.dropped,
            failed=counts.failed,
            resent=self._resent(),
            last_error=counts.last_error,
            writer=self._writer(),
            journal=str(outbox.journal.path) if outbox.journal.path else None,
        )

    def close(self) -> None:
        with self._beginning:
            if self._closed:
                return
            self._closed = True
        if self._outbox is not None:
            self._outbox.close()
            self._stop(self._outbox)

    def forget(self) -> int:
        outbox = self._outbox
        if outbox is None or self._closed or self._ended:
            return 0
        with suppress(RuntimeError):  # the interpreter ends: so do we then, by `at_exit`
            _thread.start_new_thread(self._end, (outbox,))  # `threading` takes a lock that this thread may hold
        return outbox.pending

    def _end(self, outbox: Outbox) -> None:
        """In a thread that `threading` does not know, which would for ever list it once it has waited for another."""
        with suppress(RuntimeError):  # the interpreter ends, or there are no more threads: it ends with the program
            native("threading").Thread(target=self._finish, args=(outbox,), daemon=True).start()

    def _finish(self, outbox: Outbox) -> None:
        try:
            outbox.drain(threading.TIMEOUT_MAX)
            self.close()
        except Exception:
            logger.exception("a store that was forgotten did not end in order")

    def memory(self) -> AbstractContextManager[Connection] | None:
        return None

    def after_fork(self) -> None:
        """Begin a stream of our own at the next job; the parent's goes on without us."""
        self._busy = False
        self.put_row = self._put_first_row
        if self._outbox is not None:
            self._outbox.abandon()
            self._outbox = None
        self._forked()

    def at_exit(self, limit: float) -> None:
        raise AssertionError("a subclass says how it ends")

    def _begin(self) -> Outbox:
        """The stream of this process; made at its first job."""
        with self._beginning:
            if self._closed:
                raise StoreClosed("the store is closed", operation="submit", hint="submit before shutdown()")
            self._tell_torn()
            if self._outbox is None:
                if self._busy:
                    raise ReentrantSubmit
                try:
                    self._busy = True
                    lifecycle.watch(self)  # once more in a forked child, which may end in another way
                    self._outbox, self._user = self._start(), os.geteuid()
                    self._outbox.give_up = self._give_up
                    self.put_row = self._outbox.put_row
                except OSError as error:
                    raise JournalUnavailable(
                        error.strerror or str(error),
                        operation="begin a stream",
                        subject=self._options.database.masked,
                        hint=way_out(error),
                    ) from error
                finally:
                    self._busy = False
        return self._outbox

    def _new_journal(self, folder: BusFolder | None) -> Journal:
        secret = new_secret()
        size, database = self._options.journal_bytes, self._options.database.identity
        journal = Journal(folder.journals if folder else None, stream_of(secret), size, database)
        journal.secret = secret
        return journal

    def _late(self) -> None:
        raise AssertionError("a subclass says who writes what no thread of ours will")

    def _start(self) -> Outbox:
        raise AssertionError("a subclass says how its jobs move")

    def _stop(self, outbox: Outbox) -> None:
        raise AssertionError("a subclass says how its jobs move")

    def _let_go(self, outbox: Outbox) -> None:
        raise AssertionError("a subclass says how its jobs move")

    def _forked(self) -> None:
        raise AssertionError("a subclass says what it must let go of")

    def _known(self) -> str:
        raise AssertionError("a subclass says what it knows of the writer")

    def _writer(self) -> WriterView:
        from ..views import WriterView

        return WriterView()

    def _resent(self) -> int:
        return 0
