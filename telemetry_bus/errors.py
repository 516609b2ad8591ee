"""Every error of the bus, one tree.

::

    TelemetryError
    ├── ConfigError (ValueError)        an option, a database URL, a folder that cannot be used
    ├── JobError (ValueError)           a job that is wrong in itself; nothing was queued
    │   ├── ParameterCount              placeholders and values differ in number
    │   ├── UnsupportedValue            a value that no database column can take
    │   ├── JobTooLarge                 more than 8 MiB encoded
    │   ├── NotRecordable               a read, a transaction or a PRAGMA inside a job
    │   └── BadDefinition               `ensure=` holds something that is not a definition
    ├── JournalError
    │   ├── JournalFull                 no room, and the policy or the time limit says no
    │   ├── JournalCorrupt              a journal file that does not check out
    │   │   └── JournalVersion          one that another version of the bus made
    │   └── JournalUnavailable          the file cannot be made, or its disk has failed
    ├── StoreClosed                     used after `shutdown()`
    ├── ReentrantSubmit                 a submit from inside a submit (signal handler, finalizer)
    ├── FlushTimeout (TimeoutError)     the barrier was not reached in time
    ├── JobFailed                       the writer could not apply a job
    ├── ReadOnly                        a write through a reading connection
    ├── WriterError
    │   ├── WriterBusy                  somebody else owns the database
    │   ├── WriterAbsent                nobody owns it, and none may be started
    │   ├── DatabaseFault               the database's fault: locked, full, broken; try again
    │   │   ├── OtherName               the file is open, or has its log, under another name
    │   │   └── DatabaseMoved           its content is in another database, or on its way there
    │   ├── LedgerMoved                 another writer wrote, or the database was restored: look again
    │   └── EndedWriter                 why a job is a dead letter: writers have ended in it
    └── ProtocolError                   a message that is not of this protocol

Each names the operation, what it was about (a path, a URL, SQL), and a hint that says how to mend it.
"""

from __future__ import annotations

import re

_TRACEBACK = "\nTraceback (most recent call last):\n"
#: It names columns and indexes, or what the schema says.
_CONSTRAINT = re.compile(r"(UNIQUE|NOT NULL|CHECK|FOREIGN KEY|PRIMARY KEY) constraint failed(: .*)?", re.S)
#: The words of messages of SQLite, its extensions and Python's driver; any other may be a value.
_SAFE = frozenset(
    re.findall(
        r"\w+",
        """
    a abort access after aggregate all allowed already ambiguous an and any api arguments as at attempt
    authorized bad be because binding blob boolean both bytes call called can cannot change changed check clause
    closed cols column columns command commit compound conflict connection constraint contain content convert
    corrupt count create created cursor data database datatype decode default defined depth deterministic disk
    does doesn doubles drop duplicate empty encoding end error exceeds existing exists expected expression
    failed failure few file first float for foreign found from full function functions generated group has have
    host id image in incomplete index input insert integer interrupted into invalid is it its join json key
    large length library limit limited locked malformed many match memory mismatch misuse modified more must
    name named near negative nested new no not null number numbers of offset on one only open operator or order
    out overflow own parameter parameters parse parser path pattern permitted pragma primary prior probably
    prohibited query raised range read readonly real recognized recursive reference rename required result row
    rowid rows rtree savepoint schema select set should size special sqlite sqlite3 stack statement statements
    string strict subquery such supplied supported syntax t table tables term terms text than that the there
    this time to token too took transaction triggers type types unable unexpected unicode union unique unknown
    unrecognized unsafe unsupported unterminated update use used user using utf value values vacuum view views
    virtual was when where window with within without write wrong you longer fts3 fts4 fts5 highlight snippet
    regexp expressions escape
    """,
    )
)


class TelemetryError(Exception):
    """Base of all errors of the bus.

    `message` says what is wrong; `operation` what was being done; `subject` the path, URL or SQL it was
    done to; `hint` how to mend it. All of them are in `str(error)`.
    """

    def __init__(self, message: str, *, operation: str = "", subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.operation}: {self.message}" if self.operation else self.message
        if self.subject:
            text += f" [{shorten(self.subject)}]"
        return f"{text} ({self.hint})" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


def _rebuild(kind: type[TelemetryError], message: str, state: dict[str, object]) -> TelemetryError:
    """Unpickle an error (a process pool sends them between processes)."""
    error = kind(message)
    error.__dict__.update(state)
    return error


def shorten(text: str, limit: int = 300) -> str:
    """`text` on one line and at most `limit` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def printable(text: str) -> str:
    """`text` with everything escaped that could break a line, forge one, steer a terminal, or not be encoded."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def split_error(text: str) -> tuple[str, str]:
    """The message of a failure's text, and the traceback below it."""
    message, head, trace = text.partition(_TRACEBACK)
    return message, (head + trace).strip("\n")


def without_values(error: str, sql: str) -> tuple[str, str]:
    """The text of a database's error for a log, and the traceback in it, without what may be a value of a row.

    SQLite quotes what it stumbled over, and full-text search prints it as it is (``no such column: secret``): of a
    message there stay SQLite's own words, those of the statement, and the names in a failed constraint.
    """
    message, traceback = split_error(error)
    if _CONSTRAINT.fullmatch(message):
        return message, traceback
    stated = set(re.findall(r"\w+", sql.lower()))
    safe = re.sub(
        r"\w+", lambda word: word[0] if word[0].lower() in _SAFE or word[0].lower() in stated else "…", message
    )
    safe = re.sub(r"…(\W?…)+", "…", safe)
    return safe, traceback.replace(message, safe)


class ConfigError(TelemetryError, ValueError):
    """An unknown option, an impossible value, an unusable URL or folder."""


class JobError(TelemetryError, ValueError):
    """A job that is wrong in itself; raised at the caller, nothing is queued."""


class ParameterCount(JobError):
    """The number of placeholders and of values differ."""


class UnsupportedValue(JobError):
    """A value that cannot be stored; the message names its type and position."""


class JobTooLarge(JobError):
    """The encoded job is larger than `jobs.MAX_JOB_BYTES`."""


class NotRecordable(JobError):
    """A job is write-only: it cannot read, and cannot steer the transaction it stands in."""


class BadDefinition(JobError):
    """A statement of `ensure=` that is not a repeatable definition."""


class JournalError(TelemetryError):
    """Something about a journal file."""


class JournalFull(JournalError):
    """No room in the journal: the writer is slower than this producer, or absent."""


class JournalCorrupt(JournalError):
    """A journal whose header or records do not check out."""


class JournalVersion(JournalCorrupt):
    """A journal that another version of the bus made. Only that version can read it."""


class JournalUnavailable(JournalError):
    """The journal file cannot be created (no space, no right), or its disk fails. Nothing is submitted."""


class StoreClosed(TelemetryError):
    """The store was used after its `shutdown()`."""


class ReentrantSubmit(TelemetryError):
    """A submit interrupted a submit of the same thread and store."""

    def __init__(self, message: str = "a submit was interrupted by a submit of the same thread", **where: str) -> None:
        where = {"operation": "submit", "hint": "do not submit from a signal handler or a finalizer", **where}
        super().__init__(message, **where)


class FlushTimeout(TelemetryError, TimeoutError):
    """Jobs are still waiting at the end of the time limit. They are not lost."""


class JobFailed(TelemetryError):
    """The database refused a job.

    `error_type` is the name of the database's exception, `traceback` the text of its traceback in the writer. Of
    `number` jobs it is the first. Its dead letter has the same `stream` and `sequence`.
    """

    error_type: str = ""
    traceback: str = ""
    number: int = 1
    stream: bytes = b""
    sequence: int = 0


class ReadOnly(TelemetryError):
    """A write through a reading connection."""


class WriterError(TelemetryError):
    """Something about the process that owns the database."""


class WriterBusy(WriterError):
    """Another process owns the database."""


class WriterAbsent(WriterError):
    """No writer runs, and none could be started."""


class DatabaseFault(WriterError):
    """The database's fault, not a job's: locked, full, read-only, broken. Trying again may help."""


class OtherName(DatabaseFault):
    """The database's file is open, or has its log, under another name: it cannot be written by this one now."""


class DatabaseMoved(DatabaseFault):
    """What is in the database is in another one, or on its way there: nothing is written into this one any more."""


class LedgerMoved(WriterError):
    """The ledger does not stand where a batch begins: nothing of the batch is applied, and the writer looks again."""


class EndedWriter(WriterError):
    """A job in which writers have ended; it is not tried again."""


class ProtocolError(TelemetryError):
    """A message that this version does not understand."""
