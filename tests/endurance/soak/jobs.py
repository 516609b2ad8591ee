"""The numbered jobs of a soak: their rows, the ways to hand them in, and the ones that must fail."""

from __future__ import annotations

import re
from typing import Any

from telemetry_bus import Job, Statement, TelemetryStore

from ...support.numbered import ENSURE, INSERT, TABLES, Row, rows_of

#: One job in so many is refused by the database.
POISON_EVERY, POISON_AT = 500, 250
#: One job in so many brings texts along that nobody has seen before: a statement and a definition.
FRESH_EVERY = 10
#: Long enough for the room for definitions and every cache of texts to be full soon.
PADDING = "." * 500
#: The number of a poison job stands in its SQL, and so in its dead letter.
POISON = "INSERT INTO lefts (run, number, part) VALUES (?, ?, NULL) -- poison: run {}, job {}"
_POISON_MARK = re.compile(r"-- poison: run (\d+), job (\d+)")
DELETE = {table: f"DELETE FROM {table} WHERE id <= ?" for table in TABLES}


def submit(store: TelemetryStore, run: int, number: int, *, fresh: bool = False) -> None:
    """Job `number` of a run, in one of the ways there are to hand it in. `fresh`: with texts of its own."""
    rows = rows_of(run, number, "x" * (number % 40))
    if is_poison(number):
        _submit_callable(store, rows, POISON.format(run, number))
    elif fresh or number % FRESH_EVERY == 0:
        _submit_fresh(store, rows, f"run {run}, job {number} {PADDING}")
    elif number % 3 == 0:
        store.execute(INSERT["lefts"], rows["lefts"][0], ensure=ENSURE)
    elif number % 3 == 1:
        _submit_callable(store, rows)
    else:
        store.submit(Job(tuple(Statement(INSERT[table], rows[table]) for table in TABLES), tuple(ENSURE)))


def delete(store: TelemetryStore, table: str, up_to: int) -> None:
    """Rows with these ids go."""
    store.execute(DELETE[table], (up_to,), ensure=ENSURE)


def is_poison(number: int) -> bool:
    """Whether job `number` of any run must end as a dead letter."""
    return number % POISON_EVERY == POISON_AT


def poison_of(statement: str | None) -> tuple[int, int] | None:
    """Run and number of the job whose dead letter has this statement; None when it is not one that must fail."""
    found = _POISON_MARK.search(statement or "")
    return (int(found[1]), int(found[2])) if found else None


def _submit_callable(store: TelemetryStore, rows: dict[str, tuple[Row, ...]], last: str | None = None) -> None:
    def job(connection: Any) -> None:
        for table in TABLES:
            for row in rows[table]:
                connection.execute(INSERT[table], row)
        if last is not None:
            connection.execute(last, rows["lefts"][0][:2])

    store.submit(job, ensure=ENSURE)


def _submit_fresh(store: TelemetryStore, rows: dict[str, tuple[Row, ...]], words: str) -> None:
    def job(connection: Any) -> None:
        for table in TABLES:
            for row in rows[table]:
                connection.execute(f"{INSERT[table][:-2]}'{words}')", row[:3])

    store.submit(job, ensure=[*ENSURE, f"{ENSURE[0]} -- {words}"])
