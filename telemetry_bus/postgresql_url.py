"""The URL of a PostgreSQL database: read as SQLAlchemy and libpq read it, and written in one form.

The rules: https://www.postgresql.org/docs/current/libpq-connect.html. What a URL leaves out comes from the variables
`PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE`, then and there: otherwise one URL would mean another database to the next
process. A service file (`service=`, `PGSERVICE`) is libpq's to read; its name then stands for what is in it.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, quote, unquote

from .errors import ConfigError

#: What a scheme may say of a driver: those of libpq, whose options these are.
DRIVERS = frozenset({"", "psycopg", "psycopg_async", "psycopg2", "psycopg2cffi"})
DEFAULT_PORT = "5432"

#: What may stand behind the `?`, beside the parts of the URL itself.
_FILES = frozenset({"passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"})
_PARTS = frozenset({"host", "port", "user", "password", "dbname"})
_OPTIONS = (
    _FILES
    | _PARTS
    | {
        *("channel_binding", "connect_timeout", "gssdelegation", "gssencmode", "gsslib", "hostaddr", "keepalives"),
        *("keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts"),
        *("max_protocol_version", "min_protocol_version", "options", "require_auth", "requirepeer", "service"),
        *("ssl_max_protocol_version", "ssl_min_protocol_version", "sslcertmode", "sslmode", "sslnegotiation"),
        *("sslpassword", "sslsni", "target_session_attrs", "tcp_user_timeout"),
    }
)
_SYSTEM_ROOTS = "system"  # of `sslrootcert`: no file
_ESCAPES = "percent-encode what is special in a user, a password or a name: @ is %40, / is %2F, : is %3A, % is %25"
_VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}


def parse(url: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The parameters of libpq that a URL means, by their names. Raises `ConfigError`, which quotes nothing of it."""
    authority, path, query = _split(url.partition("://")[2])
    found = {**_of_authority(authority), **_of_query(query)}
    if path:
        found["dbname"] = unquote(path)
    found = {name: value for name, value in found.items() if value}
    if "service" not in found and (service := environ.get("PGSERVICE")):
        found["service"] = service
    if "service" not in found:
        _complete(found, environ)
    _check_ports(found)
    for name in _FILES & found.keys():
        if found[name] != _SYSTEM_ROOTS:
            found[name] = os.path.abspath(os.path.expanduser(found[name]))
    return found


def write(parameters: Mapping[str, str]) -> str:
    """The URL of these parameters, that SQLAlchemy and libpq read. Raises `ConfigError` for what is not UTF-8."""
    rest = dict(parameters)
    user, password, dbname = (rest.pop(name, "") for name in ("user", "password", "dbname"))
    access = f"{_quote(user)}:{_quote(password)}@" if password else f"{_quote(user)}@" if user else ""
    place = ""
    if re.fullmatch(r"[\w.:-]+", rest.get("host", ""), re.ASCII):  # neither a folder of sockets nor several hosts
        host, port = rest.pop("host"), rest.pop("port", "")
        place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    query = "&".join(f"{name}={_quote(value, '/,')}" for name, value in sorted(rest.items()))
    return f"postgresql://{access}{place}/{_quote(dbname)}" + (f"?{query}" if query else "")


def _split(rest: str) -> tuple[str, str, str]:
    """Authority, path and query. What is not percent-encoded in a password would make them others."""
    if "#" in rest:
        raise ConfigError("there is a # in the URL", operation="database", hint=f"write %23; {_ESCAPES}")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "@" in path or "@" in query or authority.count("@") > 1:
        raise ConfigError("there is one @ too many in the URL", operation="database", hint=_ESCAPES)
    return authority, path, query


def _of_authority(authority: str) -> dict[str, str]:
    access, _, places = authority.rpartition("@")
    user, _, password = access.partition(":")
    return {"user": unquote(user), "password": unquote(password), **_of_hosts(places.split(","))}


def _of_hosts(places: Sequence[str]) -> dict[str, str]:
    hosts, ports = zip(*map(_host_and_port, places), strict=True)
    found = {"host": ",".join(hosts)}
    if any(ports):
        found["port"] = ",".join(port or DEFAULT_PORT for port in ports)
    return found


def _host_and_port(text: str) -> tuple[str, str]:
    if match := re.fullmatch(r"\[(.+)\](?::(.*))?", text):
        return match[1].lower(), match[2] or ""
    if text.startswith("/") or text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    host = unquote(host)
    return host if host.startswith("/") else host.lower(), port


def _of_query(query: str) -> dict[str, str]:
    """SQLAlchemy says several hosts by several `host=`, libpq by one; each may have its port."""
    given = parse_qs(query, keep_blank_values=True)
    if unknown := sorted(given.keys() - _OPTIONS):
        raise ConfigError(
            f"{unknown[0]!r} is no option of a connection, or one that the bus sets itself",
            operation="database",
            hint="they are those of libpq: sslmode, target_session_attrs, service, passfile, options …",
        )
    found = {name: ",".join(values) if name in ("hostaddr", "port") else values[-1] for name, values in given.items()}
    if "host" in given:
        hosts = _of_hosts(",".join(given["host"]).split(","))
        found = {**hosts, **found, "host": hosts["host"]}
    return found


def _complete(found: dict[str, str], environ: Mapping[str, str]) -> None:
    """As libpq does, so that every process means the same database."""
    for name, variable in _VARIABLES.items():
        if name not in found and environ.get(variable):
            found[name] = environ[variable]
    if "user" not in found:
        try:
            found["user"] = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise ConfigError("no user is named, and ours has no name", operation="database", hint=_ESCAPES) from None
    found.setdefault("dbname", found["user"])
    if found.get("port") == DEFAULT_PORT:
        del found["port"]


def _check_ports(found: Mapping[str, str]) -> None:
    for port in filter(None, found.get("port", "").split(",")):
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ConfigError(
                "the port is not a number from 1 to 65535",
                operation="database",
                subject="postgresql://…",  # what stands in its place may be a part of a password
                hint=_ESCAPES,
            )


def _quote(text: str, safe: str = "") -> str:
    try:
        return quote(text, safe)
    except UnicodeEncodeError:
        raise ConfigError("the URL is not UTF-8", operation="database", hint=_ESCAPES) from None
