"""The mark that a database has moved to another one, or is about to: from then on no writer writes into it."""

from __future__ import annotations

TABLE = "telemetry_bus_moved"
#: `move` names this very move; `tables` says how many rows each table had when it began.
DEFINITION = f"""CREATE TABLE {TABLE} (
    move BLOB NOT NULL,
    target TEXT NOT NULL,
    tables TEXT NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP
)"""
IS_MARKED = f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{TABLE}'"
WHERE_TO = f"SELECT target FROM {TABLE}"
