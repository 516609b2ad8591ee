"""Somebody else on the same machine: outside unless he is in the bus's group. Needs root, to become somebody else."""

from __future__ import annotations

import grp
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.errors import WriterAbsent
from telemetry_bus.runtime.folder import BusFolder

from ..support.clock import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[2]
OWNER, MEMBER, STRANGER = 65533, 65534, 65532
TABLE = "CREATE TABLE IF NOT EXISTS t (a)"
INSERT = "INSERT INTO t VALUES (?)"

pytestmark = [
    pytest.mark.root,
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else"),
]


#: What a program begins with: everything is imported before it becomes somebody else, who may not read this Python.
BECOME = """
import encodings.idna, importlib, os, pkgutil, socket, sys, traceback
from contextlib import suppress
import sqlalchemy.dialects.sqlite, sqlite3, zmq
import telemetry_bus, writer_daemon.__main__
for package in (telemetry_bus, writer_daemon):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(found.name)
user, group = int(sys.argv.pop(1)), int(sys.argv.pop(1))
os.setgroups([])
os.setgid(group)
os.setuid(user)
"""
WRITER = "sys.exit(writer_daemon.__main__.main(sys.argv[1:]))"


def popen(user: int, group: int | None, code: str, *arguments: object, home: Path) -> subprocess.Popen[str]:
    """Start a program as another user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "XDG_"))}
    words = [user, user if group is None else group, *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", BECOME + code, *map(str, words)],
        cwd="/",
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(home)},
    )


def as_user(
    user: int, code: str, *arguments: object, home: Path, group: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program as another user, to its end."""
    process = popen(user, group, code, *arguments, home=home)
    output, errors = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess([], process.returncode, output, errors)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-security-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def writers() -> Iterator[list[subprocess.Popen[str]]]:
    """Writers that are asked to leave at the end, and seen to."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.terminate()
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()


def start_writer(
    writers: list[subprocess.Popen[str]], database: Path, *words: str, user: int = 0, group: int | None = None
) -> BusFolder:
    """A writer of another user, once it answers."""
    url = parse_database(database).url
    writers.append(popen(user, group, WRITER, "--database", url, *words, home=database.parent))
    folder = BusFolder.of(parse_database(database), environ={})

    def answers() -> bool:
        assert writers[-1].poll() is None, writers[-1].communicate()
        if not folder.socket_path("control").exists():
            return False
        try:
            return bool(ask(folder, "status", 1.0)["pid"] == writers[-1].pid)
        except WriterAbsent:
            return False

    wait_until(answers, "the writer answers")
    return folder


#: Prints what could be done with each path below the bus folder, one word a line.
TRESPASS = """
import os, socket, sys
bus = sys.argv[1]
def attempt(name, action):
    try:
        action()
    except OSError as error:
        print(name, type(error).__name__)
    else:
        print(name, "DONE")
def connect(name):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{bus}/{name}.sock")
attempt("list", lambda: os.listdir(bus))
attempt("list", lambda: os.listdir(f"{bus}/journals"))
attempt("connect", lambda: connect("jobs"))
attempt("connect", lambda: connect("control"))
for path in sys.argv[2:]:
    attempt("read", lambda: open(path, "rb"))
    attempt("write", lambda: open(path, "r+b"))
    attempt("remove", lambda: os.unlink(path))
attempt("make", lambda: open(f"{bus}/journals/{'0' * 32}.journal", "x"))
attempt("make", lambda: open(f"{bus}/x", "x"))
attempt("rename", lambda: os.rename(bus, bus + ".mine"))
attempt("link", lambda: os.symlink("/tmp", f"{bus}/journals/x"))
attempt("chmod", lambda: os.chmod(bus, 0o777))
"""


@pytest.mark.slow
@pytest.mark.parametrize("parent", [0o755, 0o1777])
def test_a_stranger_stays_outside(place: Path, writers: list[subprocess.Popen[str]], parent: int) -> None:
    """Neither sockets nor journals, log, lock and database can be reached, read, made or removed by another user,
    also in a folder like /tmp; and a job that is under way meanwhile is not disturbed."""
    place.chmod(parent)
    database = place / "telemetry.db"
    before = os.umask(0)
    try:
        folder = start_writer(writers, database)
        with TelemetryStore(database, spawn=False) as store:
            store.execute(INSERT, (1,), ensure=[TABLE])
            store.flush()
            paths = [path for path in (*folder.path.rglob("*"), *place.glob("telemetry.db*")) if path.is_file()]
            assert any(path.suffix == ".journal" for path in paths)
            assert {"telemetry.db", "telemetry.db-wal", "writer.lock"} <= {path.name for path in paths}
            ended = as_user(STRANGER, TRESPASS, folder.path, *paths, home=place)
            assert 0 == ended.returncode, ended.stderr
            assert 9 + 3 * len(paths) == len(ended.stdout.splitlines())
            assert "DONE" not in ended.stdout, ended.stdout
            store.execute(INSERT, (2,))
    finally:
        os.umask(before)
    with TelemetryStore(database, mode="sync") as reader, reader.connection() as connection:
        assert [(1,), (2,)] == connection.execute("SELECT a FROM t").fetchall()


PREPARE = """
import os, sys
bus = sys.argv[1]
os.makedirs(f"{bus}/journals")
for folder in (bus, f"{bus}/journals"):
    os.chmod(folder, int(sys.argv[2], 8))
open(f"{bus}/journals/{'0' * 32}.journal", "wb").write(bytes(8192))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["700", "777", "2770", "2777"])
def test_a_folder_that_a_stranger_has_prepared(place: Path, mode: str) -> None:
    """In a folder like /tmp somebody else may be first: producer and writer refuse to use it, and leave all of it."""
    place.chmod(0o1777)
    database = place / "telemetry.db"
    bus = Path(f"{database}.bus")
    ended = as_user(STRANGER, PREPARE, bus, mode, home=place)
    assert 0 == ended.returncode, ended.stderr
    before = sorted((path, path.lstat().st_mtime_ns) for path in bus.rglob("*"))
    with TelemetryStore(database, spawn=False) as store, pytest.raises(ConfigError, match="belongs to user"):
        store.execute(INSERT, (1,), ensure=[TABLE])
    ended = as_user(0, WRITER, "--database", database, home=place)
    assert 2 == ended.returncode
    assert "belongs to user" in ended.stderr
    assert before == sorted((path, path.lstat().st_mtime_ns) for path in bus.rglob("*"))
    assert not database.exists()


def the_group() -> str:
    for found in grp.getgrall():
        if found.gr_gid not in (0, OWNER, MEMBER, STRANGER):
            return found.gr_name
    pytest.skip("there is no group to share with")


MEMBER_WORKS = """
import sys
from telemetry_bus import TelemetryStore
store = TelemetryStore(sys.argv[1], spawn=False, timeout=20)
for number in range(100):
    store.execute("INSERT INTO t VALUES (?)", (number,), ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
store.flush()
print(store.stats().acknowledged)
"""


@pytest.fixture
def shared(place: Path, writers: list[subprocess.Popen[str]]) -> tuple[Path, BusFolder, int]:
    """A database of `OWNER`, with a writer that shares the bus with a group: its path, the bus folder, the group."""
    name = the_group()
    group = grp.getgrnam(name).gr_gid
    home = place / "home"
    home.mkdir()
    os.chown(home, OWNER, group)
    home.chmod(0o750)
    folder = start_writer(writers, home / "telemetry.db", "--group", name, user=OWNER, group=group)
    return home / "telemetry.db", folder, group


def test_rights_of_a_group(shared: tuple[Path, BusFolder, int]) -> None:
    """Folders are 2770, that of the journals with the sticky bit, and sockets 0660, all of the group; nothing is open
    to others."""
    _, folder, group = shared
    assert [0o2770, 0o3770] == [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.journals)]
    for name in ("jobs", "control"):
        assert 0o660 == stat.S_IMODE(folder.socket_path(name).stat().st_mode)
    for path in (folder.path, *folder.path.rglob("*")):
        assert group == path.stat().st_gid
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007


@pytest.mark.slow
def test_a_member_of_the_group_works(shared: tuple[Path, BusFolder, int]) -> None:
    """Another user of the group submits and sees it committed."""
    database, folder, group = shared
    ended = as_user(MEMBER, MEMBER_WORKS, database, home=folder.path, group=group)
    assert "100\n" == ended.stdout, ended.stderr
    assert 100 == ask(folder, "status", 5.0)["jobs_committed"]


@pytest.mark.slow
def test_a_stranger_to_the_group_stays_outside(shared: tuple[Path, BusFolder, int]) -> None:
    """Who is not in the group is outside as ever."""
    database, folder, _ = shared
    database.parent.chmod(0o755)
    paths = [path for path in folder.path.rglob("*") if path.is_file()]
    ended = as_user(STRANGER, TRESPASS, folder.path, *paths, home=folder.path)
    assert 0 == ended.returncode, ended.stderr
    assert "DONE" not in ended.stdout, ended.stdout


MEMBER_DIES = """
import os, sys
from telemetry_bus import TelemetryStore
store = TelemetryStore(sys.argv[1], spawn=False, journal_bytes=1 << 20)
os.umask(0o077)
store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
os._exit(0)
"""


@pytest.mark.slow
def test_the_journal_of_a_dead_member_is_adopted(
    shared: tuple[Path, BusFolder, int], writers: list[subprocess.Popen[str]]
) -> None:
    """A member that died before it had sent anything: the writer, another user, applies what is in its journal."""
    database, folder, group = shared
    writers[0].kill()
    writers[0].wait()
    ended = as_user(MEMBER, MEMBER_DIES, database, home=folder.path, group=group)
    assert 0 == ended.returncode, ended.stderr
    (journal,) = folder.journal_paths()
    assert 0o440 == stat.S_IMODE(journal.stat().st_mode)
    start_writer(writers, database, "--group", grp.getgrgid(group).gr_name, user=OWNER, group=group)
    wait_until(lambda: not folder.journal_paths(), "the journal is adopted")
    assert 1 == ask(folder, "status", 5.0)["jobs_committed"]


@pytest.mark.slow
def test_an_unfinished_journal_of_another_member_is_left_alone(shared: tuple[Path, BusFolder, int]) -> None:
    """The writer may not open it; it goes on."""
    database, folder, group = shared
    code = "import os, sys; open(sys.argv[1], 'x').close(); os.chmod(sys.argv[1], 0o600); os.utime(sys.argv[1], (0, 0))"
    ended = as_user(MEMBER, code, folder.journals / f"{'1' * 32}.new", home=folder.path, group=group)
    assert 0 == ended.returncode, ended.stderr
    before = ask(folder, "status", 5.0)
    ended = as_user(MEMBER, MEMBER_WORKS, database, home=folder.path, group=group)
    assert "100\n" == ended.stdout, ended.stderr
    wait_until(lambda: ask(folder, "status", 5.0)["uptime_s"] > before["uptime_s"] + 2.2, "it has looked around twice")
    assert before["pid"] == ask(folder, "status", 5.0)["pid"]


def test_a_member_does_not_remove_anothers_journal(shared: tuple[Path, BusFolder, int]) -> None:
    """Nor rename it, or make another in its place: only its owner, and the owner of the bus, may."""
    _, folder, group = shared
    journal = folder.journals / "anothers"
    ended = as_user(OWNER, "open(sys.argv[1], 'x').close()", journal, home=folder.path, group=group)
    assert 0 == ended.returncode, ended.stderr
    code = """
for attempt in (lambda: os.unlink(sys.argv[1]), lambda: os.rename(sys.argv[1], sys.argv[1] + ".mine")):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__)
"""
    ended = as_user(MEMBER, code, journal, home=folder.path, group=group)
    assert ["PermissionError"] * 2 == ended.stdout.split(), ended.stderr
    assert journal.exists()


MEMBER_IS_FIRST = """
import os, sys
os.umask(0)
for folder in (sys.argv[1], sys.argv[1] + "/journals"):
    os.mkdir(folder)
    os.chmod(folder, 0o2770)
"""
OWNER_COMES = """
import sys
from telemetry_bus import ConfigError, TelemetryStore
store = TelemetryStore(sys.argv[1], spawn=False, timeout=1)
try:
    store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("known", [True, False])
def test_a_member_that_was_first_in_a_folder_like_tmp(place: Path, known: bool) -> None:
    """It would have all that the others submit: refused, unless the database is its own."""
    group = grp.getgrnam(the_group()).gr_gid
    place.chmod(0o1777)
    database = place / "telemetry.db"
    if known:
        database.touch()
        os.chown(database, MEMBER, group)
    ended = as_user(MEMBER, MEMBER_IS_FIRST, f"{database}.bus", home=place, group=group)
    assert 0 == ended.returncode, ended.stderr
    ended = as_user(OWNER, OWNER_COMES, database, home=place, group=group)
    assert ("has made the bus folder" not in ended.stdout) == known, ended.stdout + ended.stderr
    assert known == bool(list(Path(f"{database}.bus/journals").iterdir()))


UNDER_A_HARSH_UMASK = """
import os, sys
os.umask(0o777)
from telemetry_bus import TelemetryStore
with TelemetryStore(sys.argv[1], timeout=60, mode="thread") as store:
    store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
    store.flush()
    with store.connection() as connection:
        print(connection.execute("SELECT a FROM t").fetchall())
"""


def test_the_umask_of_a_program_is_its_own(place: Path) -> None:
    """What the bus makes has the rights that it needs."""
    home = place / "home"
    home.mkdir()
    os.chown(home, OWNER, OWNER)
    database = home / "telemetry.db"
    ended = as_user(OWNER, UNDER_A_HARSH_UMASK, database, home=home)
    assert "[(1,)]\n" == ended.stdout, ended.stderr
    bus = Path(f"{database}.bus")
    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in (bus, bus / "journals")}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in bus.glob("*.lock")}


OWNER_WRITES = """
import sys
from telemetry_bus import TelemetryStore
with TelemetryStore(sys.argv[1], spawn=False, timeout=20) as store:
    store.execute("INSERT INTO t VALUES ('hunter2canary')", ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
    store.flush()
"""
MEMBER_READS = """
import sys
from telemetry_bus import TelemetryStore
store = TelemetryStore(sys.argv[1], spawn=False, timeout=20)
store.execute("INSERT INTO t VALUES (json_extract('{}', 'x' || (SELECT group_concat(a) FROM t)))",
              ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
store.flush()
print(store.stats().failed, store.stats().last_error)
from telemetry_bus.control import ask
from telemetry_bus.config import parse_database
from telemetry_bus.runtime.folder import BusFolder
print(ask(BusFolder.of(parse_database(sys.argv[1])), "status", 20.0)["last_error"])
"""


@pytest.mark.parametrize("readable", [False, True])
def test_an_error_tells_a_member_nothing_of_rows(shared: tuple[Path, BusFolder, int], readable: bool) -> None:
    """Unless the group may read the database: then its text is told as ever."""
    database, folder, group = shared
    ended = as_user(OWNER, OWNER_WRITES, database, home=folder.path, group=group)
    assert 0 == ended.returncode, ended.stderr
    if readable:
        os.chown(database, OWNER, group)
        database.chmod(0o640)
    ended = as_user(MEMBER, MEMBER_READS, database, home=folder.path, group=group)
    assert ended.stdout.startswith("1 "), ended.stderr
    assert readable == ("hunter2canary" in ended.stdout)


MEMBER_ORDERS = """
import sys
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.errors import WriterError
from telemetry_bus.runtime.folder import BusFolder
folder = BusFolder.of(parse_database(sys.argv[1]))
for name, arguments in (("status", {}), ("vacuum", {"pages": 1}), ("dead-letters retry", {"ids": None}),
                        ("dead-letters purge", {"ids": None}), ("stop", {})):
    try:
        ask(folder, name, 20.0, **arguments)
        print("done")
    except WriterError as error:
        print("refused" if "may write the database" in str(error) else error)
"""


@pytest.mark.parametrize(("user", "writable"), [(MEMBER, False), (MEMBER, True), (OWNER, False)])
def test_who_may_order_the_writer_about(
    place: Path, writers: list[subprocess.Popen[str]], user: int, writable: bool
) -> None:
    """Whoever may write the database; any other member may ask how it is."""
    name = the_group()
    group = grp.getgrnam(name).gr_gid
    home = place / "home"
    home.mkdir()
    os.chown(home, OWNER, group)
    home.chmod(0o750)
    database = home / "telemetry.db"
    database.touch()
    os.chown(database, OWNER, group)
    database.chmod(0o660 if writable else 0o640)
    folder = start_writer(writers, database, "--group", name, user=OWNER, group=group)
    ended = as_user(user, MEMBER_ORDERS, database, home=home, group=group)
    orders = "done" if writable or user == OWNER else "refused"
    assert ["done", *[orders] * 4] == ended.stdout.split(), ended.stderr
    if orders == "done":
        wait_until(lambda: writers[-1].poll() is not None, "it has left")
        assert not (folder.path / "operator.key").exists()


def test_another_program_of_the_same_user_does_not_cut_a_journal_short(place: Path) -> None:
    """It may, as long as it changes the file's rights first; a stray `cp`, `truncate` or log rotation does not."""
    place.chmod(0o777)
    program = """
database = sys.argv[1]
store = telemetry_bus.TelemetryStore(database, spawn=False)
store.execute("INSERT INTO t VALUES (?)", (1,))
try:
    os.truncate(store.stats().journal, 0)
except PermissionError:
    print("refused", flush=True)
os._exit(0)
"""
    done = as_user(OWNER, program, place / "telemetry.db", home=place)
    assert "refused\n" == done.stdout, done.stderr


@pytest.mark.parametrize("mode", ["daemon", "thread"])
def test_a_process_that_becomes_another_user(place: Path, mode: str) -> None:
    """Its store goes on with what is open. Where it would have to start a writer it says why not; nothing is lost."""
    program = """
from telemetry_bus import ConfigError, FlushTimeout, JournalUnavailable, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.runtime.folder import BusFolder

database, mode, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, other = TelemetryStore(database, mode=mode), TelemetryStore(database, mode=mode)
store.execute("CREATE TABLE t (a)")
store.flush()
if mode == "daemon":
    ask(BusFolder.of(parse_database(database)), "stop", 10)
os.setgid(user)
os.setuid(user)
store.execute("INSERT INTO t VALUES (?)", (1,))
try:
    store.flush(timeout=60 if mode == "thread" else 3)
    print("written", flush=True)
except FlushTimeout as error:
    print(error, flush=True)
try:
    other.execute("INSERT INTO t VALUES (?)", (2,))
except (ConfigError, JournalUnavailable) as error:
    print(error, flush=True)
os._exit(0)
"""
    done = as_user(0, program, place / "telemetry.db", mode, OWNER, home=place)
    assert 2 == done.stdout.count("\n"), done.stdout + done.stderr
    assert "starts again" not in done.stderr
    first, second = done.stdout.splitlines()
    if mode == "daemon":
        assert "Permission denied" in first
        assert f"this process was user 0 when it began, and is user {OWNER} now" in first
    else:
        assert "written" == first
    assert "bus folder" in second or "Permission denied" in second
    with TelemetryStore(place / "telemetry.db") as store:
        store.execute("CREATE TABLE IF NOT EXISTS t (a)")
    with sqlite3.connect(place / "telemetry.db") as connection:
        wait_until(lambda: [(1,)] == connection.execute("SELECT a FROM t").fetchall(), "its job is written")
    connection.close()
