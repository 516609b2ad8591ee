"""What the query planner knows of the tables: kept by the writer, for those who read.

`PRAGMA optimize` looks at the tables that its own connection has queried
(https://www.sqlite.org/lang_analyze.html#periodically_run_pragma_optimize_), and a writer queries none. So it is the
number of rows written that says when they are analysed.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

#: Rows of each index that are looked at: about ten milliseconds, however large it is. With few hundred, which are
#: recommended, an index of two values would seem to find a few hundred rows.
ANALYSIS_LIMIT = 100_000
#: For fewer rows every plan is good.
LEAST_ROWS = 10_000
#: How long the tables of one turn may take; the others wait for the next.
TURN_S = 0.05

_TABLES = "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'index'"

logger = logging.getLogger("telemetry_bus.writer")


class PlannerStatistics:
    """Has the tables with indexes analysed whenever the rows written through its connection have doubled.

    `run` executes a statement of the bus's own and raises what the driver does.
    """

    def __init__(self, run: Callable[[str], Sequence[Sequence[Any]]], clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._next_rows = LEAST_ROWS
        self._waiting: list[str] = []

    def keep(self, rows_written: int) -> None:
        """Analyse what is due, for a moment. Never raises: nothing but the speed of readers depends on it."""
        if rows_written >= self._next_rows:
            self._next_rows = 2 * rows_written
            with suppress(sqlite3.Error):
                self._waiting = [str(name) for (name,) in self._run(_TABLES)]
        end = self._clock() + TURN_S
        while self._waiting and self._clock() < end and self._analyse(self._waiting[-1]):
            self._waiting.pop()

    def _analyse(self, table: str) -> bool:
        """False when another connection is writing: later, then."""
        quoted = table.replace('"', '""')
        try:
            self._run(f"PRAGMA analysis_limit={ANALYSIS_LIMIT}")
            self._run(f'ANALYZE main."{quoted}"')
        except sqlite3.Error as error:  # dropped meanwhile, or damaged: the next cycle tries again
            logger.debug("table %s is not analysed: %s", table, error)
            return error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY
        return True
