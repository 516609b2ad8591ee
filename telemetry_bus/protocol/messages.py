"""What producers and writer say to each other, and its form on the wire.

Jobs travel over PUSH/PULL as three frames: header, definitions, records; behind the header's checksum stands the secret
of the stream, if it has one. Everything else travels over
DEALER/ROUTER as one frame, a msgpack array ``[version, kind, field…]``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar
from zlib import crc32

import msgpack

from ..encoding.records import CHUNK_BYTES, MIN_RECORD_BYTES, STREAM_BYTES
from ..encoding.stream_names import SECRET_BYTES, is_owned, stream_of
from ..encoding.values import INT64_MAX, unpack
from ..errors import ProtocolError
from ..jobs import MAX_JOB_BYTES, Failure

VERSION = 1
#: No honest frame is longer: what is left of a chunk, one job of the largest size, and its checksum.
MAX_FRAME_BYTES = MAX_JOB_BYTES + CHUNK_BYTES + 1024
MAX_CONTROL_BYTES = 1024 * 1024

_MAGIC = b"TB"
#: In the place of definitions, where there are none: the jobs are patient. Readers that do not know it do not look.
_PATIENT = b"\0"
#: magic, version: what every version begins with
_START = struct.Struct(">2sH")
#: magic, version, stream, rewind, first sequence, count, first definition, definitions
_HEADER = struct.Struct(">2sH16sIQIII")
_CHECKSUM = struct.Struct(">I")
_HEADER_BYTES = _HEADER.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True)
class Jobs:
    """Consecutive jobs of one stream: numbers `first` … `first + count - 1`.

    `rewind` grows with every resend. `definitions` holds definitions number `definitions_first` and following.
    For `patient` jobs no process waits: they may be committed together with others that come soon. With definitions a
    message is not patient. By its `secret` a stream's own producer is told from other members of the group.
    """

    stream: bytes
    rewind: int
    first: int
    count: int
    definitions_first: int
    definitions_count: int
    definitions: bytes
    records: bytes
    patient: bool = False
    secret: bytes = b""

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def encode(self) -> list[bytes]:
        header = _HEADER.pack(
            _MAGIC,
            VERSION,
            self.stream,
            self.rewind,
            self.first,
            self.count,
            self.definitions_first,
            self.definitions_count,
        )
        definitions = _PATIENT if self.patient and not self.definitions_count else self.definitions
        checksum = crc32(self.records, crc32(definitions, crc32(header)))
        return [header + _CHECKSUM.pack(checksum) + self.secret, definitions, self.records]

    @classmethod
    def decode(cls, frames: Sequence[bytes]) -> Jobs:
        """Raises `ProtocolError` unless the frames are exactly what `encode` makes, in the stream's own producer."""
        if frames and frames[0][:2] == _MAGIC and len(frames[0]) >= _START.size:
            _, version = _START.unpack_from(frames[0])  # it may have other frames
            if version != VERSION:
                raise _malformed(f"version {version}, this is version {VERSION}")
        if len(frames) != 3 or len(frames[0]) not in (_HEADER_BYTES, _HEADER_BYTES + SECRET_BYTES):
            raise _malformed("wrong number or size of frames")
        header, definitions, records = frames
        magic, _, stream, rewind, first, count, number, many = _HEADER.unpack_from(header)
        if magic != _MAGIC:
            raise _malformed("not of this protocol")
        (checksum,) = _CHECKSUM.unpack_from(header, _HEADER.size)
        if checksum != crc32(records, crc32(definitions, crc32(header[: _HEADER.size]))):
            raise _malformed("wrong checksum")
        secret = header[_HEADER_BYTES:]
        if stream_of(secret) != stream if is_owned(stream) else secret:
            raise _malformed("another process speaks for a stream")
        if not 0 < count <= len(records) // MIN_RECORD_BYTES or many > len(definitions) or not first or not number:
            raise _malformed("impossible counts")
        if first + count > INT64_MAX:  # no ledger could hold it
            raise _malformed("impossible sequence")
        if many:
            return cls(stream, rewind, first, count, number, many, definitions, records, secret=secret)
        return cls(stream, rewind, first, count, number, many, b"", records, definitions == _PATIENT, secret)


@dataclass(frozen=True, slots=True)
class Hello:
    """Producer to writer: here I am, or: what do you know of me? Everything up to `trimmed` is acknowledged."""

    kind: ClassVar[str] = "hello"
    stream: bytes
    database: str
    trimmed: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Writer to producer: jobs up to `committed` are decided; `failures` are those among them that the producer
    has not confirmed. `received` ones will be decided next. At most `window` bytes may be under way."""

    kind: ClassVar[str] = "ack"
    stream: bytes
    epoch: bytes
    pid: int
    received: int
    committed: int
    window: int
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Welcome(Ack):
    """The same, as the answer to a Hello."""

    kind: ClassVar[str] = "welcome"


@dataclass(frozen=True, slots=True)
class Resend:
    """Writer to producer: something before your messages with this rewind number was lost; go on from `first`."""

    kind: ClassVar[str] = "resend"
    stream: bytes
    epoch: bytes
    first: int
    rewind: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Producer to writer: the failures up to `sequence` are known here, repeat them no more."""

    kind: ClassVar[str] = "confirm"
    stream: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Producer to writer: everything is acknowledged and the journal is gone; forget me."""

    kind: ClassVar[str] = "bye"
    stream: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Writer to producer: something is wrong between us; `fatal` when no job of yours is taken."""

    kind: ClassVar[str] = "refusal"
    stream: bytes
    text: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Command:
    """An operator to the writer: do `name`. `arguments` is JSON."""

    kind: ClassVar[str] = "command"
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The writer to an operator; `result` is JSON, or the error's text."""

    kind: ClassVar[str] = "answer"
    ok: bool
    result: str


Control = Hello | Welcome | Ack | Resend | Confirm | Bye | Refusal | Command | Answer

_KINDS: dict[str, type[Control]] = {
    cls.kind: cls for cls in (Hello, Welcome, Ack, Resend, Confirm, Bye, Refusal, Command, Answer)
}
_TYPES: dict[str, type] = {
    "bytes": bytes,
    "str": str,
    "int": int,
    "bool": bool,
    "list[Failure]": list,
}


#: The names and types of each kind's fields, in their order on the wire.
_FIELDS = {cls: [(declared.name, str(declared.type)) for declared in fields(cls)] for cls in _KINDS.values()}


def encode_control(message: Control) -> bytes:
    values = [getattr(message, name) for name, _ in _FIELDS[type(message)]]
    if isinstance(message, Ack):
        values[-1] = [failure[1:] for failure in message.failures]  # the stream is the message's
    packed: bytes = msgpack.packb([VERSION, message.kind, *values])
    return packed


def decode_control(data: bytes) -> Control:
    """Raises `ProtocolError` for anything that `encode_control` does not make."""
    if len(data) > MAX_CONTROL_BYTES:
        raise _malformed("too long")
    raw = unpack(data)
    if not isinstance(raw, list) or len(raw) < 2 or not isinstance(raw[1], str):
        raise _malformed("not a control message")
    version, kind, *values = raw
    if version != VERSION:
        raise _malformed(f"version {str(version)[:20]}, this is version {VERSION}")
    cls = _KINDS.get(kind)
    if cls is None or len(values) != len(_FIELDS[cls]):
        raise _malformed(f"unknown kind {kind[:20]!r} or wrong number of fields")
    for (name, declared), value in zip(_FIELDS[cls], values, strict=True):
        _check_field(kind, name, declared, value)
    if issubclass(cls, Ack):
        values[-1] = [_failure(values[0], item) for item in values[-1]]
    return cls(*values)


def _check_field(kind: str, name: str, declared: str, value: Any) -> None:
    expected: Any = _TYPES[declared]
    if not isinstance(value, expected) or (declared == "int" and not 0 <= value <= INT64_MAX):
        raise _malformed(f"field {name} of {kind}")
    if name == "stream" and len(value) != STREAM_BYTES:
        raise _malformed(f"field {name} of {kind}")


def _failure(stream: bytes, raw: Any) -> Failure:
    match raw:
        case [int(sequence), str(error_type), str(error), str() | None as statement]:
            return Failure(stream, sequence, error_type, error, statement)
    raise _malformed("failure")


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(what, operation="decode message")
