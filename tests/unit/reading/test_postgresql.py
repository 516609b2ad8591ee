"""A connection to a PostgreSQL database answers as `sqlite3` does: beside it, statement by statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from typing import Any

import pytest

from telemetry_bus import ReadOnly
from telemetry_bus.config import parse_database
from telemetry_bus.reading import connect, open_reader

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.postgresql

TABLE = """CREATE TABLE t (
    id {integer}, a text, ok boolean, x double precision, at timestamp, n numeric, b {bytes}, d date, z {zoned})"""
AT = datetime(2026, 1, 2, 3, 4, 5, 60_000)
ROWS: list[tuple[Any, ...]] = [
    (1, "one", True, 0.5, str(AT), 2, b"\0\xff", "2026-01-02", "2026-01-02 03:04:05+00:00"),
    (2, "two", False, -1e300, "2026-01-02 03:04:05", 0.25, b"", None, "2026-01-02 03:04:05.250000+00:00"),
    (3, None, None, None, None, None, None, None, None),
    (4, "fünf's \\ %s ? :x", True, 3.0, "1999-12-31 23:59:59.000001", -7, None, "0001-01-01", None),
]
INSERT = "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SELECT = "SELECT * FROM t ORDER BY id"


@pytest.fixture
def url(postgresql: str) -> str:
    """The URL of a database with the table."""
    with connect(parse_database(postgresql), 10, False, None) as writing:
        writing.execute(TABLE.format(integer="bigint", bytes="bytea", zoned="timestamptz"))
        writing.executemany(INSERT, ROWS)
        writing.commit()
    return postgresql


@pytest.fixture
def reader(url: str) -> Iterator[Any]:
    with connect(parse_database(url), 10, True, None) as reading:
        yield reading


@pytest.fixture
def writing(url: str) -> Iterator[Any]:
    with connect(parse_database(url), 10, False, None) as connection:
        yield connection


@pytest.fixture
def sqlite() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(TABLE.format(integer="integer", bytes="blob", zoned="timestamp"))
        connection.executemany(INSERT, ROWS)
        connection.commit()
        yield connection


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        (SELECT, ()),
        ("SELECT a FROM t WHERE id = ?", (3,)),
        ("SELECT a FROM t WHERE id = ?", ("1",)),
        ("SELECT a FROM t WHERE id = ?", [2]),
        ("SELECT a FROM t WHERE a = ?", ("fünf's \\ %s ? :x",)),
        ("SELECT a FROM t WHERE a = 'fünf''s \\ %s ? :x'", ()),
        ("SELECT id, ? FROM t WHERE id < ? -- ? ' :x", ("x", 2)),
        ("SELECT a FROM t WHERE id = :id AND a = :a", {"id": 2, "a": "two", "more": 1}),
        ("SELECT a FROM t WHERE id IN (:id, :id + 1) ORDER BY id", {"id": 1}),
        ("SELECT a FROM t WHERE id IN (?2, ?1) ORDER BY id", (1, 2)),
        ("SELECT a FROM t WHERE ok = ? ORDER BY id", (1,)),
        ("SELECT a FROM t WHERE ok = ? ORDER BY id", (True,)),
        ("SELECT count(*) FROM t WHERE ok AND id <= ?", (50,)),
        ("SELECT sum(id), avg(id), min(at), max(x), count(a) FROM t", ()),
        ("SELECT a FROM t WHERE at >= ? ORDER BY at LIMIT ?", ("2000-01-01 00:00:10", 2)),
        ("SELECT id FROM t WHERE b = ?", (b"\0\xff",)),
        ("SELECT id FROM t WHERE b = ?", (bytearray(b"\0\xff"),)),
        ("SELECT ? + 1", (1,)),
        ("SELECT id FROM t WHERE (? IS NULL OR a = ?) AND (? IS NULL OR id > ?) ORDER BY id", (None, None, 1, 1)),
        ("SELECT id FROM t WHERE (:a IS NULL OR a = :a) AND '$1' <> 'x'", {"a": "one"}),
        ("SELECT count(*) FROM t WHERE id > ? / 2", (2,)),
        ("SELECT id FROM t WHERE x > ? ORDER BY id", (0.25,)),
        ("SELECT id FROM t WHERE id > ? ORDER BY id", (1.5,)),
        ("SELECT coalesce(a, ?) FROM t WHERE id = 3", (None,)),
        ("SELECT a FROM t WHERE a LIKE ? ORDER BY id", ("t%",)),
        ("SELECT id FROM t ORDER BY n DESC NULLS LAST LIMIT 1", ()),
        ("SELECT CASE WHEN x > 1 THEN 'more' ELSE 'less' END FROM t WHERE x IS NOT NULL ORDER BY id", ()),
        ("SELECT 7 / 2, 7 % 3, 'a' || 1, 1.5 * 2", ()),
        ("WITH u AS (SELECT id FROM t WHERE id > ?) SELECT count(*) FROM u", (1,)),
    ],
)
def test_the_same_rows(reader: Any, sqlite: sqlite3.Connection, sql: str, parameters: Any) -> None:
    """The values are equal and of the same types, and the columns are called the same."""
    expected, found = sqlite.execute(sql, parameters), reader.execute(sql, parameters)
    wanted, rows = expected.fetchall(), found.fetchall()
    assert wanted == rows
    assert [tuple(map(type, row)) for row in wanted] == [tuple(map(type, row)) for row in rows]
    if "AS" not in sql and "?" not in sql and "(" not in sql and "/" not in sql:
        assert expected.description == found.description


def test_rows_by_name_and_position(reader: Any, sqlite: sqlite3.Connection) -> None:
    """`sqlite3.Row` as the row factory, or a callable."""
    rows = []
    for connection in (sqlite, reader):
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT id AS number, a FROM t WHERE id = 1").fetchone()
        with pytest.raises(IndexError):
            row["nothing"]
        rows.append((row.keys(), row["number"], row["A"], row[0], row[-1], list(row), len(row), dict(row), *row))
        connection.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
        rows[-1] += (connection.execute("SELECT id, a FROM t WHERE id < 3 ORDER BY id").fetchall(),)
    assert rows[0] == rows[1]


def test_ways_to_fetch(reader: Any, sqlite: sqlite3.Connection) -> None:
    """One, some, the rest, one after the other; nothing left, nothing there, no rows at all."""
    seen = []
    for connection in (sqlite, reader):
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM t ORDER BY id")
        fetched = [cursor.fetchone(), cursor.fetchmany(), cursor.fetchmany(1), cursor.fetchall(), cursor.fetchone()]
        none = cursor.execute("SELECT id FROM t WHERE id > 100")
        empty = [none.fetchone(), none.fetchall(), none.fetchmany(3), none.rowcount]
        seen.append((fetched, empty, list(connection.execute("SELECT id FROM t ORDER BY id")), cursor.arraysize))
        cursor.close()
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", ()),
        ("SELECT ?", (1, 2)),
        ("SELECT :a", {}),
        ("SELECT 1; SELECT 2", ()),
        ("SELECT ?", (object(),)),
    ],
)
def test_misuse(reader: Any, sqlite: sqlite3.Connection, sql: str, parameters: Any) -> None:
    """What sqlite3 calls a mistake of the program is one here, and the connection is as good as before."""
    with pytest.raises(sqlite3.Error):
        sqlite.execute(sql, parameters)
    with pytest.raises(psycopg.ProgrammingError):
        reader.execute(sql, parameters)
    assert [(1,)] == reader.execute("SELECT 1").fetchall()


def test_errors_of_reading_are_the_drivers(reader: Any) -> None:
    """With the code of the SQL standard."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        reader.execute("SELECT * FROM nowhere")


@pytest.mark.parametrize("sql", ["DELETE FROM t", "DROP TABLE t", "CREATE TABLE u (a int)", "SELECT nextval('s')"])
def test_a_reader_does_not_write(reader: Any, writing: Any, sql: str) -> None:
    """The refusal names `submit()`, by each call, and in a transaction."""
    writing.execute("CREATE SEQUENCE s")
    for run in (reader.execute, reader.cursor().execute, reader.executescript):
        with pytest.raises(ReadOnly, match=r"submit\(\)"):
            run(sql)
    reader.execute("BEGIN")
    with pytest.raises(ReadOnly, match=r"submit\(\)"):
        reader.execute(sql)
    assert (4,) == reader.execute("SELECT count(*) FROM t").fetchone()


def test_a_transaction_sees_what_it_began_with(reader: Any, writing: Any) -> None:
    """As in SQLite; behind it the reader sees all."""
    reader.execute("BEGIN IMMEDIATE")
    assert (4,) == reader.execute("SELECT count(*) FROM t").fetchone()
    writing.execute("DELETE FROM t WHERE id = ?", (1,))
    writing.commit()
    assert (4,) == reader.execute("SELECT count(*) FROM t").fetchone()
    reader.rollback()
    assert (3,) == reader.execute("SELECT count(*) FROM t").fetchone()


def test_a_writing_connection(writing: Any, reader: Any) -> None:
    """A change begins a transaction that `commit()` ends; a failed statement takes back itself alone."""
    assert not writing.in_transaction
    assert 1 == writing.execute("UPDATE t SET a = 'new' WHERE id = ?", (1,)).rowcount
    assert writing.in_transaction
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        writing.execute("INSERT INTO t (id) VALUES (?)", ("x",))
    assert ("one",) == reader.execute("SELECT a FROM t WHERE id = 1").fetchone()
    writing.commit()
    assert ("new",) == reader.execute("SELECT a FROM t WHERE id = 1").fetchone()
    with pytest.raises(psycopg.errors.UndefinedTable), writing:
        writing.executemany("DELETE FROM t WHERE id < ?", [(10,)]).execute("DELETE FROM nowhere")
    with writing:
        writing.executemany("INSERT INTO t (id, at, d) VALUES (?, ?, ?)", [(5, AT, date(2026, 1, 1)), (6, None, None)])
    assert (6,) == reader.execute("SELECT count(*) FROM t").fetchone()
    assert (str(AT), "2026-01-01") == reader.execute("SELECT at, d FROM t WHERE id = 5").fetchone()
    with pytest.raises(psycopg.NotSupportedError, match="RETURNING"):
        writing.execute("INSERT INTO t (id) VALUES (7)").lastrowid  # noqa: B018
    writing.executescript("DELETE FROM t WHERE id = 6; DELETE FROM t WHERE id = 5")
    assert (5,) == reader.execute("SELECT count(*) FROM t").fetchone()


def test_moments_of_another_zone(reader: Any) -> None:
    """Where a program sets a zone, the offset has its minutes all the same; infinity stays a word."""
    reader.execute("SET TimeZone = 'Asia/Kolkata'")
    assert ("2026-01-02 08:34:05.250000+05:30",) == reader.execute("SELECT z FROM t WHERE id = 2").fetchone()
    assert ("infinity", "-infinity") == reader.execute(
        "SELECT 'infinity'::timestamptz, '-infinity'::timestamp"
    ).fetchone()


def test_numbers_and_texts(reader: Any) -> None:
    """Types that SQLite does not have come as what it would have stored."""
    row = reader.execute(
        "SELECT 1.50::numeric, 'NaN'::numeric::text, '{\"a\": 1}'::jsonb, "
        "'00000000-0000-0000-0000-000000000001'::uuid, time '01:02:03.5', '10.0.0.1'::inet, interval '90 min'"
    ).fetchone()
    assert (
        1.5,
        "NaN",
        '{"a": 1}',
        "00000000-0000-0000-0000-000000000001",
        "01:02:03.500000",
        "10.0.0.1",
        "01:30:00",
    ) == row


def test_the_drivers_connection(reader: Any) -> None:
    """Behind the face stands psycopg's own."""
    assert isinstance(reader.driver, psycopg.Connection)
    assert "telemetry-bus reader" == reader.driver.info.get_parameters()["application_name"]


def test_closed_at_the_end(url: str) -> None:
    """Behind the block the session is over, whatever happened inside."""
    with pytest.raises(LookupError), connect(parse_database(url), 10, True, None) as connection:
        raise LookupError
    with pytest.raises(psycopg.Error, match="closed"):
        connection.execute("SELECT 1")
    with closing(open_reader(parse_database(url), 10, None)) as reader:
        assert (4,) == reader.execute("SELECT count(*) FROM t").fetchone()
