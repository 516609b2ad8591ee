"""Values and jobs to bytes and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgpack
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_bus.encoding import values as codec
from telemetry_bus.encoding.values import (
    INT64_MAX,
    INT64_MIN,
    check_size,
    pack_job,
    pack_parts,
    pack_row,
    pack_rows,
    packer,
    unpack,
    unpack_job,
    unpack_sequence,
)
from telemetry_bus.errors import JobTooLarge, ProtocolError, UnsupportedValue
from telemetry_bus.jobs import MAX_JOB_BYTES, Job, Statement

#: Surrogates are the only characters that UTF-8 has no form for.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)

#: A value beside the form in which the database gets it.
STORABLE: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    st.one_of(
        st.none(), st.booleans(), st.integers(INT64_MIN, INT64_MAX), st.floats(allow_nan=False), TEXT, st.binary()
    ).map(lambda value: (value, value)),
    st.datetimes(timezones=st.none() | ZONES).map(lambda value: (value, value.isoformat(" "))),
    st.dates().map(lambda value: (value, value.isoformat())),
    st.times(timezones=st.none() | st.just(UTC)).map(lambda value: (value, value.isoformat())),
    st.decimals().map(lambda value: (value, None if value.is_nan() else str(value))),
    st.uuids().map(lambda value: (value, str(value))),
    st.binary().map(lambda value: (bytearray(value), value)),
    st.binary().map(lambda value: (memoryview(value), value)),
)


class Colour(Enum):
    RED = "red"
    TEN = 10


class Level(IntEnum):
    HIGH = 3


class Kind(StrEnum):
    NEWS = "news"


class Odd(Enum):
    BYTES = b"\xff"
    NONE = None
    NAN = Decimal("NaN")
    PAIR = (1, 2)


class Text(str):
    """A str that lies about itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "lie"


class Number(int):
    pass


class Real(float):
    pass


class Moment(datetime):
    pass


class Amount(Decimal):
    pass


class Index:
    """As the integers of numpy: no int, but one by `__index__`."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def through(row: Any) -> Any:
    """A row, packed and unpacked."""
    return unpack(pack_row(packer().pack, row))


@given(st.lists(STORABLE))
def test_round_trip_of_a_row(row: list[tuple[Any, Any]]) -> None:
    """Every storable value comes back as the database is to get it, of the very type."""
    expected = [stored for _, stored in row]
    found = through([value for value, _ in row])
    assert expected == found
    assert [*map(type, expected)] == [*map(type, found)]


def test_nan_stays_one() -> None:
    """NaN travels; it is the database that makes NULL of it."""
    (found,) = through([math.nan])
    assert math.isnan(found)


@pytest.mark.slow
@given(st.lists(st.lists(STORABLE)))
def test_round_trip_of_many_rows(rows: list[list[tuple[Any, Any]]]) -> None:
    """Rows stay rows, in order, whatever their lengths."""
    expected = [[stored for _, stored in row] for row in rows]
    assert expected == unpack(pack_rows(packer().pack, [[value for value, _ in row] for row in rows]))


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("red", Colour.RED),
        ("10", Colour.TEN),
        (3, Level.HIGH),
        ("news", Kind.NEWS),
        ("told", Text("told")),
        (7, Number(7)),
        (1.5, Real(1.5)),
        ("2024-02-29 12:00:00", Moment(2024, 2, 29, 12)),
        ("1.50", Amount("1.50")),
        (9, Index(9)),
        (INT64_MIN, Index(INT64_MIN)),
        (b"\xff", Odd.BYTES),
        (None, Odd.NONE),
        (None, Odd.NAN),
        ("(1, 2)", Odd.PAIR),
        (True, numpy.bool_(True)),
        (0.5, numpy.float32(0.5)),
        (5, numpy.uint8(5)),
        ("a", numpy.str_("a")),
        ("2024-02-29 12:00:00", numpy.datetime64("2024-02-29T12:00:00")),
        ("2024-02-29", numpy.datetime64("2024-02-29")),
        (None, numpy.datetime64("NaT")),
        (None, numpy.timedelta64("NaT", "ns")),
    ],
)
def test_subclasses_and_enumerations(expected: object, value: object) -> None:
    """A subclass is stored as its base, an enumeration as its value, what has `__index__` as an integer."""
    (found,) = through([value])
    assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize("integer", [2**63, 2**64 - 1, 2**64, 2**200, -(2**63) - 1, -(2**200)])
@pytest.mark.parametrize("kind", [int, Number, Index])
def test_integers_beyond_64_bit(integer: int, kind: Callable[[int], object]) -> None:
    """What a signed 64-bit integer does not hold is refused by position, of whatever class it is."""
    with pytest.raises(UnsupportedValue, match="value 2 is an integer beyond 64 bit"):
        pack_row(packer().pack, ["fine", kind(integer), 5])


@pytest.mark.parametrize("integer", [10**5000, -(10**5000)], ids=["positive", "negative"])
def test_integers_of_more_digits_than_python_tells(integer: int) -> None:
    """They are refused as the others are: Python makes no text of them."""
    with pytest.raises(UnsupportedValue, match=r"value 1 is an integer beyond 64 bit.*16610 bits"):
        pack_row(packer().pack, (integer,))


def test_a_value_whose_methods_fail() -> None:
    """What says that it is an integer and then is none, as an array of numpy does, is refused by its type."""

    class Array:
        def __index__(self) -> int:
            raise TypeError("only scalars can be converted")

    with pytest.raises(UnsupportedValue, match=r"value 2 is of type .*Array and cannot be converted: only scalars"):
        pack_row(packer().pack, (1, Array()))


@pytest.mark.parametrize("integer", [INT64_MIN, INT64_MAX])
def test_the_largest_integers(integer: int) -> None:
    """Both ends of the 64-bit range are taken."""
    assert [integer, b"\xcf", "\xcf"] == through([integer, b"\xcf", "\xcf"])


@pytest.mark.parametrize(
    ("text", "index"), [("a\ud800b", 1), ("\udfff", 0), (Text("ab\udc80"), 2)], ids=["high", "low", "subclass"]
)
def test_lone_surrogates(text: str, index: int) -> None:
    """A lone surrogate is refused with the position of the value and its index in the text."""
    with pytest.raises(UnsupportedValue, match=f"value 3 is a str with a lone surrogate at index {index}"):
        pack_row(packer().pack, [1, "fine", text])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("list", []),
        ("dict", {}),
        ("tuple", ("a",)),
        ("set", {1}),
        ("complex", 1j),
        ("object", object()),
        ("datetime.timedelta", timedelta(1)),
        ("range", range(3)),
        ("type", int),
        ("datetime.timedelta", numpy.timedelta64(5, "s")),
        ("numpy.datetime64", numpy.datetime64("2024-02-29T12:00:00.123456789")),  # an integer, if anything
        ("numpy.longdouble", numpy.longdouble(1)),
        ("complex", numpy.complex64(1)),
    ],
)
def test_unsupported_types(name: str, value: object) -> None:
    """What no column can hold is refused with its type and position: nested lists and mappings too."""
    with pytest.raises(UnsupportedValue, match=f"^submit: value 2 is of type {name} ") as caught:
        pack_row(packer().pack, [None, value])
    assert "json.dumps" in caught.value.hint


def test_type_of_a_module_is_named_in_full() -> None:
    """A class that is not built in is named with its module."""

    class Strange:
        pass

    with pytest.raises(UnsupportedValue, match=f"{__name__}.*Strange"):
        pack_row(packer().pack, [Strange()])


@pytest.mark.parametrize("bad", [2**64, "\ud800", {}])
def test_packer_survives_a_refusal(bad: object) -> None:
    """Nothing of a refused row is left in the packer for the next one."""
    pack = packer().pack
    with pytest.raises(UnsupportedValue):
        pack_row(pack, ["left over", datetime(2024, 1, 1), bad])
    assert [1] == unpack(pack_row(pack, [1]))


def test_packer_survives_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle of a row leaves nothing in the packer either."""

    def interrupted(value: Any) -> str:
        raise KeyboardInterrupt

    pack = packer().pack
    with monkeypatch.context() as patch:
        patch.setitem(codec._TEXT_FORMS, datetime, (1, interrupted))
        with pytest.raises(KeyboardInterrupt):
            pack_row(pack, ["left over", datetime(2024, 1, 1)])
    assert [1] == unpack(pack_row(pack, [1]))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 70_000])
def test_parts(count: int) -> None:
    """Objects that are packed already make an array of any length."""
    assert [*range(count)] == unpack(pack_parts([msgpack.packb(number) for number in range(count)]))


def test_size_of_a_job() -> None:
    """The largest job is taken, one byte more is not; the SQL is named."""
    check_size(MAX_JOB_BYTES)
    with pytest.raises(JobTooLarge, match=r"INSERT INTO t"):
        check_size(MAX_JOB_BYTES + 1, "INSERT INTO t")


JOBS = st.builds(
    Job,
    st.lists(
        st.builds(Statement, TEXT, st.lists(st.lists(STORABLE.map(lambda pair: pair[1])).map(tuple)).map(tuple))
    ).map(tuple),
    st.lists(TEXT).map(tuple),
)


@pytest.mark.slow
@given(JOBS)
def test_round_trip_of_a_job(job: Job) -> None:
    """A whole job comes back from its bytes alone."""
    assert job == unpack_job(pack_job(job))


@pytest.mark.slow
@given(JOBS, st.data())
@settings(max_examples=50)
def test_a_job_that_was_cut_off(job: Job, data: st.DataObject) -> None:
    """No proper beginning of a job's bytes is a job."""
    packed = pack_job(job)
    with pytest.raises(ProtocolError):
        unpack_job(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary())
@settings(max_examples=500)
def test_random_bytes(data: bytes) -> None:
    """Bytes that mean nothing are a `ProtocolError` and nothing else."""
    for read in (unpack, unpack_job, lambda data: unpack_sequence(3, data)):
        try:
            read(data)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\x81\xa1a\x02",
        b"\x91" * 5000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xa1\xff",
        b"\xc7\x03\xff\x00\x00\x00",
    ],
    ids=[
        "nothing",
        "unused byte",
        "two objects",
        "mapping",
        "depth",
        "huge count",
        "not UTF-8",
        "half a timestamp",
    ],
)
def test_malformed(data: bytes) -> None:
    """Each way to be malformed is a `ProtocolError`."""
    with pytest.raises(ProtocolError):
        unpack(data)


@pytest.mark.parametrize("value", [msgpack.ExtType(9, b"a"), msgpack.ExtType(1, b"\xff")], ids=["unknown", "not UTF-8"])
def test_extensions_that_are_not_ours(value: msgpack.ExtType) -> None:
    """They are left as they are for the database to refuse: a dead letter, and not a message that cannot be read."""
    assert value == unpack(msgpack.packb(value))


def test_values_of_a_richer_database() -> None:
    """A hook may make what it likes of the extension types."""
    value = UUID(int=7)
    data = pack_row(packer().pack, [value])
    assert [(5, str(value).encode())] == unpack(data, ext_hook=lambda code, text: (code, text))


def test_objects_one_behind_the_other() -> None:
    """A sequence has exactly as many objects as were announced."""
    data = msgpack.packb(1) + msgpack.packb("two")
    assert [1, "two"] == unpack_sequence(2, data)
    for wrong in (1, 3):
        with pytest.raises(ProtocolError):
            unpack_sequence(wrong, data)


@pytest.mark.parametrize(("expected", "value"), [("2024-01-02", date(2024, 1, 2)), ("03:04:05", time(3, 4, 5))])
def test_forms_are_those_of_sqlite3(expected: str, value: object) -> None:
    """Dates and times are text in the form of the standard adapters, a date never a datetime."""
    assert [expected] == through([value])
