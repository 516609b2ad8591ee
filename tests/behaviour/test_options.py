"""What a store is told by arguments and environment, and what is refused. No store here writes anything."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from telemetry_bus import ConfigError, TelemetryStore, get_store


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        ({}, None, "daemon"),
        ({"async_writes": True}, None, "daemon"),
        ({"async_writes": False}, None, "sync"),
        ({}, "thread", "thread"),
        ({}, "", "daemon"),
        ({"async_writes": True}, "sync", "sync"),
        ({"async_writes": False}, "thread", "thread"),
        ({"mode": "thread"}, "sync", "thread"),
        ({"mode": "daemon", "async_writes": False}, None, "daemon"),
        ({"mode": None}, "sync", "sync"),
    ],
)
def test_mode(
    database: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], variable: str | None, expected: str
) -> None:
    """The mode is the argument's, else the environment's, else that of `async_writes`."""
    if variable is not None:
        monkeypatch.setenv("TELEMETRY_BUS_MODE", variable)
    store = TelemetryStore(database, **options)
    assert (expected, expected != "sync") == (store.mode, store.async_writes)


def test_mode_of_the_environment_must_exist(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode that does not exist is refused, not replaced by another."""
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "fast")
    with pytest.raises(ConfigError, match=r"fast.*daemon, thread, sync"):
        TelemetryStore(database)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"asynchronous": True}, "asynchronous"),
        ({"mode": "fast"}, "mode"),
        ({"mode": 1}, "mode"),
        ({"mode": ["sync"]}, "mode"),
        ({"async_writes": "no"}, "async_writes"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "30"}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"thread_name": 5}, "thread_name"),
        ({"spawn": "yes"}, "spawn"),
        ({"on_full": "wait"}, "on_full"),
        ({"on_full": {}}, "on_full"),
        ({"journal_bytes": 0}, "journal_bytes"),
        ({"journal_bytes": 10}, "journal_bytes"),
        ({"journal_bytes": -1}, "journal_bytes"),
        ({"journal_bytes": 1e9}, "journal_bytes"),
        ({"journal_bytes": True}, "journal_bytes"),
        ({"job_reads": "always"}, "job_reads"),
        ({"job_reads": False}, "job_reads"),
        ({"mode": ""}, "mode"),
        ({"on_full": ""}, "on_full"),
    ],
)
@pytest.mark.parametrize("make", [TelemetryStore, get_store])
def test_bad_option(database: Path, make: Any, options: dict[str, Any], named: str) -> None:
    """An unknown option and an impossible value are refused by name."""
    with pytest.raises(ConfigError, match=named):
        make(database, **options)


@pytest.mark.parametrize("name", ["TELEMETRY_DEBUG", "TELEMETRY_BUS_SPAWN"])
def test_bad_flag_in_the_environment(database: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A flag that says neither yes nor no is refused by name."""
    monkeypatch.setenv(name, "perhaps")
    with pytest.raises(ConfigError, match=name):
        TelemetryStore(database)


@pytest.mark.parametrize(
    "database",
    [
        "",
        5,
        b"x.db",
        object(),
        "a\0b",
        "mysql://host/x",
        "sqlite://x.db",
        "sqlite://host/x.db",
        "redis://",
        "sqlite:///x.db?mode=ro",
        "file:x.db",
        "\ud800.db",
    ],
)
@pytest.mark.parametrize("make", [TelemetryStore, get_store])
def test_bad_database(database: object, make: Any) -> None:
    """What names no usable database is refused with a hint."""
    with pytest.raises(ConfigError) as caught:
        make(database)
    assert caught.value.hint


def test_memory_in_daemon_mode() -> None:
    """Another process cannot reach `:memory:`: refused, with the modes that can."""
    for database in (":memory:", "sqlite:///:memory:", "sqlite://"):
        with pytest.raises(ConfigError, match=":memory:") as caught:
            TelemetryStore(database)
        assert "thread" in caught.value.hint
        assert "sync" in caught.value.hint


def test_folder_in_place_of_the_database(tmp_path: Path) -> None:
    """A folder is no database."""
    with pytest.raises(ConfigError, match="folder") as caught:
        TelemetryStore(tmp_path)
    assert caught.value.hint


def test_password_is_never_shown() -> None:
    """A password in a URL does not reach an error's text."""
    for url in (
        "postgresql://user:secret/@host/x",
        "mysql+driver://user:secret@host/x",
        "sqlite://user:secret@host/x.db",
    ):
        with pytest.raises(ConfigError) as caught:
            TelemetryStore(url)
        assert "secret" not in f"{caught.value} {caught.value!r}"


def test_default_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the environment's database, else `data/mizzou.db` below the current folder."""
    monkeypatch.chdir(tmp_path)
    assert f"sqlite:///{tmp_path}/data/mizzou.db" == TelemetryStore().database_url
    assert (tmp_path / "data").is_dir()
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    assert f"sqlite:///{tmp_path}/other.db" == TelemetryStore().database_url
    assert f"sqlite:///{tmp_path}/third.db" == TelemetryStore(tmp_path / "third.db").database_url


@pytest.mark.parametrize(
    "spelling",
    [
        "sub/x.db",
        "./sub/../sub/x.db",
        "sqlite:///sub/x.db",
        "sqlite:///{folder}/sub/x.db",
        "{folder}/sub/x.db",
        "sqlite+pysqlite:///sub/x.db",
        "SQLITE:///sub/x.db",
        "link/x.db",
    ],
)
def test_spellings_of_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    """However a path is written, relative, with dots or through a link, it is one database, resolved at once."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub")
    monkeypatch.chdir(tmp_path)
    store = TelemetryStore(spelling.format(folder=tmp_path))
    monkeypatch.chdir("/")
    assert f"sqlite:///{tmp_path}/sub/x.db" == store.database_url


def test_url_object(tmp_path: Path) -> None:
    """A `sqlalchemy.URL` and a path object are taken too."""
    url = URL.create("sqlite", database=str(tmp_path / "x.db"))
    assert f"sqlite:///{tmp_path}/x.db" == TelemetryStore(url).database_url
    assert f"sqlite:///{tmp_path}/x.db" == TelemetryStore(tmp_path / "x.db").database_url


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """Parent folders that are not there are made."""
    TelemetryStore(tmp_path / "a" / "b" / "x.db")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has opened no store yet."""
    monkeypatch.setattr("telemetry_bus.store._told", set())


@pytest.mark.usefixtures("untold")
def test_the_default_database_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By one INFO line, however many stores there are; what is named by whatever way is not told."""
    caplog.set_level(logging.INFO, "telemetry_bus")
    monkeypatch.delenv("TELEMETRY_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    TelemetryStore(tmp_path / "x.db", mode="sync").shutdown()
    assert [] == caplog.messages
    for _ in range(2):
        TelemetryStore(mode="sync").shutdown()
    (record,) = caplog.records
    assert (logging.INFO, True) == (record.levelno, "data/mizzou.db is used" in record.getMessage())
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", "sqlite:///other.db")
    TelemetryStore(mode="sync").shutdown()
    assert 1 == len(caplog.records)


@pytest.mark.usefixtures("untold")
def test_a_variable_that_nothing_reads_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the one that was meant, once; what is no variable of the bus's at all is left alone."""
    for name in ("TELEMETRY_BUS_IDLE", "telemetry_bus_mode", "TELEMETRY_COLOUR", "OTHER_TELEMETRY_BUS_DIR"):
        monkeypatch.setenv(name, "5")
    for _ in range(2):
        TelemetryStore(tmp_path / "x.db", mode="sync").shutdown()
    (record,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    text = record.getMessage()
    assert "TELEMETRY_BUS_IDLE (did you mean TELEMETRY_BUS_IDLE_TIMEOUT?)" in text
    assert "telemetry_bus_mode (did you mean TELEMETRY_BUS_MODE?)" in text
    assert text.count("did you mean") == 2
    assert "TELEMETRY_COLOUR" in text
    assert "OTHER_" not in text
