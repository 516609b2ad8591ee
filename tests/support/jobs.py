"""The jobs of these tests, for tests that are producers themselves and for the programs that they start."""

from __future__ import annotations

from typing import Any

from telemetry_bus import TelemetryStore

EVENTS = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, producer TEXT NOT NULL, number INTEGER NOT NULL)"
DETAILS = EVENTS.replace("events", "details")
ENSURE = [EVENTS, DETAILS]


def event(store: TelemetryStore, producer: str, number: int | None) -> int:
    """A job of one row. It is a bad one when the number is None."""
    return store.execute("INSERT INTO events (producer, number) VALUES (?, ?)", (producer, number), ensure=ENSURE)


def pair(store: TelemetryStore, producer: str, number: int | None) -> int:
    """A job of two rows, which is torn when only one of them is there."""

    def job(conn: Any) -> None:
        conn.execute("INSERT INTO events (producer, number) VALUES (?, ?)", (producer, number))
        conn.execute("INSERT INTO details (producer, number) VALUES (?, ?)", (producer, number))

    return store.submit(job, ensure=ENSURE)
