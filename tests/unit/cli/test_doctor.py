"""`telemetry-bus doctor` where something is wrong, and where nothing is."""

from __future__ import annotations

import grp
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetry_bus import TelemetryStore, __version__
from telemetry_bus.cli import checks, exit_codes, main
from telemetry_bus.cli.checks import case, content, environment, examine, place
from telemetry_bus.cli.checks.environment import variables
from telemetry_bus.cli.checks.finding import Finding, ok
from telemetry_bus.cli.survey import Bus
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import InstanceLock

from ..writing import EVENT, Stream, opened, template

Patch = pytest.MonkeyPatch
Captured = pytest.CaptureFixture[str]
Findings = dict[str, dict[str, str]]
Doctor = Callable[..., Findings]

INSERT = "INSERT INTO events (name) VALUES (?)"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything below a folder."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in (folder, *sorted(folder.rglob("*")))
    }


@pytest.fixture
def folder(database: Path, monkeypatch: Patch) -> BusFolder:
    """A healthy bus: one job applied, the writer gone in order. SQLite is one without the race, the file system a
    disk with room."""
    with opened(database.parent) as writer:
        writer.apply([Stream().run(EVENT, ["a", 1])])
    folder = Bus.of(str(database)).folder
    folder.prepare()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    monkeypatch.setattr(place, "file_system", lambda path: "ext4")
    monkeypatch.setattr(place, "_free", lambda path: 1 << 40)
    monkeypatch.setattr(case, "ANSWER_S", 0.05)
    return folder


@pytest.fixture
def doctor(database: Path, folder: BusFolder, capsys: Captured) -> Doctor:
    """The findings by their check's name. Whatever is wrong, to look changes nothing; the exit code follows from what
    was found."""

    def run(*words: str, named: bool = True) -> Findings:
        before = contents(database.parent)
        code = main(["doctor", "--json", *(["--database", str(database)] if named else []), *words])
        assert before == contents(database.parent)
        found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
        assert all(bool(finding["hint"]) == (finding["state"] != "ok") for finding in found)
        fine = exit_codes.DONE if database.exists() or not named else exit_codes.MISSING
        assert (exit_codes.FAILED if "problem" in {f["state"] for f in found} else fine) == code
        return {finding.pop("check"): finding for finding in found}

    return run


def wrong(found: Findings) -> dict[str, str]:
    """The states of the checks that are not ok."""
    return {name: finding["state"] for name, finding in found.items() if finding["state"] != "ok"}


def expect(found: Findings, name: str, state: str, *words: str) -> None:
    """This check alone has a finding; its message and hint hold these words."""
    assert {name: state} == wrong(found)
    for word in words:
        assert word in f"{found[name]['message']} ({found[name]['hint']})"


def test_a_healthy_bus_has_no_finding(doctor: Doctor) -> None:
    """Without a writer, and with indexes looked into."""
    found = doctor()
    assert {} == wrong(found)
    assert "quick_check" in found["integrity"]["message"]
    assert "integrity_check" in doctor("--full")["integrity"]["message"]


def test_a_database_that_somebody_writes_has_no_finding(doctor: Doctor, database: Path) -> None:
    """Its log is read without a mark in the index of the log."""
    with closing(sqlite3.connect(database)) as other:
        other.execute("INSERT INTO events (name) VALUES ('b')")
        other.commit()
        assert {} == wrong(doctor())


@pytest.mark.integration
def test_a_healthy_writer_has_no_finding(
    database: Path, folder: BusFolder, monkeypatch: Patch, no_writer_left: None
) -> None:
    """A real one, with a producer whose job it has written; it is the one that answers."""
    monkeypatch.setattr(case, "ANSWER_S", 30.0)
    with TelemetryStore(database) as store:
        store.execute(INSERT, ("b",))
        store.flush()
        found = dict(examine(case.Case(Bus.of(str(database)))))
        writer = store.stats().writer.pid
    assert {"ok"} == {finding.state for finding in found.values()}
    assert f"process {writer} owns the database and answers" == found["writer"].message
    assert ("running", "in place") == (found["writer state"].message, found["sockets"].message)
    assert "none; 0 jobs of 1 living producer pending" == found["orphans"].message


def test_what_is_not_there_is_not_made(database: Path, tmp_path: Path, doctor: Doctor, folder: BusFolder) -> None:
    """Neither database nor folder; the fixture compares. The hint says how both come to be."""
    database.unlink()
    shutil.rmtree(folder.path)
    expect(doctor(), "database file", "warning", "is not there", "the first producer makes it")


def test_something_else_in_the_place_of_the_database(doctor: Doctor, database: Path) -> None:
    """Says that it is none, and nothing more of its content."""
    database.write_bytes(b"no database" * 100)
    expect(doctor(), "content", "problem", "not a SQLite database", "name another with --database")


def test_a_damaged_database(doctor: Doctor, database: Path) -> None:
    """A page was written over: SQLite's first complaint, and the way back."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        page_size = other.execute("PRAGMA page_size").fetchone()[0]
        root = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\xff" * 100)
    expect(doctor(), "integrity", "problem", "damaged", "restore the database from a backup")


def test_only_the_full_check_looks_into_indexes(doctor: Doctor, database: Path) -> None:
    """A row that the index of its table does not have."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (a)")
        other.execute("CREATE INDEX i ON t (a)")
        other.execute("PRAGMA writable_schema=ON")
        other.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t (a) WHERE a > 5' WHERE name = 'i'")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        other.execute("PRAGMA writable_schema=ON")
        other.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t (a)' WHERE name = 'i'")
    assert {} == wrong(doctor())
    expect(doctor("--full"), "integrity", "problem", "missing from index i")


def test_a_log_that_a_killed_writer_left(doctor: Doctor, database: Path) -> None:
    """It is read as it stands; the index is not made anew for that, though it needs to be."""
    with closing(sqlite3.connect(database)) as other:
        other.execute("INSERT INTO events (name) VALUES ('b')")
        other.commit()
        log, index = (Path(f"{database}{suffix}").read_bytes() for suffix in ("-wal", "-shm"))
    Path(f"{database}-wal").write_bytes(log)
    Path(f"{database}-shm").write_bytes(bytes(len(index)))
    assert {} == wrong(doctor())
    assert bytes(len(index)) == Path(f"{database}-shm").read_bytes()


def test_a_log_without_its_index(doctor: Doctor, database: Path) -> None:
    """It cannot be read without making the index; nobody makes it, and the hint says who may."""
    with closing(sqlite3.connect(database)) as other:
        other.execute("INSERT INTO events (name) VALUES ('b')")
        other.commit()
        log = Path(f"{database}-wal").read_bytes()
    Path(f"{database}-wal").write_bytes(log)
    found = doctor()
    assert {"integrity": "problem", "dead letters": "problem"} == wrong(found)
    assert "without its index" in found["integrity"]["message"]
    assert "telemetry-bus flush" in found["integrity"]["hint"]


@pytest.mark.parametrize(("mode", "message"), [("NONE", "never shrinks"), ("FULL", "each commit")])
def test_space_that_cannot_be_given_back(doctor: Doctor, database: Path, mode: str, message: str) -> None:
    """The hint is a command that converts the database: once run, nothing is found."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"PRAGMA auto_vacuum={mode}")
        other.execute("VACUUM")
    found = doctor()
    expect(found, "auto_vacuum", "warning", message, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        for sql in found["auto_vacuum"]["hint"].split("'")[1].split(";"):
            other.execute(sql)
    assert {} == wrong(doctor())


def test_a_database_that_is_not_in_wal_mode(doctor: Doctor, database: Path) -> None:
    """Somebody has set it back."""
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
    expect(doctor(), "journal mode", "warning", "start a writer")


def test_a_log_that_has_grown(doctor: Doctor, database: Path, monkeypatch: Patch) -> None:
    """Nobody writes it back."""
    monkeypatch.setattr(content, "LOG_BYTES", 100)
    with closing(sqlite3.connect(database)) as other:
        other.execute("INSERT INTO events (name) VALUES ('b')")
        other.commit()
        expect(doctor(), "log size", "warning", "no writer", "telemetry-bus flush")


def test_two_names_of_one_database(doctor: Doctor, database: Path) -> None:
    """Each would have a log of its own; a link in the place of the log is as bad."""
    os.link(database, second := database.with_name("second.db"))
    expect(doctor(), "database links", "problem", "has 2 names", "keep one name")
    second.unlink()
    Path(f"{database}-shm").symlink_to("elsewhere")
    expect(doctor(), "database links", "problem", "-shm is a link", "remove the link")


@pytest.mark.parametrize(
    ("kind", "state", "hint"),
    [("nfs4", "problem", "a disk of this machine"), ("tmpfs", "warning", "move it to a disk if it has to")],
)
def test_file_systems(doctor: Doctor, monkeypatch: Patch, kind: str, state: str, hint: str) -> None:
    """Another machine's, and one that is gone after a reboot."""
    monkeypatch.setattr(place, "file_system", lambda path: kind)
    expect(doctor(), "file system", state, kind, hint)


@pytest.mark.parametrize(
    ("free", "state"),
    [
        (place.NO_SPACE_BYTES - 1, "problem"),
        (place.NO_SPACE_BYTES, "warning"),
        (place.LITTLE_SPACE_BYTES - 1, "warning"),
        (place.LITTLE_SPACE_BYTES, "ok"),
    ],
)
def test_disk_space(doctor: Doctor, monkeypatch: Patch, free: int, state: str) -> None:
    """On either side of the two thresholds."""
    monkeypatch.setattr(place, "_free", lambda path: free)
    found = doctor()["disk space"]
    assert state == found["state"]
    assert state == "ok" or "free some disk space" in found["hint"]


def test_rights_of_the_database(doctor: Doctor, database: Path, monkeypatch: Patch) -> None:
    """Of the file, and of its folder, where SQLite makes the log."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != database)
    expect(doctor(), "database file", "problem", "may not read and write", "correct owner and rights of")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    expect(doctor(), "database file", "problem", "may make no file", f"rights of {database.parent}")


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ((3, 6, 23), "ok"),
        ((3, 7, 0), "warning"),
        ((3, 44, 5), "warning"),
        ((3, 44, 6), "ok"),
        ((3, 45, 0), "warning"),
        ((3, 50, 6), "warning"),
        ((3, 50, 7), "ok"),
        ((3, 51, 2), "warning"),
        ((3, 51, 3), "ok"),
        ((3, 52, 0), "ok"),
    ],
)
def test_sqlite_versions(doctor: Doctor, monkeypatch: Patch, version: tuple[int, ...], state: str) -> None:
    """The first and the last with the race, and the branches in which it was mended earlier."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    found = doctor()["SQLite version"]
    assert state == found["state"]
    assert state == "ok" or "3.51.3, 3.50.7 or 3.44.6" in found["hint"]


def test_a_bus_folder_that_others_may_enter(doctor: Doctor, folder: BusFolder) -> None:
    """Without being a group's on purpose; a group's folder is no finding."""
    folder.path.chmod(0o755)
    expect(doctor(), "bus folder", "warning", "0755", f"chmod 700 {folder.path}")
    for path in (folder.path, folder.journals):
        path.chmod(0o2770)
    assert {} == wrong(doctor())


def test_a_bus_folder_that_may_not_be_used(doctor: Doctor, folder: BusFolder) -> None:
    """Its owner has taken his own rights."""
    folder.journals.chmod(0o500)
    expect(doctor(), "bus folder", "problem", "0500", f"chmod 700 {folder.journals}")


def test_a_bus_folder_of_somebody_else(doctor: Doctor, folder: BusFolder, monkeypatch: Patch) -> None:
    """It is not used, unless it is a group's on purpose, the group is ours, and the one that is set, if any is."""
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    expect(doctor(), "bus folder", "problem", f"belongs to user {uid}", "run as its owner")
    for path in (folder.path, folder.journals):
        path.chmod(0o2770)
    assert {} == wrong(doctor())
    other = next(each.gr_name for each in grp.getgrall() if each.gr_gid not in (os.getegid(), *os.getgroups()))
    monkeypatch.setenv("TELEMETRY_BUS_GROUP", other)
    expect(doctor(), "bus folder", "problem", f"belongs to user {uid}", "run as its owner")


@pytest.mark.parametrize("name", ["journals", "writer.log"])
def test_links_in_the_bus_folder(doctor: Doctor, folder: BusFolder, tmp_path: Path, name: str) -> None:
    """Nothing is read through them."""
    if name == "journals":
        folder.journals.rmdir()
    (target := tmp_path / "target").mkdir()
    (folder.path / name).symlink_to(target)
    expect(doctor(), "bus folder", "problem", "is a link", f"rm {folder.path / name}")


def test_a_lock_that_is_a_link(doctor: Doctor, folder: BusFolder) -> None:
    """What has to do with the writer cannot be checked then, which is a finding and no end."""
    folder.writer_lock.symlink_to(folder.log)
    folder.log.touch()
    found = doctor()
    assert "problem" == found["bus folder"]["state"]
    assert "cannot be checked" in found["writer"]["message"]
    assert found.keys() >= {"drift", "dead letters"}


def test_foreign_files_among_the_journals(doctor: Doctor, folder: BusFolder) -> None:
    """A file of another name, and a link with a journal's; a journal that is being made is none."""
    (folder.journals / "notes.txt").touch()
    (folder.journals / "x.journal").symlink_to("elsewhere")
    (folder.journals / "y.new").touch()
    expect(doctor(), "foreign files", "warning", "2 files", "notes.txt, x.journal", f"out of {folder.journals}")


def test_a_path_too_long_for_a_socket(doctor: Doctor, tmp_path: Path, monkeypatch: Patch) -> None:
    """Reached in another way, which has its own needs."""
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path / ("long" * 30)))
    expect(doctor(), "socket path", "warning", "more than a socket's name holds", "set TELEMETRY_BUS_DIR to a short")


def test_sockets_of_a_dead_writer(doctor: Doctor, folder: BusFolder) -> None:
    """Found without a writer; something that is no socket is worse."""
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('jobs.sock')"],
        cwd=folder.path,
        check=True,
    )
    expect(doctor(), "sockets", "warning", "jobs.sock of a writer that is gone", "the next writer replaces")
    folder.socket_path("control").touch()
    expect(doctor(), "sockets", "problem", "control.sock is not a socket", "rm ")


def test_an_owner_that_does_not_answer(doctor: Doctor, folder: BusFolder) -> None:
    """The lock is held: by whom, and what to do."""
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        expect(doctor(), "writer", "problem", f"process {os.getpid()} owns", "end it by its process id")
    finally:
        lock.release()
    assert {} == wrong(doctor())


def test_journals_of_the_dead_wait(doctor: Doctor, database: Path) -> None:
    """A producer was killed, and no writer runs; where none may be started either it is a problem."""
    program = f"""
import os, signal
from telemetry_bus import TelemetryStore
store = TelemetryStore({str(database)!r}, spawn=False)
for number in range(3):
    store.execute({INSERT!r}, (str(number),))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", program]).returncode
    expect(doctor(), "orphans", "warning", "3 jobs of 1 dead producer waiting", "telemetry-bus flush")


def test_starting_a_writer_is_turned_off(doctor: Doctor, database: Path, monkeypatch: Patch) -> None:
    """And none runs; jobs that wait make it a problem."""
    monkeypatch.setenv("TELEMETRY_BUS_SPAWN", "0")
    expect(doctor(), "spawning", "warning", "TELEMETRY_BUS_SPAWN", "start telemetry-writer")
    store = TelemetryStore(database, spawn=False)
    try:
        store.execute(INSERT, ("b",))
        expect(doctor(), "spawning", "problem", "1 job waiting", "start telemetry-writer")
    finally:
        store.shutdown()


def test_damaged_journals(doctor: Doctor, folder: BusFolder) -> None:
    """One whose header does not check out, one of another version: each has another way out."""
    file = folder.journals / f"{'a' * 32}.journal"
    file.write_bytes(b"TBUSJRN1".ljust(8192, b"\0"))
    expect(doctor(), "damaged journals", "problem", "checksum", "telemetry-bus flush")
    file.write_bytes(b"TBUSJRN9".ljust(8192, b"\0"))
    expect(doctor(), "damaged journals", "problem", "not a journal of this version", "flush with that version")


def test_journals_in_quarantine(doctor: Doctor, folder: BusFolder) -> None:
    """Kept until somebody has looked at them."""
    folder.quarantine.mkdir()
    (folder.quarantine / "a.journal.1").touch()
    expect(doctor(), "quarantine", "warning", "a.journal.1", "writer.log says what is lost", str(folder.quarantine))


def test_dead_letters(doctor: Doctor, database: Path) -> None:
    """Counted in the database."""
    with opened(database.parent) as writer:
        writer.apply([Stream("b").run(template("INSERT INTO missing VALUES (?)"), [1], [2])])
    expect(doctor(), "dead letters", "warning", "2 jobs failed", "dead-letters retry --all")


@pytest.mark.parametrize(
    ("report", "check", "state", "words"),
    [
        ({"state": "degraded", "last_error": "disk is full"}, "writer state", "problem", ["degraded: disk is full"]),
        ({"state": "degraded", "jobs_gone": 20}, "writer state", "problem", ["degraded: jobs gone: 20", "look for"]),
        ({"last_error": "no such table"}, "writer state", "warning", ["no such table", "dead-letters list"]),
        ({"drift": ["t has no column b"]}, "drift", "warning", ["t has no column b", "change the table"]),
        ({"inherited": ["RLIMIT_FSIZE is 9"]}, "inherited", "warning", ["RLIMIT_FSIZE is 9", "stop"]),
        ({"version": "0.0.1"}, "writer", "warning", ["version 0.0.1", "telemetry-bus stop"]),
    ],
)
def test_what_the_writer_says_of_itself(
    doctor: Doctor,
    folder: BusFolder,
    monkeypatch: Patch,
    report: dict[str, Any],
    check: str,
    state: str,
    words: list[str],
) -> None:
    """Its state, its last error, drift, its version."""
    healthy = {"state": "running", "version": __version__, "pid": 17, "last_error": None, "drift": []}
    monkeypatch.setattr(case, "ask", lambda *arguments: {**healthy, **report})
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        expect(doctor(), check, state, *words)
    finally:
        lock.release()


def test_a_program_in_thread_mode(doctor: Doctor, folder: BusFolder, monkeypatch: Patch) -> None:
    """It cannot be asked, and others have to wait for it."""
    monkeypatch.setattr(case.Case, "held", True)
    monkeypatch.setattr(case.Case, "owner", SimpleNamespace(pid=17, is_program=True))
    expect(doctor(), "writer", "warning", "process 17", "thread mode", "use mode daemon")


@pytest.mark.parametrize(
    ("variables", "state", "words"),
    [
        ({"TELEMETRY_BUS_MODE": "demon"}, "problem", ["'demon'", "correct or unset TELEMETRY_BUS_MODE"]),
        ({"TELEMETRY_DATABASE_URL": "oracle://x"}, "problem", ["oracle", "unset TELEMETRY_DATABASE_URL"]),
        ({"TELEMETRY_BUS_IDLE_TIMEOUT": "soon"}, "problem", ["'soon'", "unset TELEMETRY_BUS_IDLE_TIMEOUT"]),
        ({"TELEMETRY_DEBUG": "perhaps"}, "problem", ["'perhaps'", "unset TELEMETRY_DEBUG"]),
        ({"TELEMETRY_DATABASE_URL": "sqlite://"}, "problem", [":memory:", "set TELEMETRY_BUS_MODE to thread"]),
    ],
)
def test_variables_that_are_wrong(
    doctor: Doctor, monkeypatch: Patch, variables: dict[str, str], state: str, words: list[str]
) -> None:
    """Each by itself, or together; the database is named on the command line and is looked at all the same."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expect(doctor(), "environment", state, *words)


def test_variables_that_nothing_reads(doctor: Doctor, monkeypatch: Patch) -> None:
    """A misspelt one is silent otherwise."""
    monkeypatch.setenv("TELEMETRY_BUS_IDLE", "5")
    expect(doctor(), "environment", "warning", "TELEMETRY_BUS_IDLE (did you mean TELEMETRY_BUS_IDLE_TIMEOUT?)")


def test_where_the_database_comes_from(tmp_path: Path, monkeypatch: Patch) -> None:
    """The default one is below the current folder."""
    monkeypatch.chdir(tmp_path)
    assert f"the default database is sqlite:///{tmp_path}/data/mizzou.db" in variables(case.Case(None, {})).message
    named = {"TELEMETRY_DATABASE_URL": "sqlite:///x.db"}
    assert "TELEMETRY_DATABASE_URL" == variables(case.Case(None, named)).message


def test_a_relative_folder_of_buses(doctor: Doctor, monkeypatch: Patch) -> None:
    """Programs in different folders would not meet. (The path is a short one, as sockets want it.)"""
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TELEMETRY_BUS_DIR", "buses")
        expect(doctor(), "environment", "warning", "buses", "absolute path")


def test_a_database_that_the_environment_cannot_name(doctor: Doctor, monkeypatch: Patch) -> None:
    """It is found, and what needs no database is looked at; the same on the command line is a mistake of usage."""
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", "oracle://user:secret@x")
    found = doctor(named=False)
    assert {"environment": "problem"} == wrong(found)
    assert {"environment", "open files", "SQLite version"} == found.keys()
    assert "secret" not in str(found)
    assert exit_codes.USAGE == main(["doctor", "--database", "oracle://x"])


def test_few_open_files(doctor: Doctor, monkeypatch: Patch) -> None:
    """The limit that a writer started from here would have."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (environment.FEW_OPEN_FILES - 1, 4096))
    expect(doctor(), "open files", "warning", "at most 255", "ulimit -n")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (environment.FEW_OPEN_FILES, 4096))
    assert {} == wrong(doctor())


def test_a_check_that_fails_is_a_finding(doctor: Doctor, monkeypatch: Patch) -> None:
    """Not an end: the others are made all the same."""
    monkeypatch.setattr(place, "_free", lambda path: 1 // 0)
    expect(doctor(), "disk space", "problem", "cannot be checked: ZeroDivisionError", "look again")


def test_lines_for_people(database: Path, folder: BusFolder, capsys: Captured) -> None:
    """One line each in a pipe, with the mend in parentheses, and the sum."""
    folder.path.chmod(0o755)
    assert exit_codes.DONE == main(["doctor", "--database", str(database)])
    lines = capsys.readouterr().out.splitlines()
    assert f"{len(checks.NAMES)} checks, 0 problems, 1 warning" == lines[-1]
    assert len(checks.NAMES) + 1 == len(lines)
    assert [f"warning  bus folder        {folder.path} has mode 0755: others may enter (chmod 700 {folder.path})"] == [
        line for line in lines if line.startswith("warning")
    ]


def test_findings_are_told_as_they_come(
    database: Path, folder: BusFolder, capsys: Captured, monkeypatch: Patch
) -> None:
    """To look through a large database takes minutes."""
    seen = []

    def slow(case: object) -> Iterator[tuple[str, Finding]]:
        for name in ("content", "integrity"):
            yield name, ok("well")
            seen.append(capsys.readouterr().out)

    monkeypatch.setattr(checks, "examine", slow)
    assert exit_codes.DONE == main(["doctor", "--database", str(database)])
    assert ["ok       content           well\n", "ok       integrity         well\n"] == seen
    assert "2 checks, 0 problems, 0 warnings\n" == capsys.readouterr().out
