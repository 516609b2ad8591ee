"""Starting a writer when nobody owns the database."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..config import Database
from ..errors import ConfigError, WriterAbsent, shorten
from .files import open_inside
from .folder import BusFolder
from .lifecycle import importing
from .locks import InstanceLock, holder, is_held
from .native import native
from .writer_command import VARIABLE, launch

if TYPE_CHECKING:
    import subprocess
    from subprocess import Popen

#: After a writer that failed to start, wait so long before the next, doubling up to the limit.
BACKOFF_S = 0.2
BACKOFF_LIMIT_S = 10.0
#: Who has held `spawn.lock` for so long with no writer to show for it may be stopped: start one all the same.
STARTING_LIMIT_S = 5.0
_LOG_TAIL_BYTES = 2000
#: The exit code of a writer that may not write the database by this name; `writer_daemon.exit_codes` has it too.
_OTHER_NAME = 8

#: Writers that were started here and have not ended as far as is known. They outlive their spawner, which may be closed
#: or forgotten: kept here none stays a zombie, and none is warned of as a process that still runs.
_children: list[subprocess.Popen[bytes]] = []


class Spawner:
    """Sees to it that somebody owns the database. For one thread.

    Of many processes that find no writer at the same moment one starts it: who holds `spawn.lock`.
    """

    def __init__(
        self, database: Database, folder: BusFolder, *, enabled: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._folder = folder
        self._enabled = enabled
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._starting: InstanceLock | None = None
        self._other_since: float | None = None  # since when another has held `spawn.lock`, as far as is known
        self._failures = 0
        self._retry_at = 0.0
        self._trouble = ""
        #: Whether a writer was refused its name since this was last set back: to wait for it is in vain.
        self.refused = False
        self._answered = False  # whether the child has been a writer in earnest
        self._log_begins = 0  # where the child's part of the log does

    def ensure(self) -> None:
        """Start a writer unless one runs, is being started, is not wanted, or has just failed to start."""
        try:
            self._ensure()
        except (ConfigError, WriterAbsent, OSError) as error:
            self._failed(f"could not be started: {error}")

    def _ensure(self) -> None:
        self._reap()
        _collect()
        self._folder.follow()
        if is_held(self._folder.writer_lock) or (self._child is not None and not self._answered):
            self._other_since = None
            return
        self._child = None  # it has let go of the database, and is about to end
        if not self._enabled:
            self._trouble = "none runs, and starting one is turned off"
            return
        if self._clock() < self._retry_at or self._starting is not None:
            return
        self._folder.prepare()  # somebody may have removed it
        self._starting = InstanceLock.acquire(self._folder.spawn_lock)
        if self._starting is None and not self._other_is_slow():
            return
        if is_held(self._folder.writer_lock):
            self._let_others()
            return
        self._child = self._start()
        self._answered = False

    def settled(self) -> None:
        """A writer has answered: others may start the next one."""
        self._answered = True
        self._let_others()

    @property
    def busy(self) -> bool:
        """Whether a writer that was started here may still end and leave an exit code to collect."""
        return self._child is not None

    def known(self) -> str:
        """What is known of the writer, for an error's text."""
        if self._trouble:
            return self._trouble
        try:
            held = is_held(self._folder.writer_lock)
        except OSError as error:
            return f"cannot be looked for: {error}"
        if held:
            owner = holder(self._folder.writer_lock)
            if owner == os.getpid():
                return "this very process owns the database, with a store in mode thread: use one mode for both"
            return "one runs and has not answered" if owner is None else f"process {owner} runs and has not answered"
        return "one is being started" if self._child is not None else "none runs"

    def close(self) -> None:
        """Let go of the lock; a writer that was started here goes on by itself, and is collected when it ends."""
        self._let_others()
        self._child = None
        _collect()

    def after_fork(self) -> None:
        """In the child: the parent's writer and locks are not ours."""
        if self._starting is not None:
            self._starting.release()
        self._starting = None
        self._child = None
        for child in _children:
            child.returncode = 0  # or its destructor would wait for a process that is not our child
        _children.clear()

    def _let_others(self) -> None:
        self._failures = 0
        self._trouble = ""
        if self._starting is not None:
            self._starting.release()
            self._starting = None

    def _start(self) -> subprocess.Popen[bytes]:
        load()
        subprocess = native("subprocess")
        command, environment = launch()
        if environment.get("TELEMETRY_BUS_DIR"):  # the writer stands in another folder
            environment["TELEMETRY_BUS_DIR"] = str(self._folder.path.parent)
        log = open_inside(self._folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        secret = self._secret()
        try:
            self._log_begins = os.fstat(log).st_size
            child: Popen[bytes] = subprocess.Popen(
                [*command, "--database", self._database.identity, "--spawned"],
                cwd="/",
                env=environment,
                start_new_session=True,
                stdin=subprocess.PIPE if secret else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        finally:
            os.close(log)
        _children.append(child)
        if secret:
            assert child.stdin is not None
            with suppress(BrokenPipeError), child.stdin:  # its exit code tells more
                child.stdin.write(secret)
        return child

    def _secret(self) -> bytes:
        """The URL with a password, if there is one: a process list and an environment are for others to see."""
        database, password = self._database, os.environ.get("PGPASSWORD")
        if password and database.dialect == "postgresql":
            database = database.with_password(password)
        return b"" if database.url == database.identity else database.url.encode()

    def _other_is_slow(self) -> bool:
        now = self._clock()
        if self._other_since is None:
            self._other_since = now
        return now - self._other_since >= STARTING_LIMIT_S

    def _reap(self) -> None:
        """Collect the exit code of a writer that has ended, so that it is no zombie and no mystery.

        One that has answered was a success, and nothing else is, whatever its exit code: where SIGCHLD is ignored or
        another part of the program collects all children, none is seen.
        """
        if self._child is None:
            return
        seen = _is_ours(self._child)
        if (code := self._child.poll()) is None:
            return
        self._child = None
        if self._answered:
            self._let_others()
            return
        self.refused = self.refused or code == _OTHER_NAME
        ended = f"exit code {code}" if seen else "an exit code that another part of this program has taken"
        tail = self._log_tail()
        way_out = f" ({VARIABLE} names another way to start one)" if "No module named" in tail or not code else ""
        self._failed(f"the last one ended with {ended}; the end of its log: {tail}{way_out}")

    def _failed(self, trouble: str) -> None:
        self._failures += 1
        failures = self._failures
        self._let_others()
        self._failures, self._trouble = failures, trouble
        self._retry_at = self._clock() + min(BACKOFF_LIMIT_S, BACKOFF_S * 2 ** min(failures - 1, 16))

    def _log_tail(self) -> str:
        try:
            with open(open_inside(self._folder.log, os.O_RDONLY), "rb") as file:
                end = file.seek(0, os.SEEK_END)
                begins = self._log_begins if self._log_begins <= end else 0  # it was rotated
                file.seek(max(begins, end - _LOG_TAIL_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError as error:
            return f"(unreadable: {error})"
        return shorten(lines[-1]) if lines else "(empty)"


def load() -> None:
    """Load what it takes to start a process. At the interpreter's end it is too late: modules are gone by then, and an
    import may change the exit code (after a KeyboardInterrupt Python 3.11 forgets the signal when it evaluates text).
    """
    with importing():
        native("subprocess")


def _is_ours(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child's end is still ours to see. `Popen.poll` says 0 where it is not."""
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _collect() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


@atexit.register
def _let_children_live() -> None:
    """They outlive the program, and Python would warn of each as of a process that still runs."""
    for child in _children:
        child.returncode = 0
