"""Which process a stream is of: seen while it lives, kept in a file beside the journals once its jobs have failed."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import JournalCorrupt
from ..runtime.files import open_inside, rename_inside
from ..runtime.folder import JOURNAL_SUFFIX
from .layout import PAGE_BYTES, Header

_NAME = "origins"
#: Of the file; then the older half is forgotten. Some thousand processes.
_MOST_BYTES = 1024 * 1024
_REMEMBERED = 1000
_MOST_CHARS = 300


class Origins:
    """The processes whose jobs have failed, in a file of the bus folder. For the writer, which is alone."""

    def __init__(self, journals: Path) -> None:
        self._journals = journals
        self._path = journals.parent / _NAME
        self._seen: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self._noted: OrderedDict[bytes, None] = OrderedDict()

    def see(self, stream: bytes) -> None:
        """A producer has introduced itself: which program it is can be told now, and not once it has ended."""
        if stream not in self._seen and (origin := origin_of(self._journals, stream)) is not None:
            self._seen[stream] = origin
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def note(self, streams: Iterable[bytes]) -> None:
        """Jobs of these have failed: keep whose they are. Where that cannot be written nothing else fails."""
        for stream in dict.fromkeys(streams):
            if stream in self._noted:
                continue
            self.see(stream)
            if origin := self._seen.get(stream):
                with suppress(OSError):
                    self._write({"stream": stream.hex(), **origin})
                    self._noted[stream] = None
                    if len(self._noted) > _REMEMBERED:
                        self._noted.popitem(last=False)

    def _write(self, entry: dict[str, Any]) -> None:
        with suppress(FileNotFoundError):
            if os.stat(self._path, follow_symlinks=False).st_size > _MOST_BYTES:
                self._forget_half()
        with open(self._path, "ab", opener=_open) as file:
            file.write(json.dumps(entry).encode() + b"\n")

    def _forget_half(self) -> None:
        with open(self._path, "rb", opener=_open) as file:
            lines = file.readlines()
        unfinished = self._path.with_suffix(".unfinished")
        with open(unfinished, "wb", opener=_open) as file:
            file.writelines(lines[len(lines) // 2 :])
        rename_inside(unfinished, self._path)


def origin_of(journals: Path, stream: bytes) -> dict[str, Any] | None:
    """Host and process id of a stream whose journal is there, and its program while it lives; else None."""
    path = journals / (stream.hex() + JOURNAL_SUFFIX)
    with suppress(OSError, JournalCorrupt):
        with open(path, "rb", opener=_open) as file:
            pid = Header.unpack(file.read(PAGE_BYTES)).pid
        return {"host": os.uname().nodename, "pid": pid, "program": _program(pid, path)}
    return None


def known_origins(journals: Path) -> dict[str, dict[str, Any]]:
    """What a writer has noted, by the stream's name in hexadecimal digits."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(OSError), open(journals.parent / _NAME, "rb", opener=_open) as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # the end of a disk that was full
                entry = json.loads(line)
                found[entry.pop("stream")] = entry
    return found


def _program(pid: int, journal: Path) -> str | None:
    """What a process runs, without its options, which may hold secrets; None unless it has the journal open: the number
    may be another one's by now, or in this container."""
    with suppress(OSError):
        folder = f"/proc/{pid}/fd"
        if any(_link(f"{folder}/{fd}") == str(journal) for fd in os.listdir(folder)):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="backslashreplace").split("\0")
            return _named(words)[-_MOST_CHARS:]
    return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


def _named(words: list[str]) -> str:
    """The script or module behind an interpreter, else the program itself."""
    for at, word in enumerate(words[1:], 1):
        if word == "-c":
            return f"{words[0]} -c"
        if word == "-m":
            return " ".join((words[0], *words[at : at + 2]))
        if word and not word.startswith("-"):
            return word if os.path.basename(words[0]).startswith("py") else words[0]
    return words[0]


def _open(path: str, flags: int) -> int:
    """Read by the folder's group, written by the writer alone."""
    return open_inside(Path(path), flags, others=os.O_RDONLY)
