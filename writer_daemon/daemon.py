"""The writer process: takes the lock, binds, takes jobs, commits, acknowledges, leaves."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import zmq

from telemetry_bus import __version__
from telemetry_bus.control import ask
from telemetry_bus.database.writer import Writer
from telemetry_bus.errors import DatabaseFault, ProtocolError, WriterAbsent, WriterBusy
from telemetry_bus.protocol.messages import Answer, Command, Control, Jobs, decode_control, encode_control
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock, is_held
from telemetry_bus.runtime.waker import Waker
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.fair_queue import LIMIT_BYTES, FairQueue
from telemetry_bus.writer.intake import Intake

from . import exit_codes, operator
from .notify import Notifier
from .options import WriterOptions
from .ownership import Ownership
from .permission import Permission
from .redaction import Discretion
from .signals import Signals
from .sockets import Sockets
from .status import WriterStatus, take_status

logger = logging.getLogger("telemetry_bus.writer")

#: How often the writer looks for orphans, at its files, and whether anybody is there.
LOOK_AROUND_S = 1.0
#: How often acknowledgements are sent that no process waits for.
ANSWER_EVERY_S = 1.0
#: How often streams that have long been over are deleted from the ledger, some at a time.
PRUNE_EVERY_S = 60.0
#: A writer that finds the lock held asks its holder, waiting so long for an answer, and tries again so soon.
ASK_HOLDER_S = 0.5
TRY_AGAIN_S = 0.05
#: A database file that has been gone for so long will not come back; a rename has no such gap.
GONE_LIMIT_S = 5.0
#: Messages of the control socket that are handled before jobs are looked at again.
CONTROL_BURST = 1000
#: The name of a stream's journal; anything else that lies among them is none.
_STREAM_NAME = re.compile("[0-9a-f]{32}")


def serve(options: WriterOptions, folder: BusFolder, notifier: Notifier) -> int:
    """The whole life of a writer; its exit code. Raises `WriterBusy`, `ConfigError`, `DatabaseFault`.

    One that has left for want of company looks once more when its lock is free: a producer that came meanwhile
    found the lock held, started nobody, and may be gone.
    """
    code, unread = _live(options, folder, notifier)
    while unread is not None and set(folder.journal_paths()) - unread and not is_held(folder.writer_lock):
        code, unread = _live(options, folder, notifier)
    return code


def _live(options: WriterOptions, folder: BusFolder, notifier: Notifier) -> tuple[int, set[Path] | None]:
    """From taking the lock to letting go of it: the exit code, and if it left for want of company, which journals it
    could not read."""
    with ExitStack() as life:
        waker = Waker()
        life.callback(waker.close)
        signals = life.enter_context(Signals(waker))
        notifier.say("waiting for the database")
        lock = take_over(folder, signals)
        life.callback(lock.release)
        notifier.say("opening the database")
        writer = Writer(
            options.database,
            durability=options.durability,
            definition_timeout=options.definition_timeout,
            attempts=folder.attempts,
            on_stuck=_end_stuck,
        )
        life.callback(writer.close)
        sockets = Sockets(folder)
        life.callback(sockets.close)
        logger.info(
            "writer %d owns %s (%s, durability %s)",
            os.getpid(),
            options.database.masked,
            writer.snapshot().database_version,
            options.durability,
            extra={"database": options.database.masked, "version": __version__},
        )
        daemon = Daemon(options, folder, lock, writer, sockets, signals, waker, notifier)
        life.callback(daemon.intake.pace.flush)
        life.callback(daemon.adopter.close)
        life.callback(daemon.permission.close)
        if options.metrics is not None:
            from .metrics import Metrics  # needs a library that is wanted for this only

            metrics = Metrics(options.metrics, daemon.status, folder)
            life.callback(metrics.close)
            daemon.publish = metrics.publish
        code = daemon.run()
        logger.info("writer %d leaves", os.getpid())
        return code, daemon.adopter.unread if daemon.idle else None


def _end_stuck() -> None:
    """From the watchdog's thread. The job is noted, and the next writer does not try it again."""
    logger.error("a statement could not be interrupted; writer %d ends itself", os.getpid())
    os._exit(exit_codes.STUCK)


def take_over(folder: BusFolder, signals: Signals) -> InstanceLock:
    """The instance lock. Waits for a holder that is leaving or does not answer; raises `WriterBusy` when it does."""
    while (lock := InstanceLock.acquire(folder.writer_lock)) is None:
        if signals.leave:
            raise WriterBusy("told to leave while waiting for the database", operation="start")
        with suppress(WriterAbsent):
            holder = ask(folder, "status", ASK_HOLDER_S)
            if not holder["leaving"]:
                raise WriterBusy(
                    f"process {holder['pid']} owns the database",
                    operation="start",
                    subject=str(folder.path),
                    hint="telemetry-bus stop ends it",
                )
        time.sleep(TRY_AGAIN_S)
    return lock


class Daemon:
    """The poll loop."""

    def __init__(
        self,
        options: WriterOptions,
        folder: BusFolder,
        lock: InstanceLock,
        writer: Writer,
        sockets: Sockets,
        signals: Signals,
        waker: Waker,
        notifier: Notifier | None = None,
    ) -> None:
        self.database = options.database
        self.intake: Intake[bytes] = Intake(writer, options.database, options.limits)
        self.adopter = Adopter(folder, self.intake)
        self.redaction = Discretion(folder, options.database.path)
        self.permission = Permission(folder, options.database.path)
        self._ownership = Ownership(folder, self.intake.protocol)
        self._queue = FairQueue()
        self._unread = False
        self.leaving = False
        self.idle = False
        self._idle_timeout = options.idle_timeout
        self._folder = folder
        self.publish: Callable[[], None] | None = None  # the figures, about once a second
        self._lock = lock
        self._sockets = sockets
        self._signals = signals
        self._waker = waker
        self._notifier = notifier or Notifier()
        self._started = self._last_seen = time.monotonic()
        self._look_at = self._prune_at = self._answer_at = 0.0
        self._gone_since: float | None = None
        self._begun = False
        self._spoken_to = True  # whether the poll has found something on the control socket
        self._register()

    def run(self) -> int:
        """Until asked to leave, idle for too long, or the folder is gone."""
        self._prune()
        self.adopter.scan()
        while not (self.leaving or self._signals.leave):
            self._poll()
            self._turn()
            self._tell()
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOK_AROUND_S
                if self.publish is not None:
                    self.publish()
                if not self._lock.valid():
                    logger.error("the bus folder %s was removed or replaced", self._folder.path)
                    return exit_codes.LOST_FOLDER
                if self._gone_for(now) > GONE_LIMIT_S:
                    logger.error("%s was deleted; the next writer makes a new one", self.database.masked)
                    return exit_codes.NO_DATABASE
                if self._look_around(now) and self._nobody_came():
                    self.idle = True
                    return exit_codes.DONE
        self.leaving = True
        self._spoken_to = True
        self._notifier.stopping()
        self._turn()
        return exit_codes.DONE

    def status(self) -> WriterStatus:
        """How it is now."""
        uptime = time.monotonic() - self._started
        return take_status(self.intake, self.adopter, self.database, uptime_s=uptime, leaving=self.leaving)

    def leave(self) -> None:
        """End the loop: finish the batch, acknowledge, exit."""
        self.leaving = True

    def note_activity(self) -> None:
        """An operator is at work: do not exit as idle just now."""
        self._last_seen = time.monotonic()

    def _tell(self) -> None:
        """The service manager, how it is: ready when the journals that the dead have left are adopted."""
        self._begun = self._begun or not self.adopter.busy
        if self._begun:
            self._notifier.turn(self.status)
        else:
            self._notifier.starting(self.status)

    def _turn(self) -> None:
        """Messages in, one commit, answers out; those that no process waits for about once a second."""
        self.adopter.step(1 if self._queue.bytes else None)  # before the messages, a part of the batch if some wait
        if self._fetch() and (rest := self.intake.step_in):  # the others send just now: no turn for each
            if time.monotonic() >= self._answer_at:  # while producers are awake
                self._answer(self.intake.replies(), lazy=False)
            time.sleep(rest)
            self._fetch()
        if self._spoken_to:
            self._converse()
        if self._queue.bytes:
            self._fill()
        if self.leaving or self.intake.due_in() == 0:
            self.intake.commit()
        lazy = not self.leaving and time.monotonic() < self._answer_at + ANSWER_EVERY_S / 2
        self._answer(self.intake.replies(lazy=lazy), lazy=lazy)
        if self.intake.log_due:
            self.intake.write_back()

    def _answer(self, replies: Sequence[tuple[bytes, Control]], *, lazy: bool) -> None:
        if not lazy:
            self._answer_at = time.monotonic() + ANSWER_EVERY_S
        for route, message in replies:
            self._send(route, encode_control(self.redaction.told(message)))

    def _fetch(self) -> bool:
        """Messages of jobs, as long as there are any and not too many wait; whether a process waits for none."""
        self._unread = True
        patient = False
        while self._queue.bytes < LIMIT_BYTES and not self.leaving:
            try:
                frames = self._sockets.jobs.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._unread = False
                break
            try:
                message = Jobs.decode(frames)
                patient = message.patient
                if self.intake.room and not self._queue.bytes:
                    self.intake.jobs(message)
                else:
                    self._queue.put(message)
            except ProtocolError as error:
                self.intake.count_malformed(error)
        return patient and not self._queue.bytes

    def _fill(self) -> None:
        """The batch, with the messages that have waited."""
        while not self.leaving and (message := self._queue.take(self.intake.takes)) is not None:
            self.intake.jobs(message)

    def _converse(self) -> None:
        for _ in range(CONTROL_BURST):
            try:
                route, *frames = self._sockets.control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode_control(frames[0] if len(frames) == 1 else b"")
            except ProtocolError as error:
                self.intake.count_malformed(error)
                self._send(route, encode_control(Answer(False, str(error))))  # it may be of another version
                continue
            if isinstance(message, Command):
                self._send(route, encode_control(operator.answer(self, message)))
            elif (heard := self._ownership.heard(route, message)) is None:
                self.intake.count_malformed(ProtocolError("another process speaks for a stream", operation="control"))
            else:
                message = heard
                unread = self._unread or (self._queue.bytes and self._queue.holds(getattr(message, "stream", b"")))
                self.intake.control(route, message, unread=bool(unread))

    def _send(self, route: bytes, data: bytes) -> None:
        """To a producer that is gone or does not read: dropped, the next one tells it all."""
        with suppress(zmq.Again):
            self._sockets.control.send_multipart([route, data], zmq.NOBLOCK)

    def _poll(self) -> None:
        """Wait for something to do."""
        now = time.monotonic()
        timeout = min(max(0.0, self._look_at - now), self._notifier.due_in())
        if (due := self.intake.due_in()) is not None:
            timeout = min(timeout, due)
        if self.adopter.busy and self.intake.room:
            timeout = 0.0
        if self.intake.room and self._queue.bytes:
            timeout = 0.0
        self._poller.register(self._sockets.jobs, zmq.POLLIN if self._queue.bytes < LIMIT_BYTES else 0)
        self._waker.sleeping = True
        if self._signals.leave:
            timeout = 0.0
        found = dict(self._poller.poll(round(timeout * 1000 + 0.5) if timeout else 0))
        self._waker.sleeping = False
        if self._waker.fileno() in found:
            self._waker.clear()
        self._spoken_to = self._sockets.control in found

    def _register(self) -> None:
        self._poller = zmq.Poller()
        self._poller.register(self._sockets.control, zmq.POLLIN)
        self._poller.register(self._waker.fileno(), zmq.POLLIN)

    def _look_around(self, now: float) -> bool:
        """What is done about once a second. Returns whether it is time to leave for want of company."""
        if not self._sockets.in_place():
            self.intake.pace.log(logging.WARNING, "the socket files were removed or replaced; binding them again")
            self._rebind()
        if self.adopter.scan():
            self._last_seen = now
        self.intake.protocol.expire(now)
        idle = not self.intake.protocol.pending and now - self.intake.last_commit > LOOK_AROUND_S
        self.intake.maintain(idle=idle)
        if self.intake.fault is None and now >= self._prune_at:
            try:
                self._prune()
            except DatabaseFault as fault:
                self.intake.degrade(fault)
        waiting = self.intake.protocol.pending or self._queue.bytes
        return 0 < self._idle_timeout <= now - self._last_seen and not waiting

    def _gone_for(self, now: float) -> float:
        """Seconds since when the database's file has not been there, or has been empty (somebody looked for it)."""
        try:
            there = self.database.path is None or self.database.path.stat().st_size > 0
        except FileNotFoundError:
            there = False
        if there:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
        return 0.0 if self._gone_since is None else now - self._gone_since

    def _nobody_came(self) -> bool:
        """Close the door and look once more: a producer makes its journal before it knocks. Whether to leave."""
        self._sockets.shut()
        if not self.adopter.scan():
            return True
        self._sockets.open()
        self._register()
        return False

    def _rebind(self) -> None:
        self._sockets.shut()
        self._sockets.open()
        self._register()

    def _prune(self) -> None:
        """Rows of the ledger go whose streams have been over for long, some at a time."""
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        keep = {bytes.fromhex(path.stem) for path in self._folder.journal_paths() if _STREAM_NAME.fullmatch(path.stem)}
        pruned = self.intake.writer.prune_ledger(keep)
        if pruned:
            logger.info("pruned %d streams of the ledger", pruned)
