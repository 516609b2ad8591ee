"""The statistics that readers' queries are planned by: kept while the writer is idle, and never in anybody's way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from telemetry_bus.database import Writer
from telemetry_bus.database.sqlite import planning
from telemetry_bus.database.sqlite.planning import LEAST_ROWS, PlannerStatistics

from ..writing import EVENTS, INSERT_EVENT, Stream, database, execute, opened, rows, template

MANY = template((INSERT_EVENT, True), ensure=(EVENTS,))
#: A table's name that has to be quoted.
ODD = '"a ""b\' c"'
ANALYSED = "SELECT DISTINCT tbl FROM sqlite_stat1 ORDER BY tbl"


def write(writer: Writer, stream: Stream, count: int) -> None:
    assert [] == writer.apply([stream.run(MANY, [[f"{stream.last} {n}", n] for n in range(count)])])


def is_analysed(folder: Path) -> bool:
    return [] != rows(folder, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")


def test_an_idle_writer_keeps_them(tmp_path: Path) -> None:
    """For every table with an index, whatever it is called and whoever made it; not under load, nor for few rows."""
    stream = Stream()
    with opened(tmp_path) as writer:
        write(writer, stream, LEAST_ROWS - 1)
        writer.maintain(idle=True)
        assert not is_analysed(tmp_path)
        execute(tmp_path, f"CREATE TABLE {ODD} (a UNIQUE)", f"INSERT INTO {ODD} VALUES (1)")
        write(writer, stream, 1)
        writer.maintain(idle=False)
        assert not is_analysed(tmp_path)
        writer.maintain(idle=True)
    found = [name for (name,) in rows(tmp_path, ANALYSED)]
    assert {"events", "a \"b' c"} <= set(found)
    ((stat,),) = rows(tmp_path, "SELECT stat FROM sqlite_stat1 WHERE tbl = 'events'")
    assert int(stat.split()[0]) > LEAST_ROWS / 2  # an estimate


def test_an_index_of_few_values_does_not_look_selective(tmp_path: Path) -> None:
    """Statistics of too few rows would be worse than none: the planner would prefer it to all others."""
    stream = Stream()
    index = "CREATE INDEX IF NOT EXISTS events_parity ON events (size % 2)"
    jobs = template((INSERT_EVENT, True), ensure=(EVENTS, index))
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(jobs, [[str(n), n] for n in range(LEAST_ROWS)])])
        writer.maintain(idle=True)
    ((stat,),) = rows(tmp_path, "SELECT stat FROM sqlite_stat1 WHERE idx = 'events_parity'")
    assert int(stat.split()[1]) >= LEAST_ROWS / 4


def test_another_writer_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing is raised while another program holds the lock; it is done when that has gone."""
    stream = Stream()
    with opened(tmp_path) as writer, closing(sqlite3.connect(database(tmp_path).path or "")) as other:
        write(writer, stream, LEAST_ROWS)
        other.execute("BEGIN IMMEDIATE")
        writer.maintain(idle=True)
        assert not is_analysed(tmp_path)
        other.rollback()
        writer.maintain(idle=True)
    assert is_analysed(tmp_path)


def test_a_table_that_cannot_be_analysed_costs_no_other(tmp_path: Path) -> None:
    """One that is dropped meanwhile, for example."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE there (a UNIQUE)")
        connection.execute("INSERT INTO there VALUES (1)")

        def run(sql: str) -> list[Any]:
            found = connection.execute(sql).fetchall()
            return [*found, ("gone",)] if "sqlite_master" in sql else found

        PlannerStatistics(run, lambda: 0.0).keep(LEAST_ROWS)
        assert [("there",)] == connection.execute(ANALYSED).fetchall()


def test_again_when_the_rows_have_doubled() -> None:
    """A turn ends after a moment, and the next one goes on."""
    now = 0.0
    analysed: list[str] = []

    def run(sql: str) -> list[tuple[str]]:
        nonlocal now
        if sql.startswith("ANALYZE"):
            analysed.append(sql)
            now += planning.TURN_S
        return [("a",), ("b",)] if "sqlite_master" in sql else []

    statistics = PlannerStatistics(run, lambda: now)
    for rows_written in (0, LEAST_ROWS, LEAST_ROWS, LEAST_ROWS, 2 * LEAST_ROWS - 1):
        statistics.keep(rows_written)
    assert ['ANALYZE main."b"', 'ANALYZE main."a"'] == analysed
    statistics.keep(2 * LEAST_ROWS)
    assert 3 == len(analysed)
