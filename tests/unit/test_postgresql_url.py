"""The URLs of PostgreSQL databases: each way to write one, what is refused, and what others read in ours."""

from __future__ import annotations

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from telemetry_bus import ConfigError
from telemetry_bus.config import Database, parse_database
from telemetry_bus.postgresql_url import parse, write
from telemetry_bus.runtime.folder import BusFolder

ME = pwd.getpwuid(os.geteuid()).pw_name
#: What may stand in a user, a password, a name.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def url_of(text: object, environ: dict[str, str] | None = None) -> str:
    return parse_database(text, environ or {}).url


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u@h/x",
        "postgres://u@h/x",
        "POSTGRESQL://u@h/x",
        "postgresql+psycopg://u@h/x",
        "postgresql+psycopg2://u@h/x",
        "postgresql://u@H:5432/x",
        "postgresql://u@/x?host=h",
        "postgresql://u@/x?host=h:5432",
        "postgresql:///x?user=u&host=h&port=5432",
        "postgresql:///?dbname=x&user=u&host=h",
        "postgresql://%75@h/%78",
        URL.create("postgresql", "u", host="h", database="x"),
    ],
)
def test_every_way_to_write_one_database(text: object) -> None:
    """They are one database: one writer, one bus folder."""
    assert Database("postgresql://u@h/x", "postgresql") == parse_database(text, {})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://u@h:6000/x", "postgresql://u@h:6000/x"),
        ("postgresql://u:p@[::1]:6000/x", "postgresql://u:p@[::1]:6000/x"),
        ("postgresql://u@/x?host=::1", "postgresql://u@[::1]/x"),
        ("postgresql://u@%2Frun%2FMine/x", "postgresql://u@/x?host=/run/Mine"),
        ("postgresql://u@/x?host=/run/pg&port=6000", "postgresql://u@/x?host=/run/pg&port=6000"),
        ("postgresql://u@a:1,b/x", "postgresql://u@/x?host=a,b&port=1,5432"),
        ("postgresql://u@/x?host=a:1&host=b:2", "postgresql://u@/x?host=a,b&port=1,2"),
        ("postgresql://u@/x?host=a,b&port=1,2", "postgresql://u@/x?host=a,b&port=1,2"),
        ("postgresql://u:100%@h/x", "postgresql://u:100%25@h/x"),
        (
            "postgresql://u@h/x?sslmode=require&connect_timeout=3",
            "postgresql://u@h/x?connect_timeout=3&sslmode=require",
        ),
        ("postgresql://u@h/x?options=-c%20a%3Db", "postgresql://u@h/x?options=-c%20a%3Db"),
        ("postgresql://u@h/x?sslrootcert=system", "postgresql://u@h/x?sslrootcert=system"),
        ("postgresql:///x?service=prod", "postgresql:///x?service=prod"),
        ("postgresql://h:5432/x?service=prod", "postgresql://h:5432/x?service=prod"),
    ],
)
def test_the_form_of_a_url(text: str, url: str) -> None:
    """One that SQLAlchemy and libpq read; reading it again changes nothing."""
    assert (url, url) == (url_of(text), url_of(url))


def test_what_is_left_out_is_asked_of_the_environment_once() -> None:
    """As libpq does; another process, or the same one later, means the same database by the URL."""
    environ = {"PGHOST": "h", "PGPORT": "6000", "PGUSER": "u", "PGDATABASE": "x"}
    assert "postgresql://u@h:6000/x" == url_of("postgresql://", environ)
    assert "postgresql://me@here:6000/mine" == url_of("postgresql://me@here/mine", environ)
    assert "postgresql://u@/u" == url_of("postgresql://u@") == url_of("postgresql://", {"PGUSER": "u"})
    assert f"postgresql://{ME}@h/{ME}" == url_of("postgresql://h")
    assert "postgresql:///?service=s" == url_of("postgresql://", {**environ, "PGSERVICE": "s"})


def test_files_are_found_from_where_the_url_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer stands in another folder."""
    monkeypatch.chdir("/tmp")
    assert "postgresql://u@h/x?passfile=/tmp/mine" == url_of("postgresql://u@h/x?passfile=mine")


@given(TEXTS, TEXTS, TEXTS)
def test_odd_letters(user: str, password: str, name: str) -> None:
    """Percent-encoded anything may stand in a user, a password, a name; no two of them are mixed up."""
    given = {"user": user, "password": password, "host": "h", "dbname": name}
    url = write(given)
    assert given == parse(url, {})
    database = parse_database(url, {})
    assert url == database.url
    assert write({**given, "password": ""}) == database.identity
    read = make_url(url)
    assert (user, password, "h") == (read.username, read.password, read.host)


def test_a_password_is_added() -> None:
    """The one that is there stays."""
    assert "postgresql://u:p%40@h/x" == parse_database("postgresql://u@h/x", {}).with_password("p@").url
    assert "postgresql://u:mine@h/x" == parse_database("postgresql://u:mine@h/x", {}).with_password("p@").url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("postgresql+asyncpg://h/x", "psycopg"),
        ("postgresql://u:p@ss@h/x", "%40"),
        ("postgresql://u:p/ss@h/x", "%2F"),
        ("postgresql://u:p?ss@h/x", "percent-encode"),
        ("postgresql://u:p#ss@h/x", "%23"),
        ("postgresql://h:port/x", "1 to 65535"),
        ("postgresql://h:0/x", "1 to 65535"),
        ("postgresql://h:65536/x", "1 to 65535"),
        ("postgresql://u:p/x", "1 to 65535"),
        ("postgresql://h/x?sslmod=require", "'sslmod'"),
        ("postgresql://h/x?application_name=mine", "bus sets itself"),
        ("postgresql://\ud800@h/x", "UTF-8"),
    ],
)
def test_what_is_no_url(text: str, says: str) -> None:
    """Each is a `ConfigError` with a hint that helps."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse_database(text, {})
    assert caught.value.hint
    assert caught.value.subject


@pytest.mark.parametrize(
    ("text", "name"),
    [("postgresql://u:p@h/x", "x"), ("postgresql://u@/x?host=/tmp/y", "x"), ("postgresql:///?service=s", "postgresql")],
)
def test_the_bus_folder(text: str, name: str) -> None:
    """It lies among the user's state, and is called as the database."""
    folder = BusFolder.of(parse_database(text, {}), environ={"XDG_STATE_HOME": "/state"}).path
    assert f"/state/telemetry-bus/{name}" == str(folder).rpartition("-")[0]
