"""Records and definitions of one stream: written, read as runs, and read again after damage."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from zlib import crc32

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_bus.encoding.records import (
    MAX_DEFINITION_BYTES,
    MIN_RECORD_BYTES,
    Definitions,
    Encoder,
    read_runs,
    scan,
    scan_definitions,
    seal,
)
from telemetry_bus.encoding.values import pack_parts
from telemetry_bus.errors import JournalCorrupt, ProtocolError, UnsupportedValue
from telemetry_bus.jobs import Job, Run, Statement, Template

STREAM = b"s" * 16
TABLE, OTHER = "CREATE TABLE t (a)", "CREATE TABLE u (a)"
INSERT, INSERT_2 = "INSERT INTO t VALUES (?)", "INSERT INTO u VALUES (?, ?)"

ROWS = st.lists(st.integers(-5, 5) | st.text("ab", max_size=3) | st.none(), max_size=4).map(tuple)
JOBS = st.builds(
    Job,
    st.lists(
        st.builds(Statement, st.sampled_from([INSERT, INSERT_2, "DELETE"]), st.lists(ROWS, max_size=3).map(tuple)),
        max_size=3,
    ).map(tuple),
    st.lists(st.sampled_from([TABLE, OTHER]), max_size=2).map(tuple),
)


class Room:
    """Takes so many definitions, as a journal does."""

    def __init__(self, limit: int = 1000) -> None:
        self.kept: list[bytes] = []
        self._limit = limit

    def define(self, definition: bytes) -> int:
        if len(self.kept) == self._limit:
            return 0
        self.kept.append(seal(definition, len(self.kept) + 1))
        return len(self.kept)

    def definitions(self) -> Definitions:
        known = Definitions()
        known.extend(1, len(self.kept), b"".join(self.kept))
        return known


def sealed(records: Iterable[bytes], first: int = 1) -> bytes:
    return b"".join(seal(record, sequence) for sequence, record in enumerate(records, first))


def jobs_of(runs: Iterable[Run]) -> list[tuple[int, Job]]:
    """The jobs of runs, with their numbers, rows as tuples."""
    found = []
    for run in runs:
        for sequence, payload in enumerate(run.payloads, run.first):
            job = run.template.job(payload)
            statements = tuple(Statement(s.sql, tuple(map(tuple, s.rows))) for s in job.statements)
            found.append((sequence, Job(statements, job.ensure)))
    return found


@given(st.lists(JOBS, min_size=1, max_size=8), st.integers(0, 12), st.integers(1, 2**40), st.data())
def test_round_trip(jobs: list[Job], room: int, first: int, data: st.DataObject) -> None:
    """Jobs come back whole and in order, with and without room for their definitions, from any job on."""
    kept = Room(room)
    encoder = Encoder(kept.define)
    body = sealed([encoder.job(job) for job in jobs], first)
    skip = data.draw(st.integers(0, len(jobs) - 1))
    expected = list(enumerate(jobs, first))[skip:]
    assert expected == jobs_of(read_runs(STREAM, first, len(jobs), body, kept.definitions(), skip))


def test_runs_join_equal_templates() -> None:
    """Consecutive jobs of one template are one run; another template begins the next."""
    room = Room()
    encoder = Encoder(room.define)
    records = [
        encoder.row(INSERT, (1,), (TABLE,)),
        encoder.row(INSERT, (2,), (TABLE,)),
        encoder.row(INSERT, (3,), ()),
        encoder.row(INSERT, (4,), (TABLE,)),
    ]
    plain, ensured = Template((), ((INSERT, False),)), Template((TABLE,), ((INSERT, False),))
    expected = [
        Run(STREAM, 7, ensured, [[1], [2]]),
        Run(STREAM, 9, plain, [[3]]),
        Run(STREAM, 10, ensured, [[4]]),
    ]
    assert expected == read_runs(STREAM, 7, 4, sealed(records, 7), room.definitions())
    assert expected[1:] == read_runs(STREAM, 7, 4, sealed(records, 7), room.definitions(), skip=2)


def test_one_run_of_one_template() -> None:
    """A message of one template is one run, whatever is skipped of it."""
    room = Room()
    encoder = Encoder(room.define)
    body = sealed([encoder.row(INSERT, (n,), ()) for n in range(5)])
    expected = [Run(STREAM, 4, Template((), ((INSERT, False),)), [[3], [4]])]
    assert expected == read_runs(STREAM, 1, 5, body, room.definitions(), skip=3)


def test_definitions_travel_once() -> None:
    """Texts and templates are defined at their first use, each once, and shared by all jobs."""
    room = Room()
    encoder = Encoder(room.define)
    for _ in range(3):
        encoder.row(INSERT, (1,), (TABLE,))
        encoder.job(Job((Statement(INSERT, ((1,), (2,))),), (TABLE,)))
    assert 4 == len(room.kept)  # two texts, a template for one row and one for many
    job = Job((Statement(INSERT, ((1,),)),), (TABLE,))
    assert encoder.row(INSERT, (1,), (TABLE,)) == encoder.job(job), "one row is one row, however it is handed in"


@pytest.mark.parametrize("room", [0, 1, 2])
def test_no_room_for_definitions(room: int) -> None:
    """What has no number travels inline, whole, each time."""
    kept = Room(room)
    encoder = Encoder(kept.define)
    job = Job((Statement(INSERT, ((1,),)), Statement(INSERT_2, ((1, 2), (3, 4)))), (TABLE, OTHER))
    body = sealed([encoder.job(job), encoder.job(job), encoder.row(INSERT, (5,), (OTHER,))])
    expected = [(1, job), (2, job), (3, Job((Statement(INSERT, ((5,),)),), (OTHER,)))]
    assert expected == jobs_of(read_runs(STREAM, 1, 3, body, kept.definitions()))


def test_long_sql_travels_inline() -> None:
    """A text beyond the limit takes no room from the others."""
    room = Room()
    long = f"INSERT INTO t VALUES ('{'x' * MAX_DEFINITION_BYTES}')"
    record = Encoder(room.define).row(long, (), ())
    assert [] == room.kept
    assert [(1, Job((Statement(long, ((),)),)))] == jobs_of(read_runs(STREAM, 1, 1, sealed([record]), Definitions()))


def test_a_definition_whose_number_was_lost() -> None:
    """An interrupt between the journal and the encoder costs a number and mixes up nothing."""
    room = Room()

    def define(definition: bytes) -> int:
        number = room.define(definition)
        if number == 1:
            raise KeyboardInterrupt
        return number

    encoder = Encoder(define)
    with pytest.raises(KeyboardInterrupt):
        encoder.row(INSERT, (1,), ())
    jobs = [Job((Statement(INSERT_2, ((1, 2),)),)), Job((Statement(INSERT_2, ((3, 4), (5, 6))),), (TABLE,))]
    body = sealed([encoder.job(job) for job in jobs])
    assert [*enumerate(jobs, 1)] == jobs_of(read_runs(STREAM, 1, 2, body, room.definitions()))
    assert len(room.kept) == len([*scan_definitions(b"".join(room.kept))])


@pytest.mark.parametrize(("sql", "ensure"), [("INSERT '\ud800'", ()), (INSERT, ("CREATE TABLE \udfff",))])
def test_surrogates_in_sql(sql: str, ensure: tuple[str, ...]) -> None:
    """SQL that has no form in UTF-8 is refused with a typed error."""
    with pytest.raises(UnsupportedValue, match="lone surrogate"):
        Encoder(Room().define).row(sql, (), ensure)


def test_caches_are_bounded() -> None:
    """A program whose every statement is different does not fill the memory."""
    encoder = Encoder(Room(0).define)
    for number in range(2000):
        encoder.row(f"INSERT INTO t VALUES ({number})", (), ())
    assert all(len(cache) <= 1024 for cache in (encoder._single, encoder._prefixes, encoder._numbers))


def test_long_texts_are_not_kept() -> None:
    """Nor does one whose every statement is long and different: a thousand of them are not small."""
    encoder = Encoder(Room(0).define)
    long = "x" * MAX_DEFINITION_BYTES
    encoder.row(f"INSERT INTO t VALUES ('{long}')", (), ())
    encoder.job(Job((Statement(INSERT, ((1,),)), Statement(f"INSERT INTO t VALUES ('{long}')")), ()))
    assert [0, 0] == [len(encoder._single), len(encoder._prefixes)]


def test_definitions_overlap() -> None:
    """Definitions that are known are skipped: frames may overlap."""
    room = Room()
    encoder = Encoder(room.define)
    encoder.row(INSERT, (), ())
    encoder.row(INSERT_2, (), ())
    known = Definitions()
    known.extend(1, 3, b"".join(room.kept[:3]))
    known.extend(2, 3, b"".join(room.kept[1:]))
    known.extend(1, 1, room.kept[0])
    assert 4 == len(known)
    assert Template((), ((INSERT_2, False),)) == known.template(4)


@pytest.mark.parametrize("number", [0, 5, -1, 1.0, "1", None, [], 2**40])
def test_unknown_template(number: object) -> None:
    """A number that is not defined is a `KeyError`: a gap, no malformed message."""
    room = Room()
    encoder = Encoder(room.define)
    encoder.row(INSERT, (), ())
    encoder.row(INSERT_2, (), ())
    with pytest.raises(KeyError):
        room.definitions().template(number)  # type: ignore[arg-type]


def test_a_text_is_no_template() -> None:
    """A record that refers to a definition of the wrong kind is malformed."""
    room = Room()
    Encoder(room.define).row(INSERT, (), ())
    with pytest.raises(ProtocolError, match="definition 1 is no template"):
        room.definitions().template(1)


@pytest.mark.parametrize(
    "definition",
    [
        5,
        None,
        [],
        [[], [], []],
        [[1], [[1, False]]],
        [[], [[0, False]]],
        [[], [[-1, False]]],
        [[], [[1]]],
        [[], 5],
        [["text"], []],
        [[], [["text", False]]],
        b"ab",
    ],
)
def test_malformed_definition(definition: object) -> None:
    """A definition that is neither a text nor a template of known texts is a `ProtocolError`."""
    known = Definitions()
    with pytest.raises(ProtocolError):
        known.extend(1, 1, seal(msgpack.packb(definition), 1))


@pytest.mark.parametrize(
    "payload",
    [
        None,
        5,
        "ab",
        [],
        [[], []],
        [[[], [["s", False]]]],
        [[5, [["s", False]]], []],
        [[[], ["s"]], []],
        [[[], [[5, False]]], []],
        [[[7], [["s", False]]], []],
        b"ab",
        [[[], [[["s"], 0]]], []],
    ],
)
def test_malformed_template_in_a_payload(payload: object) -> None:
    """A record whose template stands in the payload, and is none, is a `ProtocolError`."""
    with pytest.raises(ProtocolError):
        read_runs(STREAM, 1, 1, seal(b"\x00" + msgpack.packb(payload), 1), Definitions())


SIMPLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.lists(st.tuples(SIMPLE, SIMPLE), min_size=1, max_size=4), SIMPLE)
@settings(max_examples=300)
def test_records_of_anything(records: list[tuple[object, object]], definition: object) -> None:
    """Well-formed msgpack of the wrong shape raises nothing but `ProtocolError` and `KeyError`."""
    known = Definitions()
    with suppress(ProtocolError):
        known.extend(1, 2, seal(msgpack.packb("text"), 1) + seal(msgpack.packb(definition), 2))
    body = sealed([msgpack.packb(number) + msgpack.packb(payload) for number, payload in records])
    try:
        runs = read_runs(STREAM, 1, len(records), body, known)
    except (ProtocolError, KeyError):
        return
    assert len(records) == sum(len(run.payloads) for run in runs)


@given(st.binary(max_size=200), st.integers(1, 30))
@settings(max_examples=300)
def test_random_bytes(data: bytes, count: int) -> None:
    """Random bytes raise nothing but `ProtocolError` and `KeyError`, and are never an intact record."""
    with suppress(ProtocolError, KeyError):
        read_runs(STREAM, 1, count, data, Definitions())
    for found in (scan(data, 1), scan_definitions(data)):
        with suppress(JournalCorrupt):
            assert [] == [*found]


def body_of_five() -> tuple[bytes, list[int]]:
    """Five records of different shapes from job 3 on, and where each ends."""
    room = Room(3)
    encoder = Encoder(room.define)
    records = [
        encoder.row(INSERT, (1,), ()),
        encoder.row(INSERT_2, ("zwei", None), (TABLE,)),
        encoder.job(Job((Statement(INSERT, ((1,), (2.5,))), Statement(INSERT_2, ((1, b"\0"),))))),
        encoder.job(Job()),
        encoder.row(INSERT, (-1,), ()),
    ]
    ends, body = [], b""
    for sequence, record in enumerate(records, 3):
        body += seal(record, sequence)
        ends.append(len(body))
    return body, ends


def intact(data: bytes, first: int) -> list[int]:
    """The ends of the records that `scan` finds before it gives up."""
    found: list[int] = []
    with suppress(JournalCorrupt):
        found.extend(scan(data, first))  # extend keeps what came before the error
    return found


def test_scan_finds_all() -> None:
    """The end of each record, in order."""
    body, ends = body_of_five()
    assert ends == [*scan(body, 3)]
    assert [] == [*scan(b"", 3)]


@pytest.mark.parametrize("first", [1, 2, 4, 3 + 2**31])
def test_records_of_another_place(first: int) -> None:
    """A record at another number than its own does not check out: stale ones never come back."""
    body, _ = body_of_five()
    with pytest.raises(JournalCorrupt):
        next(scan(body, first))


def test_every_bit_flip() -> None:
    """A flipped bit anywhere ends the scan before its record; those before it are intact."""
    body, ends = body_of_five()
    for place in range(8 * len(body)):
        damaged = bytearray(body)
        damaged[place // 8] ^= 1 << place % 8
        expected = [end for end in ends if end <= place // 8]
        assert expected == intact(bytes(damaged), 3), f"bit {place}"


def test_every_truncation() -> None:
    """What was cut off anywhere is recovered up to its last whole record."""
    body, ends = body_of_five()
    for length in range(len(body)):
        assert [end for end in ends if end <= length] == intact(body[:length], 3), f"{length} bytes"


def test_checksum_of_fixed_width() -> None:
    """A checksum is always five bytes, small as its number may be; the same number in another form is none."""
    data = next(data for n in range(2**20) if crc32(data := b"\x01\xce" + n.to_bytes(4, "big"), 1) < 2**16)
    assert len(data) + 5 == len(seal(data, 1))
    assert [len(data) + 5] == [*scan(seal(data, 1), 1)]
    with pytest.raises(JournalCorrupt):
        next(scan(data + msgpack.packb(crc32(data, 1)), 1))


def test_shortest_record() -> None:
    """No record is shorter than the announced minimum: it bounds how many a message may announce."""
    room = Room()
    assert MIN_RECORD_BYTES <= len(seal(Encoder(room.define).job(Job()), 1))
    assert MIN_RECORD_BYTES == len(seal(b"\x01" + pack_parts([]), 1))
