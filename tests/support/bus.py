"""A bus of its own for a test: programs that produce, writers, and an oracle that looks from outside."""

from __future__ import annotations

import mmap
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.errors import TelemetryError, WriterAbsent
from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.runtime.locks import is_held

from .clock import DEADLINE_S, wait_until
from .processes import writers_of

ROOT = Path(__file__).parents[2]
PROBE_S = 0.5

#: What every program begins with: the jobs of `jobs`, and its database.
HEAD = (
    Path(__file__).with_name("jobs.py").read_text()
    + """
import os, sys, time
from telemetry_bus import get_store

database = sys.argv[1]
"""
)


class Notes:
    """Words that a program shares with the oracle: what it has noted survives its death.

    A program opens them with `Notes.OPEN` and writes `noted[3] = 17`; the oracle reads `notes[3]`.
    """

    WORDS = 512
    OPEN = """
import mmap
_notes = os.open(os.environ["NOTES"], os.O_RDWR)
noted = memoryview(mmap.mmap(_notes, 0)).cast("Q")
"""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(8 * self.WORDS))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value

    def close(self) -> None:
        self._words.release()
        self._map.close()


class Bus:
    """One database, its bus folder, and every process that the test has around it."""

    def __init__(self, folder: Path, path: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        """All that the test keeps is in `folder`; so is the database, unless `path` says otherwise. `environ` is for
        every process beyond what these tests set."""
        self.home = folder
        self.path = path or folder / "telemetry.db"
        self.database = parse_database(self.path)
        self._environ = environ or {}
        self.folder = BusFolder.of(self.database, environ=self._environ)
        self.notes = Notes(folder / "notes")
        self._processes: list[subprocess.Popen[str]] = []

    # Programs

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program; `HEAD` goes before it, the database is its first argument."""
        file = self.home / f"program{len(self._processes)}.py"
        file.write_text(HEAD + program)
        return self._popen([sys.executable, str(file), str(self.path), *arguments], environment, self.home)

    def finish(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """Wait for the end of a process that must end with `code`; its standard output."""
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert code == process.returncode, self.errors(process)
        return output

    def run(self, program: str, *arguments: str, code: int = 0, **environment: str) -> str:
        """`start` and `finish`."""
        return self.finish(self.start(program, *arguments, **environment), code)

    def errors(self, process: subprocess.Popen[str]) -> str:
        """What a process wrote to its standard error."""
        return (self.home / f"errors{self._processes.index(process)}").read_text()

    # Writers

    def start_writer(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """`telemetry-writer` in the foreground, not waited for."""
        return self.start_command("-P", "-m", "writer_daemon", "--database", self.database.url, *options, **environment)

    def start_command(self, *words: str, folder: str = "/", **environment: str) -> subprocess.Popen[str]:
        """Python with these arguments, in the folder `/` unless another is given."""
        return self._popen([sys.executable, *words], environment, Path(folder))

    def start_under(self, words: Sequence[str], *options: str, **environment: str) -> subprocess.Popen[str]:
        """`telemetry-writer` as `start_writer` starts it, with a command before it that becomes the writer."""
        command = [*words, sys.executable, "-P", "-m", "writer_daemon", "--database", self.database.url, *options]
        return self._popen(command, environment, Path("/"))

    def answering_writer(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """`telemetry-writer` in the foreground, once it answers."""
        return self.answers(self.start_writer(*options, **environment))

    def answers(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Wait until this process is the writer that answers."""

        def is_it() -> bool:
            assert process.poll() is None, self.errors(process)
            return bool(self.status_or_none().get("pid") == process.pid)

        wait_until(is_it, "the writer answers")
        return process

    def ask(self, command: str, **arguments: Any) -> Any:
        self.folder.follow()
        return ask(self.folder, command, DEADLINE_S, **arguments)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("status")
        return status

    def status_or_none(self) -> dict[str, Any]:
        """The status, empty when nobody answers for a moment."""
        if not self.folder.socket_path("control").exists():
            return {}
        self.folder.follow()
        try:
            status: dict[str, Any] = ask(self.folder, "status", PROBE_S)
        except WriterAbsent:
            return {}
        return status

    def log(self) -> str:
        """The log of the writers that producers started."""
        files = sorted(self.folder.path.glob("writer.log*"), reverse=True)
        return "".join(file.read_text() for file in files)

    def owners(self) -> list[int]:
        """The writers that producers started and that got the database, in order."""
        return [int(pid) for pid in re.findall(r"writer (\d+) owns", self.log())]

    def spawned(self) -> set[int]:
        """Every writer that producers started, whether it got the database or not."""
        return {int(pid) for pid in re.findall(r" telemetry_bus\.writer\[(\d+)\]: ", self.log())}

    def writers(self) -> list[int]:
        """The living processes that are, or are about to become, the writer of this database."""
        return writers_of(self.database.url)

    def kill_writers(self) -> None:
        """SIGKILL, and wait until nobody owns the database."""
        for pid in self.writers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.owned, "the killed writer's lock is free")

    @property
    def owned(self) -> bool:
        """Whether somebody owns the database."""
        return is_held(self.folder.writer_lock)

    # The oracle

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read the database without the bus; nothing when there is no such table yet."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=DEADLINE_S)) as connection:
            try:
                return connection.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def numbers(self, table: str = "events") -> dict[str, list[int]]:
        """Each producer's numbers, in the order in which they were applied."""
        found: dict[str, list[int]] = {}
        for producer, number in self.rows(f"SELECT producer, number FROM {table} ORDER BY id"):
            found.setdefault(producer, []).append(number)
        return found

    def settle(self) -> None:
        """Wait until every journal is gone: everything in them is decided. Nobody is asked for help."""
        wait_until(lambda: not self.folder.journal_paths(), "no journal is left")

    def another_job(self) -> None:
        """A fresh job of a fresh producer succeeds."""
        self.run("""
with TelemetryStore(database) as store:
    event(store, "next", 1)
""")
        assert [1] == self.numbers().pop("next")

    def next_comes(self) -> None:
        """`another_job`; then everything that was left behind is adopted. No other producer lives."""
        self.another_job()
        self.settle()

    def sound(self) -> None:
        """The file is whole; no job became a dead letter; no journal was found damaged."""
        assert [("ok",)] == self.rows("PRAGMA integrity_check")
        assert [] == self.rows("SELECT sequence, error FROM telemetry_bus_dead_letters")
        assert not self.folder.quarantine.exists()

    # The end

    def close(self) -> None:
        """End the producers, then the writer; a writer that does not end when it is asked is a failure."""
        for process in self._processes:
            if process.poll() is None and process.pid not in self.writers():
                process.kill()
        for pid in self.writers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        try:
            wait_until(self._stopped, "the writer leaves when it is asked")
        finally:
            for pid in self.writers():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._processes:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
            self.notes.close()
            self.folder.close()

    def _stopped(self) -> bool:
        if self.owned:
            self.folder.follow()
            with suppress(TelemetryError):
                ask(self.folder, "stop", PROBE_S)
        return not self.writers()

    def _popen(self, command: list[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "XDG_"))}
        settings = {"PYTHONPATH": str(ROOT), "HOME": str(self.home), "NOTES": str(self.notes.path)}
        with (self.home / f"errors{len(self._processes)}").open("w") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**inherited, **settings, **self._environ, **environment},
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._processes.append(process)
        return process
