"""Parts with locks and threads, made new in a forked child. The one place that hears of forks."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewed(Protocol):
    def after_fork(self) -> None:
        """In the child: locks that are free, and nothing of the parent's. Waits for no lock."""


_parts: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew_in_child(part: Renewed) -> None:
    """Tell `part` of a fork in the child, as long as somebody else holds it."""
    _parts.add(part)


def _after_fork() -> None:
    for part in list(_parts):
        part.after_fork()


os.register_at_fork(after_in_child=_after_fork)
