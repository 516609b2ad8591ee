"""Which store a tracker writes to."""

from __future__ import annotations

import logging
from typing import Any

from telemetry_bus import ConfigError, TelemetryStore

from ..destination import Store


def store_for(store: Any, *, logger: logging.Logger) -> Store | None:
    """A store is used as it is. For a SQLAlchemy engine, or a connection of one, it is a synchronous store on its
    database. None, which means the shared store, when nothing is given, and with a warning for anything else."""
    if all(callable(getattr(store, name, None)) for name in ("submit", "flush", "connection")):
        given: Store = store
        return given
    return None if store is None else _own_store(store, logger)


def _own_store(engine: Any, logger: logging.Logger) -> TelemetryStore | None:
    if not (hasattr(engine, "connect") or hasattr(engine, "execute")):
        logger.warning("a %s is no store: the shared one is used", type(engine).__name__)
        return None
    url = getattr(engine, "url", None) or getattr(getattr(engine, "engine", None), "url", None)
    if url is None:  # a bare connection of a driver
        return None
    try:
        return TelemetryStore(_text_of(url), mode="sync")
    except ConfigError as error:
        logger.warning("the database of a %s cannot be used, the shared one is: %s", type(engine).__name__, error)
        return None


def _text_of(url: Any) -> str:
    render = getattr(url, "render_as_string", None)  # which, unlike str(), shows the password
    return str(url if render is None else render(hide_password=False))
