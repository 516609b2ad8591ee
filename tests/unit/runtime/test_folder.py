"""Where the bus of a database lives, and who may enter."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from telemetry_bus.config import parse_database
from telemetry_bus.errors import ConfigError
from telemetry_bus.runtime.folder import MAX_SOCKET_PATH_BYTES, BusFolder

#: A user and a group that are not ours.
STRANGER = 54321


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def bus(tmp_path: Path, group: int | None = None) -> BusFolder:
    return BusFolder.of(parse_database(tmp_path / "x.db"), group, {})


def test_beside_the_database(tmp_path: Path) -> None:
    """The folder has the database's name; it is private, whatever the umask, and all of it is made at once."""
    folder = bus(tmp_path)
    old = os.umask(0)
    try:
        folder.prepare()
        folder.prepare()
    finally:
        os.umask(old)
    assert tmp_path.resolve() / "x.db.bus" == folder.path
    assert [0o700, 0o700] == [mode_of(folder.path), mode_of(folder.journals)]


def test_parents_are_made(tmp_path: Path) -> None:
    """A folder of which nothing is there is made with its parents."""
    folder = BusFolder(tmp_path / "a" / "b" / "x.db.bus")
    folder.prepare()
    assert folder.journals.is_dir()


def test_a_link_to_the_database_leads_to_its_folder(tmp_path: Path) -> None:
    """However the database is reached, its bus is one."""
    (tmp_path / "link.db").symlink_to(tmp_path / "x.db")
    (tmp_path / "folder").symlink_to(tmp_path)
    expected = bus(tmp_path).path
    for name in ("link.db", "folder/x.db", "folder/link.db"):
        assert expected == BusFolder.of(parse_database(tmp_path / name), None, {}).path


def test_another_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TELEMETRY_BUS_DIR` is the parent, absolute from then on; two databases never share a folder below it."""
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path)
    for value in (str(tmp_path / "buses"), "buses"):
        environ = {"TELEMETRY_BUS_DIR": value}
        first = BusFolder.of(parse_database(tmp_path / "x.db"), None, environ)
        again = BusFolder.of(parse_database(tmp_path / "one" / ".." / "x.db"), None, environ)
        second = BusFolder.of(parse_database(tmp_path / "one" / "x.db"), None, environ)
        assert [tmp_path / "buses"] * 2 == [first.path.parent, second.path.parent]
        assert first.path == again.path != second.path
        assert first.path.name.startswith("x.db-")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    """`TELEMETRY_BUS_DIR=` says nothing; it is not the current folder."""
    database = parse_database(tmp_path / "x.db")
    assert BusFolder.of(database, None, {}).path == BusFolder.of(database, None, {"TELEMETRY_BUS_DIR": ""}).path


def test_two_databases_in_one_folder(tmp_path: Path) -> None:
    """Side by side each has its own."""
    paths = {BusFolder.of(parse_database(tmp_path / name), None, {}).path for name in ("x.db", "y.db", "x")}
    assert 3 == len(paths)


def test_memory_has_none() -> None:
    """What lives in one process has nothing to share."""
    with pytest.raises(ConfigError, match=":memory:"):
        BusFolder.of(parse_database(":memory:"), None, {})


def link_to_folder(place: Path) -> None:
    target = place.with_suffix(".target")
    target.mkdir(mode=0o700)
    place.symlink_to(target)


def link_to_nothing(place: Path) -> None:
    place.symlink_to(place.with_suffix(".nothing"))


@pytest.mark.parametrize("inner", ["", "journals"])
@pytest.mark.parametrize("obstacle", [link_to_folder, link_to_nothing, Path.touch])
def test_something_in_its_place(tmp_path: Path, obstacle: Callable[[Path], None], inner: str) -> None:
    """A link, wherever it leads, or a file in the place of one of its folders is refused and left as it is."""
    folder = bus(tmp_path)
    if inner:
        folder.path.mkdir()
    place = folder.path / inner
    obstacle(place)
    before = place.lstat()
    with pytest.raises(ConfigError, match=r"a link|not a folder") as caught:
        folder.prepare()
    assert str(place) == caught.value.subject
    assert caught.value.hint
    assert before == place.lstat()
    assert not place.with_suffix(".nothing").exists()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o701])
def test_rights_are_tightened(tmp_path: Path, mode: int) -> None:
    """A folder of ours that lets others in is made private."""
    folder = bus(tmp_path)
    folder.path.mkdir()
    folder.path.chmod(mode)
    folder.prepare()
    assert 0o700 == mode_of(folder.path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize("mode", [0o700, 0o777, 0o2777, 0o2770])
@pytest.mark.parametrize("inner", ["", "journals"], ids=["folder", "journals"])
def test_folder_of_somebody_else(tmp_path: Path, inner: str, mode: int) -> None:
    """A folder that is not ours is refused: we would write into somebody's trap. It is left as it is."""
    folder = bus(tmp_path)
    folder.prepare()
    os.chown(folder.path / inner, STRANGER, STRANGER)
    (folder.path / inner).chmod(mode)
    with pytest.raises(ConfigError, match=f"belongs to user {STRANGER}"):
        folder.prepare()
    assert mode == mode_of(folder.path / inner)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize(
    ("group", "mode", "taken"),
    [
        (None, 0o2770, True),
        (0, 0o2770, True),
        (STRANGER, 0o2770, False),
        (None, 0o770, False),
        (None, 0o2775, False),
    ],
)
def test_folder_of_our_group(tmp_path: Path, group: int | None, mode: int, taken: bool) -> None:
    """A stranger's folder is accepted when it is a group's on purpose, closed to all others, and the group is ours
    and the configured one."""
    folder = bus(tmp_path, group)
    folder.path.mkdir()
    folder.journals.mkdir()
    for path in (folder.path, folder.journals):
        os.chown(path, STRANGER, os.getegid())
        path.chmod(mode)
    if taken:
        folder.prepare()
    else:
        with pytest.raises(ConfigError, match="join its group" if group is None else "than TELEMETRY_BUS_GROUP or --g"):
            folder.prepare()
    assert mode == mode_of(folder.path)


def test_the_group_of_the_environment(tmp_path: Path) -> None:
    """`TELEMETRY_BUS_GROUP` is what `--group` is to the writer: a folder of another group that is ours too is refused.
    One that says nothing is none, and one that does not exist is an error that names the variable."""
    database = parse_database(tmp_path / "x.db")
    name = grp.getgrgid(os.getegid()).gr_name
    assert os.getegid() == BusFolder.of(database, None, {"TELEMETRY_BUS_GROUP": name}).group
    assert STRANGER == BusFolder.of(database, STRANGER, {"TELEMETRY_BUS_GROUP": name}).group
    assert BusFolder.of(database, None, {"TELEMETRY_BUS_GROUP": ""}).group is None
    with pytest.raises(ConfigError, match="TELEMETRY_BUS_GROUP: there is no such group \\[no-such-group\\]"):
        BusFolder.of(database, None, {"TELEMETRY_BUS_GROUP": "no-such-group"})


def test_with_a_group(tmp_path: Path) -> None:
    """Folders that are made for a group are its own, set-group-id, and stay so."""
    folder = bus(tmp_path, os.getegid())
    folder.prepare()
    folder.prepare()
    assert [0o2770, 0o3770] == [mode_of(folder.path), mode_of(folder.journals)]
    bus(tmp_path).prepare()
    assert 0o2770 == mode_of(folder.path), "one who knows nothing of the group leaves it"


AS_NOBODY = """
import os, sys
from pathlib import Path
from telemetry_bus.errors import ConfigError
from telemetry_bus.runtime.folder import BusFolder
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    BusFolder(Path(sys.argv[1])).prepare()
except ConfigError as error:
    print(error)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_parent_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made is an error that names the path and the way out."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, tmp_path / "x.db.bus"], capture_output=True, text=True, check=False
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert "Permission denied" in ended.stdout
    assert "correct the rights of its parent, or set TELEMETRY_BUS_DIR" in ended.stdout


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_parent_that_only_a_group_may_enter(tmp_path: Path) -> None:
    """Somebody else is told which group that is."""
    parent = tmp_path / "theirs"
    parent.mkdir()
    parent.chmod(0o750)
    for folder in [tmp_path, *tmp_path.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, parent / "x.db.bus"], capture_output=True, text=True, check=False
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert f"only members of group {parent.group()} may enter {parent}" in ended.stdout


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    """A file where a folder should be is such an error too."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make the bus folder"):
        BusFolder(tmp_path / "file" / "x.db.bus").prepare()


def long_folder(tmp_path: Path, socket_bytes: int) -> BusFolder:
    """A folder whose socket `jobs.sock` has a path of so many bytes."""
    missing = socket_bytes - len(os.fsencode(tmp_path)) - len("//jobs.sock")
    path = tmp_path
    while missing > 200:
        path, missing = path / ("x" * 100), missing - 101
    return BusFolder(path / ("ä" * (missing // 2) + "x" * (missing % 2)))


def converse(folder: BusFolder) -> bytes:
    """Bind in the folder, connect from elsewhere, and say something."""
    context = zmq.Context(io_threads=1)
    other = BusFolder(folder.path)
    try:
        server, client = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        server.bind(folder.endpoint("jobs"))
        client.connect(other.endpoint("jobs"))
        client.send(b"hello")
        assert server.poll(10_000)
        return server.recv()
    finally:
        context.destroy(linger=0)
        other.close()


@pytest.mark.parametrize("length", [MAX_SOCKET_PATH_BYTES, MAX_SOCKET_PATH_BYTES + 1, 600])
def test_sockets_at_the_end_of_a_long_path(tmp_path: Path, length: int) -> None:
    """Up to the limit a socket is reached by its path; a longer one through a descriptor of its folder."""
    folder = long_folder(tmp_path, length)
    assert length == len(os.fsencode(folder.socket_path("jobs")))
    folder.prepare()
    before = len(os.listdir("/proc/self/fd"))
    direct = f"ipc://{folder.socket_path('jobs')}" == folder.endpoint("jobs")
    assert (length <= MAX_SOCKET_PATH_BYTES) == direct
    assert b"hello" == converse(folder)
    assert folder.socket_path("jobs").is_socket()
    folder.close()
    folder.close()
    assert before == len(os.listdir("/proc/self/fd"))


def test_long_path_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such way round it is an error with a hint."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="longer than"):
        long_folder(tmp_path, 200).endpoint("jobs")


def test_journals(tmp_path: Path) -> None:
    """Only what is called a journal is one; without a folder there is none."""
    folder = bus(tmp_path)
    assert [] == folder.journal_paths()
    folder.prepare()
    for name in ("b.journal", "a.journal", "c.new", "journal"):
        (folder.journals / name).touch()
    with closing(folder):
        assert ["a.journal", "b.journal"] == [path.name for path in folder.journal_paths()]
