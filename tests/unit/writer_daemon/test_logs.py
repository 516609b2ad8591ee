"""The writer's log: one event, one line, whatever it says and wherever it goes; and it never hurts the writer."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.errors import printable
from writer_daemon import logs
from writer_daemon.logs import MAX_LINE_BYTES, Json, Lines, LogFile, Text, configure, is_journal

NAME = "telemetry_bus.writer"

#: What a table's name, a path or an error may hold: line ends of every kind, escapes of a terminal, what cannot be
#: encoded, and a whole forged event.
HOSTILE = [
    "a\nb",
    "a\rb",
    "a\r\nb",
    "a\x0bb\x0cb",
    "a\x1cb\x1db\x1eb",
    "a\x85b",
    "a\u2028b\u2029b",
    "a\x00b",
    "a\x1b[2Jb",
    "a\x9b2Jb",
    "a\x7fb",
    "a\u202eb",
    "a\ud800b",
    "\n<0>EMERGENCY forged",
    '"}\n{"level": "forged"}',
    "\n2026-01-01T00:00:00.000Z INFO telemetry_bus.writer[1]: forged",
]


def record(message: str, *args: object, level: int = logging.ERROR, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": NAME,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message,
            "args": args,
            **fields,
        }
    )
    made.created, made.msecs, made.process = 1_000_000_000.25, 250.0, 7
    return made


def failed(error: BaseException) -> logging.LogRecord:
    """A record with an exception that was raised."""
    try:
        raise error
    except type(error):
        return record("it failed", exc_info=sys.exc_info())


class Pipe:
    """A pipe, and the lines that were written into it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def lines(self) -> list[str]:
        data = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        return data.decode().splitlines()

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_text() -> None:
    """Time in UTC, level, logger, process, message."""
    assert "2001-09-09T01:46:40.250Z ERROR telemetry_bus.writer[7]: no 3" == Text().format(record("no %d", 3))


def test_text_for_journald() -> None:
    """The priority in front, which journald takes away; no time and no process, which it has itself."""
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert [
        "<7>DEBUG telemetry_bus.writer: x",
        "<6>INFO telemetry_bus.writer: x",
        "<4>WARNING telemetry_bus.writer: x",
        "<3>ERROR telemetry_bus.writer: x",
        "<2>CRITICAL telemetry_bus.writer: x",
    ] == [Text(journald=True).format(record("x", level=level)) for level in levels]


def test_json() -> None:
    """Five keys are always there; what the event has to tell follows."""
    event = json.loads(Json().format(record("adopted %d jobs", 3, level=logging.INFO, jobs=3, stream="ab")))
    assert {
        "time": "2001-09-09T01:46:40.250Z",
        "level": "info",
        "logger": NAME,
        "pid": 7,
        "message": "adopted 3 jobs",
        "jobs": 3,
        "stream": "ab",
    } == event
    assert ["time", "level", "logger", "pid", "message"] == list(event)[:5]
    assert datetime.fromisoformat(event["time"]).utcoffset() is not None


def test_json_for_journald() -> None:
    """The priority goes before the object; a field cannot take the place of a key that is always there."""
    line = Json(journald=True).format(record("x", level=logging.WARNING, level_="y", time="forged", odd=Path("/x")))
    assert line.startswith("<4>{")
    event = json.loads(line[3:])
    assert ("2001-09-09T01:46:40.250Z", "/x") == (event["time"], event["odd"])


def test_an_exception() -> None:
    """As text folded into the line, from which `sed` makes the traceback again; in JSON by its keys."""
    broken = failed(ValueError("no\nsuch"))
    text = Text().format(broken)
    assert 1 == len(text.splitlines())
    assert r"it failed\nTraceback (most recent call last):\n  File " in text
    assert text.endswith(r"ValueError: no\nsuch")
    event = json.loads(Json().format(broken))
    assert ("it failed", "ValueError: no\nsuch") == (event["message"], event["error"])
    assert event["traceback"].startswith("Traceback (most recent call last):\n")


def test_a_traceback_that_came_as_text() -> None:
    """A dead letter brings its traceback along: it stands in JSON once."""
    event = json.loads(Json().format(record("no %d\n%s", 3, "Traceback …\n  x", traceback="Traceback …\n  x")))
    assert ("no 3", "Traceback …\n  x") == (event["message"], event["traceback"])


@pytest.mark.parametrize("formatter", [Text(), Text(True), Json(), Json(True)], ids=["text", "textJ", "json", "jsonJ"])
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_breaks_or_forges_a_line(text: str, formatter: logging.Formatter, pipe: Pipe) -> None:
    """As message, as a field, as an exception's text: what is written is one line of printable characters."""
    handler = Lines(pipe.writer)
    handler.setFormatter(formatter)
    for made in (record("path %s", text, path=text), record(text), failed(ValueError(text))):
        handler.emit(made)
        (line,) = pipe.lines()
        assert line.isprintable()
        if isinstance(formatter, Json):
            assert any(text in str(value) for value in json.loads(line.removeprefix("<3>")).values())


def test_printable_leaves_words_alone() -> None:
    """Words of any language are for people; only what is not printable is escaped."""
    assert r"Größe 漢字 a\b '\n'" == printable("Größe 漢字 a\\b '\n'")


@pytest.mark.parametrize("character", ["x", "漢", "\n", "\ud800", "😀", '"'])
@pytest.mark.parametrize("formatter", [Text(), Json()], ids=["text", "json"])
def test_a_long_event_is_cut_in_the_middle(character: str, formatter: logging.Formatter, pipe: Pipe) -> None:
    """A line has at most so many bytes, so that it is written at once; JSON stays JSON, and head and end are kept."""
    handler = Lines(pipe.writer)
    handler.setFormatter(formatter)
    long = character * 100_000
    handler.emit(record("head %s tail", long, traceback=f"head {long} tail", statement=long))
    handler.emit(record("next"))
    line, following = pipe.lines()
    assert len(line.encode()) < MAX_LINE_BYTES
    assert "next" in following
    if isinstance(formatter, Json):
        event = json.loads(line)
        assert event["message"].startswith("head ")
        assert event["traceback"].endswith(" tail")
    else:
        assert "[7]: head " in line
        assert line.endswith(" tail")


@pytest.fixture
def journal_stream(pipe: Pipe) -> str:
    found = os.fstat(pipe.writer)
    return f"{found.st_dev}:{found.st_ino}"


def test_journald_is_known_by_its_stream(pipe: Pipe, journal_stream: str) -> None:
    """Only where the variable names this very descriptor: it is inherited by programs that log elsewhere."""
    assert is_journal(pipe.writer, {"JOURNAL_STREAM": journal_stream})
    for value in ("1:2", "", "nonsense", journal_stream + "0"):
        assert not is_journal(pipe.writer, {"JOURNAL_STREAM": value})
    assert not is_journal(pipe.writer, {})
    os.close(pipe.writer)
    assert not is_journal(pipe.writer, {"JOURNAL_STREAM": journal_stream})


def test_nobody_reads(pipe: Pipe) -> None:
    """A pipe that is full is not waited for; what was left out is told when there is room again."""
    handler = Lines(pipe.writer)
    handler.setFormatter(Text())
    for number in range(5000):
        handler.emit(record("%d %s", number, "x" * 3000))
    assert 5 < len(pipe.lines()) < 100
    handler.emit(record("after"))
    told, after = pipe.lines()
    assert "lines of this log could not be written" in told
    assert after.endswith(": after")
    handler.emit(record("once"))
    assert 1 == len(pipe.lines())


def closed_pipe(pipe: Pipe, tmp_path: Path) -> int:
    os.close(pipe.reader)
    return pipe.writer


def closed_descriptor(pipe: Pipe, tmp_path: Path) -> int:
    os.close(pipe.writer)
    return pipe.writer


def full_disk(pipe: Pipe, tmp_path: Path) -> int:
    os.dup2(fd := os.open("/dev/full", os.O_WRONLY), pipe.writer)
    os.close(fd)
    return pipe.writer


def stopped_reader_of_a_socket(pipe: Pipe, tmp_path: Path) -> int:
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), pipe.writer)
    os.dup2(theirs.fileno(), pipe.reader)
    ours.close()
    theirs.close()
    return pipe.writer


@pytest.mark.parametrize("broken", [closed_pipe, closed_descriptor, full_disk, stopped_reader_of_a_socket])
def test_a_log_that_cannot_be_written(
    broken: Callable[[Pipe, Path], int], pipe: Pipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is raised, nothing waited for, nothing said elsewhere."""
    handler = Lines(broken(pipe, tmp_path))
    handler.setFormatter(Text())
    for _ in range(1000):
        handler.handle(record("x" * 3000))
    assert ("", "") == capfd.readouterr()


def test_a_line_that_the_disk_had_no_room_for(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line is ended before the next one begins."""
    handler = Lines(pipe.writer)
    handler.setFormatter(Text())
    with monkeypatch.context() as patch:
        write = os.write
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:60]))
        handler.emit(record("half of it"))
    handler.emit(record("next"))
    half, told, after = pipe.lines()
    assert half.endswith("[7]: half")
    assert "1 lines of this log could not be written" in told
    assert after.endswith(": next")


def test_a_defect_where_it_is_logged(pipe: Pipe) -> None:
    """A record that cannot be formatted is told of, and does not end anything."""
    handler = Lines(pipe.writer)
    handler.setFormatter(Text())
    handler.emit(record("no %d", "text"))
    assert "'no %d' cannot be formatted: TypeError" in pipe.lines()[0]


def test_a_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log and two older ones, each hardly longer than the limit, whole lines in the order they were written."""
    monkeypatch.setattr(logs, "LOG_BYTES", 1000)
    handler = LogFile(tmp_path / "writer.log")
    handler.setFormatter(Text())
    for number in range(100):
        handler.emit(record("number %d", number))
    handler.close()
    assert ["writer.log", "writer.log.1", "writer.log.2"] == sorted(path.name for path in tmp_path.iterdir())
    kept = [(tmp_path / name).read_text() for name in ("writer.log.2", "writer.log.1", "writer.log")]
    assert all(0 < len(text) < 1100 for text in kept)
    numbers = [int(line.rpartition(" ")[2]) for text in kept for line in text.splitlines()]
    assert [*range(numbers[0], 100)] == numbers


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced"])
def test_a_file_that_another_program_has_rotated(tmp_path: Path, how: str) -> None:
    """As logrotate does: the next line stands in a file of the name, and lines before it where they went."""
    path, moved = tmp_path / "writer.log", tmp_path / "writer.log-20260101"
    handler = LogFile(path)
    handler.setFormatter(Text())
    handler.emit(record("first"))
    path.rename(moved)
    if how == "removed":
        moved.unlink()
    if how == "replaced":
        path.touch()
    handler.emit(record("second"))
    handler.emit(record("third"))
    handler.close()
    assert ["second", "third"] == [line.rpartition(" ")[2] for line in path.read_text().splitlines()]
    assert how == "removed" or moved.read_text().endswith("first\n")


def test_a_file_whose_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on in the file that nobody sees any more."""
    monkeypatch.setattr(logs, "LOG_BYTES", 10)
    (folder := tmp_path / "bus").mkdir()
    handler = LogFile(folder / "writer.log")
    handler.setFormatter(Text())
    (folder / "writer.log").unlink()
    folder.rmdir()
    for _ in range(10):
        handler.emit(record("x"))
    handler.close()


@pytest.mark.parametrize("form", ["text", "json"])
def test_configure(form: Any, tmp_path: Path) -> None:
    """The root logger writes to the file, from the level on that was asked for."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure("warning", form, tmp_path / "writer.log")
        logging.getLogger(NAME).warning("seen")
        logging.getLogger(NAME).info("unseen")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = (tmp_path / "writer.log").read_text().splitlines()
    assert "seen" in line
    assert (form == "json") == line.startswith("{")
