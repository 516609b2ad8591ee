"""`telemetry-bus dead-letters` as far as no writer is needed, and what it does when the writer does not answer."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus import TelemetryStore
from telemetry_bus.cli import exit_codes, main
from telemetry_bus.cli.calling import Caller
from telemetry_bus.cli.deadletters import orders as letter_orders
from telemetry_bus.cli.deadletters.letters import reading
from telemetry_bus.config import parse_database
from telemetry_bus.database.deadletters import DeadLetters
from telemetry_bus.errors import ReadOnly, WriterAbsent

from ..writing import EVENTS, INSERT_EVENT, Stream, execute, opened, rows, template

STREAM = Stream("a").id.hex()
#: Two statements, the second of which fails; a definition; values of every kind.
JOB = template((INSERT_EVENT, True), "INSERT INTO missing (a, b, c) VALUES (?, ?, ?)", ensure=(EVENTS,))
PAYLOAD = [[["x", 1], ["y", None]], [b"\x00\xff", float("inf"), "Größe\x1b[31m"]]
POISON = template("INSERT INTO missing\n  VALUES (?)")

Run = Callable[..., str]


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A database with three dead letters, and no writer."""
    stream = Stream("a")
    with opened(tmp_path) as writer:
        writer.apply([stream.run(JOB, PAYLOAD)])
        writer.apply([stream.run(POISON, [2], [3])])
    return tmp_path


@pytest.fixture
def run(database: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command prints; it must end with the given code, and say nothing on standard error."""

    def run(*words: str, code: int = exit_codes.DONE) -> str:
        assert code == main(["dead-letters", *words, "--database", str(database)])
        told = capsys.readouterr()
        assert "" == told.err
        return told.out

    return run


@pytest.fixture
def refused(database: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The one line with which a command fails; it must end with the given code, and print nothing else."""

    def run(*words: str, code: int = exit_codes.FAILED) -> str:
        assert code == main(["dead-letters", *words, "--database", str(database)])
        told = capsys.readouterr()
        assert ("", 1) == (told.out, told.err.count("\n"))
        return told.err

    return run


@pytest.mark.parametrize("words", [["list"], ["show", "1"], ["export", "-"], ["retry", "--all"], ["purge", "--all"]])
def test_a_database_that_is_not_there_is_told_and_not_made(words: list[str], database: Path, refused: Run) -> None:
    """A wrong path must not look like a healthy database."""
    assert "there is no such database" in refused(*words, code=exit_codes.MISSING)
    assert not database.exists()


@pytest.mark.usefixtures("letters")
def test_list_is_one_json_array_with_the_whole_text(run: Run) -> None:
    """Every letter with every key; the error has its traceback."""
    found = json.loads(run("list", "--json"))
    assert [(1, 1), (2, 2), (3, 3)] == [(letter["id"], letter["sequence"]) for letter in found]
    keys = ["id", "stream", "sequence", "failed_at", "error_type", "error", "statement"]
    assert [keys] * 3 == [list(letter) for letter in found]
    assert (STREAM, "OperationalError", "INSERT INTO missing\n  VALUES (?)") == (
        found[1]["stream"],
        found[1]["error_type"],
        found[1]["statement"],
    )
    assert found[1]["error"].startswith("no such table: missing\nTraceback (most recent call last):\n")


@pytest.mark.usefixtures("letters")
def test_list_in_a_pipe_has_a_line_for_each(run: Run) -> None:
    """The first line of the error, the statement on one line."""
    lines = run("list").splitlines()
    assert 4 == len(lines)
    assert lines[0].split("  ")[0] == "id"
    assert lines[2].startswith(" 2  20")
    assert STREAM in lines[2]
    assert lines[2].endswith("OperationalError: no such table: missing  INSERT INTO missing VALUES (?)")


@pytest.mark.usefixtures("letters")
def test_list_is_limited_to_the_oldest(run: Run) -> None:
    """The first of them, in the order in which they are tried again."""
    assert [1, 2] == [letter["id"] for letter in json.loads(run("list", "--limit", "2", "--json"))]
    assert 3 == len(run("list", "--limit", "2").splitlines())


def test_a_database_that_the_bus_never_wrote_to_has_no_dead_letters(tmp_path: Path, run: Run, refused: Run) -> None:
    """Nobody has made the table; nothing is made now."""
    execute(tmp_path, "CREATE TABLE other (a)")
    assert "no dead letters\n" == run("list")
    assert "[]\n" == run("list", "--json")
    assert "" == run("export", "-")
    assert "0 applied, 0 failed\n" == run("retry", "--all")
    assert "0 dead letters deleted\n" == run("purge", "--all", "--yes")
    assert "1: there is no such dead letter\n0 applied, 1 failed\n" == run("retry", "1", code=exit_codes.FAILED)
    assert "there is no dead letter 1" in refused("show", "1")
    assert [("other",)] == rows(tmp_path, "SELECT name FROM sqlite_master")


@pytest.mark.usefixtures("letters")
def test_show_has_all_of_it(run: Run) -> None:
    """Definitions, statements with their values, which one failed, and the traceback; nothing steers the terminal."""
    told = run("show", "1")
    assert f"  {EVENTS}\n" in told
    assert f"statement:\n  {INSERT_EVENT}\n  values ('x', 1)\n  values ('y', None)\n" in told
    assert "statement (this one failed):\n  INSERT INTO missing (a, b, c) VALUES (?, ?, ?)\n" in told
    assert r"(b'\x00\xff', inf, 'Größe\x1b[31m')" in told
    assert "traceback:\n  Traceback (most recent call last):\n" in told
    assert "\x1b" not in told


@pytest.mark.usefixtures("letters")
def test_show_for_machines_has_all_of_it(run: Run) -> None:
    """What JSON has no form for is an object that names its kind."""
    found = json.loads(run("show", "1", "--json"))
    assert [EVENTS] == found["ensure"]
    assert [
        {"sql": INSERT_EVENT, "rows": [["x", 1], ["y", None]]},
        {
            "sql": "INSERT INTO missing (a, b, c) VALUES (?, ?, ?)",
            "rows": [[{"base64": "AP8="}, {"float": "inf"}, "Größe\x1b[31m"]],
        },
    ] == found["statements"]
    assert found["error"].startswith("no such table: missing\n")
    assert found["traceback"].startswith("Traceback (most recent call last):\n")


def test_a_job_that_cannot_be_read_is_shown_as_its_bytes(letters: Path, run: Run) -> None:
    """It may be the very reason why it failed."""
    execute(letters, "UPDATE telemetry_bus_dead_letters SET job = x'00ff' WHERE id = 2")
    assert "cannot be read; 2 bytes" in run("show", "2")
    assert {"base64": "AP8="} == json.loads(run("show", "2", "--json"))["job"]


def test_export_is_complete_private_and_replaces_the_file(letters: Path, run: Run) -> None:
    """A line for each letter, each as `show --json` has it; readable for its owner only."""
    target = letters / "letters.jsonl"
    target.write_text("old")
    target.chmod(0o644)
    assert f"3 dead letters written to {target}\n" == run("export", str(target))
    lines = target.read_text().splitlines()
    assert [json.loads(run("show", id, "--json")) for id in "123"] == [json.loads(line) for line in lines]
    assert 0o600 == stat.S_IMODE(target.stat().st_mode)
    assert "".join(f"{line}\n" for line in lines) == run("export", "-")
    assert {"exported": 3, "file": str(target)} == json.loads(run("export", str(target), "--json"))


def test_export_that_fails_leaves_the_old_file_and_nothing_else(
    letters: Path, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one takes its place when it is whole."""
    target = letters / "letters.jsonl"
    target.write_text("old")
    get = DeadLetters.get

    def failing(self: DeadLetters, id: int) -> Any:
        if id == 3:
            raise sqlite3.DatabaseError("injected")
        return get(self, id)

    monkeypatch.setattr(DeadLetters, "get", failing)
    assert "cannot be read: injected" in refused("export", str(target))
    assert "old" == target.read_text()
    assert [] == list(letters.glob(".letters.jsonl*"))


def test_export_replaces_nothing_but_files(letters: Path, refused: Run) -> None:
    """Neither a folder nor what is special, such as a pipe or a device."""
    os.mkfifo(letters / "pipe")  # a device would be lost, should this ever fail in the hands of root
    assert "is not a file" in refused("export", str(letters / "pipe"), code=exit_codes.USAGE)
    assert "is not a file" in refused("export", str(letters), code=exit_codes.USAGE)
    assert (letters / "pipe").is_fifo()


def test_export_follows_a_link(letters: Path, run: Run) -> None:
    """The link stays one."""
    (letters / "link").symlink_to("file")
    run("export", str(letters / "link"))
    assert (letters / "link").is_symlink()
    assert 3 == len((letters / "file").read_text().splitlines())


def test_a_database_that_is_damaged_is_told(letters: Path, database: Path, refused: Run) -> None:
    """In one line, and not as if there were nothing."""
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    assert "dead letters: cannot be read: " in refused("list")


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "all\n"])
def test_purge_at_a_terminal_asks_and_takes_nothing_but_yes(
    letters: Path, refused: Run, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The question says how many; no writer is started for a no."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    told = refused("purge", "1", "2", "9")
    assert told.startswith(f"delete 2 dead letters of sqlite:///{letters}/telemetry.db for good? [y/N] ")
    assert told.endswith("nothing is deleted\n")
    assert not (letters / "telemetry.db.bus").exists()


@pytest.fixture
def writer(letters: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[str]], list[Any]]]:
    """A writer in place of a process; for each question to come its fate. The questions that it was asked."""
    asked: list[Any] = []
    fates: list[str] = []
    with opened(letters) as core:

        def ask(self: Caller, name: str, ids: list[int]) -> Any:
            asked.append(ids)
            fate = fates.pop(0) if fates else "answers"
            if fate == "lost":
                raise WriterAbsent("it has left")
            answer = [{"id": id, "ok": not error, "error": error.partition("\n")[0]} for id, error in core.retry(ids)]
            if fate == "dies":
                raise WriterAbsent("it was killed")
            return answer

        monkeypatch.setattr(Caller, "ask", ask)
        monkeypatch.setattr(Caller, "reach", lambda self: None)

        def meets(these: Sequence[str]) -> list[Any]:
            fates[:] = these
            return asked

        yield meets


@pytest.mark.parametrize(("fate", "again"), [("lost", [1, 2]), ("dies", [2])])
def test_retry_without_an_answer_asks_the_database(
    letters: Path, run: Run, writer: Callable[[Sequence[str]], list[Any]], fate: str, again: list[int]
) -> None:
    """The question, or the answer, was lost: what was applied counts as applied, the rest is asked for once more."""
    asked = writer([fate])
    execute(letters, "CREATE TABLE missing (a, b, c)")
    told = json.loads(run("retry", "1", "2", "--json", code=exit_codes.FAILED))
    assert [[1, 2], again] == asked
    assert {1: True, 2: False} == {result["id"]: result["ok"] for result in told}
    assert [(1,)] == rows(letters, "SELECT count(*) FROM missing")


def test_retry_asks_in_portions(
    run: Run, writer: Callable[[Sequence[str]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, no question and no answer is longer than a message may be."""
    monkeypatch.setattr(letter_orders, "RETRY_PORTION", 2)
    asked = writer([])
    assert "0 applied, 3 failed" == run("retry", "--all", code=exit_codes.FAILED).splitlines()[-1]
    assert [[1, 2], [3]] == asked


def test_retry_prints_each_result_and_each_id_once(run: Run, writer: Callable[[Sequence[str]], list[Any]]) -> None:
    """Known ones and unknown ones, in one go; one that was named twice is tried once."""
    asked = writer([])
    told = run("retry", "9", "3", "3", code=exit_codes.FAILED)
    assert [
        "9: there is no such dead letter",
        "3: no such table: missing",
        "0 applied, 2 failed",
    ] == told.splitlines()
    assert [[3]] == asked


def test_retry_of_many_tells_each_error_once(
    run: Run, writer: Callable[[Sequence[str]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many lines as there are kinds, and not as there are letters."""
    monkeypatch.setattr(letter_orders, "LISTED", 2)
    writer([])
    *errors, last = run("retry", "--all", code=exit_codes.FAILED).splitlines()
    assert "0 applied, 3 failed" == last
    assert ["no such table: missing (3 dead letters, the first is 1)"] == errors


def test_what_reads_cannot_write(letters: Path, database: Path) -> None:
    """A mistake in a command that only looks must not reach the data."""
    with reading(parse_database(database)) as found, pytest.raises(ReadOnly):
        found.delete([1])
    assert [(3,)] == rows(letters, "SELECT count(*) FROM telemetry_bus_dead_letters")


def test_purge_in_a_script_asks_nobody(letters: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, and without ids, it deletes them all: one that is named, then the rest."""
    purged: list[list[int]] = []
    with opened(letters) as core:

        def ask(self: Caller, name: str, ids: list[int]) -> int:
            purged.append(list(ids))
            return core.purge(ids)

        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        monkeypatch.setattr(Caller, "reach", lambda self: None)
        monkeypatch.setattr(Caller, "ask", ask)
        assert "1 dead letter deleted\n" == run("purge", "2")
        assert "2 dead letters deleted\n" == run("purge")
    assert [[2], [1, 3]] == purged
    assert [(0,)] == rows(letters, "SELECT count(*) FROM telemetry_bus_dead_letters")


OTHER = template("INSERT INTO Nowhere VALUES (?)")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Thirty letters of one kind, ten of another, one of an old time."""
    stream = Stream("a")
    with opened(tmp_path) as writer:
        writer.apply([stream.run(POISON, *([number] for number in range(30)))])
        writer.apply([stream.run(OTHER, *([number] for number in range(11)))])
    execute(tmp_path, "UPDATE telemetry_bus_dead_letters SET failed_at = '2020-01-01 00:00:00.000000' WHERE id = 41")
    return tmp_path


@pytest.mark.usefixtures("many")
def test_many_letters_are_listed_by_their_kind(run: Run) -> None:
    """A line for each error and statement, with count, first and last; JSON has all of them, unless it is to group."""
    head, first, second = run("list").splitlines()
    assert ["count", "like", "first"] == head.split()[:3]
    assert ["30", "1"] == first.split()[:2]
    assert ["11", "31"] == second.split()[:2]
    assert "no such table: missing" in first
    assert 41 == len(json.loads(run("list", "--json")))
    grouped = json.loads(run("list", "--group", "--json"))
    assert [(30, 1), (11, 31)] == [(group["count"], group["id"]) for group in grouped]
    assert "2020-01-01 00:00:00.000000" not in grouped[0].values()
    assert 42 == len(run("list", "--each").splitlines())
    assert 26 == len(run("list", "--limit", "25").splitlines())


@pytest.mark.usefixtures("letters")
def test_few_letters_are_grouped_when_they_are_to_be(run: Run) -> None:
    """Values in an error make no kinds of their own."""
    assert 3 == len(run("list", "--group").splitlines())


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--error", "no such TABLE: missing"], range(1, 31)),
        (["--error", "operationalerror"], range(1, 42)),
        (["--error", "VALUES"], ()),
        (["--table", "missing"], range(1, 31)),
        (["--table", "NOWHERE"], range(31, 42)),
        (["--table", "no"], ()),
        (["--since", "1h"], range(1, 41)),
        (["--since", "2019-12-31"], range(1, 42)),
        (["--since", "2020-01-01T01:00+01:00"], range(1, 42)),
        (["--since", "2020-01-01T01:00"], range(1, 41)),
        (["--like", "35"], range(31, 42)),
        (["--like", "35", "--since", "1d", "--table", "nowhere"], range(31, 41)),
    ],
)
@pytest.mark.usefixtures("many")
def test_letters_are_chosen(run: Run, words: list[str], ids: Sequence[int]) -> None:
    """By error, table, time and kind; list and export have the same."""
    assert list(ids) == [letter["id"] for letter in json.loads(run("list", "--json", *words))]
    assert list(ids) == [json.loads(line)["id"] for line in run("export", "-", *words).splitlines()]


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--like", "99"], ["--like", "x"], ["--since", "0h"]])
@pytest.mark.usefixtures("many")
def test_a_choice_that_makes_no_sense(words: list[str], refused: Run) -> None:
    """Is told, and nothing is taken for all."""
    refused("purge", "--yes", *words, code=exit_codes.USAGE)


def test_letters_are_run_again_and_deleted_by_choice(
    many: Path, run: Run, monkeypatch: pytest.MonkeyPatch, refused: Run
) -> None:
    """Those that a filter leaves; of named ones those that it leaves too. Retention is by age."""
    asked: list[tuple[str, list[int]]] = []

    def ask(self: Caller, name: str, *, ids: list[int]) -> Any:
        asked.append((name, list(ids)))
        return len(ids) if "purge" in name else [{"id": id, "ok": True, "error": ""} for id in ids]

    monkeypatch.setattr(Caller, "reach", lambda self: None)
    monkeypatch.setattr(Caller, "ask", ask)
    run("purge", "--older-than", "52w", "--yes")
    run("purge", "--like", "41", "1", "31", "41", "--yes")
    assert [("dead-letters purge", [41]), ("dead-letters purge", [31, 41])] == asked
    asked.clear()
    assert "11 applied, 0 failed\n" == run("retry", "--table", "nowhere")[-21:]
    assert [("dead-letters retry", list(range(31, 42)))] == asked
    assert "one of the arguments" in refused("retry", code=exit_codes.USAGE)


def test_a_constraint_that_only_commit_finds_is_of_the_tables_of_its_job(tmp_path: Path, run: Run) -> None:
    """No statement failed by itself."""
    stream = Stream("a")
    parent = "CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)"
    child = "CREATE TABLE IF NOT EXISTS child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
    with opened(tmp_path) as writer:
        writer.apply([stream.run(template("INSERT INTO child VALUES (?)", ensure=(parent, child)), [7])])
    (letter,) = json.loads(run("list", "--json"))
    assert letter["statement"] is None
    assert [letter] == json.loads(run("list", "--json", "--table", "Child"))
    assert [] == json.loads(run("list", "--json", "--table", "parent"))


def test_a_letter_knows_its_process(database: Path, run: Run) -> None:
    """Machine, process and program, although all of it has ended."""
    with TelemetryStore(database, mode="thread") as store:
        store.execute("INSERT INTO missing VALUES (1)")
    found = json.loads(run("show", "1", "--json"))["origin"]
    assert (os.uname().nodename, os.getpid()) == (found["host"], found["pid"])
    assert found["program"]
    assert f"(process {os.getpid()}) on {os.uname().nodename}" in run("show", "1")
    assert found == json.loads(run("export", "-"))["origin"]
