"""Opens a SQLite database for writing: the file, the driver's connection, its pragmas."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ...config import Database
from ...errors import ConfigError, DatabaseFault
from ...runtime import sqlite
from ...runtime.files import make_private
from ..dialects import Settings

#: The largest the log may grow before it is moved into the database, and what it is cut back to. A longer log makes
#: fewer, larger checkpoints, for which everybody waits: measured are 170 ms for 64 MiB, 50 for 16.
LOG_BYTES = 16 * 1024 * 1024
#: Prepared multi-row inserts come in eight sizes per SQL text; the driver keeps this many statements.
CACHED_STATEMENTS = 512
#: Negative: KiB. Measured on two indexes in random order: 2 MiB 60,000 rows/s, 32 MiB 94,000, more is no faster.
CACHE_SIZE = -32 * 1024

#: By the number that `PRAGMA auto_vacuum` returns.
AUTO_VACUUM = ("NONE", "FULL", "INCREMENTAL")
#: For databases and statements of strangers (https://www.sqlite.org/security.html), where Python lets them be set; the
#: guard refuses the same by itself.
_SWITCHES = {
    "DEFENSIVE": True,
    "ENABLE_FTS3_TOKENIZER": False,
    "ENABLE_LOAD_EXTENSION": False,
    "ENABLE_ATTACH_CREATE": False,
    "ENABLE_ATTACH_WRITE": False,
    "WRITABLE_SCHEMA": False,
}

#: WAL needs shared memory between all who open the file, and file locks that work: https://www.sqlite.org/wal.html
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    }
)
_MOUNTS = Path("/proc/self/mountinfo")


def open_sqlite(database: Database, settings: Settings) -> sqlite3.Connection:
    """A connection in autocommit, ready for the writer, which may be used by any thread (one at a time).

    The file is there (`prepare_file`). Raises `ConfigError` for a place where no database can be, `sqlite3.Error` and
    `OSError` for the rest.
    """
    connection = _connect(database)
    try:
        _set_pragmas(connection, database, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_network_file_system(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raises `ConfigError` when `path` lies on a file system of another machine. Does nothing where it cannot tell."""
    kind = file_system(path, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"the file system is {kind}, and SQLite's write-ahead log does not work over a network",
            operation="open",
            subject=str(path),
            hint="put the database on a disk of this machine",
        )


def file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of file system that `path` lies on, whether or not it exists. None: cannot tell."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:  # a later mount on the same place hides the earlier one
        fields, _, rest = line.partition(" - ")
        point = Path(_unescape(fields.split()[4]))
        if (path == point or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split()[0]
    return kind


def _unescape(field: str) -> str:
    """Undo the octal escapes of mountinfo (space, tab, line feed, backslash)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def prepare_file(path: Path, *, create: bool) -> None:
    """`create` makes a file that is not there (mode 0600) and its folder; without it the file must hold a database.

    Raises `ConfigError` and `DatabaseFault` for a place where none can be, and `OSError`.
    """
    refuse_network_file_system(path)
    if not create:
        if not path.exists() or path.stat().st_size == 0:
            raise DatabaseFault(
                "the database file is gone or empty",
                operation="open",
                subject=str(path),
                hint="put it back, or restart the writer to begin a new one",
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # Closing a file drops this process's locks on it. This one is new, so that nobody can have any.
        os.close(make_private(path))


def _connect(database: Database) -> sqlite3.Connection:
    name = ":memory:" if database.path is None else f"file:{quote(str(database.path))}?mode=rw"
    return sqlite.connect(
        name,
        uri=database.path is not None,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )


def _set_pragmas(connection: sqlite3.Connection, database: Database, settings: Settings) -> None:
    def pragma(text: str) -> object:
        row = connection.execute(f"PRAGMA {text}").fetchone()
        return row and row[0]

    pragma(f"busy_timeout={round(settings.busy_timeout * 1000)}")
    if database.path is not None:
        if pragma("page_count") == 0:
            pragma("auto_vacuum=INCREMENTAL")  # must be said before anything is written
        if (mode := pragma("journal_mode=WAL")) != "wal":
            raise ConfigError(
                f"SQLite refused the write-ahead log (journal mode is {mode})",
                operation="open",
                subject=str(database.path),
                hint="put the database on a disk of this machine",
            )
        pragma("schema_version")  # the first look into the file: is it a database, and its log is opened
        pragma(f"journal_size_limit={LOG_BYTES}")
    if settings.checkpoints:
        pragma("wal_autocheckpoint=0")
    pragma(f"synchronous={settings.durability.upper()}")
    pragma("foreign_keys=ON")
    # Triggers and checks of other programs need it: full-text tables, REGEXP. What protects: docs/reliability.md.
    pragma("trusted_schema=ON")
    pragma(f"cache_size={CACHE_SIZE}")
    pragma("mmap_size=0")  # writing gains nothing by it, and a file that is cut short would end in SIGBUS
    for name, on in _SWITCHES.items():
        sqlite.switch(connection, name, on)
