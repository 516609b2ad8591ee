"""Thread mode: one thread of this process owns the database, for all its stores of that database."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_OK, Connection

from ..config import StoreOptions
from ..database.writer import Writer
from ..errors import ConfigError, DatabaseFault, JournalUnavailable, WriterBusy
from ..producer.outbox import NEVER, Outbox
from ..protocol.messages import Control
from ..protocol.producer import ProducerProtocol, full_bytes
from ..runtime import lifecycle
from ..runtime.folder import BusFolder
from ..runtime.lifecycle import EXIT_LIMIT_S, ForkSafeLock, Hold
from ..runtime.limits import no_thread
from ..runtime.locks import InstanceLock
from ..runtime.native import native
from ..runtime.spawn import Spawner
from ..runtime.waker import Waker
from ..views import WriterView
from ..writer.adoption import Adopter
from ..writer.intake import BatchLimits, Intake
from .journaled import JournaledBackend

#: How often the thread looks for journals of dead processes.
_SCAN_EVERY_S = 1.0
_RESTART_AFTER_S = 1.0
#: SQLite waits so long for a lock; then the thread looks at its streams and tries again.
_BUSY_TIMEOUT_S = 1.0
#: How long a goodbye waits for the thread.
_SAY_LIMIT_S = 0.1


#: The writers of this process by bus folder, each shared by all stores of its database.
_writers: dict[Path, ThreadWriter] = {}
_writers_lock = ForkSafeLock()


@dataclass(frozen=True, eq=False, slots=True)
class _Stream:
    """A store's jobs, and what is sent of them and acknowledged."""

    outbox: Outbox
    protocol: ProducerProtocol

    @property
    def ready(self) -> bool:
        """Whether there is something to send, or there may be since the last look."""
        outbox, protocol = self.outbox, self.protocol
        return (
            protocol.next_slice() is not None
            or outbox.journal.end[1] > protocol.wake_behind()
            or outbox.wanted > protocol.wanted
        )


class ThreadBackend(JournaledBackend):
    """A stream whose jobs a thread of this process writes."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        self._folder = None if options.database.is_memory else BusFolder.of(options.database)
        self._thread: ThreadWriter | None = None
        self._stream: _Stream | None = None

    def memory(self) -> AbstractContextManager[Connection] | None:
        return self._memory() if self._folder is None else None

    def at_exit(self, limit: float) -> None:
        """Write what is pending while there is time, and stop. Later jobs are left to a writer process."""
        if self._outbox is None or self._stream is None or self._closed:
            return
        self._ended = True
        self._detach(limit)
        self._outbox.wake_always(self._late)
        if self._outbox.pending:
            self._late()

    def _late(self) -> None:
        """A job that no thread of ours will write any more."""
        if self._folder is not None:
            spawner = Spawner(self._options.database, self._folder, enabled=self._options.spawn)
            spawner.ensure()
            spawner.close()

    def _start(self) -> Outbox:
        if self._ended and self._folder is not None:
            journal = self._new_journal(self._folder)
            return Outbox(
                journal, self._late, on_full=self._options.on_full, timeout=self._options.timeout, log_failures=False
            )
        with _writers_lock:  # the last store of the database must not end the thread before this one is attached
            self._thread = ThreadWriter.shared(self._options, self._folder)
            outbox = Outbox(
                self._new_journal(self._folder),
                self._thread.wake,
                on_full=self._options.on_full,
                timeout=self._options.timeout,
                log_failures=False,
            )
            protocol = ProducerProtocol(
                outbox.journal.stream,
                self._options.database.identity,
                os.getpid(),
                linger_s=self._options.linger_s,
                full_bytes=full_bytes(outbox.journal.ring_bytes),
            )
            self._stream = _Stream(outbox, protocol)
            self._thread.attach(self._stream)
        return outbox

    def _stop(self, outbox: Outbox) -> None:
        assert self._thread is not None
        assert self._stream is not None
        if outbox.drain(EXIT_LIMIT_S):
            self._thread.say(self._stream, self._stream.protocol.bye())
        self._detach(EXIT_LIMIT_S)
        if not outbox.release():
            self._late()

    def _let_go(self, outbox: Outbox) -> None:
        assert self._thread is not None
        assert self._stream is not None
        self._thread.forget(self._stream)
        self._stream = None

    def _detach(self, limit: float) -> None:
        assert self._thread is not None
        assert self._stream is not None
        self._stream.outbox.drain(limit)
        self._thread.detach(self._stream)

    def _forked(self) -> None:
        self._thread = self._stream = None

    def _known(self) -> str:
        fault = self._thread.fault if self._thread else None
        return str(fault) if fault else "a thread of this process"

    def _writer(self) -> WriterView:
        if self._thread is None:
            return WriterView()
        return WriterView(os.getpid(), self._thread.epoch.hex(), True)

    @contextmanager
    def _memory(self) -> Iterator[Connection]:
        self._begin()
        assert self._thread is not None
        with self._thread.connection() as connection:
            yield connection


def _open_writer(options: StoreOptions, folder: BusFolder | None) -> Writer:
    """Raises `DatabaseFault`; while another process holds the database's lock, only after the store's `timeout`."""
    deadline = time.monotonic() + options.timeout
    while True:
        try:
            return Writer(
                options.database, busy_timeout=_BUSY_TIMEOUT_S, attempts=None if folder is None else folder.attempts
            )
        except DatabaseFault as fault:
            code: int = getattr(fault.__cause__, "sqlite_errorcode", SQLITE_OK)
            if code & 0xFF != SQLITE_BUSY or time.monotonic() >= deadline:
                raise


class ThreadWriter:
    """The thread, the lock it holds, and the streams it serves."""

    def __init__(self, options: StoreOptions, folder: BusFolder | None) -> None:
        """Raises `WriterBusy` when another process owns the database."""
        self._folder = folder
        self._owned: InstanceLock | None = None
        if folder is not None:
            folder.prepare()
            self._owned = InstanceLock.acquire(folder.writer_lock)
            if self._owned is None:
                raise WriterBusy(
                    "another writer owns the database",
                    operation="thread mode",
                    subject=options.database.masked,
                    hint='stop it with telemetry-bus stop, or use mode="daemon"',
                )
        try:
            self._writer = _open_writer(options, folder)
        except BaseException:
            self._release()
            raise
        self._intake: Intake[_Stream] = Intake(self._writer, options.database, BatchLimits(step_s=0.0))
        self._adopter = Adopter(folder, self._intake) if folder else None
        self._database_lock = native("threading").RLock()  # between the thread, readers of :memory:, and a fork
        self._streams: list[_Stream] = []
        self._displaced: DatabaseFault | None = None  # the folder was removed, and another writer was quicker
        self._turn = 0
        self._hold = Hold(self._database_lock)
        self._waker = Waker()
        self._stopping = False
        self._thread = native("threading").Thread(target=self._run, name=options.thread_name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._writer.close()
            self._release()
            raise no_thread(error) from error
        lifecycle.watch(self)
        if folder is not None:
            lifecycle.rest_at_fork(self)

    @classmethod
    def shared(cls, options: StoreOptions, folder: BusFolder | None) -> ThreadWriter:
        """The writer of a database in this process. Every `:memory:` is a database of its own."""
        if folder is None:
            return cls(options, None)
        with _writers_lock:
            if folder.path not in _writers:
                _writers[folder.path] = cls(options, folder)
            return _writers[folder.path]

    def attach(self, stream: _Stream) -> None:
        self._streams = [*self._streams, stream]
        self.wake()

    def say(self, stream: _Stream, message: Control) -> None:
        """Take a producer's word, unless the thread is busy with the database: none is worth waiting for."""
        if self._database_lock.acquire(timeout=_SAY_LIMIT_S):
            try:
                self._intake.control(stream, message)
            finally:
                self._database_lock.release()

    def forget(self, stream: _Stream) -> None:
        """Serve a stream no more. For the thread itself, which goes on."""
        self._streams = [other for other in self._streams if other is not stream]

    def detach(self, stream: _Stream) -> None:
        """Serve a stream no more; after the last one the thread ends and the database is free."""
        with _writers_lock:
            self.forget(stream)
            if self._streams or self._stopping:
                return
            self._stopping = True
            if self._folder is not None:
                _writers.pop(self._folder.path, None)
            self._waker.wake()
            self._thread.join(EXIT_LIMIT_S)
            if not self._thread.is_alive():  # within the lock: the next store of this process finds the database free
                self._intake.pace.flush()
                self._intake.end_streams()
                self._writer.close()
                self._release()

    def wake(self) -> None:
        self._waker.wake()

    @property
    def epoch(self) -> bytes:
        return self._intake.protocol.epoch

    @property
    def fault(self) -> DatabaseFault | None:
        return self._displaced or self._intake.fault

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The writer's own connection, the thread kept away from it."""
        with self._database_lock:
            yield self._writer.driver_connection

    def before_fork(self) -> None:
        """Close the file; the thread opens it again at its next batch."""
        self._hold.take()
        self._writer.rest()

    def after_fork_in_parent(self) -> None:
        self._hold.release()

    def after_fork(self) -> None:
        _writers.clear()
        idle = self._folder is not None and self._database_lock.acquire(blocking=False)
        self._hold.release()
        self._writer.abandon(idle=idle)
        self._release()

    def at_exit(self, limit: float) -> None:
        """Nothing: the stores end it."""

    def _release(self) -> None:
        if self._owned is not None:
            self._owned.release()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._loop()
            except Exception:  # the thread must outlive it: a defect, out of descriptors
                self._intake.pace.log(logging.ERROR, "the writer thread failed and starts again", exc_info=True)
                self._waker.sleeping = True
                self._waker.sleep(_RESTART_AFTER_S)
        self._keep_journals()

    def _loop(self) -> None:
        next_scan = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if now >= next_scan:
                next_scan = now + _SCAN_EVERY_S
                self._maintain()
            if self._displaced is None:
                with self._database_lock:
                    self._serve(now)
            self._sleep(next_scan)

    def _serve(self, now: float) -> None:
        """One turn: messages in, commit, answers out."""
        intake, streams = self._intake, self._streams
        for stream in streams:
            outbox, protocol = stream.outbox, stream.protocol
            protocol.look(outbox.journal.end, now, outbox.wanted)
            for message in protocol.due(now):
                intake.control(stream, message)
        if self._adopter is not None:
            self._adopter.step(1 if any(stream.protocol.next_slice() is not None for stream in streams) else None)
        self._fill(streams, now)
        if intake.due_in() == 0:
            intake.commit()
        answers: dict[_Stream, list[Control]] = {}
        for stream, answer in intake.replies():
            answers.setdefault(stream, []).append(answer)
        for stream, messages in answers.items():
            protocol = stream.protocol
            failures = [failure for message in messages for failure in protocol.receive(message, now)]
            stream.outbox.settle(protocol.acknowledged, protocol.committed, failures)
        if intake.log_due:
            intake.write_back()

    def _fill(self, streams: list[_Stream], now: float) -> None:
        """The batch, with a message of each stream in turn; another one begins each time."""
        self._turn += 1
        first = self._turn % max(1, len(streams))
        left = streams[first:] + streams[:first]
        while left:
            left = [stream for stream in left if self._take(stream, now)]

    def _take(self, stream: _Stream, now: float) -> bool:
        """The stream's next message, if it has one and there is room."""
        if not self._intake.takes(stream.outbox.journal.stream) or (part := stream.protocol.next_slice()) is None:
            return False
        try:
            jobs = stream.outbox.read(part)
        except JournalUnavailable:
            return False
        stream.protocol.sent(jobs, now)
        self._intake.jobs(jobs)
        return True

    def _keep_place(self) -> None:
        """When the bus folder was removed: make it again with its lock, or wait for another writer that was quicker."""
        folder, owned = self._folder, self._owned
        if folder is None or owned is None or owned.valid():
            return
        try:
            folder.prepare()
            lock = InstanceLock.acquire(folder.writer_lock)
        except (ConfigError, OSError) as error:
            self._intake.pace.log(logging.ERROR, "the bus folder was removed and cannot be made again: %s", error)
            return
        if lock is None:
            self._displaced = DatabaseFault(
                "the bus folder was removed, and another writer owns the database now",
                operation="thread mode",
                subject=str(folder.path),
                hint="telemetry-bus stop ends it",
            )
            return
        self._intake.pace.log(logging.WARNING, "the bus folder %s was removed, and is made again", folder.path)
        owned.release()
        self._owned, self._displaced = lock, None

    def _keep_journals(self) -> None:
        """Make those again that were removed while jobs in them are waiting."""
        if self._folder is not None:
            for stream in self._streams:
                stream.outbox.keep_journal(self._folder, self._intake.pace)

    def _maintain(self) -> None:
        self._keep_place()
        self._keep_journals()
        if self._displaced is not None:
            return
        if self._adopter is not None:
            self._adopter.scan()
        for stream in self._streams:
            stream.outbox.tell_dropped()
        with self._database_lock:
            self._intake.protocol.expire(time.monotonic())
            self._intake.maintain(idle=not any(stream.outbox.pending for stream in self._streams))

    def _sleep(self, next_scan: float) -> None:
        self._waker.sleeping = True
        now = time.monotonic()
        if self._displaced is not None:
            self._waker.sleep(0.0 if self._stopping else max(0.0, next_scan - now))
            return
        deadlines = [next_scan]
        if (due := self._intake.due_in()) is not None:
            deadlines.append(now + due)
        streams = self._streams
        for stream in streams:
            stream.outbox.wake_after(stream.protocol.wake_behind())
            if (deadline := stream.protocol.deadline()) is not None:
                deadlines.append(deadline)
        work = self._stopping or (
            self._intake.room
            and (any(stream.ready for stream in streams) or (self._adopter is not None and self._adopter.busy))
        )
        self._waker.sleep(0.0 if work else max(0.0, min(deadlines) - now))
        for stream in streams:
            stream.outbox.wake_after(NEVER)
