"""What `telemetry-bus prune` calls old, what it deletes, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetry_bus import ConfigError, DatabaseFault
from telemetry_bus.cli import exit_codes, main
from telemetry_bus.cli.prune.retention import Extent, Old, age
from telemetry_bus.protocol.messages import Command
from writer_daemon import operator

from ..writing import Stream, execute, opened, rows, template

Captured = pytest.CaptureFixture[str]

CUTOFF = datetime(2024, 5, 10, 12, 0, 0, tzinfo=UTC)

#: All of these are before the cutoff.
BEFORE = (
    "2024-05-10 11:59:59",
    "2024-05-10 11:59:59.999000",
    "2024-05-10T11:59:59",
    "2024-05-10T11:59:59.5Z",
    "2024-05-10 13:59:59+02:00",
    "2024-05-10T01:59:59-10:00",
    "2024-05-11 00:30:00+13:00",
    "2024-05-10",
    "1999-12-31",
)
#: None of these is.
NOT_BEFORE = (
    "2024-05-10 12:00:00",
    "2024-05-10T12:00:00",
    "2024-05-10 12:00:00.000001",
    "2024-05-10T12:00:00Z",
    "2024-05-10 11:00:00-02:00",
    "2024-05-11T00:00:00",
    "9999-12-31 00:00:00",
    None,
    "",
    "never",
    "2440000.5",
    "11:00:00",
    "now",
    17,
    1.5,
    b"2001-01-01 00:00:00",
    "2024-13-01 00:00:00",
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection


def delete(connection: sqlite3.Connection, old: Old, limit: int = 1000) -> int:
    """As the writer does it. The number of rows that go."""
    return connection.executemany(old.delete, old.keys(connection, limit)).rowcount


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("8w", timedelta(weeks=8)),
    ],
)
def test_ages(text: str, span: timedelta) -> None:
    """Days, hours, minutes, weeks."""
    assert span == age(text)


@pytest.mark.parametrize(
    "text", ["", "d", "90", "0d", "-1d", "1.5d", "90D", "1y", "9d ", "9999999w", "365001d", "٣d", "9" * 30 + "d"]
)
def test_what_is_no_age(text: str) -> None:
    """Nothing, no unit, nothing long ago, and what is before all dates; a mistake of usage."""
    with pytest.raises(ValueError, match=r"age|longer"):
        age(text)
    assert exit_codes.USAGE == main(["prune", "--table", "t", f"--older-than={text}"])


@pytest.mark.parametrize("declared", ["TEXT", "TIMESTAMP", ""])
@pytest.mark.parametrize("index", [False, True])
def test_what_is_old(connection: sqlite3.Connection, declared: str, index: bool) -> None:
    """Blank or T, fractions, offsets; to the second, and not what is no time. An index changes nothing."""
    connection.execute(f"CREATE TABLE t (created_at {declared})")
    if index:
        connection.execute("CREATE INDEX i ON t (created_at)")
    connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in (*BEFORE, *NOT_BEFORE)])
    old = Old.find(connection, "t", "created_at", CUTOFF)
    assert Extent(len(BEFORE) + len(NOT_BEFORE), len(BEFORE), "1999-12-31 00:00:00", "2024-05-10 11:59:59", 10) == (
        old.extent(connection)
    )
    assert len(BEFORE) == delete(connection, old)
    left = [value for (value,) in connection.execute("SELECT created_at FROM t")]
    assert sorted(map(repr, left)) == sorted(
        repr(
            2440000.5
            if value == "2440000.5" and declared == "TIMESTAMP"
            else str(value)
            if declared == "TEXT" and isinstance(value, int | float)
            else value
        )
        for value in NOT_BEFORE
    )


def test_the_cutoff_is_utc(connection: sqlite3.Connection) -> None:
    """Whatever the zone of the clock that was asked."""
    connection.execute("CREATE TABLE t (created_at)")
    zone = timezone(timedelta(hours=5))
    assert "2024-05-10 12:00:00" == Old.find(connection, "t", "created_at", CUTOFF.astimezone(zone)).cutoff


def test_the_oldest_go_first(connection: sqlite3.Connection) -> None:
    """So that what an interrupted command has done is a clean cut."""
    connection.execute("CREATE TABLE t (created_at)")
    connection.executemany("INSERT INTO t VALUES (?)", [("2003-01-01",), ("2001-01-01",), ("2002-01-01",)])
    assert 2 == delete(connection, Old.find(connection, "t", "created_at", CUTOFF), limit=2)
    assert [("2003-01-01",)] == connection.execute("SELECT * FROM t").fetchall()


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE TABLE t (a, b, created_at)",
        "CREATE TABLE t (a TEXT, b INT, created_at, PRIMARY KEY (b, a)) WITHOUT ROWID",
        'CREATE TABLE t (a, b, created_at, rowid TEXT, "OID" TEXT)',
        "CREATE TABLE t (a INT, b INT, created_at, rowid, oid, _rowid_, PRIMARY KEY (a, b))",
    ],
)
def test_the_key_of_a_table(connection: sqlite3.Connection, definition: str) -> None:
    """Its rowid under a name that no column has taken, or else the primary key."""
    connection.execute(definition)
    connection.executemany(
        "INSERT INTO t (a, b, created_at) VALUES (?, ?, ?)",
        [(1, 1, "2001-01-01"), (1, 2, "2025-01-01"), (2, 1, "2001-01-01"), (2, 2, None)],
    )
    assert 2 == delete(connection, Old.find(connection, "t", "created_at", CUTOFF))
    assert [(2,), (2,)] == connection.execute("SELECT b FROM t").fetchall()


def test_a_table_without_a_key_is_refused(connection: sqlite3.Connection) -> None:
    """All names of its rowid are columns."""
    connection.execute("CREATE TABLE t (created_at, rowid, oid, _rowid_)")
    with pytest.raises(ConfigError, match="has no key by which"):
        Old.find(connection, "t", "created_at", CUTOFF)


def test_a_row_that_has_become_young_stays(connection: sqlite3.Connection) -> None:
    """Somebody changed it between the look and the deletion."""
    connection.execute("CREATE TABLE t (created_at)")
    connection.execute("INSERT INTO t VALUES ('2001-01-01')")
    old = Old.find(connection, "t", "created_at", CUTOFF)
    keys = old.keys(connection, 10)
    connection.execute("UPDATE t SET created_at = '2025-01-01'")
    connection.executemany(old.delete, keys)
    assert [("2025-01-01",)] == connection.execute("SELECT * FROM t").fetchall()


def test_names_as_sqlite_compares_them(connection: sqlite3.Connection) -> None:
    """Without regard to case, and with whatever is in them."""
    connection.execute('CREATE TABLE "a ""b" ("c""d" TEXT)')
    connection.execute("""INSERT INTO "a ""b" VALUES ('2001-01-01')""")
    old = Old.find(connection, 'A "B', 'C"d', CUTOFF)
    assert ('a "b', 'c"d') == (old.table, old.column)
    assert 1 == delete(connection, old)


@pytest.mark.parametrize(
    "table", ["nothing", "v", "telemetry_bus_ledger", "TELEMETRY_BUS_LEDGER", "sqlite_master", "sqlite_sequence", "i"]
)
def test_tables_that_are_not_pruned(connection: sqlite3.Connection, table: str) -> None:
    """The bus's own, SQLite's, what is no table; the error names those that may be."""
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at)")
    connection.execute("CREATE TABLE telemetry_bus_ledger (created_at)")
    connection.execute("CREATE VIEW v AS SELECT * FROM t")
    connection.execute("CREATE INDEX i ON t (created_at)")
    with pytest.raises(ConfigError, match=r"there is no table .*\(tables: t\)$"):
        Old.find(connection, table, "created_at", CUTOFF)


def test_virtual_tables_are_refused(connection: sqlite3.Connection) -> None:
    """Their rows are kept elsewhere."""
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(created_at)")
    with pytest.raises(ConfigError, match="is a virtual table"):
        Old.find(connection, "words", "created_at", CUTOFF)


@pytest.mark.parametrize(
    ("reference", "refused"),
    [
        ("REFERENCES t", True),
        ("REFERENCES t (id)", True),
        ("REFERENCES T (id) ON DELETE RESTRICT", True),
        ("REFERENCES t ON DELETE CASCADE", False),
        ("REFERENCES t ON DELETE SET NULL", False),
    ],
)
def test_rows_that_others_refer_to(connection: sqlite3.Connection, reference: str, refused: bool) -> None:
    """Refused before anything is deleted, unless the foreign key yields; a reference to a young row is none."""
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at)")
    connection.execute(f"CREATE TABLE child (parent INTEGER {reference}, created_at)")
    connection.execute("INSERT INTO t VALUES (1, '2001-01-01'), (2, '2025-01-01')")
    connection.execute("INSERT INTO child VALUES (2, '2001-01-01'), (NULL, '2001-01-01')")
    old = Old.find(connection, "t", "created_at", CUTOFF)
    old.refuse_children(connection)
    connection.execute("INSERT INTO child VALUES (1, '2025-01-01')")
    if refused:
        with pytest.raises(DatabaseFault, match=r"1 row of child would .* nothing was deleted.*prune child first"):
            old.refuse_children(connection)
    else:
        old.refuse_children(connection)
        assert 1 == delete(connection, old)


def test_a_dry_run_counts_without_a_writer(database: Path, capsys: Captured) -> None:
    """All figures, and from when to when; nothing is deleted, and no bus folder made."""
    execute(
        database.parent,
        "CREATE TABLE t (at TEXT)",
        "INSERT INTO t VALUES ('2001-01-01'), ('2002-02-02T01:02:03'), (NULL), (datetime('now'))",
    )
    words = ["prune", "--database", str(database), "--table", "t", "--column", "at", "--older-than", "1w", "--dry-run"]
    assert exit_codes.DONE == main(words)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2 of 4 rows in t would be deleted: at before ")
    assert first.endswith(", from 2001-01-01 00:00:00 to 2002-02-02 01:02:03")
    assert "1 row without a time in at stay" == second
    assert exit_codes.DONE == main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (True, 4, 2, 1, 0) == tuple(told[key] for key in ("dry_run", "rows", "old", "timeless", "deleted"))
    assert [(4,)] == rows(database.parent, "SELECT count(*) FROM t")
    assert not Path(f"{database}.bus").exists()


def test_a_database_that_is_not_there_is_not_made(database: Path, capsys: Captured) -> None:
    """It is an error, in one line."""
    assert exit_codes.MISSING == main(["prune", "--database", str(database), "--table", "t", "--older-than", "1d"])
    assert "there is no such database" in capsys.readouterr().err
    assert not database.exists()


@pytest.mark.parametrize("text", ["0", "-5", "x", "100001"])
def test_sizes_of_batches(text: str, capsys: Captured) -> None:
    """From one row to what fits into a job."""
    assert exit_codes.USAGE == main(["prune", "--table", "t", "--older-than", "1d", f"--batch-rows={text}"])
    assert text in capsys.readouterr().err


def test_the_writer_gives_back_a_little_at_a_time(tmp_path: Path) -> None:
    """So many pages, no more; at the end the file is shorter. It goes on writing."""
    fill, clear = (
        template(("INSERT INTO t VALUES (?)", True), ensure=("CREATE TABLE IF NOT EXISTS t (a)",)),
        template("DELETE FROM t"),
    )
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(fill, [(b"x" * 4000,)] * 100)])
        writer.apply([stream.run(clear, ())])
        writer.checkpoint(idle=True)
        before = (tmp_path / "telemetry.db").stat().st_size
        space, freed = writer.give_back(10)
        assert ("INCREMENTAL", 10 * 4096) == (space.auto_vacuum, freed)
        free = space.free_bytes
        space, freed = writer.give_back(1000)
        assert (0, free) == (space.free_bytes, freed)
        assert before - free - 10 * 4096 == (tmp_path / "telemetry.db").stat().st_size
        assert (0, 0) == (writer.give_back(10)[0].free_bytes, writer.give_back(10)[1])
        assert [] == writer.apply([stream.run(fill, [(1,)])])


@pytest.mark.parametrize("mode", ["NONE", "FULL"])
def test_other_databases_give_nothing_back(tmp_path: Path, mode: str) -> None:
    """They say what they are, and stay as they are."""
    execute(
        tmp_path,
        f"PRAGMA auto_vacuum={mode}",
        "CREATE TABLE t (a)",
        "INSERT INTO t VALUES (zeroblob(50000))",
        "PRAGMA journal_mode=WAL",
        "DELETE FROM t",
    )
    with opened(tmp_path) as writer:
        space, freed = writer.give_back(10)
    assert (mode, 0, mode == "NONE") == (space.auto_vacuum, freed, space.free_bytes > 0)


@pytest.mark.parametrize("pages", [0, -1, 1001, 1.5, True, None, "many"])
def test_what_the_writer_is_asked_for_is_checked(pages: Any) -> None:
    """Pages that would keep producers waiting, and what is no number."""
    daemon: Any = SimpleNamespace(note_activity=None, intake=None, permission=SimpleNamespace(allows=bool))
    answer = operator.answer(daemon, Command("vacuum", json.dumps({"pages": pages})))
    assert (False, "bad arguments: pages are 1 to 1000") == (answer.ok, answer.result)


def test_a_table_whose_name_differs_in_other_letters(tmp_path: Path) -> None:
    """SQLite knows no case beyond ASCII: these are two tables, and two columns; the exact name comes first."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.executescript(
            """CREATE TABLE "Ärger" (Übrig TEXT, übrig TEXT); CREATE TABLE "ärger" (übrig TEXT, Übrig TEXT);
            CREATE TABLE plain (made TEXT);"""
        )
        cutoff = datetime(2026, 1, 1, tzinfo=UTC)
        for table, column in (("Ärger", "Übrig"), ("ärger", "übrig"), ("Ärger", "übrig")):
            found = Old.find(connection, table, column, cutoff)
            assert (table, column) == (found.table, found.column)
        assert "plain" == Old.find(connection, "PLAIN", "MADE", cutoff).table
        assert ["Ärger", "ärger"] == [Old.find(connection, n, "übrig", cutoff).table for n in ("ÄRGER", "äRGER")]
