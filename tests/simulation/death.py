"""How a process dies between two instructions: where it writes to its journal, and where its simulation says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from telemetry_bus.journal.layout import DEFINITIONS_TAIL, TAIL
from telemetry_bus.journal.ring import Journal

#: Moments inside of `Journal`, and the attribute through which it writes then.
IN_JOURNAL = {
    "definition torn": "_definitions",
    "definition not published": "_words",
    "record torn": "_ring",
    "record not published": "_words",
    "record published": "_words",
    "watermark torn": "_map",
}
_WORD = {"definition not published": DEFINITIONS_TAIL, "record not published": TAIL, "record published": TAIL}


class Death(BaseException):
    """The process is killed here. Not an Exception: nobody may catch it."""

    def __init__(self, moment: str) -> None:
        super().__init__(moment)
        self.moment = moment


class FatalMemory:
    """Stands in for memory that a journal writes to: at the fatal moment a part of it arrives, or nothing."""

    def __init__(self, memory: Any, moment: str, random: Callable[[], float]) -> None:
        self.memory = memory
        self._moment = moment
        self._random = random
        # The first watermark has no older one beside it, those that follow have.
        self._spared = int(random() * 3) if moment == "watermark torn" else 0

    def __getitem__(self, where: Any) -> Any:
        return self.memory[where]

    def __setitem__(self, where: Any, data: Any) -> None:
        if isinstance(where, int):
            if where != _WORD[self._moment]:
                self.memory[where] = data
                return
            if self._moment == "record published":
                self.memory[where] = data
        elif self._spared:
            self._spared -= 1
            self.memory[where] = data
            return
        else:
            arrives = self._arrives(len(data))
            if where.stop is None and arrives == len(data) - 1:
                self.memory[where] = data  # at the ring's wrap: dies in the second part
                return
            start = where.start or 0
            self.memory[start : start + arrives] = data[:arrives]
            if self._moment == "record torn" and bytes(self.memory[where]) == data:
                raise Death("record not published")  # what did not arrive was there by chance
        raise Death(self._moment)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    def _arrives(self, length: int) -> int:
        """How many bytes; often nearly all, where only the checksum can tell."""
        if self._moment != "watermark torn" and self._random() < 0.5:
            return length - 1 - int(self._random() * min(4, length))
        return int(self._random() * length)


def doom(journal: Journal, moment: str, random: Callable[[], float]) -> None:
    """At its next such moment the journal's process dies."""
    name = IN_JOURNAL[moment]
    setattr(journal, name, FatalMemory(getattr(journal, name), moment, random))


def pardon(journal: Journal) -> None:
    for name in set(IN_JOURNAL.values()):
        memory = getattr(journal, name)
        if isinstance(memory, FatalMemory):
            setattr(journal, name, memory.memory)
