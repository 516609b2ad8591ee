"""The files that are taken: opened, kept from a second ingest, and watched for what logrotate does to them."""

from __future__ import annotations

import fcntl
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ...errors import ConfigError, TelemetryError

_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: str, *, follow: bool) -> Iterator[BinaryIO]:
    """What is in a file, unpacked if it is gzip; `-` is standard input. A file is locked for the block.

    Raises `OSError`, and `ConfigError` for a file that another ingest takes.
    """
    if path == "-":
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("another process takes this file", operation="ingest", subject=path) from None
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not is_packed:
            yield file
            return
        if follow:
            raise ConfigError("a packed file does not grow", operation="ingest", subject=path, hint="without --follow")
        try:
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
        except (EOFError, zlib.error) as error:
            raise TelemetryError(
                "the packed file ends early or is damaged; what came before may be taken",
                operation="ingest",
                subject=path,
                hint="ingest the whole file: it goes on where this one has ended",
            ) from error


def is_replaced(path: str, stream: BinaryIO, position: int) -> bool:
    """Whether a file that is followed has another one's name, or was cut short: it does not grow any more."""
    mine = os.fstat(stream.fileno())
    try:
        return mine.st_size < position or not os.path.samestat(mine, Path(path).stat())
    except FileNotFoundError:
        return False  # the next one is not there yet
