"""Looking at dead letters: list, show, export. Reads the database, needs no writer."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ...config import parse_database
from ...database.deadletters import DeadLetter, DeadLetters
from ...errors import ConfigError, DatabaseFault, shorten
from .. import exit_codes
from ..output import STREAM_DIGITS, Output, counted
from .letters import reading, summary, whole

_SECONDS = len("2026-01-31 23:59:59")


def list_letters(arguments: argparse.Namespace, output: Output) -> int:
    with reading(parse_database(arguments.database)) as letters:
        found = letters.summaries(arguments.limit)
        if output.as_json:
            output.array(summary(letter) for letter in found)
            return exit_codes.DONE
        rows = [_row(letter) for letter in found]
        count = letters.count()
    if rows and output.on_terminal:
        short = [(id, at, f"{stream[:STREAM_DIGITS]}/{sequence}", *rest) for id, at, stream, sequence, *rest in rows]
        output.table(("id", "failed at (UTC)", "job", "error", "statement"), short, wrapped=2)
    elif rows:
        output.table(("id", "failed at (UTC)", "stream", "sequence", "error", "statement"), rows)
    if not rows or output.on_terminal:
        output.line(_how_many(len(rows), count))
    return exit_codes.DONE


def show(arguments: argparse.Namespace, output: Output) -> int:
    database = parse_database(arguments.database)
    with reading(database) as letters:
        letter = letters.get(arguments.id)
    if letter is None:
        raise DatabaseFault(
            f"there is no dead letter {arguments.id}",
            operation="show",
            subject=database.masked,
            hint="telemetry-bus dead-letters list",
        )
    if output.as_json:
        output.document(whole(letter))
    else:
        _show(letter, output)
    return exit_codes.DONE


def export(arguments: argparse.Namespace, output: Output) -> int:
    with reading(parse_database(arguments.database)) as letters:
        if arguments.file == "-":
            for letter in _whole(letters):
                output.document(whole(letter))
            return exit_codes.DONE
        path = Path(arguments.file)
        count = _export_to(path, letters)
    if output.as_json:
        output.document({"exported": count, "file": str(path)})
    else:
        output.line(f"{counted(count, 'dead letter')} written to {path}")
    return exit_codes.DONE


def _row(letter: DeadLetter) -> tuple[int, str, str, int, str, str]:
    return (
        letter.id,
        letter.failed_at[:_SECONDS],
        letter.stream.hex(),
        letter.sequence,
        f"{letter.error_type}: {letter.first_line}",
        shorten(letter.statement or ""),
    )


def _how_many(shown: int, count: int) -> str:
    if not count:
        return "no dead letters"
    whole = counted(count, "dead letter")
    return whole if shown == count else f"{shown} of {whole}"


def _show(letter: DeadLetter, output: Output) -> None:
    output.fields(
        {
            "id": str(letter.id),
            "stream": letter.stream.hex(),
            "sequence": str(letter.sequence),
            "failed at": f"{letter.failed_at} UTC",
            "error": f"{letter.error_type}: {letter.message}",
        }
    )
    job = letter.unpacked()
    if job is None:
        _section("job", f"cannot be read; {len(letter.job)} bytes, --json shows them", output)
    else:
        for definition in job.ensure:
            _section("ensure", definition, output)
        for statement in job.statements:
            failed = " (this one failed)" if statement.sql == letter.statement else ""
            _section(f"statement{failed}", statement.sql, output)
            for row in statement.rows:
                output.line(f"  values {row!r}")
    if letter.traceback:
        _section("traceback", letter.traceback, output)


def _section(title: str, text: str, output: Output) -> None:
    output.line()
    output.line(f"{title}:")
    for line in text.expandtabs().splitlines():
        output.line(f"  {line}")


def _export_to(path: Path, letters: DeadLetters) -> int:
    """All letters to a new file beside `path` (where it leads to, if it is a link), which then takes its place."""
    if path.exists() and not path.is_file():
        raise ConfigError("is not a file", operation="export", subject=str(path), hint="- is standard output")
    path = path.resolve()
    fd, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            count = _write_lines((whole(letter) for letter in _whole(letters)), file)
            file.flush()
            os.fsync(fd)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    return count


def _write_lines(values: Iterator[dict[str, Any]], file: TextIO) -> int:
    count = 0
    for value in values:
        file.write(json.dumps(value) + "\n")
        count += 1
    return count


def _whole(letters: DeadLetters) -> Iterator[DeadLetter]:
    """Every letter with its job, one at a time: a job has megabytes at worst, together they may have gigabytes."""
    for id in letters.ids():
        if (letter := letters.get(id)) is not None:
            yield letter
