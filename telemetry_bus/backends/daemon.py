"""Daemon mode: jobs go to the writer process, which is started when nobody owns the database."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..config import StoreOptions
from ..producer.outbox import Outbox
from ..producer.sender_thread import Sender
from ..runtime.folder import BusFolder
from ..runtime.lifecycle import EXIT_LIMIT_S
from ..runtime.limits import no_thread
from ..runtime.spawn import Spawner, load
from ..runtime.waker import Waker
from .journaled import JournaledBackend

if TYPE_CHECKING:
    from ..views import WriterView

#: A living writer answers within milliseconds; a busy one may take longer, and then costs this much at the end.
PROBE_S = 0.3


class DaemonBackend(JournaledBackend):
    """A stream whose jobs a `Sender` thread pushes to the writer process."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        self._folder = BusFolder.of(options.database)
        self._sender: Sender | None = None
        self._spawner = Spawner(options.database, self._folder, enabled=options.spawn)

    def at_exit(self, limit: float) -> None:
        """Stop the thread. Jobs are still taken, and left to the writer: see that there is one."""
        outbox, sender = self._outbox, self._sender
        if outbox is None or sender is None or self._closed:
            return
        self._ended = True
        self._probe(outbox, sender)
        sender.stop(limit)
        outbox.wake_always(self._late)
        if outbox.pending:
            self._late()

    def _late(self) -> None:
        """A job that no thread of ours will send any more."""
        self._spawner.ensure()

    def _start(self) -> Outbox:
        self._folder.prepare()
        waker = Waker()
        outbox = Outbox(
            self._new_journal(self._folder),
            waker.wake,
            on_full=self._options.on_full,
            timeout=self._options.timeout,
        )
        self._sender = Sender(
            outbox, waker, self._folder, self._options.database, self._spawner, self._options.linger_s
        )
        if self._ended:
            outbox.wake_always(self._late)
            return outbox
        try:
            self._sender.start(self._options.thread_name)
        except RuntimeError as error:
            if threading.main_thread().is_alive():
                outbox.release()
                raise no_thread(error) from error
            load()
            outbox.wake_always(self._late)  # the interpreter ends, and since Python 3.12 starts no thread then
        return outbox

    def _stop(self, outbox: Outbox) -> None:
        assert self._sender is not None
        self._probe(outbox, self._sender)
        if not outbox.pending:
            self._sender.goodbye()
        if self._sender.stop(EXIT_LIMIT_S) and not outbox.release():
            self._spawner.ensure()
        self._spawner.close()
        self._folder.close()

    def _let_go(self, outbox: Outbox) -> None:
        assert self._sender is not None
        self._sender.stop(0)  # it is the one that calls
        self._sender = None

    def _probe(self, outbox: Outbox, sender: Sender) -> None:
        """Have the jobs that are still gathered written. If they are not, hear whether the writer lives: one that was
        killed just now still holds its lock."""
        if outbox.pending and sender.answering and not outbox.drain(PROBE_S):
            sender.answers(PROBE_S)

    def _forked(self) -> None:
        self._folder.close()
        self._spawner.after_fork()
        self._sender = None

    def _known(self) -> str:
        return self._sender.known() if self._sender else self._spawner.known()

    def _writer(self) -> WriterView:
        return self._sender.writer() if self._sender else super()._writer()

    def _resent(self) -> int:
        return self._sender.resent if self._sender else 0
