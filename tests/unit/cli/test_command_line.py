"""The command line of `telemetry-bus`: options, failures in one line, exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_bus import __version__
from telemetry_bus.cli import exit_codes, main, status
from telemetry_bus.cli.arguments import positive, seconds
from telemetry_bus.cli.output import Output

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "words",
    [
        ["--database", "{}", "--json", "status"],
        ["status", "--json", "--database", "{}"],
        ["--json", "status", "--database", "{}"],
        ["--database", "elsewhere.db", "status", "--database={}", "--json"],
    ],
)
def test_global_options_stand_before_or_behind_the_command(words: list[str], database: Path, capsys: Captured) -> None:
    """Neither place takes away what was said in the other; what is said twice counts the second time."""
    database.touch()
    assert exit_codes.ABSENT == main([word.format(database) for word in words])
    assert f'"database": "sqlite:///{database}"' in capsys.readouterr().out


def test_global_options_stand_between_the_words_of_a_command_too(database: Path, capsys: Captured) -> None:
    """Between a group and its command."""
    database.touch()
    assert exit_codes.DONE == main(["dead-letters", "--database", str(database), "list", "--json"])
    assert "[]\n" == capsys.readouterr().out


def test_the_database_of_the_environment_is_the_default(
    database: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a store."""
    database.touch()
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{database}")
    assert exit_codes.ABSENT == main(["status", "--json"])
    assert f'"database": "sqlite:///{database}"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "COMMAND"),
        (["nonsense"], "'nonsense'"),
        (["status", "--nonsense"], "--nonsense"),
        (["stat"], "'stat'"),
        (["flush", "--timeout", "-1"], "'-1' is not a number of seconds"),
        (["dead-letters", "show", "x"], "'x' is not a positive number"),
        (["dead-letters", "retry"], "one of the arguments ID --all"),
        (["dead-letters", "retry", "1", "--all"], "not allowed with"),
        (["status", "--database", ":memory:"], ":memory: has no bus folder"),
        (["status", "--database", "mysql://user:secret@host/x"], "unknown kind of database"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(words: list[str], complaint: str, capsys: Captured) -> None:
    """On standard error, with the exit code of a wrong usage; nothing of a password."""
    assert exit_codes.USAGE == main(words)
    told = capsys.readouterr()
    assert "" == told.out
    assert 1 == told.err.count("\n")
    assert told.err.startswith("telemetry-bus: ")
    assert complaint in told.err
    assert "secret" not in told.err


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` has a defect."""

    def broken(_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(status, "status", broken)


@pytest.mark.usefixtures("defect")
def test_a_defect_is_told_in_one_line_too(database: Path, capsys: Captured) -> None:
    """With its type, and how to see more."""
    assert exit_codes.FAILED == main(["status", "--database", str(database)])
    expected = "telemetry-bus: RuntimeError: two lines (a defect; --traceback shows where)\n"
    assert ("", expected) == capsys.readouterr()


@pytest.mark.usefixtures("defect")
def test_a_traceback_is_shown_when_it_is_asked_for(database: Path, capsys: Captured) -> None:
    """Above the line."""
    assert exit_codes.FAILED == main(["--traceback", "status", "--database", str(database)])
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file(tmp_path: Path, database: Path, capsys: Captured) -> None:
    """In the words of the system."""
    database.touch()
    target = tmp_path / "nowhere" / "letters"
    assert exit_codes.FAILED == main(["dead-letters", "export", str(target), "--database", str(database)])
    told = capsys.readouterr().err
    assert told.startswith(f"telemetry-bus: No such file or directory: {target.parent}/")
    assert 1 == told.count("\n")


def test_ctrl_c_has_the_exit_code_of_shells(database: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "status", interrupted)
    assert exit_codes.INTERRUPTED == main(["status", "--database", str(database)])
    assert ("", "") == capsys.readouterr()


def test_help_lists_commands_and_exit_codes(capsys: Captured) -> None:
    """Every command, every code."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert 0 == ended.value.code
    told = capsys.readouterr().out
    for name in ("status", "top", "flush", "stop", "dead-letters", "exit codes:"):
        assert f"\n{name}" in told or f"\n    {name} " in told
    for code in (getattr(exit_codes, name) for name in dir(exit_codes) if name.isupper() and name != "EPILOG"):
        assert f"\n  {code:<5}" in told


@pytest.mark.parametrize(
    "command",
    [
        "",
        "status",
        "top",
        "flush",
        "stop",
        "dead-letters",
        "dead-letters retry",
        "dead-letters export",
        "doctor",
        "prune",
        "install-service",
        "uninstall-service",
    ],
)
def test_help_fits_the_usual_terminal(command: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is broken by the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    told = capsys.readouterr().out.splitlines()
    assert 80 >= max(map(len, told))
    assert told[-1].startswith("  143  ")


def test_the_version_is_that_of_the_package(capsys: Captured) -> None:
    """As `telemetry-writer` says it."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert f"telemetry-bus {__version__}\n" == capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(database: Path) -> None:
    """As with `| head`: silence, on both sides."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "telemetry_bus", "status", "--database", str(database)],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # what is buffered would be written at the exit
        )
    finally:
        os.close(writer)
    assert (exit_codes.FAILED, "") == (ended.returncode, ended.stderr)


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        (">/dev/full", exit_codes.FAILED, "telemetry-bus: No space left on device\n"),
        (">/dev/full 2>/dev/full", exit_codes.FAILED, ""),
        (">&-", exit_codes.ABSENT, ""),
        (">&- 2>&-", exit_codes.ABSENT, ""),
    ],
)
def test_an_output_that_takes_nothing(database: Path, where: str, code: int, told: str) -> None:
    """One line at most says so. A closed output is as good as /dev/null."""
    database.touch()
    ended = subprocess.run(
        ["bash", "-c", f'exec "$0" -m telemetry_bus status --database "$1" {where}', sys.executable, str(database)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # what is buffered would be written at the exit
    )
    assert (code, "", told) == (ended.returncode, ended.stdout, ended.stderr)


def test_who_lacks_rights_is_told_what_to_do(database: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """In the words of `doctor`; it may be a file that is to be written, too."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(database))

    monkeypatch.setattr("telemetry_bus.cli.survey.Bus.journals", refuse)
    assert exit_codes.FAILED == main(["status", "--database", str(database)])
    told = f"telemetry-bus: Permission denied: {database} (run it as the user whose bus it is, or name another path)\n"
    assert told == capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²", "9223372036854775808", "9" * 5000])
def test_an_id_is_one_that_the_database_can_have(text: str) -> None:
    """Anything else would be refused in the writer, in other words."""
    with pytest.raises(argparse.ArgumentTypeError):
        positive(text)
    assert 9223372036854775807 == positive("9223372036854775807")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_a_time_is_a_number_of_seconds(text: str) -> None:
    """Finite, and not negative."""
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)
    assert 0.5 == seconds(".5")


def test_an_output_is_standard_output_unless_told_otherwise(capsys: Captured) -> None:
    """At the time when it is made."""
    Output(as_json=False).line("x")
    assert "x\n" == capsys.readouterr().out
