"""Which names of a file a process may open for writing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database.sqlite.claims import Claims
from telemetry_bus.errors import DatabaseFault

#: Claims a file for a folder, says so, and ends when its standard input does.
HOLDER = """
import sys
from pathlib import Path
from telemetry_bus.database.sqlite.claims import claims
claims.claim(Path(sys.argv[1]), Path(sys.argv[2]))
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    """Two of one database."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    with closing(sqlite3.connect(one)) as connection:
        connection.execute("CREATE TABLE t (a)")
    os.link(one, two)
    return one, two


def place(path: Path) -> Path:
    return path.with_name(f"{path.name}.bus")


def test_one_process_and_two_names(names: tuple[Path, Path]) -> None:
    """As often as it likes under one name; under the other when nobody has it by the first any more."""
    one, two = names
    claims = Claims()
    held = [claims.claim(one, place(one)) for _ in range(2)]
    for _ in held:
        with pytest.raises(DatabaseFault, match="under another name"):
            claims.claim(two, place(two))
        claims.release(held[0])
    claims.release(claims.claim(two, place(two)))
    claims.after_fork()


@pytest.mark.parametrize("same", [True, False], ids=["the same name", "another name"])
def test_two_processes(names: tuple[Path, Path], same: bool) -> None:
    """Those of one name do not see each other: the lock in their folder is for that. A name is free with the end of its
    process."""
    one, two = names
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(one), str(place(one))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    claims = Claims()
    with holder:
        assert holder.stdout is not None
        assert "claimed\n" == holder.stdout.readline()
        wanted = one if same else two
        if same:
            claims.release(claims.claim(wanted, place(wanted)))
        else:
            with pytest.raises(DatabaseFault, match="under another name"):
                claims.claim(wanted, place(wanted))
        with pytest.raises(DatabaseFault, match="for another bus folder"):
            claims.claim(one, one.with_name("elsewhere.bus"))
        holder.communicate()
    claims.release(claims.claim(two, place(two)))
    claims.after_fork()


def test_what_is_let_go_drops_no_lock_of_sqlite(names: tuple[Path, Path]) -> None:
    """Another connection of this process keeps its locks: to close a descriptor of the file would end them."""
    one, two = names
    claims = Claims()
    with closing(sqlite3.connect(one, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            claims.release(claims.claim(one, place(one)))
            claims.release(claims.claim(two, place(two)))
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run([sys.executable, "-c", script, str(one)], capture_output=True, text=True)
        assert "database is locked" in other.stderr
    claims.after_fork()


def test_descriptors_of_deleted_files_are_closed(tmp_path: Path) -> None:
    """A program that uses many databases, one after the other."""
    claims = Claims()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        path = tmp_path / f"{number}.db"
        path.touch()
        claims.release(claims.claim(path, place(path)))
        if number % 2:
            path.unlink()
    assert len(os.listdir("/proc/self/fd")) - before < 80
    claims.after_fork()
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_name_that_another_process_understands(names: tuple[Path, Path], tmp_path: Path) -> None:
    """By what the file is, when both can see one; else by its URL, as earlier versions say it."""
    one, two = (parse_database(path) for path in names)
    assert one.is_called(two.name_now)
    assert one.is_called(one.identity)
    assert not one.is_called(two.identity)
    another = parse_database(tmp_path / "another.db")
    assert another.name_now == another.identity
    assert not one.is_called(another.name_now)
    (tmp_path / "another.db").touch()
    assert not one.is_called(f"{one.identity}#{another.name_now.partition('#')[2]}")
