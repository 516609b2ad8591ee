"""Moments in SQL: compared as points in time, whatever form an older row or another program has given them.

What is recorded here is always `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, and sorts as text. Other rows may have a `T`
between date and time, a `Z` or an offset behind them.
"""

from __future__ import annotations

from telemetry_bus.config import DialectName


def later(name: str, dialect: DialectName) -> str:
    """In an upsert: the later one of the stored and of the given moment; the given one where the stored one cannot be
    read."""
    stored, given = f"stored.{name}", f"excluded.{name}"
    if dialect == "postgresql":
        earlier = f"{given} <= {stored}"
    else:  # days with a resolution of milliseconds, then the text
        earlier = f"(julianday({given}), {given}) <= (julianday({stored}), {stored})"
    return f"CASE WHEN {earlier} THEN {stored} ELSE {given} END"
