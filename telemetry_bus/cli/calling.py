"""Reaching the writer for an operator: starts one if none runs, waits until it answers."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ..config import env_flag
from ..control import ask
from ..errors import WriterAbsent, WriterBusy, WriterError
from ..runtime.spawn import Spawner
from .survey import Bus

#: How often somebody who waits for a lock, an answer or the journals looks again.
POLL_S = 0.05
#: A writer that is asked whether it is there has so long to say so, before it is looked at anew.
_KNOCK_S = 0.5


class Caller:
    """Asks the writer of a bus, within a time limit in seconds for each thing that is waited for."""

    def __init__(self, bus: Bus, timeout: float) -> None:
        self._bus = bus
        self._timeout = timeout
        self._enabled = env_flag("TELEMETRY_BUS_SPAWN", True)
        self._spawner = Spawner(bus.database, bus.folder, enabled=self._enabled)

    def __enter__(self) -> Self:
        """Raises `ConfigError` when the bus folder cannot be used."""
        self._bus.folder.prepare()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """A writer that was started goes on by itself."""
        self._spawner.close()

    def ensure(self) -> None:
        """Start a writer if none runs and one may be started; does not wait for it."""
        self._spawner.ensure()

    def reach(self) -> None:
        """Return when a writer answers that does not mean to leave.

        Raises `WriterAbsent`, with the end of the log of a writer that could not start, and `WriterBusy` when the
        owner of the database does not answer.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            self._spawner.ensure()
            if self._bus.held:
                with suppress(WriterAbsent):
                    if not ask(self._bus.folder, "status", _KNOCK_S)["leaving"]:
                        self._spawner.settled()
                        return
                if (owner := self._bus.owner()).is_program or time.monotonic() >= deadline:
                    raise self._trouble(WriterBusy, owner.silence(), "end it by its process id; nothing is lost")
            elif not self._enabled or time.monotonic() >= deadline:
                raise self._trouble(WriterAbsent, f"no writer: {self._spawner.known()}", "start telemetry-writer")
            time.sleep(POLL_S)

    def ask(self, name: str, **arguments: Any) -> Any:
        """The writer's answer to a command. Raises `WriterAbsent` and `WriterError`, as `control.ask`."""
        return ask(self._bus.folder, name, self._timeout, **arguments)

    def call(self) -> None:
        """Have the writer, if there is one, call for what producers gather: it does when its status is asked for."""
        if self._bus.held:
            with suppress(WriterAbsent):
                ask(self._bus.folder, "status", _KNOCK_S)

    def known(self) -> str:
        """What is known of the writer, for an error's text."""
        if not self._bus.held:
            return self._spawner.known()
        try:
            report = ask(self._bus.folder, "status", _KNOCK_S)
        except WriterAbsent:
            return self._bus.owner().silence()
        return f"process {report['pid']} is {report['state']}; its last error: {report['last_error'] or 'none'}"

    def _trouble(self, kind: type[WriterError], message: str, hint: str) -> WriterError:
        return kind(message, operation="ask the writer", subject=self._bus.database.masked, hint=hint)
