"""The three ways to get a job written, behind one protocol."""

from __future__ import annotations

from importlib import import_module

from ..config import StoreOptions
from .base import Backend
from .daemon import DaemonBackend

__all__ = ["Backend", "make_backend"]

#: Loaded when they are wanted. The default mode comes with the package: a first job does not wait for its modules.
_BACKENDS = {
    "thread": ("thread", "ThreadBackend"),
    "sync": ("sync", "SyncBackend"),
}


def make_backend(options: StoreOptions) -> Backend:
    """The backend of a mode."""
    if options.mode == "daemon":
        return DaemonBackend(options)
    module, name = _BACKENDS[options.mode]
    backend: Backend = getattr(import_module(f"{__name__}.{module}"), name)(options)
    return backend
