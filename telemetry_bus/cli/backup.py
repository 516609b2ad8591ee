"""`telemetry-bus backup`: a whole copy of the database as it is at one moment, while everybody goes on."""

from __future__ import annotations

import argparse
import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..config import DEFAULT_TIMEOUT, Database
from ..errors import ConfigError, DatabaseFault
from ..reading import connect
from ..runtime import sqlite
from ..runtime.files import sync_folder
from . import exit_codes
from .arguments import Parser
from .output import Output, counted, size
from .survey import Bus, no_database
from .termination import ended_by_sigterm

#: Copied between two looks at Ctrl-C and the progress bar: 4 MiB.
_PAGES = 1000
#: What SQLite may put beside a database that it writes.
_BESIDE = ("-journal", "-wal", "-shm")
#: What a file system says that has no hard links: link(2).
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def add_to(whole: Parser) -> None:
    parser = whole.command(
        "backup",
        run,
        "copy the database, whole and checked",
        "Copy the database as it is at this moment to a new file, whole and checked, while everybody goes on.\n"
        "Jobs that are still in the journals are not in it: telemetry-bus flush before it waits for them.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what to make; is never written over")


def run(arguments: argparse.Namespace, output: Output) -> int:
    bus = Bus.of(arguments.database)
    started = time.monotonic()
    with ended_by_sigterm(), _progress(output) as tell:
        backup(bus.database, arguments.file, tell)
    report = {
        "file": str(arguments.file.parent.resolve() / arguments.file.name),
        "bytes": arguments.file.stat().st_size,
        "seconds": round(time.monotonic() - started, 3),
        "pending_jobs": bus.journals().pending_jobs,
    }
    if output.as_json:
        output.document(report)
    else:
        output.line(f"{report['file']}: {size(report['bytes'])} in {report['seconds']:.1f} s, checked")
        if report["pending_jobs"]:
            output.line(f"{counted(report['pending_jobs'], 'job')} in the journals, which no backup holds")
    return exit_codes.DONE


def backup(database: Database, target: Path, tell: Callable[[int, int], None]) -> None:
    """Copy a database to the new file `target`, of mode 0600, which appears when it is whole, checked, and on the disk.
    `tell` is called with the pages that are left, and those there are.

    Raises `ConfigError` when `target` is there already, `DatabaseFault` when the database is corrupt or cannot be
    copied, for the target's sake too.
    """
    if database.dialect == "postgresql":
        raise ConfigError(
            "a server keeps the database",
            operation="backup",
            subject=database.masked,
            hint="pg_dump --format=custom takes all of one moment, the ledger with it; a server has more ways",
        )
    if database.path is None or not database.path.exists():
        raise no_database(database, "backup")
    _refuse(target)
    with _unfinished(target) as copy:
        with _fault(database, target), closing(sqlite.connect(copy, isolation_level=None)) as written:
            _copy(database, written, tell)
            _check(database, written)
        _name(copy, target)
    sync_folder(target.parent)


def _copy(database: Database, written: sqlite3.Connection, tell: Callable[[int, int], None]) -> None:
    """In one read transaction: without it SQLite begins anew whenever somebody has committed between two steps
    (https://www.sqlite.org/c3ref/backup_finish.html), and a busy writer never lets it end."""
    with connect(database, DEFAULT_TIMEOUT, True, None) as source:
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_master").fetchall()
        source.backup(written, pages=_PAGES, progress=lambda status, left, pages: tell(left, pages))


def _check(database: Database, written: sqlite3.Connection) -> None:
    # One file by itself: with the write-ahead log it could not be read from a place that cannot be written to.
    written.execute("PRAGMA journal_mode=DELETE")
    (found,), *_ = written.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        raise DatabaseFault(
            f"the database is corrupt, and nothing was kept: {found}",
            operation="backup",
            subject=database.masked,
            hint="keep your older backups; telemetry-bus doctor --full",
        )


def _refuse(target: Path) -> None:
    if os.path.lexists(target):
        raise ConfigError("is there already", operation="backup", subject=str(target), hint="name a new file")


def _name(copy: Path, target: Path) -> None:
    """Give the copy its name, unless somebody else has got it meanwhile."""
    try:
        os.link(copy, target)
    except FileExistsError:
        _refuse(target)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _refuse(target)
        os.rename(copy, target)


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A file beside the target, which is gone at the end unless it has been renamed."""
    try:
        folder = target.parent.resolve(strict=True)  # as the system does it: behind a link, .. is another folder
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".unfinished", dir=folder)
    except OSError as error:  # it names a file that nobody knows
        raise DatabaseFault(
            f"cannot be made: {error.strerror}",
            operation="backup",
            subject=str(target),
            hint="name a file in a folder that you may write to",
        ) from None
    os.close(handle)
    try:
        yield Path(name)
    finally:
        for path in (name, *(name + suffix for suffix in _BESIDE)):
            with suppress(FileNotFoundError):
                os.unlink(path)


@contextmanager
def _fault(database: Database, target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        where = f"{database.masked} to {target}"
        raise DatabaseFault(f"cannot be copied: {error}", operation="backup", subject=where) from error


@contextmanager
def _progress(output: Output) -> Iterator[Callable[[int, int], None]]:
    """Tells how much is copied; nobody, unless at a terminal."""
    if not output.on_terminal or output.as_json:
        yield lambda left, pages: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task("copying", total=None)

        def tell(left: int, pages: int) -> None:
            progress.update(task, completed=pages - left, total=pages, description="copying" if left else "checking")

        yield tell
