"""Many processes write telemetry, one writer process puts it into one database: every row exactly once.

`TelemetryStore` (or `get_store`, one shared store per database) is what a program uses. Importing this package loads
what a first job needs, and not what comes later: ZeroMQ, SQLite, SQLAlchemy.

PYTEST_DONT_REWRITE: it may have been imported before pytest begins.
"""

import typing as _typing

from .errors import (
    BadDefinition,
    ConfigError,
    DatabaseFault,
    DatabaseMoved,
    EndedWriter,
    FlushTimeout,
    JobError,
    JobFailed,
    JobTooLarge,
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalUnavailable,
    JournalVersion,
    LedgerMoved,
    NotRecordable,
    OtherName,
    ParameterCount,
    ProtocolError,
    ReadOnly,
    ReentrantSubmit,
    StoreClosed,
    TelemetryError,
    UnsupportedValue,
    WriterAbsent,
    WriterBusy,
    WriterError,
)
from .jobs import Job, Statement
from .runtime.writer_command import freeze_support
from .store import TelemetryStore, get_default_database_url, get_store

if _typing.TYPE_CHECKING:
    from .views import StoreStats, WriterView

__version__ = "0.1.0"

__all__ = [
    "BadDefinition",
    "ConfigError",
    "DatabaseFault",
    "DatabaseMoved",
    "EndedWriter",
    "FlushTimeout",
    "Job",
    "JobError",
    "JobFailed",
    "JobTooLarge",
    "JournalCorrupt",
    "JournalError",
    "JournalFull",
    "JournalUnavailable",
    "JournalVersion",
    "LedgerMoved",
    "NotRecordable",
    "OtherName",
    "ParameterCount",
    "ProtocolError",
    "ReadOnly",
    "ReentrantSubmit",
    "Statement",
    "StoreClosed",
    "StoreStats",
    "TelemetryError",
    "TelemetryStore",
    "UnsupportedValue",
    "WriterAbsent",
    "WriterBusy",
    "WriterError",
    "WriterView",
    "__version__",
    "freeze_support",
    "get_default_database_url",
    "get_store",
]


def __getattr__(name: str) -> object:
    """What hardly anybody names is loaded when somebody does."""
    if name in ("StoreStats", "WriterView"):
        from . import views

        return getattr(views, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
