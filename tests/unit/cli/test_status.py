"""`telemetry-bus status` where no writer process answers: absent, or degraded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import exit_codes, main, status, survey
from telemetry_bus.cli.survey import Bus
from telemetry_bus.journal.orphan import inspect
from telemetry_bus.runtime.locks import InstanceLock

from .. import sampling
from ..writing import Stream, opened, template

KEYS = {
    "state",
    "pid",
    "version",
    "epoch",
    "uptime_s",
    "database",
    "pending_jobs",
    "streams",
    "jobs_committed",
    "rows_committed",
    "batches",
    "dead_letters",
    "jobs_failed",
    "jobs_dropped",
    "duplicates_dropped",
    "resends_requested",
    "commit_ms",
    "ddl_cached",
    "drift",
    "wal_bytes",
    "last_error",
    "malformed",
    "jobs_gone",
    "journals_adopted",
    "journals_quarantined",
    "journals_unread",
    "leaving",
    "inherited",
    "damaged_journals",
}
POISON = template("INSERT INTO missing VALUES (?)")

Report = Callable[[int], dict[str, Any]]


@pytest.fixture
def report(database: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """The report of `status --json`, which must end with the given code."""

    def run(code: int) -> dict[str, Any]:
        assert code == main(["status", "--json", "--database", str(database)])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def store(database: Path) -> Iterator[TelemetryStore]:
    """A producer that never starts a writer."""
    store = TelemetryStore(database, spawn=False)
    yield store
    store.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` does not wait long for an answer that will not come."""
    monkeypatch.setattr(status, "ANSWER_S", 0.01)


def test_nothing_there_is_missing_and_stays_so(report: Report, database: Path) -> None:
    """All keys are there, what only a writer knows is null; to look makes neither folder nor database."""
    before = sorted(database.parent.rglob("*"))
    found = report(exit_codes.MISSING)
    assert KEYS <= found.keys()
    assert "there is no such database" == found["last_error"]
    assert ("missing", None, 0, 0, []) == tuple(
        found[key] for key in ("state", "pid", "pending_jobs", "dead_letters", "streams")
    )
    assert {"p50": None, "p99": None} == found["commit_ms"]
    assert before == sorted(database.parent.rglob("*"))


def test_a_database_without_a_writer_is_absent(report: Report, database: Path) -> None:
    """It need not be one of the bus."""
    database.touch()
    assert ("absent", None) == tuple(report(exit_codes.ABSENT)[key] for key in ("state", "last_error"))


@pytest.mark.parametrize("command", [["status"], ["top"], ["top", "--json", "--count", "1"], ["flush"], ["stop"]])
def test_a_path_that_was_mistyped_does_not_look_like_a_bus_at_rest(
    command: list[str], database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, by a code of its own; neither folder nor database is made."""
    before = sorted(database.parent.rglob("*"))
    assert exit_codes.MISSING == main([*command, "--database", f"{database}.typo"])
    told = capsys.readouterr()
    assert "there is no such database" in (told.out if command == ["status"] else told.err)
    assert before == sorted(database.parent.rglob("*"))


def test_the_answer_of_an_older_writer_lacks_what_it_does_not_know(
    report: Report, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are there all the same."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    older = {key: value for key, value in sampling.report().items() if key != "jobs_failed"}
    monkeypatch.setattr(status, "ask", lambda *arguments: older)
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        found = report(exit_codes.DONE)
    finally:
        lock.release()
    assert KEYS <= found.keys()
    assert found["jobs_failed"] is None


def test_jobs_that_have_failed_change_the_exit_code(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as their letters stand in the table: the writer is well, and what was submitted is not there."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    monkeypatch.setattr(status, "ask", lambda *arguments: sampling.report(dead_letters=2, jobs_failed=1))
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        assert exit_codes.FAILED == main(["status", "--database", str(database)])
    finally:
        lock.release()
    told = capsys.readouterr().out.splitlines()
    assert "state         running" == told[0]
    assert "dead letters  2; 1 job failed since the writer began" in told


def test_pending_jobs_are_told_without_a_writer(report: Report, store: TelemetryStore) -> None:
    """Read from the journals, by stream."""
    for number in range(3):
        store.execute("INSERT INTO t VALUES (?)", (number,))
    found = report(exit_codes.ABSENT)
    journal = inspect(Path(store.stats().journal or ""))
    assert 3 == found["pending_jobs"]
    assert [
        {
            "stream": journal.stream.hex(),
            "pid": os.getpid(),
            "alive": True,
            "pending_jobs": 3,
            "pending_bytes": journal.pending_bytes,
            "acknowledged_jobs": 0,
        }
    ] == found["streams"]


def test_dead_letters_are_counted_without_a_writer(report: Report, tmp_path: Path) -> None:
    """In the database."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(POISON, [1], [2])])
    assert 2 == report(exit_codes.ABSENT)["dead_letters"]


def test_the_size_of_the_log_is_told_without_a_writer(report: Report, database: Path) -> None:
    """It may have been left behind."""
    database.touch()
    Path(f"{database}-wal").write_bytes(b"x" * 100)
    assert 100 == report(exit_codes.ABSENT)["wal_bytes"]


def test_a_file_that_is_no_database_is_told(report: Report, database: Path) -> None:
    """How many dead letters there are is unknown then, not none."""
    database.write_bytes(b"no database" * 100)
    found = report(exit_codes.ABSENT)
    assert found["dead_letters"] is None
    assert "file is not a database" in found["last_error"]


@pytest.mark.usefixtures("impatient")
def test_an_owner_that_does_not_answer_is_degraded(report: Report, database: Path) -> None:
    """The lock is held: somebody owns the database, and it can be told who."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        found = report(exit_codes.DEGRADED)
    finally:
        lock.release()
    assert ("degraded", os.getpid()) == (found["state"], found["pid"])
    assert "does not answer" in found["last_error"]
    assert KEYS <= found.keys()
    assert "missing" == report(exit_codes.MISSING)["state"]


@pytest.mark.usefixtures("impatient")
def test_an_owner_is_degraded_where_the_system_does_not_tell_who_it_is(
    report: Report, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the list of locks, and in a container where process ids are those of others."""
    monkeypatch.setattr(survey, "holder", lambda lock: None)
    with TelemetryStore(database, mode="thread") as store:
        store.execute("CREATE TABLE t (a)")
        found = report(exit_codes.DEGRADED)
    assert ("degraded", None) == (found["state"], found["pid"])
    assert "thread mode" in found["last_error"]


def test_jobs_that_are_gone_are_told_to_people(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is degraded for this alone has no last error: else nothing would say why."""
    folder = Bus.of(str(database)).folder
    folder.prepare()
    monkeypatch.setattr(status, "ask", lambda *arguments: sampling.report(state="degraded", jobs_gone=20))
    lock = InstanceLock.acquire(folder.writer_lock)
    assert lock is not None
    try:
        assert exit_codes.DEGRADED == main(["status", "--database", str(database)])
    finally:
        lock.release()
    assert (
        "jobs gone     20 that were committed, for the database was deleted, replaced or restored"
        in capsys.readouterr().out.splitlines()
    )


def test_a_program_in_thread_mode_is_told_at_once(
    report: Report, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has streams of its own, which no writer process has; asking it would be in vain."""
    monkeypatch.setattr(status, "ask", None)
    with TelemetryStore(database, mode="thread") as store:
        store.execute("INSERT INTO t VALUES (1)", ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
        store.flush()
        found = report(exit_codes.DEGRADED)
    assert ("degraded", os.getpid()) == (found["state"], found["pid"])
    assert f"process {os.getpid()} owns the database in thread mode" in found["last_error"]


def test_damaged_journals_are_told_and_do_not_hide_the_others(report: Report, store: TelemetryStore) -> None:
    """Cut off, of another program: each is named, none is an error of the command. A link is no journal."""
    store.execute("INSERT INTO t VALUES (1)")
    journals = Path(store.stats().journal or "").parent
    (journals / "cut-off.journal").touch()
    (journals / "foreign.journal").write_bytes(b"\1" * 10_000)
    (journals / "link.journal").symlink_to(journals / "cut-off.journal")
    found = report(exit_codes.ABSENT)
    assert 1 == found["pending_jobs"]
    assert ["cut-off.journal", "foreign.journal"] == found["damaged_journals"]
    assert "cut-off.journal cannot be read" in found["last_error"]


def test_a_journal_that_goes_away_meanwhile_is_none(
    report: Report, store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are decided."""
    store.execute("INSERT INTO t VALUES (1)")

    def gone(path: Path, most_bytes: int) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(survey, "inspect", gone)
    found = report(exit_codes.ABSENT)
    assert (0, [], []) == (found["pending_jobs"], found["streams"], found["damaged_journals"])


def test_a_report_for_people(database: Path, store: TelemetryStore, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: what is known, a line each, then the streams in a table."""
    store.execute("INSERT INTO t VALUES (1)")
    journal = inspect(Path(store.stats().journal or ""))
    assert exit_codes.ABSENT == main(["status", "--database", str(database)])
    told = capsys.readouterr().out.splitlines()
    assert [
        "state         absent",
        f"database      sqlite:///{database}",
        "pending jobs  1",
        "dead letters  0",
        "log           0 bytes (WAL)",
        "",
    ] == told[:6]
    assert [
        ["stream", "process", "alive", "pending", "jobs", "pending", "bytes"],
        [journal.stream.hex(), str(os.getpid()), "yes", "1", str(journal.pending_bytes)],
    ] == [line.split() for line in told[6:]]


def test_what_waits_is_on_top_for_people(
    database: Path, store: TelemetryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of many streams the most pressing ones are read first."""
    stores = [store, *(TelemetryStore(database, spawn=False) for _ in range(3))]
    for one in stores:
        one.execute("INSERT INTO t VALUES (1)")
    busy = max(stores, key=lambda one: one.stats().journal or "")  # the last one by its name
    busy.execute("INSERT INTO t VALUES (2)")
    assert exit_codes.ABSENT == main(["status", "--database", str(database)])
    for one in stores:
        one.shutdown()
    table = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert Path(busy.stats().journal or "").stem == table[1].split()[0]
