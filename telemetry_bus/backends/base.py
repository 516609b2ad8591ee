"""What a store needs of the way its jobs get written."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from ..jobs import Failure, Job, Row

if TYPE_CHECKING:
    from sqlite3 import Connection

    from ..views import StoreStats


class Backend(Protocol):
    """One way of getting jobs written. All methods may be called from any thread."""

    def put_row(self, sql: str, row: Row, ensure: tuple[str, ...]) -> int:
        """Submit one statement with one row; the job's sequence number, 0 when it was dropped by policy."""

    def put(self, job: Job) -> int:
        """Submit any job."""

    @property
    def last(self) -> int:
        """The sequence number of the last submitted job."""

    @property
    def pending(self) -> int:
        """How many jobs are not decided."""

    @property
    def full(self) -> bool:
        """Whether the last submit found no room, and none has come free since."""

    def wait(self, sequence: int, timeout: float) -> None:
        """Return when every job up to `sequence` is decided; raises `FlushTimeout`."""

    def failure(self, sequence: int) -> Failure | None:
        """Why a decided job failed."""

    def take_failures(self) -> tuple[int, Failure | None]:
        """How many jobs have failed since this was last asked, and the first of them."""

    def stats(self) -> StoreStats: ...

    def close(self) -> None:
        """Stop. What is pending stays in the journal, and somebody is left to adopt it. Idempotent."""

    def forget(self) -> int:
        """The store is gone: as `close`, once nothing is pending. How many jobs are.

        The garbage collector may call this in the middle of anything: takes no lock, and waits for nothing.
        """

    def memory(self) -> AbstractContextManager[Connection] | None:
        """For `:memory:`, the database's one connection, locked for the length of the context; else None."""
