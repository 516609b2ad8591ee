"""Adopting the journals of dead producers: what is in them and not in the ledger is applied, then they go."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatabaseFault, JournalCorrupt, JournalVersion
from ..journal.layout import UNFINISHED_SUFFIX, lock_file
from ..journal.origin import Origins
from ..journal.orphan import OrphanJournal
from ..protocol.messages import Jobs
from ..runtime.files import files_inside, remove_inside, rename_inside, sync_folder
from ..runtime.folder import BusFolder
from .intake import Intake, log_gone

logger = logging.getLogger("telemetry_bus.writer")

#: A journal that was never finished is removed when it is so old.
_UNFINISHED_AGE_S = 60.0


@dataclass(slots=True)
class _Adoption:
    """An orphan under way: chunks still to read, and the last job that must be decided before it may go."""

    journal: OrphanJournal
    messages: Iterator[Jobs]
    last: int
    read: bool = False


class Adopter:
    """Finds orphans in the bus folder and feeds them to an intake, a message at a time."""

    def __init__(self, folder: BusFolder, intake: Intake[Any]) -> None:
        self._folder = folder
        self._intake = intake
        origins = Origins(folder.journals)
        intake.on_hello = origins.see
        intake.on_failures = lambda failures: origins.note(failure.stream for failure in failures)
        self._current: _Adoption | None = None
        self._found: list[Path] = []
        self.adopted = 0
        self.quarantined = 0
        #: Orphans of another version: they stay where they are, for a writer that can read them.
        self.unread: set[Path] = set()
        #: Those that are decided, and that this user may not remove.
        self._kept: set[Path] = set()

    @property
    def busy(self) -> bool:
        """Whether an orphan is under way or waits for its turn."""
        return self._current is not None or bool(self._found)

    def scan(self) -> bool:
        """Look for orphans. Returns whether there is any journal that is not `unread`, its owner alive or not."""
        try:
            self._remove_unfinished()
            paths = self._folder.journal_paths()
        except OSError as error:  # out of descriptors; there may be some
            self._intake.pace.log(logging.ERROR, "cannot look for journals: %s", error)
            return True
        self.unread.intersection_update(paths)
        self._kept.intersection_update(paths)
        self._found = [path for path in paths if path not in self.unread | self._kept]
        return bool(self._found) or self._current is not None

    def step(self, messages: int | None = None) -> None:
        """Feed the intake as long as it has room, or so many messages; let go of an orphan whose jobs are settled."""
        self._notice_new_beginning()
        while self._intake.room and messages != 0:
            if self._current is None and not self._next():
                return
            adoption = self._current
            assert adoption is not None
            if not adoption.read:
                self._feed(adoption)
                messages = None if messages is None else messages - 1
                continue
            if not self._intake.protocol.settled(adoption.journal.stream):
                return
            self._finish(adoption)

    def close(self) -> None:
        """Let go of what is under way; it stays an orphan."""
        if self._current is not None:
            self._current.journal.close()
            self._let_go()
        self._found = []

    def _next(self) -> bool:
        """Claim the next orphan, if there is one."""
        while self._found and self._intake.fault is None:
            path = self._found.pop(0)
            try:
                journal = OrphanJournal.claim(path)
            except JournalVersion as error:
                self._leave(path, error)
                continue
            except JournalCorrupt as error:
                self._found_damaged(path, str(error))
                continue
            except OSError as error:
                self._trouble("cannot open journal %s: %s", path, error)
                continue
            if journal is not None and self._is_named(journal) and self._begin(journal):
                return True
        return False

    def _is_named(self, journal: OrphanJournal) -> bool:
        """A journal that speaks of another stream than its name says could have that one's jobs taken for known."""
        if journal.path.stem == journal.stream.hex():
            return True
        journal.close()
        self._found_damaged(journal.path, f"it is of stream {journal.stream.hex()}")
        return False

    def _begin(self, journal: OrphanJournal) -> bool:
        try:
            gone = self._intake.protocol.watermark(journal.stream, journal.trimmed[0], time.monotonic())
        except DatabaseFault as fault:
            journal.close()
            self._intake.degrade(fault)
            self._found.insert(0, journal.path)  # again when the database works again
            return False
        log_gone(gone, journal.stream)
        if self._intake.protocol.received(journal.stream) < journal.trimmed[0]:
            journal.close()  # older jobs of it are pending; the next scan finds it with a ledger that can be raised
            return False
        journal.known = self._intake.protocol.received(journal.stream)
        self._current = _Adoption(journal, _messages(journal), journal.known)
        self._intake.protocol.adopting = journal.stream  # its definitions come only once
        return True

    def _feed(self, adoption: _Adoption) -> None:
        journal, intake = adoption.journal, self._intake
        message = next(adoption.messages, None)
        if message is None:
            adoption.read = True
            return
        malformed = intake.malformed
        intake.jobs(message)
        if intake.protocol.received(journal.stream) >= message.last:
            adoption.last = message.last
        elif intake.fault is not None:  # begin again when the database works again
            self._put_back(adoption)
        else:
            reason = "malformed" if intake.malformed > malformed else "not readable without its definitions"
            journal.damage = journal.damage or f"jobs from {message.first} on are {reason}"
            adoption.read = True

    def _notice_new_beginning(self) -> None:
        """The ledger has moved, and nothing of the orphan is pending any more: read it from its beginning."""
        if self._current is not None and self._intake.protocol.adopting is None:
            self._put_back(self._current)

    def _put_back(self, adoption: _Adoption) -> None:
        adoption.journal.close()
        self._let_go()
        self._found.insert(0, adoption.journal.path)

    def _finish(self, adoption: _Adoption) -> None:
        journal = adoption.journal
        jobs = adoption.last - journal.known
        leave = self._intake.protocol.forget
        try:
            if journal.damage is None:
                journal.delete()
                leave = self._intake.protocol.end
            else:
                journal.keep_dropped()
                self._quarantine(journal.path, journal.damage)
        except OSError as error:  # it is found again by the next writer, and dropped as a duplicate
            self._kept.add(journal.path)
            self._trouble("journal %s is decided and cannot be put away: %s", journal.path, error)
        journal.close()
        self._let_go()
        leave(journal.stream)  # one that is kept somewhere may come back, and must be known then
        self.adopted += 1
        if jobs:
            logger.info(
                "adopted %d jobs that process %d left behind",
                jobs,
                journal.pid,
                extra={"stream": journal.stream.hex(), "jobs": jobs},
            )

    def _let_go(self) -> None:
        self._current = None
        self._intake.protocol.adopting = None

    def _leave(self, path: Path, error: JournalVersion) -> None:
        self.unread.add(path)
        logger.error(
            "journal %s is left to a writer of its version: %s", path.name, error, extra={"journal": path.name}
        )

    def _found_damaged(self, path: Path, damage: str) -> None:
        try:
            self._quarantine(path, damage)
        except OSError as error:
            self._trouble("journal %s is damaged, %s, and cannot be put away: %s", path, damage, error)

    def _quarantine(self, path: Path, damage: str) -> None:
        """Keep a damaged journal aside, whole: what could be read of it is applied."""
        self.quarantined += 1
        self._folder.quarantine.mkdir(mode=0o700, exist_ok=True)
        kept = self._folder.quarantine / f"{path.name}.{time.time_ns()}"
        rename_inside(path, kept)
        sync_folder(path.parent)
        logger.error(
            "journal %s is damaged, %s; kept as %s",
            path.name,
            damage,
            kept,
            extra={"journal": path.name, "kept": str(kept)},
        )

    def _trouble(self, text: str, path: Path, *what: object) -> None:
        """Log what went wrong with a journal; it is tried again a second later."""
        self._intake.pace.log(logging.ERROR, text, path.name, *what, about=path.name, extra={"journal": path.name})

    def _remove_unfinished(self) -> None:
        """Files of producers that died while they made their journal: nothing was submitted to them."""
        for path in files_inside(self._folder.journals, UNFINISHED_SUFFIX):
            try:
                old = time.time() - path.lstat().st_mtime > _UNFINISHED_AGE_S
                if old and (fd := lock_file(path)) is not None:
                    remove_inside(path)
                    os.close(fd)
            except OSError as error:  # gone meanwhile, a link, a folder, or another user's
                logger.debug("cannot remove %s: %s", path, error)


def _messages(journal: OrphanJournal) -> Iterator[Jobs]:
    """A journal as the messages its owner would have sent, definitions with the first."""
    definitions_first, count, definitions = 1, journal.definitions_count, journal.definitions
    for first, jobs, records in journal.chunks():
        yield Jobs(journal.stream, 0, first, jobs, definitions_first, count, definitions, records)
        definitions_first, count, definitions = journal.definitions_count + 1, 0, b""
