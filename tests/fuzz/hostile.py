"""Hostile input for the fuzzer: mutations of what the bus's own encoders make, bombs, nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgpack

from telemetry_bus.encoding.records import STREAM_BYTES, Encoder, seal
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.jobs import Failure, Job, Statement
from telemetry_bus.journal.layout import DEFINITIONS_TAIL, PAGE_BYTES, TAIL, Header, write_watermark
from telemetry_bus.protocol.messages import (
    Ack,
    Answer,
    Bye,
    Command,
    Confirm,
    Control,
    Hello,
    Jobs,
    Refusal,
    Resend,
    Welcome,
    encode_control,
)

#: A journal of this shape holds a dozen records, and is written and read in microseconds.
RING_BYTES, ROOM_BYTES = 2048, 1024
#: Where a journal says what it is: header, published ends, watermarks.
_HEADER_PLACES = (
    *range(120),
    *range(TAIL * 8, TAIL * 8 + 8),
    *range(DEFINITIONS_TAIL * 8, DEFINITIONS_TAIL * 8 + 8),
    *range(3200, 3232),
    *range(3264, 3296),
)

_EXTREMES = (0, 1, 2, 3, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_LARGE = (*_EXTREMES, 2**32, 2**62, INT64_MAX - 1, INT64_MAX, 2**63, 2**64 - 1)
#: Heads of msgpack objects that promise more than there is.
_HEADS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\0\0\0\0\0\0\0",
    b"\x9f",
    b"\x8f",
    b"\xd6\xff\0\0\0\0",
    b"\xc7\0\x01",
    b"\xc1",
    b"\xa2\xff\xfe",
    b"\xa3\xed\xa0\x80",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
)

_TABLE = "CREATE TABLE IF NOT EXISTS things (id INTEGER PRIMARY KEY, k INTEGER UNIQUE, v TEXT)"
_DEFINITIONS = (_TABLE, "CREATE INDEX IF NOT EXISTS by_v ON things (v)", "ALTER TABLE things ADD COLUMN more")
_STATEMENTS = (
    "INSERT INTO things (k, v) VALUES (?, ?)",
    "INSERT OR REPLACE INTO things (k, v) VALUES (?, ?)",
    "INSERT INTO things (v, k) SELECT ?, ? RETURNING id",
    "UPDATE things SET k = ? WHERE v = ?",
    "DELETE FROM things WHERE k = ? AND v = ?",
    "INSERT INTO nowhere VALUES (?, ?)",
    "no SQL ? ?",
)
#: Statements that no honest job holds: the transaction, the bus's own tables, other files, settings.
_FORBIDDEN = (
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT job",
    "RELEASE job",
    "BEGIN",
    "INSERT OR ROLLBACK INTO things (k) VALUES (NULL)",
    "UPDATE telemetry_bus_ledger SET last_sequence = 0",
    "DROP TABLE telemetry_bus_dead_letters",
    "PRAGMA synchronous=0",
    "ATTACH ':memory:' AS other",
    "VACUUM",
    "SELECT load_extension('x')",
    "CREATE TEMP TABLE things (a)",
    "PRAGMA writable_schema=ON",
    "DELETE FROM sqlite_master",
    "SELECT 1; COMMIT",
    "",
    ";",
    "--",
    "/*",
    "\0",
    "SELECT '\0'",
)


class Input(NamedTuple):
    """What is sent. `frames` are a message's parts, or one file; `malformed`: there is no way to take it."""

    frames: list[bytes]
    malformed: bool = False
    #: The records by their numbers, when nothing else may be read out of it.
    records: dict[int, bytes] | None = None


# Bombs: small to send, large or slow to take


def _arrays(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count


BOMBS: dict[str, Callable[[], bytes]] = {
    "empty arrays": lambda: _arrays(200_000),
    "arrays of arrays": lambda: b"\xdc\x00\xc8" + _arrays(1000) * 200,
    "deep arrays": lambda: b"\x91" * 100_000 + b"\xc0",
    "just too deep": lambda: b"\x91" * 1100 + b"\xc0",
    "nearly too deep": lambda: b"\x91" * 1018 + b"\xc0",
    "deep maps": lambda: b"\x81\xc0" * 50_000 + b"\xc0",
    "a huge array": lambda: b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
    "a huge text": lambda: b"\xdb\xff\xff\xff\xff" + b"x" * 100,
    "huge bytes": lambda: b"\xc6\x7f\xff\xff\xff" + b"x" * 100,
    "a huge map": lambda: b"\xdf\xff\xff\xff\xff" + b"\xc0" * 100,
    "a huge extension": lambda: b"\xc9\xff\xff\xff\xff\x01" + b"x" * 100,
    "nulls": lambda: b"\xdd" + (300_000).to_bytes(4, "big") + b"\xc0" * 300_000,
    "large integers": lambda: b"\xdc\x4e\x20" + b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff" * 20_000,
    "unknown extensions": lambda: b"\xdc\x4e\x20" + b"\xd4\x63x" * 20_000,
    "half characters": lambda: b"\x91\xa3\xed\xa0\x80",
    "timestamps": lambda: b"\xdc\x4e\x20" + b"\xd6\xff\xff\xff\xff\xff" * 20_000,
}

#: SQL that is slow to look at when each look is repeated.
SLOW_TEXTS: dict[str, Callable[[], str]] = {
    "names that are not closed": lambda: "INSERT INTO things (v) VALUES (" + "$a(" * 60_000,
    "quotes": lambda: "INSERT INTO things (v) VALUES (" + "''" * 60_000,
    "one quote": lambda: "INSERT INTO things (v) VALUES ('" + "a" * 100_000,
    "comments": lambda: "/*" * 60_000,
    "parentheses": lambda: "INSERT INTO things (v) VALUES " + "(" * 60_000,
    "colons": lambda: "$" + ":" * 100_000,
    "placeholders": lambda: f"INSERT INTO things (v) VALUES ({'?,' * 40_000}?)",
    "statements": lambda: ";" * 100_000,
    "words": lambda: "returning " * 20_000,
}


# Mutations


def mutated(data: bytes, chance: Random, other: bytes = b"") -> bytes:
    """`data` after one to three changes; `other` is what may be spliced in."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        chance.choice(_MUTATIONS)(changed, chance, other)
    return bytes(changed)


def _flip(data: bytearray, chance: Random, other: bytes) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: Random, other: bytes) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice((0, 0x80, 0x90, 0xC0, 0xDD, 0xFF, chance.randrange(256)))


def _truncate(data: bytearray, chance: Random, other: bytes) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, chance: Random, other: bytes) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.randrange(1, 9)]


def _double(data: bytearray, chance: Random, other: bytes) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = data[start : start + chance.randrange(1, 40)]


def _splice(data: bytearray, chance: Random, other: bytes) -> None:
    start, place = chance.randrange(len(other) + 1), chance.randrange(len(data) + 1)
    data[place : place + chance.randrange(20)] = other[start : start + chance.randrange(40)]


def _promise(data: bytearray, chance: Random, other: bytes) -> None:
    """The head of something large, in place of what is there or before it."""
    place, head = chance.randrange(len(data) + 1), chance.choice(_HEADS)
    data[place : place + chance.choice((0, 1, len(head)))] = head


def _noise(data: bytearray, chance: Random, other: bytes) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.randbytes(chance.randrange(1, 9))


_MUTATIONS = (_flip, _flip, _overwrite, _overwrite, _truncate, _remove, _double, _splice, _promise, _noise)


# Messages of jobs


class Peer:
    """A stream that encodes jobs as a producer does."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.definitions: list[bytes] = []
        self._encoder = Encoder(self._define)
        self._told = 0

    def message(self, first: int, jobs: list[Job], rewind: int = 0) -> Jobs:
        """These jobs with the numbers `first` …, and the definitions that were not sent yet."""
        records = b"".join(seal(self._encoder.job(job), number) for number, job in enumerate(jobs, first))
        told, self._told = self._told, len(self.definitions)
        new = self.definitions[told:]
        return Jobs(self.stream, rewind, first, len(jobs), told + 1, len(new), b"".join(new), records)

    def _define(self, definition: bytes) -> int:
        self.definitions.append(seal(definition, len(self.definitions) + 1))
        return len(self.definitions)


def value(chance: Random) -> Any:
    return chance.choice(
        (
            None,
            True,
            0,
            -1,
            INT64_MAX,
            -INT64_MAX - 1,
            0.5,
            float("inf"),
            "",
            "text",
            "é\0",
            b"",
            chance.randbytes(5),
            chance.randrange(1 << 40),
            "x" * chance.randrange(60),
        )
    )


def job(chance: Random) -> Job:
    statements = tuple(
        Statement(chance.choice(_STATEMENTS), tuple((value(chance), value(chance)) for _ in range(rows)))
        for rows in chance.choices((0, 1, 1, 2), k=chance.choice((1, 1, 1, 2, 3)))
    )
    return Job(statements, _DEFINITIONS[: chance.randrange(len(_DEFINITIONS) + 1)])


def valid(chance: Random) -> Jobs:
    peer = Peer(chance.randbytes(STREAM_BYTES))
    return peer.message(1, [job(chance) for _ in range(chance.choice((1, 1, 2, 5)))])


def jobs_input(chance: Random) -> Input:
    return chance.choices(_JOBS_INPUTS, _JOBS_WEIGHTS)[0](chance)


def _of_noise(chance: Random) -> Input:
    sizes = chance.choice(((49,), (0,), (100,), (51, 30, 100), (51, 0, 60), (1, 1, 1), (0,) * 7))
    return Input([chance.randbytes(size) for size in sizes], malformed=True)


def _of_frames(chance: Random) -> Input:
    """Frames swapped, lost, doubled, of two messages."""
    frames = [*valid(chance).encode(), *valid(chance).encode()]
    chance.shuffle(frames)
    return Input(frames[: chance.randrange(1, 7)])


def _of_damage(chance: Random) -> Input:
    """Changed on the way: the checksum shows it."""
    frames, other = valid(chance).encode(), valid(chance).records
    place = chance.randrange(3)
    before, frames[place] = frames[place], mutated(frames[place], chance, other)
    return Input(frames, malformed=frames[place] != before)


def _of_forgery(chance: Random) -> Input:
    """Changed by somebody who knows how to make checksums."""
    message, other = valid(chance), valid(chance)
    definitions, records = message.definitions, message.records
    if chance.random() < 0.7:
        records = mutated(records, chance, other.records)
    if chance.random() < 0.4:
        definitions = mutated(definitions, chance, other.definitions)
    return Input(
        Jobs(
            message.stream,
            0,
            message.first,
            message.count,
            message.definitions_first,
            message.definitions_count,
            definitions,
            records,
        ).encode()
    )


def _of_numbers(chance: Random) -> Input:
    message = valid(chance)

    def number(honest: int, others: tuple[int, ...]) -> int:
        return honest if chance.random() < 0.6 else chance.choice(others)

    return Input(
        Jobs(
            message.stream,
            number(0, _EXTREMES),
            number(1, _LARGE),
            number(message.count, _EXTREMES),
            number(1, _EXTREMES),
            number(message.definitions_count, _EXTREMES),
            message.definitions,
            message.records,
        ).encode()
    )


def _of_odd_jobs(chance: Random) -> Input:
    """Well-formed as a message; the template and the payload in it are not, or do not fit each other."""
    sql = chance.choice((*_STATEMENTS, *_FORBIDDEN))
    many = chance.random() < 0.5
    payload: Any = chance.choice(
        (
            [1, "x"],
            [[1, "x"]],
            [],
            [[]],
            None,
            5,
            "ab",
            b"ab",
            [1],
            [1, 2, 3],
            [[1, "x"], 5],
            [[1, [2]]],
            [None, [[]]],
            [2**64 - 1, "x"],
            [[1, "x"], [1]],
            [True, False],
            [msgpack.ExtType(1, b"\xff"), 1],
            [msgpack.ExtType(99, b""), 1],
        )
    )
    template: Any = chance.choice(
        (
            [[_TABLE], [[sql, many]]],
            [[], [[sql, many]]],
            [[sql], [[sql, many]]],
            [[], []],
            [[], [[sql, many]] * 3],
            [[], [[sql]]],
            [[5], [[sql, many]]],
            ["ab", [[sql, many]]],
            [[], [[5, many]]],
            None,
            7,
            [[], "ab"],
            [],
            [[], [[[sql], many]]],
            [_TABLE, sql],
        )
    )
    record = chance.choice((0, 0, 0, False, 0.0, None, -1, "x", [0], 2**32)), [template, payload]
    packed = b"".join(map(msgpack.packb, record))
    return Input(Jobs(chance.randbytes(STREAM_BYTES), 0, 1, 1, 1, 0, b"", seal(packed, 1)).encode())


def _of_odd_definitions(chance: Random) -> Input:
    odd: list[Any] = [
        _TABLE,
        _STATEMENTS[0],
        chance.choice(
            (
                [[1], [[2, False]]],
                [[1], [[9, False]]],
                [[2], [[1, True]]],
                [[], []],
                [[3], [[3, False]]],
                None,
                5,
                [[1]],
                [[True], [[True, False]]],
                [["1"], [["2", False]]],
                [[-1], [[0, False]]],
                [[1.0], [[2.0, False]]],
            )
        ),
    ]
    definitions = b"".join(seal(msgpack.packb(item), number) for number, item in enumerate(odd, 1))
    record = seal(msgpack.packb(chance.choice((1, 2, 3, 3, 3, 4))) + msgpack.packb([1, "x"]), 1)
    return Input(Jobs(chance.randbytes(STREAM_BYTES), 0, 1, 1, 1, len(odd), definitions, record).encode())


def _of_bombs(chance: Random) -> Input:
    return bomb_message(chance.choice(list(BOMBS.values()))(), chance.randbytes(STREAM_BYTES), chance.randrange(3))


def bomb_message(bomb: bytes, stream: bytes, place: int) -> Input:
    """A bomb as the payload of a job that is well-formed else, as the only record, or as a definition."""
    template = msgpack.packb([[], [[_STATEMENTS[0], True]]])
    record = seal(b"\x00" + (b"\x92" + template + bomb if place == 0 else bomb), 1)
    if place < 2:
        return Input(Jobs(stream, 0, 1, 1, 1, 0, b"", record).encode())
    return Input(Jobs(stream, 0, 1, 1, 1, 1, seal(bomb, 1), record).encode())


def text_message(sql: str, stream: bytes) -> Input:
    """A job whose SQL is this text."""
    return Input(Peer(stream).message(1, [Job((Statement(sql, [(1, "x")]),))]).encode())


_JOBS_INPUTS = (
    _of_noise,
    _of_frames,
    _of_damage,
    _of_forgery,
    _of_numbers,
    _of_odd_jobs,
    _of_odd_definitions,
    _of_bombs,
    lambda chance: text_message(
        mutated(chance.choice((*_STATEMENTS, *_FORBIDDEN)).encode(), chance, _TABLE.encode()).decode(errors="replace"),
        chance.randbytes(STREAM_BYTES),
    ),
    lambda chance: Input(valid(chance).encode()),
)
_JOBS_WEIGHTS = (10, 10, 20, 30, 10, 10, 5, 0.05, 10, 5)


# Control messages


_ARGUMENTS = (
    "{}",
    '{"ids": null}',
    '{"ids": [1, 2]}',
    '{"ids": []}',
    "[]",
    "{",
    "",
    "5",
    '{"ids": [NaN]}',
    '{"ids": [-1, 1e400]}',
    '{"ids": {"a": 1}}',
    '{"\\ud800": 1}',
    '{"ids": ["\\ud800"]}',
    '{"daemon": 1}',
    "[" * 2000,
    '{"ids": [true]}',
    '{"ids": [' + "9" * 5000 + "]}",
)
_COMMANDS = ("status", "stop", "dead-letters retry", "dead-letters purge", "nothing", "\0", "x" * 300)


def control_input(chance: Random, database: str) -> Input:
    """A word to the writer that owns `database`."""
    message = _control(chance, database)
    data = encode_control(message)
    kind = chance.randrange(10)
    if kind < 2:
        return Input([data])
    if kind < 6:
        return Input([mutated(data, chance, encode_control(_control(chance, database)))])
    if kind < 8:  # one field is something else
        fields = msgpack.unpackb(data)
        fields[chance.randrange(len(fields))] = chance.choice(
            (
                None,
                -1,
                2**64 - 1,
                INT64_MAX,
                [],
                [[]],
                "",
                "x" * 1000,
                b"",
                bytes(16),
                0.5,
                True,
                {},
                "hello",
            )
        )
        return Input([msgpack.packb(fields)])
    if kind == 8:
        frames = [data, encode_control(_control(chance, database)), b"", chance.randbytes(9)]
        chance.shuffle(frames)
        return Input(frames[: chance.randrange(2, 5)], malformed=True)
    if chance.random() < 0.005:
        return Input([chance.choice(list(BOMBS.values()))()], malformed=True)
    return Input([chance.randbytes(chance.randrange(60))])


def _control(chance: Random, database: str) -> Control:
    stream = chance.choice((chance.randbytes(16), bytes(15) + bytes([chance.randrange(8)])))
    number = chance.choice((0, 1, 5, chance.randrange(100), 2**31, INT64_MAX))
    failure = Failure(stream, number, "Error", "text", chance.choice((None, "SQL")))
    return chance.choice(
        (
            Hello(stream, database, number, 1),
            Hello(stream, database, 0, 1),
            Hello(stream, "sqlite:////other", number, 1),
            Confirm(stream, number),
            Bye(stream),
            Ack(stream, bytes(8), 1, number, number, number, [failure]),
            Welcome(stream, bytes(8), 1, number, number, number, [failure]),
            Resend(stream, bytes(8), number, 0),
            Refusal(stream, "no", True),
            Answer(True, "{}"),
            Command(chance.choice(_COMMANDS), chance.choice(_ARGUMENTS)),
            Command(chance.choice(_COMMANDS[:4]), mutated(b'{"ids": [1, 2, 3]}', chance).decode(errors="replace")),
        )
    )


# Journals


def journal_input(chance: Random) -> Input:
    """The file of a producer that is dead, after something has happened to it."""
    peer = Peer(chance.randbytes(STREAM_BYTES))
    trimmed = chance.choice((0, 0, chance.randrange(1, 1000), chance.choice(_LARGE) if chance.random() < 0.1 else 7))
    start = 0 if trimmed == 0 else chance.randrange(3 * RING_BYTES)
    forged = chance.random() < 0.4
    other = valid(chance).records
    records: dict[int, bytes] = {}
    ring = bytearray(RING_BYTES)
    end = start
    for number in range(trimmed + 1, trimmed + 1 + chance.randrange(13)):
        record = _unsealed(peer, job(chance))
        if forged and chance.random() < 0.3:
            record = mutated(record, chance, other) if chance.random() < 0.98 else BOMBS["nearly too deep"]()
        sealed = seal(record, number)
        if end + len(sealed) - start > RING_BYTES:
            break
        for place, byte in enumerate(sealed, end):
            ring[place % RING_BYTES] = byte
        records[number] = sealed
        end += len(sealed)
    room = b"".join(peer.definitions)
    tail = end if not forged or chance.random() < 0.7 else chance.choice((*_LARGE, end + 1, end - 1 if end else 0))
    header = Header(peer.stream, RING_BYTES, ROOM_BYTES, 1, "sqlite:////somewhere/telemetry.db").pack()
    if forged and chance.random() < 0.2:
        size = chance.choice((RING_BYTES, 1, 7, 1 << 20))
        header = Header(peer.stream, size, chance.choice((ROOM_BYTES, 0, 1, 1 << 20)), 1, "x" * 100).pack()
    page = bytearray(header.ljust(PAGE_BYTES, b"\0"))
    page[TAIL * 8 : TAIL * 8 + 8] = tail.to_bytes(8, "little")
    page[DEFINITIONS_TAIL * 8 : DEFINITIONS_TAIL * 8 + 8] = len(room).to_bytes(8, "little")
    if trimmed:
        for generation in range(1, chance.choice((2, 3))):
            place, slot = write_watermark(generation, (min(trimmed, 2**64 - 1), start))
            page[place : place + len(slot)] = slot
    data = bytes(page) + room[:ROOM_BYTES].ljust(ROOM_BYTES, b"\0") + bytes(ring)
    if forged:
        return Input([data])
    return Input([_damaged(data, chance, other)], records=records)


def _unsealed(peer: Peer, content: Job) -> bytes:
    return peer.message(1, [content]).records[:-5]


def _damaged(data: bytes, chance: Random, other: bytes) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return data
    if kind == 1:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        if kind == 2:
            place = chance.choice(_HEADER_PLACES)
        else:
            place = chance.randrange(PAGE_BYTES, len(data))
        changed[place] = chance.choice((0, 0xFF, changed[place] ^ 1 << chance.randrange(8)))
    if kind == 5:
        place = chance.randrange(PAGE_BYTES, len(data))
        changed[place : place + len(other)] = other[::-1][: len(data) - place]  # no record of it checks out
    return bytes(changed)


# Anything else that is encoded


def codec_input(chance: Random) -> Input:
    message = valid(chance)
    source = chance.choice((message.records, message.definitions, json.dumps(_ARGUMENTS[4]).encode()))
    kind = chance.random()
    if kind < 0.001:
        return Input([chance.choice(list(BOMBS.values()))()])
    if kind < 0.2:
        return Input([chance.randbytes(chance.randrange(100))])
    return Input([mutated(source, chance, message.records)])
