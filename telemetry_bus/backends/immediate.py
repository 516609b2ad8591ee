"""What the ways without a stream share: a job is done when `put` returns, so that there is nothing to wait for."""

from __future__ import annotations

from ..jobs import Failure, Job, Row, Statement


class ImmediateBackend:
    """Subclasses say `put`, and count in `_submitted`."""

    def __init__(self) -> None:
        self._submitted = 0

    def put_row(self, sql: str, row: Row, ensure: tuple[str, ...]) -> int:
        return self.put(Job((Statement(sql, (row,)),), ensure))

    def put(self, job: Job) -> int:
        raise AssertionError("a subclass says what it does with a job")

    @property
    def last(self) -> int:
        return self._submitted

    @property
    def pending(self) -> int:
        return 0

    @property
    def full(self) -> bool:
        return False

    def wait(self, sequence: int, timeout: float) -> None:
        """No-op: what was submitted is done."""

    def failure(self, sequence: int) -> Failure | None:
        """None: what fails is raised by `put`."""
        return None

    def take_failures(self) -> tuple[int, Failure | None]:
        """Nothing, likewise."""
        return 0, None
