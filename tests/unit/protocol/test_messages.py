"""Messages to bytes and back; bytes that are no message."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_bus.encoding.records import CHUNK_BYTES, MIN_RECORD_BYTES, Definitions
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.errors import ProtocolError
from telemetry_bus.jobs import MAX_JOB_BYTES, Failure
from telemetry_bus.protocol.messages import (
    MAX_CONTROL_BYTES,
    MAX_FRAME_BYTES,
    VERSION,
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
    decode_control,
    encode_control,
)

STREAMS = st.binary(min_size=16, max_size=16)
NUMBERS = st.integers(0, INT64_MAX)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FAILURES = st.lists(st.builds(Failure, st.just(b""), NUMBERS, TEXTS, TEXTS, st.none() | TEXTS), max_size=3)
STATES = (STREAMS, st.binary(max_size=8), NUMBERS, NUMBERS, NUMBERS, NUMBERS, FAILURES)
CONTROLS: st.SearchStrategy[Control] = st.one_of(
    st.builds(Hello, STREAMS, TEXTS, NUMBERS, NUMBERS),
    st.builds(Ack, *STATES).map(lambda message: with_stream(message)),
    st.builds(Welcome, *STATES).map(lambda message: with_stream(message)),
    st.builds(Resend, STREAMS, st.binary(max_size=8), NUMBERS, NUMBERS),
    st.builds(Confirm, STREAMS, NUMBERS),
    st.builds(Bye, STREAMS),
    st.builds(Refusal, STREAMS, TEXTS, st.booleans()),
    st.builds(Command, TEXTS, TEXTS),
    st.builds(Answer, st.booleans(), TEXTS),
)


def with_stream(message: Ack) -> Ack:
    """The failures of a message are of its stream, which it names once."""
    return replace(message, failures=[failure._replace(stream=message.stream) for failure in message.failures])


@st.composite
def job_messages(draw: st.DrawFn) -> Jobs:
    records = draw(st.binary(min_size=MIN_RECORD_BYTES, max_size=100))
    definitions = draw(st.binary(max_size=30))
    many = draw(st.integers(1, len(definitions))) if definitions else 0
    return Jobs(
        draw(STREAMS),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(1, INT64_MAX - len(records))),
        draw(st.integers(1, len(records) // MIN_RECORD_BYTES)),
        draw(st.integers(1, 2**32 - 1)),
        many,
        definitions,
        records,
        not many and draw(st.booleans()),
    )


@given(CONTROLS)
def test_round_trip(message: Control) -> None:
    """Every control message comes back equal and of its kind."""
    found = decode_control(encode_control(message))
    assert (message, type(message)) == (found, type(found))


@given(job_messages())
def test_round_trip_of_jobs(message: Jobs) -> None:
    """A message of jobs is three frames, and comes back equal."""
    frames = message.encode()
    assert 3 == len(frames)
    assert message == Jobs.decode(frames)


@given(job_messages(), st.data())
def test_a_damaged_message_of_jobs(message: Jobs, data: st.DataObject) -> None:
    """A flipped bit, a frame too many or too few, frames in another order: none of it is taken for jobs."""
    frames = message.encode()
    place = data.draw(st.integers(0, 8 * sum(map(len, frames)) - 1))
    flipped, left = [], place
    for frame in frames:
        if 0 <= left < 8 * len(frame):
            changed = bytearray(frame)
            changed[left // 8] ^= 1 << left % 8
            frame = bytes(changed)
        left -= 8 * len(frame)
        flipped.append(frame)
    for wrong in (flipped, frames[:2], [*frames, b""], [], [frames[0][:-1], *frames[1:]], frames[::-1]):
        with pytest.raises(ProtocolError):
            Jobs.decode(wrong)


def test_patience_is_for_readers_that_know_it() -> None:
    """It lies where definitions would, and a reader of none does not look there; with definitions there is none."""
    patient = Jobs(b"s" * 16, 0, 1, 2, 3, 0, b"", b"r" * 20, patient=True)
    hasty = replace(patient, patient=False)
    assert [b"\0", b""] == [message.encode()[1] for message in (patient, hasty)]
    assert (patient, hasty) == (Jobs.decode(patient.encode()), Jobs.decode(hasty.encode()))
    definitions = Definitions()
    definitions.extend(1, 0, patient.encode()[1])
    assert 0 == len(definitions)
    with_definitions = replace(patient, definitions_count=1, definitions=b"d")
    assert replace(with_definitions, patient=False) == Jobs.decode(with_definitions.encode())


MESSAGE = Jobs(b"s" * 16, 0, 1, 2, 1, 0, b"", b"r" * 20)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"count": 3},
        {"count": 2**32 - 1},
        {"first": 0},
        {"definitions_first": 0},
        {"definitions_count": 1},
    ],
)
def test_impossible_counts(change: dict[str, int]) -> None:
    """A message that announces more than it can hold, or begins before the beginning, is refused unread."""
    assert MESSAGE == Jobs.decode(MESSAGE.encode())
    with pytest.raises(ProtocolError, match="impossible counts"):
        Jobs.decode(replace(MESSAGE, **change).encode())  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_random_frames(frames: list[bytes]) -> None:
    """Random frames are a `ProtocolError` and nothing else."""
    with pytest.raises(ProtocolError):
        Jobs.decode(frames)


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_random_bytes(data: bytes) -> None:
    """Random bytes are a `ProtocolError` and nothing else."""
    with pytest.raises(ProtocolError):
        decode_control(data)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=3)
    | st.binary(max_size=16)
    | st.floats()
    | STREAMS,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
KINDS = st.sampled_from(["hello", "welcome", "ack", "resend", "confirm", "bye", "refusal", "command", "answer"])


@pytest.mark.slow
@given(KINDS, st.lists(ANYTHING, max_size=8))
@settings(max_examples=500)
def test_fields_of_anything(kind: str, values: list[object]) -> None:
    """A message of the right kind with the wrong fields is a `ProtocolError`; else its integers fit a database."""
    try:
        message = decode_control(msgpack.packb([VERSION, kind, *values]))
    except ProtocolError:
        return
    for name in message.__dataclass_fields__:
        value = getattr(message, name)
        assert not isinstance(value, int) or 0 <= value <= INT64_MAX


@pytest.mark.parametrize(
    "raw",
    [
        5,
        [],
        [1],
        [1, 2],
        [2, "bye", b"s" * 16],
        ["1", "bye", b"s" * 16],
        [1, "greeting", b"s" * 16],
        [1, "bye"],
        [1, "bye", b"s" * 16, 0],
        [1, "bye", b"s" * 15],
        [1, "bye", "s" * 16],
        [1, "confirm", b"s" * 16, -1],
        [1, "confirm", b"s" * 16, 2**63],
        [1, "confirm", b"s" * 16, 1.0],
        [1, "ack", b"s" * 16, b"", 1, 1, 1, 1, [[1, "T", "e"]]],
        [1, "ack", b"s" * 16, b"", 1, 1, 1, 1, [5]],
        [1, "ack", b"s" * 16, b"", 1, 1, 1, 1, [[1, "T", 5, None]]],
        [1, "__class__", b"s" * 16],
    ],
)
def test_malformed(raw: object) -> None:
    """Each way to be no message, one of another version among them, is refused."""
    with pytest.raises(ProtocolError):
        decode_control(msgpack.packb(raw))


def test_too_long() -> None:
    """What is longer than any honest control message is not even unpacked."""
    with pytest.raises(ProtocolError, match="too long"):
        decode_control(b"\xc0" * (MAX_CONTROL_BYTES + 1))


def test_the_largest_frame() -> None:
    """The limit of a socket leaves room for the longest message: a chunk that is not full, and the largest job."""
    assert MAX_FRAME_BYTES >= CHUNK_BYTES + MAX_JOB_BYTES + 5
