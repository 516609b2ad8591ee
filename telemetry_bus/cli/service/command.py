"""`telemetry-bus install-service` and `uninstall-service`: the writer as a service of systemd."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ...config import Database, parse_database
from ...errors import ConfigError
from .. import exit_codes
from ..arguments import Parser
from ..output import Output
from .unit_files import Service, all_paths, enabled, environment, folder_file, within_a_home

#: What begins a file that was written here; then a digest of the rest, which shows whether somebody has changed it.
_MARK = "# Written by telemetry-bus install-service, which replaces it as long as nobody has changed it: "
#: Needs no escape in the name of a unit, and is the same in `%i`.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
#: A service has these for itself, or they are emptied at each boot.
_PASSING = ("/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys")

#: Where the bus folder of a server's database is.
_STATE = Path("/var/lib")
_RELOAD = "systemctl daemon-reload"


def add_to(whole: Parser) -> None:
    install = whole.command(
        "install-service",
        run_install,
        "make the writer of a database a service of systemd",
        "Write the unit, its environment file, and the descriptions of user and folder; then print what to run next.\n"
        "Needs root. A file that is not as this command has written it is left alone, and nothing is written then.",
    )
    remove = whole.command(
        "uninstall-service",
        run_uninstall,
        "remove what install-service has written",
        "Remove what install-service has written. The database, its folder and the user stay.",
    )
    for parser in (install, remove):
        add = parser.add_argument
        add("--name", required=True, metavar="NAME", help="the service is telemetry-writer@NAME")
        add("--root", type=Path, default=Path("/"), metavar="DIR", help="the machine's files are below DIR")
        add("--force", action="store_true", help="also files that somebody else has written or changed")
    add = install.add_argument
    add("--user", default="telemetry", metavar="U", help="who runs the writer (%(default)s); made when missing")
    add("--group", default="telemetry", metavar="G", help="who may produce (%(default)s); made when missing")
    add("--print", action="store_true", dest="only_print", help="show the files, write nothing")


def run_install(arguments: argparse.Namespace, output: Output) -> int:
    root: Path = arguments.root
    service = _service(arguments)
    make_folder = not _below(root, service.folder).exists() or _below(root, folder_file(service.name)).exists()
    seen = (service.folder, service.python, service.python.resolve(), Path(__file__).resolve())
    files = service.files(make_folder=make_folder, in_a_home=any(map(within_a_home, seen)))
    files = {path: marked(text) for path, text in files.items()}
    secret = {path: marked(text) for path, text in service.passwords().items()}
    files = {**files, **{path: text for path, text in secret.items() if not _below(root, path).exists()}}
    if arguments.only_print:
        _show(files, output)
        return exit_codes.DONE
    _check_rights(root)
    if not arguments.force:
        for path in files:
            _check_ours(_below(root, path))
    for path, text in files.items():
        _write(_below(root, path), text, 0o600 if path.parent == environment(service.name).parent else 0o644)
    commands = [*(f"$EDITOR {path}" for path in secret if path in files), *_next(service, made=make_folder)]
    if output.as_json:
        output.document({"files": [str(_below(root, path)) for path in files], "next": commands})
        return exit_codes.DONE
    for path in files:
        output.line(f"wrote {_below(root, path)}")
    if not make_folder:
        output.line(f"{service.folder} is there already: {service.user} must be able to write to it")
    _tell_next(commands, output)
    return exit_codes.DONE


def run_uninstall(arguments: argparse.Namespace, output: Output) -> int:
    root: Path = arguments.root
    name = arguments.name
    _check_name(name)
    *own, unit = (_below(root, path) for path in all_paths(name))
    paths = [path for path in own if path.exists()]
    if not paths:
        raise ConfigError("there is no such service", operation="uninstall-service", subject=name)
    _check_rights(root)
    if os.path.lexists(_below(root, enabled(name))):
        raise ConfigError(
            "it is enabled",
            operation="uninstall-service",
            subject=name,
            hint=f"systemctl disable --now telemetry-writer@{name}",
        )
    ours = own[0].parent
    if unit.exists() and all(folder == ours for folder in ours.parent.glob("telemetry-writer@*.service.d")):
        paths.append(unit)  # no other service needs it
    kept = [] if arguments.force else [path for path in paths if not is_ours(path)]
    gone = [path for path in paths if path not in kept]
    for path in gone:
        path.unlink()
        if path.parent in (ours, _below(root, environment(name)).parent):
            with suppress(OSError):  # others need it
                path.parent.rmdir()
    if output.as_json:
        output.document({"removed": [*map(str, gone)], "kept": [*map(str, kept)], "next": [_RELOAD]})
        return exit_codes.DONE
    for path in gone:
        output.line(f"removed {path}")
    for path in kept:
        output.line(f"kept {path}: somebody has changed it")
    _tell_next([_RELOAD], output)
    return exit_codes.DONE


def marked(text: str) -> str:
    """`text` behind a line that says who wrote it."""
    return f"{_MARK}{_digest(text)}\n{text}"


def is_ours(path: Path) -> bool:
    """Whether a file is as it was written here."""
    first, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    return first == f"{_MARK}{_digest(rest)}"


def _service(arguments: argparse.Namespace) -> Service:
    """What the command line asks for. Raises `ConfigError`."""
    _check_name(arguments.name)
    for option in ("user", "group"):
        if not _ACCOUNT.fullmatch(value := getattr(arguments, option)):
            raise ConfigError(f"{value!r} is not the name of a {option}", operation="option", subject=option)
    if arguments.database is None:
        raise ConfigError("--database is required", operation="install-service")
    database = parse_database(arguments.database)
    if database.path is None and database.dialect == "sqlite":
        raise ConfigError("a service needs a file", operation="install-service", subject=database.masked)
    folder = _STATE / f"telemetry-bus-{arguments.name}" if database.path is None else database.path.parent
    if not str(folder).isprintable():
        raise ConfigError(
            "the path has characters that no unit takes", operation="install-service", subject=repr(str(folder))
        )
    if str(folder) == "/" or any(folder.is_relative_to(place) for place in _PASSING):
        raise ConfigError(
            "a service cannot have its database there",
            operation="install-service",
            subject=str(folder),
            hint="for example /var/lib/telemetry",
        )
    # Not resolved: through this link Python finds its virtual environment.
    python = Path(os.path.abspath(sys.executable))
    access, network = _server(database) if database.path is None else ("", False)
    return Service(
        arguments.name, database.url, folder, arguments.user, arguments.group, python, access=access, network=network
    )


def _server(database: Database) -> tuple[str, bool]:
    """How a line of a file of passwords begins for it, and whether it is reached by network. Raises `ConfigError`."""
    from ...postgresql_url import DEFAULT_PORT, parse

    found = parse(database.url, {})
    if "password" in found or "sslpassword" in found:
        raise ConfigError(
            "the URL of a service has no password: others would see it here, and the service in its environment",
            operation="install-service",
            subject=database.masked,
            hint="leave it out; the command makes a file for it, of mode 0600",
        )
    hosts = found.get("host", "").split(",")
    if any(host.startswith(place) for host in hosts for place in _PASSING if not host.startswith("/run/postgresql")):
        raise ConfigError(
            "a service does not see that folder of sockets", operation="install-service", subject=database.masked
        )
    parts = (found.get("host", "*"), found.get("port", DEFAULT_PORT), found.get("dbname", "*"), found.get("user", "*"))
    line = ":".join("*" if "," in part else part.replace("\\", "\\\\").replace(":", "\\:") for part in parts)
    return line, not all(host.startswith("/") for host in hosts)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name of letters, digits, - and _", operation="option", subject="name")


def _check_rights(root: Path) -> None:
    if root == Path("/") and os.geteuid() != 0:
        raise ConfigError("needs root", operation="service", subject="/etc", hint="sudo; --print only shows the files")


def _check_ours(path: Path) -> None:
    if path.exists() and not is_ours(path):
        raise ConfigError(
            "somebody else has written or changed it; nothing was written",
            operation="install-service",
            subject=str(path),
            hint="move it away, or --force",
        )


def _write(path: Path, text: str, mode: int) -> None:
    """Replace the file in one step, so that systemd never reads half of it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    fresh.replace(path)


def _next(service: Service, *, made: bool) -> list[str]:
    name = service.name
    return [
        f"systemd-sysusers telemetry-writer-{name}.conf",
        *([f"systemd-tmpfiles --create telemetry-writer-{name}.conf"] if made else []),
        _RELOAD,
        f"systemctl enable --now {shlex.quote(service.unit)}",
    ]


def _tell_next(commands: list[str], output: Output) -> None:
    output.line("next:")
    for command in commands:
        output.line(f"  {command}")


def _show(files: Mapping[Path, str], output: Output) -> None:
    if output.as_json:
        output.document({str(path): text for path, text in files.items()})
        return
    for path, text in files.items():
        output.line(f"# {path}")
        for line in text.splitlines():
            output.line(line)
        output.line()


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
