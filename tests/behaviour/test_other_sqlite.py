"""Programs in which `sqlite3` is not what Python brings: a tracer has wrapped it, or another build has its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: As OpenTelemetry and others do it: what `connect` returns is no connection, but behaves like one.
TRACED = """
import sqlite3
class Traced:
    def __init__(self, connection): self.__dict__["connection"] = connection
    def __getattr__(self, name): return getattr(self.connection, name)
    def __setattr__(self, name, value): setattr(self.connection, name, value)
    def __enter__(self): return self.connection.__enter__()
    def __exit__(self, *error): return self.connection.__exit__(*error)
original = sqlite3.connect
sqlite3.connect = sqlite3.dbapi2.connect = lambda *args, **options: Traced(original(*args, **options))
"""
#: As pysqlite3 is: it lacks what is younger than its fork.
ANOTHER_BUILD = """
import sqlite3, types
other = types.ModuleType("sqlite3")
other.__path__ = []
younger = ("SQLITE_READONLY_", "SQLITE_CORRUPT_", "SQLITE_LIMIT_", "SQLITE_DBCONFIG_", "Blob")
vars(other).update({name: value for name, value in vars(sqlite3).items() if not name.startswith(younger)})
class Connection(sqlite3.Connection):
    def __getattribute__(self, name):
        if name in ("getlimit", "setlimit", "setconfig", "getconfig", "serialize", "blobopen"):
            raise AttributeError(name)
        return super().__getattribute__(name)
other.Connection = Connection
other.connect = lambda *args, factory=Connection, **options: factory(*args, **options)
other.dbapi2 = other
sys.modules["sqlite3"] = sys.modules["sqlite3.dbapi2"] = other
"""
PROGRAM = """
import sqlite3
from sqlalchemy import text
from telemetry_bus import JobFailed, ReadOnly, TelemetryStore
from telemetry_bus.cli import main

folder, mode = sys.argv[1:]
path = folder + "/x.db"
ddl = ["CREATE TABLE IF NOT EXISTS t (a TEXT UNIQUE)"]
with TelemetryStore(path, mode=mode, timeout=60) as store:
    for name in ("x", "y", "x"):
        try:
            store.execute("INSERT INTO t (a) VALUES (?)", (name,), ensure=ddl)
        except JobFailed:
            assert mode == "sync"
    store.flush()
    with store.connection() as connection:
        assert isinstance(connection, sqlite3.Connection)
        connection.row_factory = sqlite3.Row
        assert "x" == connection.execute("SELECT a FROM t").fetchone()["a"]
        try:
            connection.execute("DELETE FROM t")
        except ReadOnly:
            pass
        else:
            raise AssertionError("it wrote")
    with store.connection(readonly=False) as connection:
        connection.execute("CREATE TABLE u (a)")
    with store.engine.connect() as reading:
        assert [("x",), ("y",)] == [tuple(row) for row in reading.execute(text("SELECT a FROM t ORDER BY a"))]
    for command in ("status", "doctor", "dead-letters list", f"backup {folder}/copy.db"):
        code = main([*command.split(), "--database", path])
        assert code in (0, 1, 3), (command, code)  # 1: nobody answers, in mode thread; 3: no writer, in mode sync
with TelemetryStore(":memory:", mode="sync" if mode == "sync" else "thread") as store:
    store.execute("INSERT INTO t (a) VALUES (?)", ("x",), ensure=ddl)
    store.flush()
    with store.connection(readonly=False) as connection:
        connection.execute("INSERT INTO t VALUES ('y')")
    with store.connection() as connection:
        assert 2 == connection.execute("SELECT count(*) FROM t").fetchone()[0]
"""


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("no_writer_left")
@pytest.mark.parametrize("world", [TRACED, ANOTHER_BUILD], ids=["traced", "another build"])
@pytest.mark.parametrize("mode", ["daemon", "thread", "sync"])
def test_everything_that_reads_and_writes(tmp_path: Path, world: str, mode: str) -> None:
    """Writing, each way to read, the engine and the commands."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{world}\n{PROGRAM}", str(tmp_path), mode],
        env={**os.environ, "TELEMETRY_BUS_MODE": mode},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    assert "cannot be checked" not in ended.stdout
    assert "a defect" not in ended.stderr
