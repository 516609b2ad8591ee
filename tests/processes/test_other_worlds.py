"""The writer of a program that is not `python program.py` beside installed packages: it is started, it is the one that
belongs to the program, and the program itself never runs twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipapp
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import telemetry_bus

from ..support.bus import HEAD, ROOT, Bus
from ..support.clock import DEADLINE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: The version of the copy that stands in another place than the installed one.
COPY = "0.1.0+copy"
PACKAGES = Path(msgpack_file).parents[1] if (msgpack_file := sys.modules["msgpack"].__file__) else Path()

#: One job, and a look at who wrote it.
PROGRAM = """
import sys, os
database = sys.argv[1]
{before}
import telemetry_bus
assert telemetry_bus.__version__ == {version!r}, telemetry_bus
os.chdir("/")
store = telemetry_bus.TelemetryStore(database, timeout=60)
store.execute("INSERT INTO events (name) VALUES (?)", ("x",), ensure=["CREATE TABLE IF NOT EXISTS events (name TEXT)"])
store.flush()
"""


def program(before: str = "", version: str = COPY) -> str:
    return PROGRAM.format(before=before, version=version)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a copy of the packages, which says of itself that it is one."""
    folder = tmp_path / "source"
    for package in ("telemetry_bus", "writer_daemon"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "telemetry_bus" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{telemetry_bus.__version__}"', f'"{COPY}"'))
    return folder


def _script(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    """A program in its source folder, beside files that are named as modules which only the writer needs."""
    (source / "app.py").write_text(program())
    for module in ("resource", "argparse"):
        (source / f"{module}.py").write_text("raise AssertionError('not the standard library')")
    return ["source/app.py"], {}


def _relative_pythonpath(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source.parent / "app.py").write_text(program())
    return ["app.py"], {"PYTHONPATH": "source"}


def _current_folder(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    return ["-c", f"import os; os.chdir('source')\n{program()}"], {}


def _vendored(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source.parent / "app.py").write_text(program("sys.path.insert(0, 'source')"))
    return ["app.py"], {}


def _package_in_a_package(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    """As pip has its own: under another name."""
    vendor = source.parent / "app" / "_vendor"
    vendor.parent.mkdir()
    source.rename(vendor)
    text = program().replace("import telemetry_bus\n", "import app._vendor.telemetry_bus as telemetry_bus\n")
    (source.parent / "main.py").write_text(text)
    return ["main.py"], {}


def _zipapp(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source / "__main__.py").write_text(program())
    zipapp.create_archive(source, source.parent / "app.pyz")
    shutil.rmtree(source)
    return ["app.pyz"], {}


def _isolated(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source.parent / "app.py").write_text(program(f"sys.path.insert(0, {str(source)!r})"))
    return ["-I", "app.py"], {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}


def _ignoring_the_environment(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source / "app.py").write_text(program())
    return ["-E", "source/app.py"], {"PYTHONHOME": "/nowhere"}


def _without_site(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source / "app.py").write_text(program(f"sys.path.append({str(PACKAGES)!r})"))
    return ["-S", "source/app.py"], {}


def _home_set_meanwhile(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    (source / "app.py").write_text(program("os.environ['PYTHONHOME'] = '/nowhere'"))
    return ["source/app.py"], {}


def _warnings_are_errors(source: Path) -> tuple[Sequence[str], dict[str, str]]:
    """In what the program starts."""
    (source / "app.py").write_text(program("os.environ['PYTHONWARNINGS'] = 'error'"))
    return ["source/app.py"], {}


@pytest.mark.parametrize(
    "world",
    [
        *(_script, _relative_pythonpath, _current_folder, _vendored, _package_in_a_package, _zipapp, _isolated),
        *(_ignoring_the_environment, _without_site, _home_set_meanwhile, _warnings_are_errors),
    ],
)
def test_the_writer_imports_what_its_program_imports(
    bus: Bus, source: Path, world: Callable[[Path], tuple[Sequence[str], dict[str, str]]]
) -> None:
    """However the program found its modules, and although another version is installed."""
    arguments, environ = world(source)
    environ = {"PATH": os.environ["PATH"], "HOME": str(bus.home), "TELEMETRY_BUS_IDLE_TIMEOUT": "60", **environ}
    ended = subprocess.run(
        [sys.executable, *arguments, str(bus.path)],
        cwd=source.parent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert [("x",)] == bus.rows("SELECT name FROM events")
    assert COPY == bus.status()["version"]


#: A host that embeds or freezes Python, and counts how often it is run.
HOST = """#!/bin/sh
echo run >> {count}
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """An executable; `count` beside it says how often it ran."""
    path = tmp_path / "host"
    path.write_text(HOST.format(count=path.with_name("count")))
    path.chmod(0o755)
    return path


def runs(host: Path) -> int:
    count = host.with_name("count")
    return len(count.read_text().splitlines()) if count.exists() else 0


FLUSH = """
from telemetry_bus.errors import FlushTimeout
store = TelemetryStore(database, timeout={timeout})
event(store, "p", 1)
try:
    store.flush()
    print("written", flush=True)
except FlushTimeout as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_frozen_program_is_not_run_again(bus: Bus, host: Path) -> None:
    """It has no Python: the error says what to set. With the variable set, the next program's writer takes over."""
    frozen = f"sys.frozen, sys.executable = True, {str(host)!r}\n"
    said = bus.run(frozen + FLUSH.format(timeout=2), PATH="/nowhere")
    assert "TELEMETRY_WRITER_COMMAND" in said
    assert str(host) in said
    assert 0 == runs(host)
    writer = f"{sys.executable} -P -m writer_daemon"
    said = bus.run(frozen + FLUSH.format(timeout=60), PATH="/nowhere", TELEMETRY_WRITER_COMMAND=writer)
    assert "written\n" == said
    assert 0 == runs(host)
    bus.settle()


@pytest.mark.parametrize("executable", ["host", "", None])
def test_a_program_that_embeds_python(bus: Bus, host: Path, executable: str | None) -> None:
    """The Python of its prefix writes."""
    named = str(host) if executable == "host" else executable
    assert "written\n" == bus.run(f"sys.executable = {named!r}\n" + FLUSH.format(timeout=60))
    assert 0 == runs(host)


NOBODY_SEES = {
    "seen": "",
    "SIGCHLD ignored": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    "foreign waitpid": """
import threading
def reap():
    while True:
        try: os.waitpid(-1, 0)
        except ChildProcessError: time.sleep(0.01)
threading.Thread(target=reap, daemon=True).start()
""",
    "foreign handler": """
import signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0): pass
    except ChildProcessError: pass
signal.signal(signal.SIGCHLD, reap)
""",
}


@pytest.mark.parametrize("code", [0, 1, 3])
@pytest.mark.parametrize("world", NOBODY_SEES)
def test_a_writer_that_cannot_start(bus: Bus, host: Path, world: str, code: int) -> None:
    """It is tried less and less often, although nobody sees its exit code; and why is told."""
    with host.open("a") as file:
        file.write(f"echo 'no license' >&2\nexit {code}\n")
    program = NOBODY_SEES[world] + FLUSH.format(timeout=6)
    said = bus.run(program, TELEMETRY_WRITER_COMMAND=str(host))
    assert 2 <= runs(host) <= 6  # after 0.2 s, then 0.4, 0.8, 1.6, 3.2
    assert "no license" in said
    if world in ("seen", "foreign handler") or code:
        assert "another part of this program" in said or f"exit code {code}" in said
    bus.next_comes()


@pytest.mark.parametrize("world", NOBODY_SEES)
def test_a_writer_that_works_and_whose_end_is_not_seen(bus: Bus, world: str) -> None:
    """The next one comes when it has gone."""
    program = NOBODY_SEES[world] + (
        "store = TelemetryStore(database, timeout=60)\n"
        "for number in range(1, 4):\n"
        "    event(store, 'p', number); store.flush(); os.kill(store.stats().writer.pid, 9)\n"
    )
    bus.run(program)
    bus.next_comes()
    assert [1, 2, 3] == bus.numbers()["p"]


#: What a program may have done to itself before it happens to start the writer.
INHERITED = """
import resource, signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
limit = 40_000_000 if sys.argv[2] == "soft" else 70_000_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1 if sys.argv[2] == "soft" else limit))
os.umask(0o777)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.nice(5)
store = TelemetryStore(database, timeout=60)
event(store, "first", 1)
store.flush()
os._exit(0)
"""
#: More than the soft limit, and more than the hard one, in one transaction each.
LARGE = """
with TelemetryStore(database, timeout=60, journal_bytes=200_000_000) as store:
    for number in range(1, 13):
        store.execute("INSERT INTO large (data) VALUES (?)", (b"x" * 7_000_000,), ensure=[
            "CREATE TABLE IF NOT EXISTS large (data BLOB)"])
    store.flush()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_what_a_writer_inherits(bus: Bus, number: int) -> None:
    """It hears signals, writes beyond the soft limit of the program that started it, and tells what it cannot undo."""
    bus.run(INHERITED, "soft", TELEMETRY_BUS_IDLE_TIMEOUT="60")
    (writer,) = bus.writers()
    bus.run(LARGE, TELEMETRY_BUS_SPAWN="0")
    inherited = bus.status()["inherited"]
    assert any(text.startswith("nice ") for text in inherited)
    assert os.cpu_count() == 1 or f"1 of {os.cpu_count()} processors" in inherited
    assert not any("RLIMIT_FSIZE" in text for text in inherited)
    os.kill(writer, number)
    wait_until(lambda: not bus.writers(), "the signal ends it")
    bus.next_comes()


def test_a_hard_limit_is_told(bus: Bus) -> None:
    """In `status`, `doctor` and the error of the producer that waits; the next writer goes on."""
    bus.run(INHERITED, "hard", TELEMETRY_BUS_IDLE_TIMEOUT="60")
    waiting = bus.start(LARGE, TELEMETRY_BUS_SPAWN="0")

    def told() -> bool:
        """A single job may still fit while all together do not: the state may come and go at first."""
        status = bus.status()
        doctor = bus.start_command("-m", "telemetry_bus", "doctor", "--database", str(bus.path))
        output, _ = doctor.communicate(timeout=DEADLINE_S)
        assert "RLIMIT_FSIZE is 70000000" in output
        return "RLIMIT_FSIZE 70000000" in (status["last_error"] or "") and doctor.returncode == 1

    wait_until(told, "the limit is met")
    assert "RLIMIT_FSIZE is 70000000" in bus.status()["inherited"]
    bus.kill_writers()
    bus.answering_writer()
    bus.finish(waiting)
    assert [(12,)] == bus.rows("SELECT count(*) FROM large")


FROZEN = """
import os, sys
with open(sys.argv[1] + ".count", "a") as file: file.write("run\\n")
from telemetry_bus.errors import FlushTimeout
store = telemetry_bus.TelemetryStore(sys.argv[1], timeout=float(sys.argv[2]))
store.execute("INSERT INTO events (name) VALUES (?)", ("x",), ensure=["CREATE TABLE IF NOT EXISTS events (name TEXT)"])
try:
    store.flush()
except FlushTimeout as error:
    print(error, flush=True)
    os._exit(1)
"""


@pytest.mark.timeout(600)
def test_pyinstaller(bus: Bus, tmp_path: Path) -> None:
    """A real frozen program without `freeze_support` runs once, and says what to set. (With it: see `test_hosts`.)"""
    (tmp_path / "plain.py").write_text(f"import telemetry_bus\n{FROZEN}")
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "plain.py"),
            *("--collect-submodules", "writer_daemon", "--paths", str(ROOT)),
            *("--exclude-module", "sqlalchemy", "--exclude-module", "numpy", "--exclude-module", "matplotlib"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=300,
    )
    environ = {"PATH": "/nowhere", "HOME": str(bus.home), "TELEMETRY_BUS_IDLE_TIMEOUT": "2"}
    command = [str(tmp_path / "dist" / "plain" / "plain"), str(bus.path), "3"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert (1, "") == (ended.returncode, ended.stderr)
    assert "TELEMETRY_WRITER_COMMAND" in ended.stdout
    assert ["run"] == Path(f"{bus.path}.count").read_text().split()


def test_a_second_interpreter(bus: Bus, tmp_path: Path) -> None:
    """ZeroMQ is for one interpreter of a process. What a second one submits before it knows is left to the writer,
    later jobs are refused with the reason. Mode thread works there."""
    program = """
try:
    import _interpreters as interpreters
    second = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    second = interpreters.create(isolated=False)
event(get_store(database), "main", 1)
get_store(database).flush()
begin = f"import sys; sys.path[:] = {sys.path!r}; sys.argv[:] = {sys.argv!r}; exec(open(sys.argv[2]).read())"
if failed := interpreters.run_string(second, begin):
    print(failed)
"""
    inside = """
from telemetry_bus import ConfigError
store = TelemetryStore(database)
try:
    for number in range(1, 60_000):
        event(store, "second", number)
        time.sleep(0.001)
except ConfigError as error:
    print(number, error, flush=True)
store.shutdown()
with TelemetryStore(database + "2", mode="thread") as store:
    event(store, "thread", 1)
"""
    (tmp_path / "second.py").write_text(HEAD + inside)
    number, _, reason = bus.run(program, str(tmp_path / "second.py")).partition(" ")
    assert "daemon mode: ZeroMQ cannot be loaded: Interpreter change detected" in reason
    bus.settle()
    assert {"main": [1], "second": list(range(1, int(number)))} == bus.numbers()
