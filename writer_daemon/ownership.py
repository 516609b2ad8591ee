"""Who may speak for a stream: its producer, whose connection has the name that belongs to it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from telemetry_bus.encoding.stream_names import is_owned, stream_of
from telemetry_bus.errors import JournalCorrupt
from telemetry_bus.journal.layout import PAGE_BYTES, read_watermark
from telemetry_bus.protocol.messages import Control, Hello
from telemetry_bus.protocol.writer import WriterProtocol
from telemetry_bus.runtime.files import open_inside
from telemetry_bus.runtime.folder import JOURNAL_SUFFIX, BusFolder


class Ownership:
    """Compares each word of a producer with what its connection is called.

    A producer of 0.1.0 has no secret: it is heard, and what it says of acknowledged jobs counts only as far as the
    stream's journal says so. (Messages of jobs show the secret themselves, `Jobs.decode`.)
    """

    def __init__(self, folder: BusFolder, protocol: WriterProtocol[bytes]) -> None:
        self._folder = folder
        self._protocol = protocol

    def heard(self, route: bytes, message: Control) -> Control | None:
        """The message, or what may be believed of it; None when another process speaks for the stream."""
        stream: Any = getattr(message, "stream", None)
        if stream is None or stream_of(route) == stream:
            return message
        if is_owned(stream):
            return None
        if isinstance(message, Hello) and message.trimmed > self._protocol.received(stream):
            return replace(message, trimmed=min(message.trimmed, self._trimmed(stream)))
        return message

    def _trimmed(self, stream: bytes) -> int:
        """Up to where the stream's journal says that jobs are acknowledged."""
        try:
            fd = open_inside(self._folder.journals / f"{stream.hex()}{JOURNAL_SUFFIX}", os.O_RDONLY)
        except OSError:
            return 0
        try:
            return read_watermark(os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0"))[0]
        except JournalCorrupt:
            return 0
        finally:
            os.close(fd)
