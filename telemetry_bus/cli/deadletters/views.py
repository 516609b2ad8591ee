"""Looking at dead letters: list, show, export. Reads the database, needs no writer."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from ...config import parse_database
from ...database.deadletters import DeadLetter, DeadLetters
from ...errors import ConfigError, DatabaseFault, shorten
from .. import exit_codes
from ..output import STREAM_DIGITS, Output, counted
from .choice import Choice, Group, groups
from .letters import Origins, origins_of, reading, summary, whole

#: More are grouped, unless they are asked for one by one.
LISTED = 20
_SECONDS = len("2026-01-31 23:59:59")


def list_letters(arguments: argparse.Namespace, output: Output) -> int:
    with reading(parse_database(arguments.database)) as letters:
        found = islice(Choice.of(arguments).of_letters(letters), arguments.limit)
        if arguments.group:
            _list_groups(groups(found), output)
        elif output.as_json:
            output.array(summary(letter) for letter in found)
        elif arguments.group is None and arguments.limit is None:
            first = list(islice(found, LISTED + 1))
            if len(first) > LISTED:
                _list_groups(groups(chain(first, found)), output)
            else:
                _list_each(first, letters.count(), output)
        else:
            _list_each(list(found), letters.count(), output)
    return exit_codes.DONE


def _list_each(letters: Sequence[DeadLetter], count: int, output: Output) -> None:
    rows = [_row(letter) for letter in letters]
    if rows and output.on_terminal:
        short = [(id, at, f"{stream[:STREAM_DIGITS]}/{sequence}", *rest) for id, at, stream, sequence, *rest in rows]
        output.table(("id", "failed at (UTC)", "job", "error", "statement"), short, wrapped=2)
    elif rows:
        output.table(("id", "failed at (UTC)", "stream", "sequence", "error", "statement"), rows)
    if not rows or output.on_terminal:
        output.line(_how_many(len(rows), count))


def _list_groups(found: Sequence[Group], output: Output) -> None:
    if output.as_json:
        output.array(
            {
                "count": group.count,
                "id": group.first.id,
                "first": group.first.failed_at,
                "last": group.last_at,
                "error_type": group.first.error_type,
                "error": group.first.first_line,
                "statement": group.first.statement,
            }
            for group in found
        )
        return
    rows = [_group_row(group) for group in found]
    if rows:
        output.table(("count", "like", "first (UTC)", "last (UTC)", "error", "statement"), rows, wrapped=2)
    if not rows or output.on_terminal:
        total = sum(group.count for group in found)
        kinds = f" in {counted(len(found), 'group')}; --each lists them" if rows else ""
        output.line(_how_many(total, total) + kinds)


def _group_row(group: Group) -> tuple[object, ...]:
    first, (*_, error, statement) = group.first, _row(group.first)
    return group.count, first.id, first.failed_at[:_SECONDS], group.last_at[:_SECONDS], error, statement


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
        output.document(whole(letter, origins_of(database)))
    else:
        _show(letter, origins_of(database).get(letter.stream.hex()), output)
    return exit_codes.DONE


def export(arguments: argparse.Namespace, output: Output) -> int:
    choice, database = Choice.of(arguments), parse_database(arguments.database)
    origins = origins_of(database)
    with reading(database) as letters:
        if arguments.file == "-":
            for letter in _whole(letters, choice):
                output.document(whole(letter, origins))
            return exit_codes.DONE
        path = Path(arguments.file)
        count = _export_to(path, _whole(letters, choice), origins)
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


def _show(letter: DeadLetter, origin: Mapping[str, Any] | None, output: Output) -> None:
    output.fields(
        {
            "id": str(letter.id),
            "stream": letter.stream.hex(),
            "sequence": str(letter.sequence),
            "failed at": f"{letter.failed_at} UTC",
            **_from(origin),
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


def _from(origin: Mapping[str, Any] | None) -> dict[str, str]:
    """Of which process it is, as far as that is known."""
    if origin is None:
        return {}
    program = f"{origin['program']} " if origin.get("program") else ""
    host = f" on {origin['host']}" if origin.get("host") else ""
    return {"from": f"{program}(process {origin.get('pid')}){host}"}


def _section(title: str, text: str, output: Output) -> None:
    output.line()
    output.line(f"{title}:")
    for line in text.expandtabs().splitlines():
        output.line(f"  {line}")


def _export_to(path: Path, letters: Iterable[DeadLetter], origins: Origins) -> int:
    """All letters to a new file beside `path` (where it leads to, if it is a link), which then takes its place."""
    if path.exists() and not path.is_file():
        raise ConfigError("is not a file", operation="export", subject=str(path), hint="- is standard output")
    path = path.resolve()
    fd, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            count = _write_lines((whole(letter, origins) for letter in letters), file)
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


def _whole(letters: DeadLetters, choice: Choice) -> Iterator[DeadLetter]:
    """Every letter with its job, one at a time: a job has megabytes at worst, together they may have gigabytes."""
    for id in letters.ids() if choice.is_all else [letter.id for letter in choice.of_letters(letters)]:
        if (letter := letters.get(id)) is not None:
            yield letter
