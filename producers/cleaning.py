"""What the recorders of cleaning sessions have in common: a switch, and a store that is opened at its first use."""

from __future__ import annotations

import logging
from uuid import uuid4

from .destination import Destination, Store


class CleaningRecorder:
    """Records nothing when `enable_telemetry` is off, and then opens no store either.

    `failures` counts what could not be recorded, `missed` the calls that came without an open session, or ended one
    without a record; `session_id` is this object's, a random UUID.
    """

    def __init__(
        self, enable_telemetry: bool, store: Store | None, database_url: str | None, *, logger: logging.Logger
    ) -> None:
        self.enable_telemetry = enable_telemetry
        self.session_id = new_id()
        self._destination = Destination(store, database_url, logger=logger)

    @property
    def store(self) -> Store:
        """The store, opened now if need be. Raises `RuntimeError` when telemetry is off."""
        if not self.enable_telemetry:
            raise RuntimeError("telemetry is off: there is no store")
        return self._destination.store

    @property
    def failures(self) -> int:
        return self._destination.failures

    @property
    def missed(self) -> int:
        return self._destination.missed

    def _without_session(self, call: str) -> None:
        """Tell of a call that has no session to go to; when telemetry is off, none has."""
        if self.enable_telemetry:
            self._destination.miss(f"{call} without start_cleaning_session")

    def flush(self) -> None:
        """Return when everything recorded is in the database. Raises what the store raises."""
        if self.enable_telemetry:
            self._destination.flush()


def new_id() -> str:
    """A random UUID."""
    return str(uuid4())
