"""What a user may set, read once and checked: the database, the environment, the options of a store."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from .errors import ConfigError

DEFAULT_DATABASE = "sqlite:///data/mizzou.db"
DEFAULT_TIMEOUT = 30.0
DEFAULT_JOURNAL_BYTES = 32 * 1024 * 1024
#: A job may take half of the journal; with less than this, hardly any would fit.
MIN_JOURNAL_BYTES = 64 * 1024
DEFAULT_IDLE_TIMEOUT = 10.0
#: A writer that a service manager watches is taken for stuck after this time: longer than any transaction.
WATCHDOG_S = 180
#: Measured: see docs/performance.md.
DEFAULT_LINGER_MS = 200
MAX_LINGER_MS = 3_600_000
_FOREVER_S = 1e9

Mode = Literal["daemon", "thread", "sync"]
OnFull = Literal["block", "raise", "drop"]
JobReads = Literal["refuse", "flush"]
DialectName = Literal["sqlite", "postgresql"]

#: Every variable of the environment that the bus reads.
VARIABLES = frozenset(
    {
        "TELEMETRY_BUS_DIR",
        "TELEMETRY_BUS_GROUP",
        "TELEMETRY_BUS_IDLE_TIMEOUT",
        "TELEMETRY_BUS_LINGER_MS",
        "TELEMETRY_BUS_MODE",
        "TELEMETRY_BUS_SPAWN",
        "TELEMETRY_DATABASE_URL",
        "TELEMETRY_DEBUG",
        "TELEMETRY_WRITER_COMMAND",
    }
)
_MODES = ("daemon", "thread", "sync")
_ON_FULL = ("block", "raise", "drop")
_JOB_READS = ("refuse", "flush")
#: Rather too much than too little: a password may hold anything, and stand among the options too.
_PASSWORD = r"(?s)^([^:/?#]+://[^:/?#@]*):.*@"
_PASSWORD_PARAMETER = r"(?i)([?&]\w*(?:passw|pwd|secret|token)\w*=)[^&]*"

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class Database(NamedTuple):
    """One target database. Equal values mean the same database.

    `url` is a SQLAlchemy URL with an absolute, link-free path; `path` that path, or None for `:memory:` and for
    a database server.
    """

    url: str
    dialect: str
    path: Path | None = None

    def __repr__(self) -> str:
        return f"Database({self.masked!r})"

    @property
    def is_memory(self) -> bool:
        return self.dialect == "sqlite" and self.path is None

    @property
    def identity(self) -> str:
        """The URL without a password: names the database to others, may be logged."""
        return self.url if self.path else _without_password(self.url, "@", "")

    @property
    def name_now(self) -> str:
        """The identity, and behind it which file that is at this moment, however it is called: device and number."""
        number = _file_number(self.path)
        return f"{self.identity}#{number}" if number else self.identity

    def is_called(self, name: str) -> bool:
        """Whether this is the database that another process calls by its `name_now`, or by its identity alone."""
        identity, _, number = name.partition("#") if self.path else (name, "", "")
        here = _file_number(self.path)
        return number == here if number and here else identity == self.identity

    def with_password(self, password: str) -> Database:
        """The same database of a server, with this password unless it has one."""
        from . import postgresql_url

        return self._replace(url=postgresql_url.write({"password": password, **postgresql_url.parse(self.url, {})}))

    @property
    def masked(self) -> str:
        """The URL with `***` for a password, as SQLAlchemy shows it."""
        return self.url if self.path else _without_password(self.url, ":***@", "***")


def _file_number(path: Path | None) -> str:
    try:
        found = None if path is None else os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}" if found else ""


def _without_password(url: str, password: str, parameter: str) -> str:
    return re.sub(_PASSWORD_PARAMETER, rf"\1{parameter}", re.sub(_PASSWORD, rf"\1{password}", url))


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What the environment has that looks like a variable of the bus and is none, each with the nearest that is."""
    unknown = sorted(name for name in environ if name.upper().startswith("TELEM") and name not in VARIABLES)
    told = []
    for name in unknown:
        if not name.upper().startswith("TELEMETRY_"):
            told += [f"{name} (did you mean {nearest}?)" for nearest in _spelt_like(name.upper(), VARIABLES, 0.9)]
        else:
            told.append(f"{name} (did you mean {nearest}?)" if (nearest := _nearest(name)) else name)
    return told


def _nearest(name: str) -> str | None:
    """A variable that begins like it, else one that is spelt like it, whatever stands before the part that tells."""
    telling = {_telling_part(known): known for known in sorted(VARIABLES)}
    part = _telling_part(name.upper())
    begins = [word for word in telling if part and word.startswith(part)]
    return next((telling[word] for word in begins or _spelt_like(part, telling, 0.6)), None)


def _spelt_like(name: str, names: Iterable[str], ratio: float) -> list[str]:
    """The one of `names` that is most like it; none if none is like it by that ratio."""
    from difflib import get_close_matches  # hardly ever needed

    return get_close_matches(name, sorted(names), 1, ratio)


def _telling_part(name: str) -> str:
    return name.removeprefix("TELEMETRY_").removeprefix("BUS_")


def is_default(database: object, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether nothing says which database to use, so that it is the default one."""
    return database is None and not environ.get("TELEMETRY_DATABASE_URL")


def parse_database(database: object = None, environ: Mapping[str, str] = os.environ) -> Database:
    """The database that an argument names: a URL, a path, a `sqlalchemy.URL`, or None for the configured one.

    Relative paths are resolved at once against the current directory, links included, so that every way to
    write one file's name leads to one database.

    Raises `ConfigError` for anything else.
    """
    if database is None:
        database = environ.get("TELEMETRY_DATABASE_URL") or DEFAULT_DATABASE
    if hasattr(database, "render_as_string"):
        database = database.render_as_string(hide_password=False)
    if isinstance(database, os.PathLike):
        database = os.fspath(database)
    if not isinstance(database, str) or not database or "\0" in database:
        shown = f" {Database(database, '').masked!r}" if isinstance(database, str) else ""
        raise ConfigError(
            f"{type(database).__name__}{shown} is neither a database URL nor a path",
            operation="database",
            hint="for example sqlite:///data/telemetry.db",
        )
    if "://" not in database or not re.match(r"[A-Za-z][\w+.-]*://", database):
        return _sqlite(database)
    scheme, _, rest = database.partition("://")
    dialect = scheme.partition("+")[0].lower()
    if dialect == "sqlite":
        if not rest.startswith("/") and rest:
            raise ConfigError(
                "a SQLite URL has three slashes before the path, four before an absolute one",
                operation="database",
                subject=Database(database, dialect).masked,
                hint="sqlite:////folder/file.db",
            )
        if "?" in rest:
            raise ConfigError(
                "options in a SQLite URL are not supported",
                operation="database",
                subject=Database(database, dialect).masked,
                hint="the bus sets its own pragmas",
            )
        return _sqlite(unquote(rest[1:]) or ":memory:")
    if dialect in ("postgresql", "postgres"):
        return _postgresql(database, scheme.partition("+")[2].lower(), environ)
    raise ConfigError(
        f"unknown kind of database {dialect!r}",
        operation="database",
        subject=Database(database, dialect).masked,
        hint="use sqlite:///PATH or postgresql://USER@HOST/NAME",
    )


def _of_engine(engine: object, database: object, environ: Mapping[str, str]) -> Database:
    """The database of a SQLAlchemy engine, or of a connection of one, by its URL."""
    if database is not None:
        raise ConfigError("database= and engine= both name a database", operation="store", hint="give one of them")
    url: Any = getattr(engine, "url", None) or getattr(getattr(engine, "engine", None), "url", None)
    if not hasattr(url, "render_as_string"):
        raise ConfigError(f"{type(engine).__name__} is not a SQLAlchemy engine", operation="option", subject="engine")
    if url.get_backend_name() == "sqlite":
        url = url.set(query={})  # these options are of its own connections
    found = parse_database(url, environ)
    if found.is_memory:
        raise ConfigError(
            "the memory of an engine cannot be reached from outside",
            operation="option",
            subject="engine",
            hint="use an engine of a file",
        )
    return found


def _sqlite(name: str) -> Database:
    if name == ":memory:":
        return Database("sqlite:///:memory:", "sqlite")
    if name.startswith("file:"):
        raise ConfigError("file: names are not supported", operation="database", subject=name, hint="use a path")
    try:
        path = absolute(name, "database")
        text = os.fspath(path)
        same = os.fsencode(path) == text.encode()
    except UnicodeEncodeError:
        same = False
    if not same:  # SQLite, the URL and other programs would mean another file by it
        encoding = sys.getfilesystemencoding()
        raise ConfigError(
            "the path is not UTF-8" if encoding == "utf-8" else f"the file system's encoding is {encoding}, not UTF-8",
            operation="database",
            subject=ascii(name),
            hint="choose another name" if encoding == "utf-8" else "set PYTHONUTF8=1, or choose a name in ASCII",
        )
    if os.path.isdir(path):
        raise ConfigError("is a folder", operation="database", subject=str(path), hint="name a file in it")
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would last for ever
        raise ConfigError("is not a file", operation="database", subject=str(path), hint="name another one")
    for special in "%?#":  # a URL means something else by these
        text = text.replace(special, f"%{ord(special):02X}")
    return Database(f"sqlite:///{text}", "sqlite", path)


def _postgresql(url: str, driver: str, environ: Mapping[str, str]) -> Database:
    from . import postgresql_url  # for these alone

    try:
        if driver not in postgresql_url.DRIVERS:
            raise ConfigError(
                f"the bus speaks to PostgreSQL through psycopg, not {driver}",
                operation="database",
                hint="use postgresql://USER@HOST/NAME",
            )
        return Database(postgresql_url.write(postgresql_url.parse(url, environ)), "postgresql")
    except ConfigError as error:
        error.subject = error.subject or Database(url, "postgresql").masked
        raise


def absolute(name: str, operation: str) -> Path:
    """A path without links, from the current folder or a home. Raises `ConfigError` where there is none of these."""
    expanded = os.path.expanduser(name)
    if expanded.startswith("~") and expanded.partition("/")[0] == name.partition("/")[0]:
        raise ConfigError(
            "there is no such home", operation=operation, subject=name, hint="set HOME, or name an absolute path"
        )
    try:
        return Path(os.path.realpath(expanded))
    except FileNotFoundError:
        raise ConfigError(
            "the current folder was removed", operation=operation, subject=name, hint="name an absolute path"
        ) from None


def env_flag(name: str, default: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """A yes-or-no variable of the environment. Raises `ConfigError` for anything but 1/0, true/false, yes/no."""
    text = environ.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ConfigError(f"{text!r} is neither 0 nor 1", operation="environment", subject=name, hint="set it to 0 or 1")


def env_seconds(name: str, default: float, environ: Mapping[str, str] = os.environ) -> float:
    """A number of seconds from the environment. Raises `ConfigError` when it is not one."""
    text = environ.get(name)
    if text is None:
        return default
    try:
        return check_seconds(name, float(text))
    except ValueError:
        raise ConfigError(f"{text!r} is not a number of seconds", operation="environment", subject=name) from None


def check_seconds(name: str, value: object) -> float:
    """`value` as seconds. Raises `ConfigError` naming the option when it is none: negative, infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FOREVER_S:
        raise ConfigError(f"{value!r} is not a number of seconds", operation="option", subject=name)
    return float(value)


class StoreOptions(NamedTuple):
    """The options of a `TelemetryStore`, resolved and checked. Two stores with equal options are alike."""

    database: Database
    mode: Mode
    timeout: float = DEFAULT_TIMEOUT
    thread_name: str = "telemetry-bus"
    spawn: bool = True
    on_full: OnFull = "block"
    journal_bytes: int = DEFAULT_JOURNAL_BYTES
    job_reads: JobReads = "refuse"
    debug: bool = False
    linger_s: float = DEFAULT_LINGER_MS / 1000


def store_options(database: object = None, environ: Mapping[str, str] = os.environ, /, **given: Any) -> StoreOptions:
    """Check what a caller gave to `TelemetryStore`. Raises `ConfigError` naming the option."""
    known = {
        "async_writes",
        "mode",
        "timeout",
        "thread_name",
        "spawn",
        "on_full",
        "journal_bytes",
        "job_reads",
        "engine",
        "linger_ms",
    }
    if unknown := sorted(set(given) - known):
        hint = "known: " + ", ".join(sorted(known))
        raise ConfigError(f"unknown option {unknown[0]!r}", operation="store", hint=hint)
    engine = given.get("engine")
    target = parse_database(database, environ) if engine is None else _of_engine(engine, database, environ)
    mode = _mode_of(given.get("mode"), given.get("async_writes", True), environ)
    if mode == "daemon":
        env_seconds("TELEMETRY_BUS_IDLE_TIMEOUT", DEFAULT_IDLE_TIMEOUT, environ)  # of the writer that it may start
    if target.is_memory and mode == "daemon":
        raise ConfigError(
            "another process cannot reach :memory:",
            operation="store",
            subject=target.url,
            hint='use mode="thread", mode="sync", or a file',
        )
    size = given.get("journal_bytes")
    if size is None:
        size = DEFAULT_JOURNAL_BYTES
    if isinstance(size, bool) or not isinstance(size, int) or not MIN_JOURNAL_BYTES <= size <= 1 << 36:
        raise ConfigError(
            f"{size!r} is not a size of {MIN_JOURNAL_BYTES} bytes or more", operation="option", subject="journal_bytes"
        )
    name = given.get("thread_name")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{name!r} is not a name", operation="option", subject="thread_name")
    spawn = given.get("spawn")
    return StoreOptions(
        database=target,
        mode=mode,  # type: ignore[arg-type]  # _choice has checked it
        timeout=check_seconds("timeout", given.get("timeout", DEFAULT_TIMEOUT)),
        thread_name=name or "telemetry-bus",
        spawn=env_flag("TELEMETRY_BUS_SPAWN", True, environ) if spawn is None else _flag("spawn", spawn),
        on_full=_choice("on_full", given.get("on_full"), _ON_FULL, "block"),  # type: ignore[arg-type]
        journal_bytes=size,
        job_reads=_choice("job_reads", given.get("job_reads"), _JOB_READS, "refuse"),  # type: ignore[arg-type]
        debug=env_flag("TELEMETRY_DEBUG", False, environ),
        linger_s=_linger_s(given.get("linger_ms"), environ),
    )


def _linger_s(given: object, environ: Mapping[str, str]) -> float:
    name = "linger_ms"
    if given is None:
        name = "TELEMETRY_BUS_LINGER_MS"
        text = environ.get(name, str(DEFAULT_LINGER_MS))
        try:
            given = float(text)
        except ValueError:
            given = text
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= MAX_LINGER_MS:
        raise ConfigError(
            f"{given!r} is not a number of milliseconds up to {MAX_LINGER_MS}",
            operation="option",
            subject=name,
            hint="0 sends each job at once",
        )
    return given / 1000


def _mode_of(given: object, async_writes: object, environ: Mapping[str, str]) -> str:
    asynchronous = _flag("async_writes", async_writes)
    if given is None and (named := environ.get("TELEMETRY_BUS_MODE")):
        return _choice("TELEMETRY_BUS_MODE", named, _MODES, named)
    return _choice("mode", given, _MODES, "daemon" if asynchronous else "sync")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{value!r} is neither True nor False", operation="option", subject=name)
    return value


def _choice(name: str, value: object, choices: tuple[str, ...], default: str) -> str:
    if value is None:
        value = default
    if value not in choices:
        raise ConfigError(f"{value!r} is not one of {', '.join(choices)}", operation="option", subject=name)
    return str(value)
