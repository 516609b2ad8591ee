"""What a user may set: databases, environment, options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL

from telemetry_bus.config import (
    DEFAULT_JOURNAL_BYTES,
    DEFAULT_TIMEOUT,
    MIN_JOURNAL_BYTES,
    VARIABLES,
    Database,
    check_seconds,
    env_flag,
    env_seconds,
    parse_database,
    store_options,
    unknown_variables,
)
from telemetry_bus.errors import ConfigError
from telemetry_bus.runtime.folder import BusFolder

FILE = "/somewhere/x.db"


@pytest.mark.parametrize(
    "name",
    [
        "/somewhere/x.db",
        "sqlite:////somewhere/x.db",
        "sqlite+pysqlite:////somewhere/x.db",
        "SQLITE:////somewhere/x.db",
        "/somewhere/./else/../x.db",
        "//somewhere//x.db",
        Path("/somewhere/x.db"),
        URL.create("sqlite", database=FILE),
    ],
)
def test_every_way_to_write_one_file(name: object) -> None:
    """Paths and URLs of one file are one database."""
    assert Database("sqlite:////somewhere/x.db", "sqlite", Path(FILE)) == parse_database(name)


@pytest.mark.parametrize("name", ["data/x.db", "sqlite:///data/x.db", Path("data/x.db"), "./data/../data/x.db"])
def test_relative_paths(name: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are resolved at once: a later change of the folder changes nothing."""
    monkeypatch.chdir(tmp_path)
    database = parse_database(name)
    monkeypatch.chdir("/")
    assert os.path.realpath(tmp_path) + "/data/x.db" == str(database.path)


def test_links_are_resolved(tmp_path: Path) -> None:
    """A link to the database, or to its folder, leads to the same database."""
    (tmp_path / "real").mkdir()
    real = parse_database(tmp_path / "real" / "x.db")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "file.db").symlink_to(tmp_path / "real" / "x.db")
    assert real == parse_database(tmp_path / "folder" / "x.db")
    assert real == parse_database(tmp_path / "file.db")


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_database(tmp_path / "x.db") == parse_database("~/x.db")


@pytest.mark.parametrize("name", [":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_memory(name: str) -> None:
    """A database in memory has no path."""
    database = parse_database(name)
    assert database.is_memory
    assert database.path is None


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
def test_the_url_of_a_database_leads_to_it(name: str) -> None:
    """Whatever stands in a path, its URL names the same file: a writer that is started is given the URL."""
    try:
        database = parse_database(f"/nowhere/{name}")
    except ConfigError:
        assert name.strip("/") in ("", ".", "..") or "/.." in f"/{name}"  # a folder
        return
    assert database == parse_database(database.url)
    assert database.url == database.masked == database.identity


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("", "neither"),
        (5, "neither"),
        (b"/x.db", "neither"),
        ("a\0b", "neither"),
        (object(), "neither"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:////x.db?mode=ro", "options"),
        ("file:x.db", "file: names"),
        ("mysql://h/x", "unknown kind"),
        ("/tmp", "is a folder"),
        ("/dev/null", "is not a file"),
        ("\ud800.db", "UTF-8"),
        ("/x/\udcff.db", "UTF-8"),
        ("mysql://u:p[w@h/x", "unknown kind"),
    ],
)
def test_what_is_no_database(database: object, says: str) -> None:
    """Each is a `ConfigError` with a hint, and says what is wrong."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse_database(database)
    assert caught.value.hint


def test_name_that_is_too_long() -> None:
    """A path that no file system takes is left for the one who opens it."""
    assert parse_database("/" + "x" * 300).path == Path("/" + "x" * 300)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:secret@host/x",
        "mysql://user:sec/ret@host/x",
        "mysql://user:s?cr#et@host/x",
        "mysql://user:se@cret@host/x",
        "mysql://:secret@host/x",
        "mysql://u@host/x?password=secret&a=b",
        "mysql://u@host/x?a=b&sslPassword=secret",
        "mysql://user:secret@[::1]:5432/x",
        "mysql://user:sec\nret@host/x",
    ],
)
def test_passwords_are_masked(url: str) -> None:
    """No part of a password is left, however it is written, in what is shown or compared."""
    database = Database(url, "mysql")
    for text in (database.masked, database.identity):
        assert "ret" not in text
    assert "***" in database.masked
    assert "***" not in database.identity
    with pytest.raises(ConfigError) as caught:
        parse_database(url)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://user@host/x", "mysql://host/a:b@c", "sqlite:////a:b@c/x.db"])
def test_no_password(url: str) -> None:
    """A URL without a password is shown as it is."""
    assert url == Database(url, "").masked == Database(url, "").identity


def test_environment_names_the_database(tmp_path: Path) -> None:
    """An argument comes first, then the environment, then the default."""
    environ = {"TELEMETRY_DATABASE_URL": f"sqlite:///{tmp_path}/env.db"}
    assert tmp_path / "arg.db" == parse_database(tmp_path / "arg.db", environ).path
    assert tmp_path / "env.db" == parse_database(None, environ).path
    assert Path.cwd() / "data" / "mizzou.db" == parse_database(None, {}).path
    assert Path.cwd() / "data" / "mizzou.db" == parse_database(None, {"TELEMETRY_DATABASE_URL": ""}).path


@pytest.mark.parametrize(
    ("expected", "options", "environ"),
    [
        ("daemon", {}, {}),
        ("sync", {"async_writes": False}, {}),
        ("thread", {"async_writes": False}, {"TELEMETRY_BUS_MODE": "thread"}),
        ("thread", {}, {"TELEMETRY_BUS_MODE": "thread"}),
        ("thread", {"mode": None}, {"TELEMETRY_BUS_MODE": "thread"}),
        ("daemon", {"mode": "daemon"}, {"TELEMETRY_BUS_MODE": "thread"}),
        ("thread", {"mode": "thread", "async_writes": False}, {}),
        ("daemon", {}, {"TELEMETRY_BUS_MODE": ""}),
    ],
)
def test_mode(expected: str, options: dict[str, object], environ: dict[str, str]) -> None:
    """The argument, else the environment, else what `async_writes` says."""
    assert expected == store_options(FILE, environ, **options).mode


def test_defaults() -> None:
    """What a store is like when nothing is said."""
    options = store_options(FILE, {})
    assert (DEFAULT_TIMEOUT, DEFAULT_JOURNAL_BYTES, True) == (options.timeout, options.journal_bytes, options.spawn)
    assert ("block", "refuse", False) == (options.on_full, options.job_reads, options.debug)
    assert options == store_options(FILE, {}, mode=None, on_full=None, job_reads=None, spawn=None, journal_bytes=None)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "fast"),
        ("mode", ""),
        ("mode", 0),
        ("mode", False),
        ("async_writes", "no"),
        ("async_writes", None),
        ("timeout", -1),
        ("timeout", "1"),
        ("timeout", None),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", True),
        ("spawn", "yes"),
        ("spawn", 0),
        ("on_full", "wait"),
        ("on_full", ""),
        ("on_full", False),
        ("journal_bytes", 0),
        ("journal_bytes", MIN_JOURNAL_BYTES - 1),
        ("journal_bytes", 2**36 + 1),
        ("journal_bytes", "1"),
        ("journal_bytes", 1e6),
        ("journal_bytes", True),
        ("thread_name", 5),
        ("job_reads", "yes"),
        ("job_reads", ""),
        ("linger_ms", -1),
        ("linger_ms", "1"),
        ("linger_ms", True),
        ("linger_ms", float("nan")),
        ("linger_ms", float("inf")),
        ("journal_byte", 5),
        ("async_write", True),
    ],
)
def test_impossible_values(option: str, value: object) -> None:
    """An unknown option, or a value that makes no sense, is an error that names the option."""
    with pytest.raises(ConfigError, match=option):
        store_options(FILE, {}, **{option: value})


def test_async_writes_is_checked_beside_a_mode() -> None:
    """A wrong value is wrong, also where it does not count."""
    with pytest.raises(ConfigError, match="async_writes"):
        store_options(FILE, {}, mode="sync", async_writes="no")


@pytest.mark.parametrize(
    "bad", ["TELEMETRY_BUS_SPAWN", "TELEMETRY_DEBUG", "TELEMETRY_BUS_MODE", "TELEMETRY_BUS_LINGER_MS"]
)
def test_impossible_environment(bad: str) -> None:
    """So is a variable that makes no sense."""
    with pytest.raises(ConfigError, match="maybe"):
        store_options(FILE, {bad: "maybe"})


def test_memory_needs_the_process() -> None:
    """A database in memory cannot be another process's."""
    with pytest.raises(ConfigError, match=":memory:"):
        store_options(":memory:", {})
    assert "thread" == store_options(":memory:", {}, mode="thread").mode


@pytest.mark.parametrize(
    ("expected", "options", "environ"),
    [
        (False, {}, {"TELEMETRY_BUS_SPAWN": "0"}),
        (True, {}, {"TELEMETRY_BUS_SPAWN": "1"}),
        (True, {"spawn": True}, {"TELEMETRY_BUS_SPAWN": "0"}),
        (False, {"spawn": False}, {"TELEMETRY_BUS_SPAWN": "1"}),
    ],
)
def test_spawn(expected: bool, options: dict[str, object], environ: dict[str, str]) -> None:
    """The argument comes before the environment."""
    assert expected == store_options(FILE, environ, **options).spawn


@pytest.mark.parametrize("text", ["1", "true", "YES", "On"])
def test_flag_that_is_set(text: str) -> None:
    """Several ways to say yes."""
    assert env_flag("X", False, {"X": text})


@pytest.mark.parametrize("text", ["0", "false", "No", "OFF", ""])
def test_flag_that_is_not_set(text: str) -> None:
    """Several ways to say no; nothing at all is the default."""
    assert not env_flag("X", True, {"X": text})
    assert env_flag("X", True, {})


def test_seconds() -> None:
    """Zero is a time, and whole numbers are; from the environment as well."""
    assert [0.0, 2.0, 0.5] == [check_seconds("x", value) for value in (0, 2, 0.5)]
    assert (1.5, 7.0) == (env_seconds("X", 7.0, {"X": "1.5"}), env_seconds("X", 7.0, {}))
    for text in ("", "soon", "-1", "nan", "inf"):
        with pytest.raises(ConfigError, match="X"):
            env_seconds("X", 7.0, {"X": text})


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path cannot be told then, an absolute one can; the same for the folder of bus folders."""
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the current folder was removed"):
        parse_database("x.db")
    database = parse_database(tmp_path / "x.db")
    with pytest.raises(ConfigError, match="the current folder was removed"):
        BusFolder.of(database, None, {"TELEMETRY_BUS_DIR": "relative"})


@pytest.mark.parametrize("name", ["~/x.db", "~", "~nobody-of-this-name/x.db"])
def test_a_home_that_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """As in a container whose user has no name: no folder is called `~`. One that is named so all the same is taken."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**30)
    with pytest.raises(ConfigError, match="there is no such home"):
        parse_database(name)
    monkeypatch.chdir(tmp_path)
    assert tmp_path.resolve() / "~" / "x.db" == parse_database("./~/x.db").path


def test_an_encoding_of_the_file_system_that_is_not_utf8(tmp_path: Path) -> None:
    """The same name would be two files: refused where it is not ASCII, and fine where it is."""
    program = """
import sys
from telemetry_bus import ConfigError, TelemetryStore
print(sys.getfilesystemencoding())
for name in ("x", chr(0xE4)):
    try:
        TelemetryStore(f"{sys.argv[1]}/{name}.db", spawn=False)
    except ConfigError as error:
        print(error)
"""
    environ = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    encoding, *refused = ended.stdout.splitlines()
    assert encoding != "utf-8"
    assert len(refused) == 1
    assert "PYTHONUTF8=1" in refused[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TELEMETRY_BUS_IDLE", "TELEMETRY_BUS_IDLE_TIMEOUT"),
        ("TELEMETRY_IDLE_TIMEOUT", "TELEMETRY_BUS_IDLE_TIMEOUT"),
        ("TELEMETRY_BUS_DATABASE_URL", "TELEMETRY_DATABASE_URL"),
        ("TELEMETRY_DB_URL", "TELEMETRY_DATABASE_URL"),
        ("TELEMETRY_BUS_DEBUG", "TELEMETRY_DEBUG"),
        ("TELEMETRY_BUS_SPWAN", "TELEMETRY_BUS_SPAWN"),
        ("Telemetry_Bus_Mode", "TELEMETRY_BUS_MODE"),
        ("TELEMETRY_COLOUR", None),
        ("TELEMETRY_", None),
        ("TELEMETERY_BUS_MODE", "TELEMETRY_BUS_MODE"),
        ("TELEMTRY_DATABASE_URL", "TELEMETRY_DATABASE_URL"),
    ],
)
def test_unknown_variables_are_told_with_the_nearest(name: str, meant: str | None) -> None:
    """Those that the bus reads are none of them."""
    known = dict.fromkeys(VARIABLES, "1")
    told = f"{name} (did you mean {meant}?)" if meant else name
    assert [told] == unknown_variables({**known, name: "1", "HOME": "/"})


def test_variables_of_others_are_not_told() -> None:
    """What only begins alike."""
    assert [] == unknown_variables({"TELEMED_HOST": "1", "TELEMETRYD_BUS": "1", "TELEMATICS_BUS_MODE_OF_THE_DAY": "1"})


def test_what_only_the_writer_reads_is_judged_at_the_store() -> None:
    """A writer that cannot start would be waited for; modes that start none take what there is."""
    environ = {"TELEMETRY_BUS_IDLE_TIMEOUT": "soon"}
    with pytest.raises(ConfigError, match="TELEMETRY_BUS_IDLE_TIMEOUT"):
        store_options(FILE, environ)
    assert "thread" == store_options(FILE, environ, mode="thread").mode


def test_a_mode_that_is_none_names_where_it_comes_from() -> None:
    """The variable, or the option."""
    with pytest.raises(ConfigError, match="TELEMETRY_BUS_MODE"):
        store_options(FILE, {"TELEMETRY_BUS_MODE": "demon"})
    with pytest.raises(ConfigError, match=r"\[mode\]"):
        store_options(FILE, {"TELEMETRY_BUS_MODE": "sync"}, mode="demon")
