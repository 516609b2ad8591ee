"""`telemetry-bus backup` with real producers and a real writer."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, TelemetryStore
from telemetry_bus.cli import backup as command
from telemetry_bus.cli import exit_codes, main
from telemetry_bus.config import parse_database

from ..support.bus import Bus
from ..support.clock import DEADLINE_S, wait_until
from ..support.jobs import event, pair

pytestmark = pytest.mark.integration

#: Pairs, until a file is there. Says when it has begun, and how many it were.
PRODUCES = """
store = TelemetryStore(database)
number = 0
while not os.path.exists(sys.argv[3]):
    for _ in range(50):
        number += 1
        pair(store, sys.argv[2], number)
    time.sleep(0.001)
    if number == 50:
        print("under way", flush=True)
store.shutdown(wait=True)
print(number)
"""
#: The command in small steps, so that there are many of them.
STEPS = """
import sys
from telemetry_bus.cli import backup, main
backup._PAGES = 10
sys.exit(main(sys.argv[1:]))
"""
#: The name a copy has until it is whole.
UNFINISHED = "*.unfinished"


def snapshot(path: Path) -> dict[str, int]:
    """The last number of each producer in a copy, which is whole, and holds of each stream what its ledger says."""
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        ledger = connection.execute("SELECT last_sequence FROM telemetry_bus_ledger ORDER BY 1").fetchall()
        found = [
            connection.execute(
                f"SELECT producer, max(number), count(*), count(DISTINCT number) FROM {table}"
                " GROUP BY producer ORDER BY producer"
            ).fetchall()
            for table in ("events", "details")
        ]
    assert found[0] == found[1]
    assert [] == [row for row in found[0] if len(set(row[1:])) != 1]
    assert ledger == sorted((row[1],) for row in found[0])
    return {producer: last for producer, last, _, _ in found[0]}


@pytest.fixture
def quiet(database: Path) -> Iterator[Path]:
    """A database with two committed jobs, and no writer."""
    with TelemetryStore(database, mode="thread") as store:
        pair(store, "p", 1)
        pair(store, "p", 2)
    yield database
    assert [] == list(database.parent.rglob(UNFINISHED))


@pytest.mark.slow
def test_under_load(bus: Bus) -> None:
    """Four busy producers do not keep it from ending. The copy is the state of one moment: of each stream
    the rows up to its ledger's number, both rows of each job. It is one private file, in no need of a log."""
    go = bus.home / "go"
    producers = [bus.start(PRODUCES, name, str(go)) for name in ("a", "b", "c", "d")]
    for process in producers:
        assert process.stdout is not None
        assert "under way\n" == process.stdout.readline()
    wait_until(lambda: [(4,)] == bus.rows("SELECT count(DISTINCT producer) FROM events"), "all have something to copy")
    before = bus.status()["rows_committed"]
    copy = bus.home / "copy.db"
    told = json.loads(
        bus.finish(
            bus.start_command("-c", STEPS, "backup", str(copy), "--json", TELEMETRY_DATABASE_URL=bus.database.url)
        )
    )
    go.touch()
    ends = {name: int(bus.finish(process)) for name, process in zip("abcd", producers, strict=True)}
    assert {"file", "bytes", "seconds", "pending_jobs"} == told.keys()
    assert (str(copy), copy.stat().st_size, 0o600) == (told["file"], told["bytes"], copy.stat().st_mode & 0o777)
    assert b"\1\1" == copy.read_bytes()[18:20]  # without a log: https://www.sqlite.org/fileformat.html
    held = snapshot(copy)
    assert before <= 2 * sum(held.values())
    assert all(0 < held[name] <= ends[name] for name in ends)
    assert {name: list(range(1, end + 1)) for name, end in ends.items()} == bus.numbers("events")
    assert [copy] == list(bus.home.glob("*copy*"))


def test_somebody_commits_between_two_steps(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is followed by a commit; it ends all the same, with what was there at its beginning."""
    monkeypatch.setattr(command, "_PAGES", 1)
    copy = quiet.parent / "copy.db"
    steps: list[tuple[int, int]] = []
    with TelemetryStore(quiet, mode="thread") as store:

        def commit(left: int, pages: int) -> None:
            event(store, "q", len(steps) + 1)
            store.flush()
            steps.append((left, pages))
            assert len(steps) <= 100

        command.backup(parse_database(quiet), copy, commit)
    assert {"p": 2} == snapshot(copy)
    assert [pages for _, pages in steps[:1]] * len(steps) == [pages for _, pages in steps]
    assert list(range(len(steps) - 1, -1, -1)) == [left for left, _ in steps]


def test_what_waits_in_the_journals_is_told(quiet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No backup holds it. None of this needs a writer."""
    copy = quiet.parent / "copy.db"
    store = TelemetryStore(quiet, spawn=False)
    event(store, "q", 1)
    try:
        assert exit_codes.DONE == main(["backup", str(copy), "--database", str(quiet)])
        assert "1 job in the journals, which no backup holds" == capsys.readouterr().out.splitlines()[1]
    finally:
        store.shutdown()
    assert {"p": 2} == snapshot(copy)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_written_over(
    quiet: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands there stays, and it is said before anything is copied."""
    monkeypatch.delattr(command, "_copy")
    target = quiet.parent / "copy.db"
    match kind:
        case "file":
            target.write_text("precious")
        case "folder":
            target.mkdir()
        case _:
            target.symlink_to("nowhere")
    before = target.lstat()
    assert exit_codes.USAGE == main(["backup", str(target), "--database", str(quiet)])
    assert f"telemetry-bus: backup: is there already [{target}]" in capsys.readouterr().err
    assert before == target.lstat()


def test_a_target_that_comes_meanwhile(quiet: Path) -> None:
    """It stays, too."""
    target = quiet.parent / "copy.db"
    with pytest.raises(ConfigError, match="is there already"):
        command.backup(parse_database(quiet), target, lambda left, pages: target.touch())
    assert 0 == target.stat().st_size


def test_sigterm(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-C, nothing is left: a timer that gives up, again and again, does not fill the disk."""

    @contextmanager
    def terminated(_: object) -> Iterator[Callable[[int, int], None]]:
        yield lambda left, pages: os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "_progress", terminated)
    with pytest.raises(SystemExit) as ended:
        main(["backup", str(quiet.parent / "copy.db"), "--database", str(quiet)])
    assert exit_codes.TERMINATED == ended.value.code
    assert [] == list(quiet.parent.glob("*copy*"))


def test_a_target_that_comes_at_the_last_moment(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays, even if it comes behind the last look at the name."""
    target = quiet.parent / "copy.db"
    link = os.link

    def late(copy: Path, name: Path) -> None:
        name.write_text("precious")
        link(copy, name)

    monkeypatch.setattr("os.link", late)
    with pytest.raises(ConfigError, match="is there already"):
        command.backup(parse_database(quiet), target, lambda left, pages: None)
    assert "precious" == target.read_text()


def test_a_file_system_without_hard_links(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy gets its name all the same, and is the only file."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    copy = quiet.parent / "copy.db"
    command.backup(parse_database(quiet), copy, lambda left, pages: None)
    assert {"p": 2} == snapshot(copy)


def test_a_database_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None is made, and no copy of it."""
    assert exit_codes.MISSING == main(["backup", str(tmp_path / "copy.db"), "--database", str(tmp_path / "no.db")])
    assert "there is no such database" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(quiet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names what was asked for, and nothing that nobody knows."""
    target = quiet.parent / "no" / "copy.db"
    assert exit_codes.FAILED == main(["backup", str(target), "--database", str(quiet)])
    told = capsys.readouterr().err
    assert told.startswith(f"telemetry-bus: backup: cannot be made: No such file or directory [{target}] (")
    assert "unfinished" not in told


def test_a_folder_behind_a_link(
    quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`link/..` is where the system finds it; the copy is made, and told of, there."""
    (tmp_path / "disk" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/below")
    monkeypatch.chdir(tmp_path)
    assert exit_codes.DONE == main(["backup", "link/../copy.db", "--database", str(quiet)])
    copy = tmp_path.resolve() / "disk" / "copy.db"
    assert capsys.readouterr().out.startswith(f"{copy}: ")
    assert {"p": 2} == snapshot(copy)
    assert exit_codes.FAILED == main(["backup", "no/../copy.db", "--database", str(quiet)])
    assert "backup: cannot be made: No such file or directory [no/../copy.db]" in capsys.readouterr().err


def test_a_corrupt_database(quiet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not sound is no backup: it says so, and keeps nothing."""
    with quiet.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (quiet.stat().st_size - 4096))
    assert exit_codes.FAILED == main(["backup", str(quiet.parent / "copy.db"), "--database", str(quiet)])
    assert "corrupt" in capsys.readouterr().err
    assert not (quiet.parent / "copy.db").exists()


def test_the_disk_of_the_copy_is_full(quiet: Path) -> None:
    """Both files are named, and nothing is left."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with TelemetryStore(quiet, mode="thread") as store:
        store.execute("INSERT INTO notes VALUES (?)", ("x" * 200_000,), ensure=["CREATE TABLE notes (note)"])
    target = quiet.parent / "copy.db"
    code = "import sys; from telemetry_bus.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, "backup", str(target), "--database", str(quiet)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert exit_codes.FAILED == ended.returncode
    assert f"{quiet} to {target}" in ended.stderr
    assert not target.exists()


def test_an_interrupt(quiet: Path) -> None:
    """It ends between two steps, and leaves nothing."""

    def press(left: int, pages: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command.backup(parse_database(quiet), quiet.parent / "copy.db", press)
    assert not (quiet.parent / "copy.db").exists()
