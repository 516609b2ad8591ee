"""Events that repeat are logged at a limited pace, and how many were left out is told afterwards."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ..errors import shorten

PERIOD_S = 10.0
#: So many kinds of events are told apart; what comes beyond them is told apart by its text alone.
_KINDS = 100


class _Kind:
    __slots__ = ("ends", "last", "left_out", "level", "logged")

    def __init__(self, level: int, ends: float) -> None:
        self.level = level
        self.ends = ends
        self.logged = self.left_out = 0
        self.last: tuple[str, tuple[object, ...]] = ("", ())


class Pace:
    """Logs the same event at most `most` times in `period_s` seconds. For one thread.

    Events are the same when their format string is, and what they are `about`. When the period is over, the number
    of those that were left out is logged, with the last of them: by `tick`, by the next one, or by `flush`.
    """

    def __init__(
        self,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        *,
        most: int = 1,
        period_s: float = PERIOD_S,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._most = most
        self._period_s = period_s
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def log(self, level: int, text: str, *args: object, about: str = "", **options: Any) -> None:
        """As `Logger.log`, unless as many of the kind have been logged a moment ago."""
        now = self._clock()
        key = (text, about if len(self._kinds) < _KINDS or (text, about) in self._kinds else "")
        kind = self._kinds.get(key)
        if kind is None or now >= kind.ends:
            if kind is not None:
                self._tell(kind)
            kind = self._kinds[key] = _Kind(level, now + self._period_s)
        if kind.logged < self._most:
            kind.logged += 1
            self._logger.log(level, text, *args, **options)
        else:
            kind.left_out += 1
            kind.last = (text, args)

    def tick(self) -> None:
        """Tell what was left out in periods that are over. Call it about once a second."""
        now = self._clock()
        for key, kind in list(self._kinds.items()):
            if now >= kind.ends:
                del self._kinds[key]
                self._tell(kind)

    def flush(self) -> None:
        """Tell everything that was left out so far."""
        for kind in self._kinds.values():
            self._tell(kind)
        self._kinds.clear()

    def _tell(self, kind: _Kind) -> None:
        if kind.left_out:
            text, args = kind.last
            self._logger.log(
                kind.level,
                "%d more like this one, left out: %s",
                kind.left_out,
                shorten((text % args).partition("\n")[0]),
                extra={"left_out": kind.left_out},
            )
