"""The recording connection: keeps what a job writes, refuses what would have to read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from telemetry_bus.errors import NotRecordable, ParameterCount
from telemetry_bus.jobs import Statement
from telemetry_bus.producer.recording import RecordingConnection

INSERT, DELETE = "INSERT INTO t VALUES (?)", "DELETE FROM old"


def recorded(task: Callable[[RecordingConnection], object]) -> tuple[Statement, ...]:
    connection = RecordingConnection()
    task(connection)
    return connection.statements()


def rows(*found: Statement) -> list[tuple[str, list[tuple[Any, ...]]]]:
    return [(statement.sql, [tuple(row) for row in statement.rows]) for statement in found]


def test_all_ways_to_execute() -> None:
    """By the connection and by a cursor, once and many times, with values, without, and by name: in order."""

    def task(connection: RecordingConnection) -> None:
        connection.execute(INSERT, (1,))
        connection.execute(DELETE)
        connection.executemany(INSERT, iter([[2], (3,)]))
        with closing(connection.cursor()) as cursor:
            cursor.execute("INSERT INTO t VALUES (:a)", {"a": 4}).execute(DELETE).executemany(INSERT, [(5,)])
        connection.commit()
        connection.close()

    expected = [
        (INSERT, (1,)),
        (DELETE, ()),
        (INSERT, (2,)),
        (INSERT, (3,)),
        (INSERT, (4,)),
        (DELETE, ()),
        (INSERT, (5,)),
    ]
    assert expected == [(sql, row) for sql, found in rows(*recorded(task)) for row in found]


def test_equal_statements_are_joined() -> None:
    """The same SQL again and again is one statement with many rows."""
    assert [(INSERT, [(n,) for n in range(5)])] == rows(
        *recorded(lambda connection: [connection.execute(INSERT, (n,)) for n in range(5)])
    )


def test_values_are_those_of_the_call() -> None:
    """A list that the caller changes afterwards has been recorded as it was."""

    def task(connection: RecordingConnection) -> None:
        values = [1]
        for _ in range(3):
            connection.execute(INSERT, values)
            values[0] += 1
        connection.executemany(DELETE + " WHERE a = ?", [values])
        values[0] = 99

    assert [(INSERT, [(1,), (2,), (3,)]), (DELETE + " WHERE a = ?", [(4,)])] == rows(*recorded(task))


def test_no_rows() -> None:
    """Many times nothing is nothing."""
    assert () == recorded(lambda connection: connection.executemany(INSERT, []))


def test_rollback() -> None:
    """It drops what was recorded so far, and recording goes on."""

    def task(connection: RecordingConnection) -> None:
        connection.execute(INSERT, (1,))
        connection.rollback()
        connection.execute(INSERT, (2,))

    assert [(INSERT, [(2,)])] == rows(*recorded(task))


def test_with_block() -> None:
    """As in sqlite3: it commits when all goes well, and rolls back when not."""
    connection = RecordingConnection()
    with connection as same:
        assert connection is same
        connection.execute(INSERT, (1,))
    assert 1 == len(connection.statements())
    with suppress(KeyError), connection:
        connection.execute(INSERT, (2,))
        raise KeyError
    assert () == connection.statements()


@pytest.mark.parametrize("values", [(), (1, 2), "a", {"a": 1}, None, 5])
def test_wrong_values(values: Any) -> None:
    """The wrong number or kind of values is refused on the spot, and nothing of it is recorded."""
    connection = RecordingConnection()
    with pytest.raises(ParameterCount):
        connection.execute(INSERT, values)
    with pytest.raises(ParameterCount):
        connection.executemany(INSERT, [(1,), values])
    assert () == connection.statements()


@pytest.mark.parametrize("sql", ["SELECT 1", "PRAGMA user_version", "BEGIN", "COMMIT"])
def test_what_cannot_be_recorded(sql: str) -> None:
    """A read, or what steers the transaction, is refused with a hint."""
    with pytest.raises(NotRecordable) as caught:
        RecordingConnection().execute(sql)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["fetchone", "fetchall", "lastrowid", "rowcount", "description"])
def test_results_are_not_known(name: str) -> None:
    """Whatever would tell a result says that it cannot, with a hint; so does a loop over the rows."""
    cursor = RecordingConnection().execute(INSERT, (1,))
    with pytest.raises(NotRecordable, match=f"{name} of a recorded statement") as caught:
        getattr(cursor, name)
    assert "upsert" in caught.value.hint
    with pytest.raises(NotRecordable):
        iter(cursor)


@pytest.mark.parametrize("name", ["backup", "total_changes", "create_function", "iterdump"])
def test_what_a_connection_else_has(name: str) -> None:
    """The rest of a connection is refused by name."""
    with pytest.raises(NotRecordable, match=f"{name} of a connection"):
        getattr(RecordingConnection(), name)


def test_protocols_of_python_are_not_confused() -> None:
    """What Python itself asks for, such as how to copy, is simply not there."""
    assert not hasattr(RecordingConnection(), "__deepcopy__")
    assert not hasattr(RecordingConnection().cursor(), "__len__")
