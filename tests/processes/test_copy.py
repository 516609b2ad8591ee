"""`telemetry-bus copy`: a SQLite database becomes one of PostgreSQL, each row once, while producers go on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import DatabaseMoved, TelemetryStore
from telemetry_bus.cli import main
from telemetry_bus.config import parse_database
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock, is_held

from ..support.bus import ROOT, Bus, Notes
from ..support.clock import DEADLINE_S, wait_until
from ..support.postgresql import ASKED, Server

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration, pytest.mark.slow]

PAGE = (ROOT / "docs" / "postgresql.md").read_text()
#: More than two batches.
ROWS = 12_000
SCHEMA = """
CREATE TABLE Fetches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL, status INTEGER DEFAULT 200, took_ms REAL,
    ok BOOLEAN DEFAULT 0, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, day DATE, raw BLOB DEFAULT (null), CHECK (status > 0)
);
CREATE INDEX ix_url ON Fetches(url);
CREATE UNIQUE INDEX ux ON Fetches(url, status DESC);
CREATE INDEX slow ON Fetches(lower(url)) WHERE status > 300;
CREATE TABLE [Odd "Name] ([Id] INTEGER PRIMARY KEY NOT NULL, "user" text UNIQUE, n numeric default false,
    "a b" double precision, u unsigned big int);
CREATE TABLE pairs (a TEXT, b INTEGER, v, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT COLLATE NOCASE UNIQUE,
    f INTEGER REFERENCES Fetches(id) ON DELETE CASCADE);
CREATE TABLE sums (a INTEGER, b INTEGER GENERATED ALWAYS AS (a * 2) STORED, backslash TEXT DEFAULT 'C:\\x''y');
CREATE VIEW seen AS SELECT 1;
CREATE TRIGGER watch AFTER INSERT ON sums BEGIN SELECT 1; END;
CREATE VIRTUAL TABLE words USING fts5(x);
"""
INSERT = "INSERT INTO Fetches (url, status, took_ms, ok, at, day, raw) VALUES (?, ?, ?, ?, ?, ?, ?)"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with some of everything, made by other programs."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path / "bus"))
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        moment = "2026-01-02 03:04:05.060000"
        rows = ((f"u{n}", 200 + n % 3, n / 7, n % 2, moment, "2026-01-02", b"x\0") for n in range(ROWS))
        connection.executemany(INSERT, rows)
        connection.execute("INSERT INTO pairs VALUES ('x', 1, 2), ('x', 2, 3)")
        connection.execute("INSERT INTO sums (a) VALUES (4)")
        connection.execute("""INSERT INTO [Odd "Name] VALUES (7, 'me', 1.5, 2, 3)""")
        connection.commit()
    return path


def copy(old: object, url: str, *options: str) -> int:
    return main(["copy", "--from", str(old), "--to", url, *options])


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """What the last command has printed as JSON."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return [] if cursor.description is None else list(cursor.fetchall())


def content(url: str) -> list[Any]:
    """All rows of `Fetches` in both databases' own values."""
    sql = "SELECT id, url, status, took_ms, ok::int, at::text, day::text, raw FROM fetches ORDER BY id"
    return rows(url, sql)


def content_of(old: Path) -> list[Any]:
    with closing(sqlite3.connect(old)) as connection:
        sql = "SELECT id, url, status, took_ms, ok, at, day, raw FROM Fetches ORDER BY id"
        return [
            (*row[:5], row[5].removesuffix("0000"), *row[6:]) for row in connection.execute(sql)
        ]  # the server shows no more digits than there are


def test_rows_types_keys_and_indexes(old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them are there, and what is not is told."""
    assert 0 == copy(old, postgresql, "--json")
    report = told(capsys)
    assert {"Fetches": ROWS, 'Odd "Name': 1, "pairs": 2, "empty": 0, "sums": 1} == {
        table["name"]: table["rows"] for table in report["tables"]
    }
    assert content_of(old) == content(postgresql)
    assert [(7, "me", 1.5, 2.0, 3)] == rows(postgresql, 'SELECT * FROM "Odd ""Name"')
    assert [("x", 1, 2), ("x", 2, 3)] == rows(postgresql, "SELECT * FROM pairs ORDER BY b")
    assert [(4, 8)] == rows(postgresql, "SELECT a, b FROM sums")
    indexes = dict(rows(postgresql, "SELECT indexname, indexdef FROM pg_indexes"))
    assert re.search(r"UNIQUE .*\(url, status DESC\)\Z", indexes["ux"])
    assert indexes["slow"].endswith("(lower(url)) WHERE (status > 300)")
    assert re.search(r"UNIQUE .*\(lower\(x\)\)\Z", indexes["empty_x_key"])
    keys = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid::regclass::text !~ '^tele'"
    found = dict(rows(postgresql, keys))
    assert "CHECK ((status > 0))" == found["Fetches_check_1"]
    assert "FOREIGN KEY (f) REFERENCES fetches(id) ON DELETE CASCADE" == found["empty_f_fkey"]
    for name in ("seen", "watch", "words", "Odd", "sums.b", "user", "false"):
        assert any(name in note for note in report["left_out"]) == (name != "false"), name


def test_the_next_numbers_are_new(old: Path, postgresql: str) -> None:
    """Those of a table whose highest rows were deleted, and of one that is empty; defaults are as they were."""
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DELETE FROM Fetches WHERE id > 10")
        connection.commit()
    assert 0 == copy(old, postgresql)
    new = rows(postgresql, "INSERT INTO fetches (url) VALUES ('n') RETURNING id, status, ok, at IS NOT NULL, raw")
    assert [(ROWS + 1, 200, False, True, None)] == new
    assert [(1,)] == rows(postgresql, "INSERT INTO empty (x) VALUES ('n') RETURNING id")
    assert [("C:\\x'y",)] == rows(postgresql, "INSERT INTO sums (a) VALUES (1) RETURNING backslash")
    assert [(0,)] == rows(postgresql, """INSERT INTO "Odd ""Name" ("Id") VALUES (8) RETURNING n""")


ODD_ROWS: list[tuple[Any, ...]] = [
    ("text", "text", 1, 1, None),
    ("n\0l", 1, 1, 1, None),
    ("seven", 1, 1, 7, None),
    ("fraction", 2.5, 1, 1, None),
    ("word", 1, 1, 1, "yesterday"),
    ("american", 1, 1, 1, "1/2/2026"),
    ("number", 1, 1, 1, 1767225600),
]


def test_values_that_do_not_fit_are_told_and_kept(
    old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted before, refused then, and in again once the column takes them. Nothing is changed without a word."""
    with closing(sqlite3.connect(old)) as connection:
        sql = "INSERT INTO Fetches (url, status, took_ms, ok, at) VALUES (?, ?, ?, ?, ?)"
        connection.executemany(sql, ODD_ROWS)
        connection.execute(sql, ("offset", 1, 1, 1, "2026-01-02T03:04:05+02:00"))
        connection.execute("INSERT INTO pairs VALUES (CAST(x'ff41' AS TEXT), 1, 1)")
        connection.commit()
    assert 0 == copy(old, postgresql, "--dry-run", "--json")
    (table, *_) = told(capsys)["tables"]
    assert {"url": 1, "status": 2, "ok": 1, "at": 3} == table["misfits"]
    assert [] == rows(postgresql, "SELECT 1 FROM pg_class WHERE relname = 'fetches'")
    assert 1 == copy(old, postgresql, "--json")
    report = {table["name"]: table for table in told(capsys)["tables"]}
    assert (len(ODD_ROWS), 1) == (report["Fetches"]["refused"], report["pairs"]["refused"])
    assert [("offset", "2026-01-02 01:04:05")] == rows(
        postgresql, f"SELECT url, at::text FROM fetches WHERE id > {ROWS}"
    )
    rows(postgresql, "ALTER TABLE fetches ALTER at TYPE text")
    assert 1 == main(["dead-letters", "retry", "--all", "--database", postgresql])
    assert [("american", "1/2/2026"), ("number", "1767225600"), ("word", "yesterday")] == rows(
        postgresql, f"SELECT url, at FROM fetches WHERE id > {ROWS} AND url <> 'offset' ORDER BY url"
    )
    _stop(postgresql)


def test_nul_can_be_replaced(old: Path, postgresql: str) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("INSERT INTO Fetches (url) VALUES (?)", ("n\0l",))
        connection.commit()
    assert 0 == copy(old, postgresql, "--replace-nul")
    assert [("n\N{REPLACEMENT CHARACTER}l",)] == rows(postgresql, f"SELECT url FROM fetches WHERE id > {ROWS}")


#: What is done when the process is killed, by SIGKILL: a function, and at which of its calls.
STEPS = [
    ("telemetry_bus.cli.copy.moving._owned", 1),
    ("telemetry_bus.cli.copy.moving._frozen", 1),
    ("telemetry_bus.cli.copy.target.Target.make", 1),
    ("telemetry_bus.database.ledger.Ledger.advance", 1),
    ("telemetry_bus.database.ledger.Ledger.advance", 3),
    ("telemetry_bus.cli.copy.target.Target.complete", 1),
    ("telemetry_bus.cli.copy.target.Target.complete", 3),
    ("telemetry_bus.cli.copy.target.Target.finish", 1),
    ("telemetry_bus.cli.copy.mark.finish", 1),
    ("telemetry_bus.cli.copy.journals._move", 1),
]
KILLED = """
import os, signal, sys
from importlib import import_module
from telemetry_bus.cli import main

where, call = sys.argv[1], int(sys.argv[2])
module, name = where.rsplit(".", 1)
owner = None
try:
    owner = import_module(module)
except ModuleNotFoundError:
    module, kind = module.rsplit(".", 1)
    owner = getattr(import_module(module), kind)
before = getattr(owner, name)
calls = 0

def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*arguments, **options)

setattr(owner, name, killed)
main(sys.argv[3:])
"""


@pytest.mark.parametrize(("where", "call"), STEPS)
def test_a_kill_at_each_step(old: Path, postgresql: str, where: str, call: int, tmp_path: Path) -> None:
    """The same command goes on where it was: each row, and each job of a journal, is there once."""
    with TelemetryStore(old, mode="daemon") as store:
        store.execute("INSERT INTO pairs VALUES ('committed', 1, 1)")
        store.execute("INSERT INTO pairs VALUES ('refused', NULL, 1)")
        store.flush()
    _stop(old)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    _leave_a_job(old, environment)
    arguments = ["copy", "--from", str(old), "--to", postgresql]
    ended = subprocess.run([sys.executable, "-c", KILLED, where, str(call), *arguments], env=environment, check=False)
    assert -signal.SIGKILL == ended.returncode
    assert 0 == main(arguments)
    assert content_of(old) == content(postgresql)
    assert [("committed", 1), ("left", 1), ("x", 1), ("x", 2)] == rows(
        postgresql, "SELECT a, b FROM pairs ORDER BY a, b"
    )
    assert [(1,)] == rows(postgresql, "SELECT count(*) FROM telemetry_bus_dead_letters")
    assert 0 == main(arguments)
    _stop(postgresql)


def _leave_a_job(old: Path, environment: dict[str, str]) -> None:
    """A producer that ends with a job in its journal, and no writer."""
    program = (
        "import sys; from telemetry_bus import TelemetryStore\n"
        "store = TelemetryStore(sys.argv[1], mode='daemon', spawn=False)\n"
        "store.execute(\"INSERT INTO pairs VALUES ('left', 1, 1)\")\n"
    )
    subprocess.run([sys.executable, "-c", program, str(old)], env=environment, check=True)


def _stop(database: object) -> None:
    folder = BusFolder.of(parse_database(database))
    main(["stop", "--database", str(database)])
    wait_until(lambda: not is_held(folder.writer_lock), "the writer has left")


PRODUCER = (
    Notes.OPEN
    + """
name, place = sys.argv[2], int(sys.argv[3])
store = TelemetryStore(database, linger_ms=0)
while not noted[0]:
    event(store, name, noted[place] + 1)
    noted[place] += 1
    time.sleep(0.002)
store.shutdown()
"""
)


def test_the_page_is_walked_with_producers(postgresql: str, tmp_path: Path) -> None:
    """Each command that the page shows, in its order, while two producers go on: all jobs are there once."""
    environ = {"TELEMETRY_BUS_DIR": str(tmp_path / "bus")}
    bus = Bus(tmp_path, environ=environ)
    section = PAGE.partition("## Moving a SQLite database\n")[2].partition("\n## ")[0]
    commands = [
        [
            word.replace("sqlite:///data/telemetry.db", bus.database.url).replace(
                "postgresql://crawler@db.example/telemetry", postgresql
            )
            for word in shlex.split(line)
        ]
        for line in re.findall(r"(?m)^ *\$ (.*)$", section)
    ]
    assert 4 == len(commands), section

    def command(words: list[str]) -> str:
        ended = subprocess.run(
            [str(Path(sys.executable).with_name(words[0])), *words[1:]],
            env={**os.environ, **environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (0, "") == (ended.returncode, ended.stderr), words
        return ended.stdout

    def submitted(number: int) -> bool:
        return min(bus.notes[1], bus.notes[2]) >= number

    try:
        producers = [bus.start(PRODUCER, f"p{n}", str(n)) for n in (1, 2)]
        wait_until(lambda: len(bus.numbers()) == 2, "both have written")
        command(commands[0])
        assert "copied" in command(commands[1])
        went_on = max(bus.notes[1], bus.notes[2])
        wait_until(lambda: submitted(went_on + 20), "they go on: their jobs wait")
        assert "wait in the journals of process" in command(commands[1])
        bus.notes[0] = 1
        for producer in producers:
            producer.wait(DEADLINE_S)
        bus.notes[0] = 0
        last = max(bus.notes[1], bus.notes[2])
        bus.path = postgresql  # type: ignore[assignment]  # the new URL is what they are given
        producers = [bus.start(PRODUCER, f"p{n}", str(n)) for n in (1, 2)]
        wait_until(lambda: submitted(last + 20), "they write to the new database")
        assert "brought along" in command(commands[2])
        bus.notes[0] = 1
        for producer in producers:
            producer.wait(DEADLINE_S)
        command(commands[3])
        for n in (1, 2):
            found = [number for (number,) in rows(postgresql, f"SELECT number FROM events WHERE producer = 'p{n}'")]
            assert sorted(found) == list(range(1, len(found) + 1))
            assert len(found) == bus.notes[n]
        assert [(0,)] == rows(postgresql, "SELECT count(*) FROM telemetry_bus_dead_letters")
    finally:
        bus.notes[0] = 1
        os.environ["TELEMETRY_BUS_DIR"] = environ["TELEMETRY_BUS_DIR"]
        try:
            _stop(postgresql)
            bus.close()
        finally:
            del os.environ["TELEMETRY_BUS_DIR"]


def test_nobody_writes_into_what_has_moved(old: Path, postgresql: str) -> None:
    """Neither a store that was open before, in any mode, nor one that is opened then."""
    insert = "INSERT INTO pairs VALUES ('late', 1, 1)"
    with TelemetryStore(old, mode="sync") as store:
        store.execute("INSERT INTO pairs VALUES ('early', 1, 1)")
        assert 0 == copy(old, postgresql)
        with pytest.raises(DatabaseMoved, match="postgresql://"):
            store.execute(insert)
    with TelemetryStore(old, mode="sync") as store, pytest.raises(DatabaseMoved):
        store.execute(insert)
    with TelemetryStore(old, mode="thread") as store, pytest.raises(DatabaseMoved):
        store.execute(insert)
    assert [("early",), ("x",), ("x",)] == rows(postgresql, "SELECT a FROM pairs ORDER BY a")


def test_a_copy_is_abandoned(old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The old database is written into again; not when the copy is done."""
    assert 2 == main(["copy", "--from", str(old), "--to", postgresql, "--abandon"])
    assert "no copy has begun" in capsys.readouterr().err
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["copy", "--from", str(old), "--to", postgresql]
    where, call = STEPS[3]
    subprocess.run([sys.executable, "-c", KILLED, where, str(call), *arguments], env=environment, check=False)
    with TelemetryStore(old, mode="sync") as store:
        with pytest.raises(DatabaseMoved):
            store.execute("INSERT INTO pairs VALUES ('a', 1, 1)")
        assert 0 == main([*arguments, "--abandon"])
        store.execute("INSERT INTO pairs VALUES ('a', 1, 1)")
    rows(postgresql, 'DROP TABLE fetches, pairs, empty, sums, "Odd ""Name"; SELECT 1')
    assert 0 == main(arguments)
    assert 2 == main([*arguments, "--abandon"])
    assert [("a",), ("x",), ("x",)] == rows(postgresql, "SELECT a FROM pairs ORDER BY a")


def test_a_source_that_was_changed_meanwhile(old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By another program, between a kill and the next try: told, not mixed up."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["copy", "--from", str(old), "--to", postgresql]
    where, call = STEPS[4]
    subprocess.run([sys.executable, "-c", KILLED, where, str(call), *arguments], env=environment, check=False)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DELETE FROM Fetches WHERE id = 1")
        connection.commit()
    assert 1 == main(arguments)
    assert "another program has written" in capsys.readouterr().err


LONG = "n" * 64


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("CREATE TABLE other (id INTEGER)", 0, ""),
        (f"CREATE TABLE {LONG} (id INTEGER)", 2, "more than 63 bytes"),
        (f"CREATE TABLE t ({LONG} INTEGER)", 2, "more than 63 bytes"),
        ('CREATE TABLE "Fetches " (id INTEGER)', 0, ""),
    ],
)
def test_odd_names(
    old: Path, postgresql: str, capsys: pytest.CaptureFixture[str], sql: str, code: int, says: str
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(sql)
    assert code == copy(old, postgresql)
    assert says in capsys.readouterr().err
    with closing(sqlite3.connect(old)) as connection:
        marked = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'telemetry_bus_moved'").fetchone()
    assert (code == 0,) == marked, "who may not be copied is not marked"


def test_bad_targets(
    old: Path, postgresql: str, postgresql_server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each is told in one line, with what helps, and without the password; the source stays as it was."""

    def refused(code: int, says: str, url: str = postgresql, source: object = old) -> None:
        assert code == copy(source, url)
        error = capsys.readouterr().err
        assert (True, 1, False) == (says in error, error.count("\n"), "kanarienvogel" in error), error

    refused(4, "no such database", source=tmp_path / "none.db")
    refused(2, "--from must name", source=postgresql)
    refused(2, "--to must name", url=str(old))
    (tmp_path / "text.db").write_text("no database " * 100)
    refused(1, "not a database", source=tmp_path / "text.db")
    postgresql_server.run(
        f"CREATE ROLE {(role := 'r' + str(os.getpid()))} LOGIN PASSWORD 'right' IN ROLE {ASKED}",
    )
    wrong = postgresql.replace("bus@", f"{role}:kanarienvogel@")
    try:
        refused(1, "check the password", url=wrong)
        refused(1, "GRANT CREATE ON SCHEMA", url=wrong.replace("kanarienvogel", "right"))
    finally:
        postgresql_server.run(f"DROP ROLE {role}")
    refused(1, "CREATE DATABASE", url=postgresql.replace("/test_", "/none_"))
    rows(postgresql, "CREATE TABLE fetches (id INTEGER)")
    refused(2, "without url")
    rows(
        postgresql,
        "DROP TABLE fetches; CREATE TABLE pairs (a text, b int, v int); INSERT INTO pairs VALUES ('a', 1, 1)",
    )
    refused(2, "has rows")
    with closing(sqlite3.connect(old)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'telemetry_bus_moved'").fetchall()


def test_a_source_that_others_keep(old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A program in thread mode, one that holds the write lock, a writer that does not answer: end it first. Until then
    all is as it was."""
    with TelemetryStore(old, mode="thread") as store:
        store.execute("INSERT INTO pairs VALUES ('a', 1, 1)")
        store.flush()
        assert 1 == copy(old, postgresql)
        assert "thread mode" in capsys.readouterr().err
        store.execute("INSERT INTO pairs VALUES ('b', 1, 1)")
        store.flush(raise_on_failure=True)
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert 1 == copy(old, postgresql, "--timeout", "0.1")
        assert "another program writes into it" in capsys.readouterr().err
        other.execute("ROLLBACK")
    lock = InstanceLock.acquire(BusFolder.of(parse_database(old)).writer_lock)
    assert lock is not None
    assert 1 == copy(old, postgresql, "--timeout", "0.1")
    assert "does not answer" in capsys.readouterr().err
    lock.release()
    with TelemetryStore(old, mode="sync") as store:
        store.execute("INSERT INTO pairs VALUES ('c', 1, 1)")
    assert 0 == copy(old, postgresql)
    assert [("a",), ("b",), ("c",), ("x",), ("x",)] == rows(postgresql, "SELECT a FROM pairs ORDER BY a")


def test_another_target_is_refused_while_it_moves(
    old: Path, postgresql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == copy(old, postgresql)
    assert 2 == copy(old, postgresql.replace("bus@", "postgres@"))
    assert "moves to postgresql://bus@" in capsys.readouterr().err


def test_the_password_is_nowhere(old: Path, postgresql: str, postgresql_server: Server, tmp_path: Path) -> None:
    """Given in the environment: neither said, nor in a file of ours, the old database among them."""
    secret, role = "kanarienvogel", f"r{os.getpid()}"
    name = postgresql.rpartition("/")[2]
    postgresql_server.run(
        f"CREATE ROLE {role} LOGIN PASSWORD '{secret}' IN ROLE {ASKED}", f"ALTER DATABASE {name} OWNER TO {role}"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TELEMETRY_DATABASE_URL": postgresql.replace("bus@", f"{role}:{secret}@"),
    }
    try:
        _leave_a_job(old, environment)
        command = [sys.executable, "-m", "telemetry_bus"]
        words = ["copy", "--from", str(old), "--json", "--traceback"]
        ended = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
        assert (0, "") == (ended.returncode, ended.stderr)
        assert 1 == json.loads(ended.stdout)["jobs"], "the job that waited was applied, by a writer with the password"
        subprocess.run([*command, "stop"], env=environment, check=True, capture_output=True)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert old in files
        assert any(path.name == "writer.log" for path in files)
        assert [] == [path for path in files if secret.encode() in path.read_bytes()]
        assert secret not in ended.stdout
    finally:
        postgresql_server.run(f"REASSIGN OWNED BY {role} TO bus", f"DROP ROLE {role}", database=name)
