"""Records in a stream of bytes: each with its values, or with the reason why it has none.

A reader begins at its input's start or behind any record, so that none is taken twice. The header of CSV is read first.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn

from ...errors import ConfigError

#: A record may span lines (CSV); one that is longer than this is rejected. A job holds 8 MiB.
MAX_RECORD_BYTES = 4 * 1024 * 1024
#: Files are told apart by so many of their first bytes, before all of what was taken is compared.
HEAD_BYTES = 4096
_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


class Mark(NamedTuple):
    """A place in an input: bytes and lines before it, the first of those bytes, and the SHA-256 of all of them."""

    position: int
    lines: int
    head: bytes
    hash: Any


class Input:
    """A stream of bytes that is read line by line, and knows the place where it stands."""

    def __init__(self, stream: BinaryIO, *, grows: bool = False) -> None:
        """One that `grows` ends before what is not complete yet; it can seek."""
        self._stream = stream
        self.grows = grows
        self._set(Mark(0, 0, b"", hashlib.sha256()))

    def readline(self) -> bytes:
        """The rest of the line, `MAX_RECORD_BYTES` of it at most."""
        line = self._stream.readline(MAX_RECORD_BYTES)
        if self.grows and line and not line.endswith(b"\n") and not _is_cut(line):
            self._stream.seek(self.position)
            return b""
        self._hash.update(line)
        self.position += len(line)
        self.lines += line.endswith(b"\n")
        if len(self._head) < HEAD_BYTES:
            self._head += line[: HEAD_BYTES - len(self._head)]
        return line

    def mark(self) -> Mark:
        return Mark(self.position, self.lines, self._head, self._hash.copy())

    def go_to(self, mark: Mark) -> None:
        self._stream.seek(mark.position)
        self._set(mark)

    def rewind(self) -> None:
        self.go_to(Mark(0, 0, b"", hashlib.sha256()))

    def _set(self, mark: Mark) -> None:
        self.position, self.lines, self._head, self._hash = mark.position, mark.lines, mark.head, mark.hash.copy()

    def head(self) -> bytes:
        """Its first bytes. The stream can seek, and stands anywhere then."""
        self._stream.seek(0)
        return self._stream.read(HEAD_BYTES)

    def mark_at(self, position: int, lines: int) -> Mark | None:
        """The place behind so many bytes; None: there are fewer. The stream can seek, and stands anywhere then."""
        head, left, digest = self.head()[:position], position, hashlib.sha256()
        self._stream.seek(0)
        while left:
            block = self._stream.read(min(left, _BLOCK_BYTES))
            if not block:
                return None
            digest.update(block)
            left -= len(block)
        return Mark(position, lines, head, digest)


class Record(NamedTuple):
    """One record, which begins in the input's `line` (from 1) and reads `text`.

    `values` by column; None: it is rejected for `reason`.
    """

    line: int
    text: bytes
    values: Mapping[str, Any] | None
    reason: str = ""


#: Yields each record when the input stands at its end. The input stands at its beginning; records behind the mark come.
Reader = Callable[[Input, Mark | None], Iterator[Record]]


def json_lines(input: Input, begin: Mark | None) -> Iterator[Record]:
    """One JSON object on each line (https://jsonlines.org); blank lines are skipped."""
    if begin is not None:
        input.go_to(begin)
    while True:
        number, line = input.lines + 1, _first_line(input)
        if not line:
            return
        if _is_cut(line):
            _skip_line(input)
            yield Record(number, line, None, _TOO_LONG)
        elif text := line.strip():
            yield _json_record(number, text)


def csv_rows(input: Input, begin: Mark | None) -> Iterator[Record]:
    """Rows under a header, by RFC 4180: commas, and double quotes, which may enclose line ends. An empty cell is NULL.

    Raises `ConfigError` for a header that names no columns.
    """
    header = next(_quoted(input), None)
    if header is None:
        return
    names = _header(header)
    if begin is not None and begin.position > input.position:
        input.go_to(begin)
    for record in _quoted(input):
        if record.reason:
            yield record
            continue
        try:
            cells = _cells(record.text)
        except ValueError as error:
            yield record._replace(reason=f"no CSV: {error}")
            continue
        if len(cells) == len(names):
            yield record._replace(values={name: cell or None for name, cell in zip(names, cells, strict=True)})
        else:
            yield record._replace(reason=f"{len(cells)} cells, and the header has {len(names)}")


#: By the name of the format.
READERS: Mapping[str, Reader] = {"jsonl": json_lines, "csv": csv_rows}

_TOO_LONG = f"longer than {MAX_RECORD_BYTES >> 20} MiB"


def _json_record(number: int, text: bytes) -> Record:
    try:
        values = _DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:
        return Record(number, text, None, f"no JSON: {error}")
    if not isinstance(values, dict):
        return Record(number, text, None, f"no JSON object but {type(values).__name__}")
    return Record(number, text, values)


def _quoted(input: Input) -> Iterator[Record]:
    """Lines, joined as long as a quotation is open; without values yet. Blank lines are skipped."""
    while True:
        begin = input.mark() if input.grows else None
        number, text = input.lines + 1, _first_line(input)
        if not text:
            return
        if not text.strip():
            continue
        while (is_open := text.count(b'"') % 2) and not _is_cut(text) and (line := input.readline()):
            text += line
        if _is_cut(text):
            _skip_line(input)
            yield Record(number, text, None, _TOO_LONG)
        elif not is_open:
            yield Record(number, text, None)
        elif begin is None:
            yield Record(number, text, None, "a quotation that does not end")
        else:
            input.go_to(begin)
            return


def _first_line(input: Input) -> bytes:
    at_start = not input.position
    line = input.readline()
    if at_start and line.startswith(_WIDE_BOMS):
        raise ConfigError("the input is UTF-16", operation="ingest", hint="iconv -f UTF-16 -t UTF-8 converts it")
    return line.removeprefix(_BOM) if at_start else line


def _is_cut(text: bytes) -> bool:
    return len(text) >= MAX_RECORD_BYTES


def _skip_line(input: Input) -> None:
    lines = input.lines
    while input.lines == lines and input.readline():
        pass


def _header(record: Record) -> list[str]:
    try:
        names = [cell.strip() for cell in _cells(record.text)]
    except ValueError as error:
        raise ConfigError(f"the header is no CSV: {error}", operation="ingest") from error
    if "" in names:
        raise ConfigError(f"column {names.index('') + 1} of the header has no name", operation="ingest")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"the header names {twice[0]} twice", operation="ingest")
    return names


def _cells(text: bytes) -> list[str]:
    """Raises `ValueError`."""
    try:
        return next(csv.reader([text.decode().rstrip("\r\n")], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
