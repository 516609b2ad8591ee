"""What is recorded: jobs of every kind, in tables of their own for each scene, so that their order does not matter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from telemetry_bus import JobFailed, TelemetryStore

Scene = Callable[[TelemetryStore], None]

#: Longer than any text that is kept as a definition: it travels with its job.
LONG = "/*" + "long " * 3400 + "*/"


def table(name: str, columns: str = "a TEXT NOT NULL, b") -> list[str]:
    """Two definitions: a table, and an index on it."""
    return [
        f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, {columns})",
        f"CREATE INDEX IF NOT EXISTS {name}_a ON {name} (a)",
    ]


class Colour(Enum):
    RED = "red"


def rows(store: TelemetryStore) -> None:
    """Jobs of one row, of many, of none; of several statements; a bad one among them."""
    ensure = table("single")
    for number in range(20):
        store.execute("INSERT INTO single (a, b) VALUES (?, ?)", (f"row {number}", number), ensure=ensure)
    store.execute("INSERT INTO single (a, b) VALUES (:a, :b)", {"a": "named", "b": 1.5}, ensure=ensure)
    store.executemany(
        "INSERT INTO many (a, b) VALUES (?, ?)",
        [(f"row {number}", number) for number in range(100)],
        ensure=table("many"),
    )
    store.executemany("INSERT INTO many (a, b) VALUES (?, ?)", [], ensure=table("many"))

    def several(conn: Any) -> None:
        conn.execute("INSERT INTO several (a, b) VALUES (?, ?)", ("first", 1))
        conn.executemany("INSERT INTO several (a, b) VALUES (?, ?)", [("second", 2), ("third", 3), ("fourth", 4)])
        conn.execute("UPDATE several SET b = b * 10 WHERE a IN (?, ?)", ("first", "third"))
        conn.execute("DELETE FROM several WHERE a = 'second'")
        conn.execute(
            "INSERT INTO several (id, a, b) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET b = excluded.b",
            (4, "fourth", 400),
        )

    for _ in range(3):
        store.submit(several, ensure=table("several"))


def values(store: TelemetryStore) -> None:
    """Every kind of value."""
    for value in (
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.0,
        -0.5,
        1e300,
        float("inf"),
        float("nan"),
        "",
        "text",
        "Größe 漢字 😀",
        "nul \0 in it",
        "x" * 300,
        b"",
        b"\0\xff bytes",
        bytearray(b"array"),
        datetime(2026, 1, 2, 3, 4, 5),
        datetime(2026, 1, 2, 3, 4, 5, 678900, UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-6))),
        date(2026, 1, 2),
        time(3, 4, 5, 6),
        Decimal("12345678901234567890.123"),
        UUID(int=7),
        Colour.RED,
    ):
        store.execute("INSERT INTO kinds (a, b) VALUES (?, ?)", (type(value).__name__, value), ensure=table("kinds"))


def inline(store: TelemetryStore) -> None:
    """Statements that are too long to be kept as a definition, between others."""
    ensure = table("long")
    store.execute("INSERT INTO long (a, b) VALUES (?, ?)", ("short", 1), ensure=ensure)
    store.execute(f"INSERT INTO long (a, b) VALUES (?, ?) {LONG}", ("long", 2), ensure=ensure)
    store.executemany(f"INSERT INTO long (a, b) {LONG} VALUES (?, ?)", [("rows", 1), ("rows", 2)], ensure=ensure)
    store.execute("INSERT INTO long (a, b) VALUES (?, ?)", ("short", 3), ensure=ensure)


def lap(store: TelemetryStore, number: int) -> None:
    """Nearly a third of the smallest ring, in jobs of several sizes."""
    for size in range(20):
        store.execute(
            "INSERT INTO laps (a, b) VALUES (?, ?)", (f"lap {number}", "x" * 100 * size), ensure=table("laps")
        )


def talk(store: TelemetryStore) -> None:
    """What a conversation is about; the third job is refused by the database."""
    ensure = table("talk")
    insert = "INSERT INTO talk (a, b) VALUES (?, ?)"
    store.execute(insert, ("first", 1), ensure=ensure)
    store.executemany(insert, [("second", number) for number in range(50)], ensure=ensure)
    with suppress(JobFailed):  # in mode sync
        store.execute(insert, (None, 3), ensure=ensure)
    store.execute(f"{insert} {LONG}", ("long", 4), ensure=ensure)

    def both(conn: Any) -> None:
        conn.execute(insert, ("fifth", 5))
        conn.execute("UPDATE talk SET b = 0 WHERE a = ?", ("first",))

    store.submit(both, ensure=ensure)


def more_talk(store: TelemetryStore) -> None:
    """A job with definitions that are new."""
    store.execute("INSERT INTO more (a) VALUES (?)", ("sixth",), ensure=table("more"))


def letters(store: TelemetryStore) -> None:
    """Jobs that fail: one whose table is missing, in each kind, and one that can never succeed."""
    ensure = table("kept")

    def several(conn: Any) -> None:
        conn.execute("INSERT INTO kept (a, b) VALUES (?, ?)", ("several", 1))
        conn.executemany("INSERT INTO missing (a, b) VALUES (?, ?)", [("x", Decimal("1.5")), ("y", b"\0")])

    store.execute("INSERT INTO kept (a, b) VALUES (?, ?)", ("good", 0), ensure=ensure)
    store.execute("INSERT INTO missing (a, b) VALUES (?, ?)", ("one", datetime(2026, 1, 2, 3, 4, 5)))
    store.executemany("INSERT INTO missing (a, b) VALUES (?, ?)", [("two", 2), ("three", None)])
    store.submit(several, ensure=ensure)
    store.execute(f"INSERT INTO missing (a) VALUES (?) {LONG}", ("long",))
    store.execute("INSERT INTO kept (a) VALUES (?)", (None,), ensure=ensure)
