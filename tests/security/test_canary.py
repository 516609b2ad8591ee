"""A password in a URL, and whether it turns up anywhere: errors, logs, files, names, the process list, a screen."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from telemetry_bus import ConfigError, TelemetryError, TelemetryStore, get_store
from telemetry_bus.cli import main as cli
from telemetry_bus.config import Database, parse_database, store_options
from telemetry_bus.errors import DatabaseFault
from telemetry_bus.runtime.folder import BusFolder
from writer_daemon.__main__ import main as writer

from ..support.clock import wait_until
from ..support.postgresql import ASKED, Server
from ..support.processes import running, writers_of

CANARY = "hunter2-canary"
ROOT = Path(__file__).parents[2]

#: URLs with the canary where a password, or something like it, may stand. Each is refused.
URLS = [
    f"postgresql+asyncpg://user:{CANARY}@host/telemetry",
    f"postgresql://user:{CANARY}@host:port/telemetry",
    f"postgresql://user:x@y{CANARY}@host/telemetry",
    f"postgresql://user:{CANARY}/with/slash@host/telemetry",
    f"postgresql://user:1?{CANARY}@host/telemetry",
    f"postgresql://user@host/telemetry?passwort={CANARY}",
    f"postgresql://user:{CANARY}#@host/telemetry",
    f"mysql://user:{CANARY}@host/telemetry",
    f"sqlite:////tmp/telemetry.db?password={CANARY}",
    f"sqlite:////tmp/telemetry.db?mode=ro&api_token={CANARY}&x=1",
    f"sqlite:////tmp/telemetry.db?client_secret={CANARY}",
    f"sqlite://user:{CANARY}@host/telemetry.db",
    f"postgresql://user:{CANARY}@host/telemetry\0",
]
#: The same of databases that a store may have.
SERVERS = [
    f"postgresql://user:{CANARY}@host/telemetry",
    f"postgresql+psycopg://user:{CANARY}@host:5432/telemetry?sslmode=require",
    f"postgres://:{CANARY}@host/telemetry",
    f"postgresql://user@host/telemetry?password={CANARY}",
    f"postgresql://user@host/telemetry?connect_timeout=1&sslpassword={CANARY}",
    f"mysql://user:{CANARY}@host/telemetry",
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged in this process, by whomever, at level DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, bus = logging.getLogger(), logging.getLogger("telemetry_bus")
    before = root.level, bus.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    bus.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before[0])
    bus.setLevel(before[1])


def everything_of(error: BaseException) -> str:
    """Whatever a program may print, log or send of an error."""
    texts = [str(error), repr(error), *traceback.format_exception(error), str(vars(error)), repr(error.args)]
    with suppress(Exception):
        texts.append(repr(pickle.loads(pickle.dumps(error))))
    if error.__cause__ is not None:
        texts.append(everything_of(error.__cause__))
    if error.__context__ is not None:
        texts.append(everything_of(error.__context__))
    return "\n".join(texts)


ENTRANCES: dict[str, Callable[[str], object]] = {
    "parse_database": parse_database,
    "environment": lambda url: parse_database(None, {"TELEMETRY_DATABASE_URL": url}),
    "store_options": lambda url: store_options(url, {}),
    "TelemetryStore": lambda url: TelemetryStore(url),
    "TelemetryStore in sync": lambda url: TelemetryStore(url, mode="sync"),
    "get_store": lambda url: get_store(url),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("url", URLS)
def test_refusal_of_a_url(url: str, entrance: str, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the URL without the password, in every form that the error has."""
    with pytest.raises(ConfigError) as refused:
        ENTRANCES[entrance](url)
    assert CANARY not in everything_of(refused.value)
    assert CANARY not in log.getvalue()
    assert CANARY not in "".join(capsys.readouterr())
    if "\0" not in url and "user:x@" not in url:
        assert url.partition("://")[0] in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--json"],
        ["flush"],
        ["stop"],
        ["dead-letters", "list"],
        ["dead-letters", "list", "--json"],
        ["dead-letters", "export", "out.json"],
        ["dead-letters", "retry", "--all"],
    ],
)
@pytest.mark.parametrize("url", [URLS[0], URLS[5], URLS[8]])
def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, words: list[str], url: str
) -> None:
    """Nothing on the screen, no file made, and an exit code that says so; by option and by environment."""
    monkeypatch.chdir(tmp_path)
    for arguments, environment in (([*words, "--database", url], ""), (words, url)):
        monkeypatch.setenv("TELEMETRY_DATABASE_URL", environment)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            assert 0 != cli(arguments)
        assert CANARY not in out.getvalue() + err.getvalue() + log.getvalue()
        assert err.getvalue()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("url", URLS[:-1])
def test_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, form: str) -> None:
    """The writer's command line refuses it on standard error, and makes no folder named after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert 2 == writer(["--database", url, "--log-level", "debug", "--log-format", form])
    assert "telemetry-writer: " in err.getvalue()
    assert CANARY not in out.getvalue() + err.getvalue()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("url", SERVERS)
def test_what_is_made_of_a_database(tmp_path: Path, url: str) -> None:
    """Its identity, the name and content of its bus folder, and every text of it are without the password."""
    database = Database(url, url.partition(":")[0])
    for text in (repr(database), str(database), f"{database}", database.masked, database.identity):
        assert CANARY not in text
    folder = BusFolder.of(database, environ={"TELEMETRY_BUS_DIR": str(tmp_path)})
    folder.prepare()
    assert CANARY not in str(folder.path)
    assert BusFolder.of(Database(url.replace(CANARY, "another"), "x"), environ={}).path.name == folder.path.name
    fault = DatabaseFault("away", operation="open", subject=database.masked)
    assert CANARY not in everything_of(fault)


def test_a_folder_tells_databases_apart_without_passwords() -> None:
    """Other user, host or name: another folder."""
    names = {
        BusFolder.of(Database(f"postgresql://{user}:{CANARY}@{host}/{name}", "postgresql"), environ={}).path.name
        for user in ("a", "b")
        for host in ("c", "d")
        for name in ("e", "f")
    }
    assert 8 == len(names)


PROGRAM = """
import sys, logging
logging.basicConfig(level=logging.DEBUG)
from telemetry_bus import TelemetryStore
try:
    TelemetryStore(sys.stdin.readline().strip()).execute("INSERT INTO t VALUES (1)")
finally:
    print("refused")
"""


def test_a_program_that_dies_of_it(tmp_path: Path) -> None:
    """The traceback of an unhandled error, with logging at DEBUG."""
    for url in (URLS[0], URLS[8]):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=url,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TELEMETRY_DEBUG": "1"},
        )
        assert 1 == ended.returncode
        assert "ConfigError" in ended.stderr
        assert "refused" in ended.stdout
        assert CANARY not in ended.stdout + ended.stderr
    assert [] == list(tmp_path.iterdir())


@pytest.mark.integration
def test_a_whole_life_with_a_secret_in_the_environment(
    tmp_path: Path, no_writer_left: None, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    """A working bus in a program whose other database has a password: the writer inherits the environment and shows
    nothing of it, neither in its log, status and dead letters, nor in the process list, the files and their names."""
    database = tmp_path / "telemetry.db"
    os.environ["TELEMETRY_DATABASE_URL"] = URLS[0]  # the fixture `environment` takes it away again
    try:
        with TelemetryStore(database, timeout=60) as store:
            store.execute("INSERT INTO nowhere VALUES (?)", (1,))
            store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (a)"])
            store.flush()
            lines = wait_until(lambda: running("writer_daemon", str(tmp_path)), "the writer runs")
            shown = [repr(store), str(store.stats()), *map(json.dumps, lines.values())]
            for words in (
                ["status"],
                ["status", "--json"],
                ["dead-letters", "list", "--json"],
                ["dead-letters", "show", "1"],
                ["dead-letters", "export", str(tmp_path / "out.json")],
            ):
                cli([*words, "--database", str(database)])
    finally:
        del os.environ["TELEMETRY_DATABASE_URL"]
    captured = "".join(capfd.readouterr())
    assert '"state": "running"' in captured
    assert "nowhere" in (tmp_path / "out.json").read_text()
    assert "owns" in (tmp_path / "telemetry.db.bus" / "writer.log").read_text()
    for text in (*shown, captured, log.getvalue()):
        assert CANARY not in text
    for path in tmp_path.rglob("*"):
        assert CANARY not in str(path)
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_the_canary_would_be_found() -> None:
    """The look at errors sees a password in each of its places."""
    for error in (TelemetryError("x", subject=CANARY), TelemetryError("x", hint=CANARY), ValueError(CANARY)):
        assert CANARY in everything_of(error)
    chained = ValueError("x")
    chained.__cause__ = ValueError(CANARY)
    assert CANARY in everything_of(chained)


@pytest.mark.integration
@pytest.mark.postgresql
def test_a_password_of_a_server(
    tmp_path: Path,
    postgresql: str,
    postgresql_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A producer has its writer started for a database that asks for a password, given in the URL or by PGPASSWORD:
    it is in no command line and no environment of the writer, no log, no file, no answer of a command."""
    role = f"canary_{os.getpid()}"
    postgresql_server.run(f"CREATE ROLE {role} LOGIN PASSWORD '{CANARY}' IN ROLE {ASKED}")
    postgresql_server.run(f"GRANT CREATE ON SCHEMA public TO {role}", database=postgresql.rpartition("/")[2])
    plain = postgresql.replace("//bus@", f"//{role}@")
    monkeypatch.setenv("TELEMETRY_BUS_DIR", str(tmp_path))
    try:
        for url, variable in ((plain.replace("@", f":{CANARY}@"), ""), (plain, CANARY)):
            monkeypatch.setenv("PGPASSWORD", variable)
            with TelemetryStore(url, timeout=60) as store:
                store.execute("INSERT INTO nowhere VALUES (?)", (1,))
                store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE IF NOT EXISTS t (a integer)"])
                store.flush()
                (pid,) = writers_of(plain)
                seen = [(Path("/proc") / str(pid) / part).read_bytes() for part in ("cmdline", "environ")]
                shown = [repr(store), str(store.stats()), log.getvalue(), str(store.stats().last_error)]
                for words in (["status", "--json"], ["dead-letters", "list", "--json"], ["stop"]):
                    cli([*words, "--database", url])
            captured = "".join(capfd.readouterr())
            assert '"state": "degraded"' in captured or '"state": "running"' in captured
            assert all(CANARY.encode() not in text for text in seen)
            assert all(CANARY not in text for text in (*shown, captured))
        for path in tmp_path.rglob("*"):
            assert CANARY not in str(path)
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path
    finally:
        wait_until(lambda: not writers_of(plain), "the writer has ended")
        name = postgresql.rpartition("/")[2]
        postgresql_server.run(f"DROP OWNED BY {role} CASCADE", database=name)
        postgresql_server.run(f"DROP ROLE {role}")
