"""The bus of one database as seen from outside, whether or not a writer runs: who owns it, what waits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..config import Database, parse_database
from ..database.sqlite.claims import claims
from ..database.sqlite.names import check_name
from ..errors import DatabaseFault, JournalCorrupt, OtherName
from ..journal.dropped import dropped_jobs
from ..journal.orphan import JournalState, inspect
from ..runtime.folder import JOURNAL_SUFFIX, BusFolder
from ..runtime.locks import holder, is_held

#: For those who look often: what waits in a journal beyond this is reckoned, see `inspect`. To count all that waits
#: under load would take a core from the writer.
COUNTED_BYTES = 256 * 1024


class NoDatabase(DatabaseFault):
    """The database is not there, nor is anything of its bus that could stand for it."""


def no_database(database: Database, operation: str) -> NoDatabase:
    return NoDatabase(
        "there is no such database", operation=operation, subject=database.masked, hint="name it with --database"
    )


@dataclass(frozen=True)
class Journals:
    """The journals at one moment: those that can be read, and what is wrong with the others, by file name."""

    readable: list[JournalState]
    damaged: dict[str, str]
    #: Jobs that full journals have dropped, those of programs that have ended included.
    dropped_jobs: int = 0

    @property
    def pending_jobs(self) -> int:
        return sum(journal.pending_jobs for journal in self.readable)


@dataclass(frozen=True)
class Bus:
    """One database and the folder of its bus. Looking makes nothing and changes nothing."""

    database: Database
    folder: BusFolder

    @classmethod
    def of(cls, database: str | None) -> Bus:
        """The bus of the database that was named on the command line. Raises `ConfigError`."""
        target = parse_database(database)
        return cls(target, BusFolder.of(target))

    @property
    def held(self) -> bool:
        """Whether somebody owns the database."""
        return is_held(self.folder.writer_lock)

    def other_name(self) -> OtherName | None:
        """Why a writer of this name would be refused now; None as far as can be told."""
        path = self.database.path
        try:
            if path is not None and not self.held:
                check_name(path)
                claims.check(path, self.folder.path)
        except OtherName as refusal:
            return refusal
        except OSError:
            pass
        return None

    @property
    def missing(self) -> bool:
        """Whether there is no database, nor a job that waits for its first writer, or for somebody to look at it."""
        path = self.database.path
        if path is None or path.exists() or self.held:
            return False
        return not self.folder.journal_paths() and not any(self.folder.quarantine.glob("*"))

    def demand(self, operation: str) -> None:
        """Raises `NoDatabase` when it is `missing`: a path that was mistyped must not look like a bus at rest."""
        if self.missing:
            raise no_database(self.database, operation)

    def journals(self, most_bytes: int = sys.maxsize) -> Journals:
        """Look at every journal, as `inspect` does. Those that go away meanwhile are left out."""
        readable, damaged = [], {}
        for path in self.folder.journal_paths():
            try:
                readable.append(inspect(path, most_bytes))
            except FileNotFoundError:
                continue
            except (JournalCorrupt, OSError) as error:
                damaged[path.name] = str(error)
        dropped = dropped_jobs(self.folder.journals, ((journal.stream, journal.dropped) for journal in readable))
        return Journals(readable, damaged, dropped)

    def owner(self, journals: Journals | None = None) -> Owner:
        """Who holds the lock, as far as can be told without asking. A journal of its own is one that it has locked, for
        another container may have a process of the same number."""
        pid = holder(self.folder.writer_lock)
        own = [found for found in (journals or self.journals()).readable if found.alive and found.pid == pid]
        return Owner(pid, any(holder(self._path(found)) == pid for found in own))

    def _path(self, journal: JournalState) -> Path:
        return self.folder.journals / f"{journal.stream.hex()}{JOURNAL_SUFFIX}"


@dataclass(frozen=True)
class Owner:
    """The process that owns a database; a program that has streams of its own does so in thread mode."""

    pid: int | None
    is_program: bool

    def silence(self) -> str:
        """Why it does not answer."""
        if self.is_program:
            return f"process {self.pid} owns the database in thread mode, where nobody answers"
        if self.pid is not None:
            return f"process {self.pid} owns the database and does not answer: it is stopped, or busy for long"
        return "the owner of the database does not answer: a program in thread mode, or a writer that is stopped"
