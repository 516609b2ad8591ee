"""The records of one stream: how jobs lie in a journal and in a message, and how they are read again.

A record is three msgpack objects, one behind the other::

    number of the job's template      unsigned integer; 0: the template stands in the payload
    payload                           see `jobs.Template`; for number 0: [template, payload]
    checksum                          CRC-32 of the two, seeded with the job's sequence number

A *definition* is two: a text (SQL or DDL), or a template ``[[ensure…], [[statement, many]…]]`` that refers to
earlier texts by number; and its checksum, seeded with the definition's number. Definitions are numbered 1, 2, 3 …
per stream and never change, so that each travels once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any
from zlib import crc32

import msgpack

from ..errors import JournalCorrupt, ProtocolError, UnsupportedValue
from ..jobs import Job, Row, Run, Template
from . import values as codec

#: The end of job number `[0]` of a stream, `[1]` bytes after the stream's beginning.
Position = tuple[int, int]
#: A stream's random name.
STREAM_BYTES = 16
#: Records are cut into messages of about this size; one job may exceed it.
CHUNK_BYTES = 128 * 1024
#: A longer SQL text is not kept as a definition but travels with its jobs.
MAX_DEFINITION_BYTES = 16 * 1024
#: How many prefixes of records are kept, of each kind.
_PREFIXES = 1024

_CHECKSUM_BYTES = 5
_OBJECTS_PER_RECORD = 3
_OBJECTS_PER_DEFINITION = 2
#: The shortest record: number, empty payload, checksum. Bounds how many a message of given size may announce.
MIN_RECORD_BYTES = 1 + 1 + _CHECKSUM_BYTES


def seal(data: bytes, seed: int) -> bytes:
    """`data` with its checksum behind it, as a msgpack integer of fixed width. `Journal.append` has the same
    inline: a call would make a submit 2 % slower."""
    return data + (0xCE_0000_0000 | crc32(data, seed & 0xFFFFFFFF)).to_bytes(_CHECKSUM_BYTES, "big")


class Encoder:
    """Turns jobs into the (unsealed) records of one stream.

    `define` is given each new definition and answers with its number, 0 when there is no room for it. Not
    thread-safe.
    """

    def __init__(self, define: Callable[[bytes], int]) -> None:
        self._define = define
        self._pack = codec.packer().pack
        self._numbers: dict[str | Template, int] = {}  # bounded by the room for definitions
        self._single: dict[tuple[str, tuple[str, ...]], bytes] = {}  # the prefix of a one-row job
        self._prefixes: dict[tuple[tuple[str, ...], tuple[tuple[str, bool], ...]], bytes] = {}

    def row(self, sql: str, row: Row, ensure: tuple[str, ...]) -> bytes:
        """The record of a job of one statement and one row: the hot path of `execute`."""
        try:
            prefix = self._single[sql, ensure]
        except KeyError:
            prefix = self._prefix(ensure, ((sql, False),))
            _keep(self._single, (sql, ensure), prefix)
        try:  # `codec.pack_row`, without a call
            hash(tuple(row))
            data: bytes = self._pack([*row])
            if codec.UINT64 not in data:
                return prefix + data
        except Exception:  # whatever it was, it comes again
            pass
        return prefix + codec.pack_row(self._pack, row)

    def job(self, job: Job) -> bytes:
        """The record of any job. Raises `UnsupportedValue` and `JobTooLarge`."""
        shapes, parts = [], []
        for sql, rows in job.statements:
            many = len(rows) != 1
            shapes.append((sql, many))
            parts.append(codec.pack_rows(self._pack, rows) if many else codec.pack_row(self._pack, rows[0]))
        payload = parts[0] if len(parts) == 1 else codec.pack_parts(parts)
        codec.check_rows(job, len(payload))
        return self._prefix(job.ensure, tuple(shapes)) + payload

    def _prefix(self, ensure: tuple[str, ...], shapes: tuple[tuple[str, bool], ...]) -> bytes:
        """What stands before the payload: the template's number, or the template itself when it has none."""
        prefix = self._prefixes.get((ensure, shapes))
        if prefix is None:
            if number := self._number(Template(ensure, shapes)):
                prefix = msgpack.packb(number)
            else:
                prefix = b"\x00\x92" + msgpack.packb([ensure, shapes])
            _keep(self._prefixes, (ensure, shapes), prefix)
        return prefix

    def _number(self, item: str | Template) -> int:
        """The number of a definition, 0 when there is no room to define it."""
        if number := self._numbers.get(item):
            return number
        if isinstance(item, str):
            try:
                packed = msgpack.packb(item)
            except UnicodeEncodeError as error:
                raise UnsupportedValue(
                    f"the SQL holds a lone surrogate at index {error.start}",
                    operation="submit",
                    hint="pass such text as bytes, by a placeholder",
                ) from None
        else:
            ensure = [self._number(text) for text in item.ensure]
            statements = [(self._number(sql), many) for sql, many in item.statements]
            if 0 in ensure or any(sql == 0 for sql, _ in statements):
                return 0
            packed = msgpack.packb([ensure, statements])
        if len(packed) > MAX_DEFINITION_BYTES:
            return 0
        defined = self._define(packed)
        if defined:
            self._numbers[item] = defined
        return defined


def _keep(prefixes: dict[Any, bytes], key: object, prefix: bytes) -> None:
    """Unless it is long: a program that writes its values into the SQL has a new one each time."""
    if len(prefix) > MAX_DEFINITION_BYTES:
        return
    if len(prefixes) >= _PREFIXES:
        prefixes.clear()
    prefixes[key] = prefix


class Definitions:
    """The definitions of one stream, as its reader knows them."""

    def __init__(self) -> None:
        self._items: list[str | Template] = []

    def __len__(self) -> int:
        return len(self._items)

    def extend(self, first: int, count: int, data: bytes) -> None:
        """Take definitions `first` … `first + count - 1`; known ones are skipped.

        Raises `ProtocolError` when they are malformed. The caller has seen to it that there is no gap.
        """
        if count == 0:
            return
        objects = codec.unpack_sequence(_OBJECTS_PER_DEFINITION * count, data)
        for raw in islice(objects[::_OBJECTS_PER_DEFINITION], max(0, len(self) + 1 - first), None):
            self._items.append(self._definition(raw))

    def template(self, number: int) -> Template:
        """Raises `KeyError` for a number that is not known (yet)."""
        if not isinstance(number, int) or not 0 < number <= len(self._items):
            raise KeyError(number)
        item = self._items[number - 1]
        if isinstance(item, str):
            raise ProtocolError(f"definition {number} is no template", operation="decode")
        return item

    def _definition(self, raw: Any) -> str | Template:
        if isinstance(raw, str):
            return raw
        try:
            ensure, statements = raw
            return Template(
                tuple(self._text(number) for number in ensure),
                tuple((self._text(number), bool(many)) for number, many in statements),
            )
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"malformed definition: {error}", operation="decode") from None

    def _text(self, number: Any) -> str:
        if isinstance(number, int) and 0 < number <= len(self._items):
            item = self._items[number - 1]
            if isinstance(item, str):
                return item
        raise ValueError(f"{number!r} is not the number of a text")


def read_runs(
    stream: bytes,
    first: int,
    count: int,
    body: bytes,
    definitions: Definitions,
    skip: int = 0,
    ext_hook: codec.ExtHook | None = None,
) -> list[Run]:
    """The jobs of a message's body, without its first `skip` ones, as runs of equal templates.

    The body's checksum has been verified with the message. Raises `ProtocolError` when it is malformed all the
    same, and `KeyError` for a template that is not defined.
    """
    objects = codec.unpack_sequence(_OBJECTS_PER_RECORD * count, body, ext_hook=ext_hook)
    numbers = objects[_OBJECTS_PER_RECORD * skip :: _OBJECTS_PER_RECORD]
    payloads = objects[_OBJECTS_PER_RECORD * skip + 1 :: _OBJECTS_PER_RECORD]
    if numbers[0] != 0 and numbers.count(numbers[0]) == len(numbers):
        return [Run(stream, first + skip, definitions.template(numbers[0]), payloads)]
    runs: list[Run] = []
    position = 0
    for number, group in groupby(numbers):
        length = sum(1 for _ in group)
        part = payloads[position : position + length]
        sequence = first + skip + position
        if number == 0:
            runs.extend(Run(stream, sequence + i, *_inline(payload)) for i, payload in enumerate(part))
        else:
            runs.append(Run(stream, sequence, definitions.template(number), part))
        position += length
    return runs


def _inline(payload: Any) -> tuple[Template, list[Any]]:
    try:
        (ensure, statements), inner = payload
        shapes = tuple((sql, bool(many)) for sql, many in statements)
        if all(isinstance(text, str) for text in (*ensure, *(sql for sql, _ in shapes))):
            return Template(tuple(ensure), shapes), [inner]
    except (TypeError, ValueError):
        pass
    raise ProtocolError("malformed template in a payload", operation="decode")


def scan(data: bytes, first: int) -> Iterator[int]:
    """The end of each record in `data`, verified one by one; `first` is the sequence number of the first.

    Raises `JournalCorrupt` at the first record that does not check out: what was yielded before it is intact.
    """
    yield from _scan(data, first, _OBJECTS_PER_RECORD - 1)


def scan_definitions(data: bytes) -> Iterator[int]:
    """As `scan`, for the definitions of a journal."""
    yield from _scan(data, 1, _OBJECTS_PER_DEFINITION - 1)


def _scan(data: bytes, seed: int, objects: int) -> Iterator[int]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), max_map_len=0)
    unpacker.feed(data)
    start = 0
    while start < len(data):
        try:
            for _ in range(objects):
                unpacker.skip()
            end = unpacker.tell()
            checksum = unpacker.unpack()
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise JournalCorrupt(f"record at byte {start} is torn: {error!r}", operation="read journal") from None
        if unpacker.tell() != end + _CHECKSUM_BYTES or checksum != crc32(data[start:end], seed & 0xFFFFFFFF):
            raise JournalCorrupt(f"record at byte {start} has a wrong checksum", operation="read journal")
        start = end + _CHECKSUM_BYTES
        seed += 1
        yield start
