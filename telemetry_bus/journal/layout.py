"""The journal file: its layout, its lock.

One page of header, a room for definitions, the ring of records (see `records`). Two words of the header say how
far definitions and records are published; each is one aligned 8-byte store, so that a kill finds it either old
or new. What is acknowledged is noted in two alternating slots with a checksum. Positions count bytes since the
stream began; the ring holds them modulo its size.

While its owner lives it holds a `flock` on the file. A journal whose lock is free is an orphan, and belongs to
the writer that takes the lock.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ..encoding.records import Position
from ..errors import JournalCorrupt, JournalUnavailable, JournalVersion
from ..runtime.files import open_inside
from ..runtime.locks import leads_to, try_lock

DEFINITIONS_BYTES = 256 * 1024
PAGE_BYTES = 4096
UNFINISHED_SUFFIX = ".new"

#: No stream comes so far, and what may follow in its ring still fits into the 64 bits of a ledger.
MAX_SEQUENCE = 1 << 62

# Words of the header page, 64 bytes apart so that they never share a cache line.
TAIL = 3072 // 8
DEFINITIONS_TAIL = 3136 // 8
#: Jobs that found no room and were dropped, by the owner's policy.
DROPPED = 3328 // 8

#: The last character is the version of all that is in the file.
_MAGIC = b"TBUSJRN1"
#: magic, stream, bytes of the ring, bytes for definitions, process id, length of the database's identity
_HEADER = struct.Struct("<8s16sQQII")
_MAX_IDENTITY = 2048
_MAX_RING_BYTES = 1 << 40
#: They are read as a whole, into memory.
_MAX_DEFINITIONS_BYTES = 1 << 24
_CHECKSUM = struct.Struct("<I")
_SLOTS = (3200, 3264)
_SLOT = struct.Struct("<QQQ")  # generation, sequence, offset


class Header(NamedTuple):
    """What never changes in a journal."""

    stream: bytes
    ring_bytes: int
    definitions_bytes: int
    pid: int
    database: str

    def pack(self) -> bytes:
        identity = self.database.encode()
        if len(identity) > _MAX_IDENTITY:
            raise JournalUnavailable(
                "the database's name is too long", operation="create journal", subject=self.database
            )
        data = (
            _HEADER.pack(_MAGIC, self.stream, self.ring_bytes, self.definitions_bytes, self.pid, len(identity))
            + identity
        )
        return data + _CHECKSUM.pack(crc32(data))

    @classmethod
    def unpack(cls, page: bytes) -> Header:
        try:
            magic, stream, ring, definitions, pid, length = _HEADER.unpack_from(page)
            end = _HEADER.size + length
            (checksum,) = _CHECKSUM.unpack_from(page, end)
        except struct.error:
            raise JournalCorrupt("the header is cut off", operation="read journal") from None
        if magic[:-1] == _MAGIC[:-1] and magic[-1:].isalnum() and magic != _MAGIC:
            raise JournalVersion(
                f"not a journal of this version: it is {magic.decode()}, this reads {_MAGIC.decode()}",
                operation="read journal",
            )
        if magic != _MAGIC:
            raise JournalCorrupt("not a journal of this version", operation="read journal")
        if length > _MAX_IDENTITY or checksum != crc32(page[:end]):
            raise JournalCorrupt("the header has a wrong checksum", operation="read journal")
        if not 0 < ring <= _MAX_RING_BYTES or definitions > _MAX_DEFINITIONS_BYTES:
            raise JournalCorrupt("impossible sizes", operation="read journal")
        try:
            return cls(stream, ring, definitions, pid, page[_HEADER.size : end].decode())
        except UnicodeDecodeError:
            raise JournalCorrupt("the database's name is not UTF-8", operation="read journal") from None


def write_watermark(generation: int, position: Position) -> tuple[int, bytes]:
    """Where in the page the watermark of this generation stands, and its bytes."""
    slot = _SLOT.pack(generation, *position)
    return _SLOTS[generation % 2], slot + _CHECKSUM.pack(crc32(slot))


def read_watermark(page: bytes) -> Position:
    """The newest watermark of those that check out; (0, 0) as long as no second one was begun. Raises `JournalCorrupt`.

    The first one may be torn by a kill: then nothing has been overwritten, for space is freed behind it.
    """
    found = []
    begun = 0
    for index in _SLOTS:
        raw = page[index : index + _SLOT.size]
        (checksum,) = _CHECKSUM.unpack_from(page, index + _SLOT.size)
        begun += any(raw) or checksum != 0
        if any(raw) and checksum == crc32(raw):
            found.append(_SLOT.unpack(raw))
    if found:
        _, sequence, offset = max(found)
        if sequence > MAX_SEQUENCE:
            raise JournalCorrupt("impossible watermark", operation="read journal")
        return sequence, offset
    if begun == len(_SLOTS):
        raise JournalCorrupt("both watermarks have wrong checksums", operation="read journal")
    return 0, 0


def lock_file(path: Path) -> int | None:
    """A descriptor that holds the lock of the file at `path`; None when another holds it or the file is gone."""
    try:
        fd = open_inside(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if try_lock(fd) and leads_to(path, fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
