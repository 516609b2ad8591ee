"""What a store tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WriterView:
    """The writer as a store sees it: process id and epoch of the last one that answered, and whether it does."""

    pid: int = 0
    epoch: str = ""
    answering: bool = False


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The figures of one store in this process, in jobs unless they say otherwise.

    `pending_bytes` are bytes of the journal; `resent` counts jobs that were sent again; `journal` is the journal's
    path, None when there is none.
    """

    submitted: int = 0
    acknowledged: int = 0
    pending: int = 0
    pending_bytes: int = 0
    dropped: int = 0
    failed: int = 0
    resent: int = 0
    last_error: str | None = None
    writer: WriterView = WriterView()
    journal: str | None = None
