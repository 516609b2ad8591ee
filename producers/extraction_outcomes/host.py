"""The crawler's own table of articles, which need not be there."""

from __future__ import annotations

from time import monotonic
from typing import Any

from telemetry_bus import Job, Statement

from ..destination import Destination
from ..values import utc_text

#: How long a table that was not there is taken to be still absent.
LOOK_AGAIN_S = 60.0

_LOOK = "SELECT id, status, processed_at FROM articles WHERE 1 = 0"
_UPDATE = "UPDATE articles SET status = ?, processed_at = ? WHERE id = ?"


class HostArticles:
    """Tells the table `articles` of the crawler what became of an article, if it has one with the columns for it."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._is_there = False
        self._look_again_at = 0.0

    def processed(self, article_id: Any, status: str) -> None:
        """Set status and time of one article. Never raises."""
        if self._found():
            self._destination.offer(Job((Statement(_UPDATE, ((status, utc_text(), article_id),)),)))

    def _found(self) -> bool:
        """Looked for at the first time, and now and then while it is not there: a look opens the database."""
        if self._is_there or monotonic() < self._look_again_at:
            return self._is_there
        self._look_again_at = monotonic() + LOOK_AGAIN_S
        try:
            with self._destination.store.connection() as connection:
                connection.execute(_LOOK)
        except Exception:  # whatever its driver raises: no table, no such column, no database yet
            return False
        self._is_there = True
        return True
