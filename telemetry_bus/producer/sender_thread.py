"""The thread of a producer that moves its jobs: begins at the first of them, starts over when it fails.

Whoever submits that first job does not wait for ZeroMQ and the like: the thread loads them (`transport`).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ..config import Database
from ..runtime.folder import BusFolder
from ..runtime.lifecycle import embedded, importing
from ..runtime.limits import need_memory
from ..runtime.native import native
from ..runtime.spawn import Spawner, load
from ..runtime.throttle import Pace
from ..runtime.waker import Waker
from .outbox import Outbox
from .requests import Requests

if TYPE_CHECKING:
    from ..views import WriterView
    from .transport import Transport

logger = logging.getLogger("telemetry_bus")

#: After a failure of the thread itself.
_RESTART_AFTER_S = 1.0
_LOOK_UP_S = 0.05
#: Imports hold the interpreter's lock for milliseconds: let whoever submitted the first job return before.
_GIVE_WAY_S = 0.001


class Sender:
    """Moves the jobs of one outbox. The outbox calls `wake` after each job."""

    def __init__(
        self,
        outbox: Outbox,
        waker: Waker,
        folder: BusFolder,
        database: Database,
        spawner: Spawner,
        linger_s: float = 0.0,
    ) -> None:
        self._outbox = outbox
        self._waker = waker
        self._folder = folder
        self._database = database
        self._spawner = spawner
        self._linger_s = linger_s
        self._requests = Requests()
        self._pace = Pace(logger)
        self._transport: Transport | None = None
        self._failure = ""  # what the thread failed of last
        self._thread: threading.Thread | None = None

    def start(self, name: str) -> None:
        if embedded():
            self._transport = self._load()  # not in the thread: the program may fork in the middle of it
        thread = native("threading").Thread(target=self._run, name=name, daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, timeout: float) -> bool:
        """End the thread, whatever is pending; whether it ended in time. Sockets are closed then."""
        self._requests.stopping = True
        self._waker.wake()
        if self._thread is None or self._thread is native("threading").current_thread():
            return True
        self._thread.join(timeout)
        return not bool(self._thread.is_alive())

    def goodbye(self) -> None:
        """Tell the writer at the end that the journal will be gone. Before `stop`."""
        self._requests.goodbye = True

    def answers(self, timeout: float) -> bool:
        """Ask the writer; whether it says anything within `timeout` seconds."""
        self._requests.heard.clear()
        self._requests.ask = True
        self._waker.wake()
        return bool(self._requests.heard.wait(timeout))

    @property
    def resent(self) -> int:
        return self._transport.resent if self._transport else 0

    @property
    def answering(self) -> bool:
        """Whether the writer answers, as far as is known."""
        return self._transport is not None and self._transport.answering

    def writer(self) -> WriterView:
        """The writer as far as it is known."""
        from ..views import WriterView

        return self._transport.writer() if self._transport else WriterView()

    def known(self) -> str:
        """What is known of the writer, for an error's text."""
        return (self._transport.known() if self._transport else "") or self._failure or self._spawner.known()

    def _run(self) -> None:
        self._await_first()
        while not self._requests.stopping:
            try:
                self._spawner.ensure()  # at once: it takes longer to start than we do
                if self._transport is None:
                    self._transport = self._load()
                self._transport.run()
            except ImportError as error:  # for good: ZeroMQ can be loaded by one interpreter of a process
                self._failure = f"sender: {error}"
                self._outbox.refuse_all(
                    f"ZeroMQ cannot be loaded: {error}", 'use mode="thread" or "sync" here, or the main interpreter'
                )
                break
            except Exception as error:  # the thread must outlive it: out of descriptors, a defect
                self._pace.log(logging.ERROR, "the sender failed and starts again", exc_info=True)
                self._failure = f"sender: {error}"
                self._outbox.note_error(self._failure)
                again = time.monotonic() + _RESTART_AFTER_S
                while not self._requests.stopping and time.monotonic() < again:
                    self._waker.sleep(_LOOK_UP_S)  # a job does not cut it short, or a busy program would spin here
        if self._transport is None:  # told to stop before there was one, which would have looked
            self._outbox.keep_journal(self._folder, self._pace)
        self._outbox.tell_left_out()
        self._pace.flush()
        self._outbox.wake_at = 0  # whoever was to be called for late jobs may have been named while this thread ended

    def _await_first(self) -> None:
        """Sleep until the first job is in the journal."""
        self._waker.sleeping = True
        if not (self._outbox.pending or self._requests.stopping):
            self._waker.sleep(None)
        self._waker.clear()
        native("time").sleep(_GIVE_WAY_S)

    def _load(self) -> Transport:
        need_memory()
        with importing():
            from .transport import Transport
        load()

        return Transport(
            self._outbox,
            self._waker,
            self._folder,
            self._database,
            self._spawner,
            self._requests,
            self._pace,
            self._linger_s,
        )
