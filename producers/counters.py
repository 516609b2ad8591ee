"""Counters of PostgreSQL that stand behind the rows of their table, as after a copy of rows with their numbers.

SQLite counts from the highest row; a server's sequence knows nothing of rows that came with a number of their own, and
the next insert would meet one of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from telemetry_bus import Job, Statement

#: The definitions of `schema`.
_COUNTED = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \(\n\t(\w+) SERIAL")


def in_step(job: Job, known: set[str]) -> Job:
    """`job`, and before it what sets the counters of its tables behind their highest rows, for tables that are not
    `known`, which learns of them. No-op where a counter is further than that, or where there is none."""
    found = [counted for text in job.ensure if (counted := _counted(text)) and counted[0] not in known]
    known.update(table for table, _ in found)
    return Job((*(Statement(_move(table, column)) for table, column in found), *job.statements), job.ensure)


@lru_cache(maxsize=256)
def _counted(definition: str) -> tuple[str, str] | None:
    match = _COUNTED.match(definition)
    return None if match is None else (match[1], match[2])


def _move(table: str, column: str) -> str:
    """One row stays as it is, and the counter goes there. CASE: a sequence must not be set before it was asked."""
    sequence = f"CAST(pg_get_serial_sequence('{table}', '{column}') AS regclass)"
    return (
        f"UPDATE {table} SET {column} = {column} WHERE {column} = (SELECT max({column}) FROM {table}) AND CASE"
        f" WHEN {column} > coalesce(pg_sequence_last_value({sequence}), 0)"
        f" THEN setval({sequence}, {column}) > 0 ELSE false END"
    )
