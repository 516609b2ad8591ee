"""Which files `telemetry-bus install-service` writes, which it leaves alone, and what goes when a service goes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from telemetry_bus.cli import exit_codes, main
from telemetry_bus.cli.service.command import marked
from telemetry_bus.cli.service.unit_files import Service

ROOT = Path(__file__).parents[3]
DATABASE = "sqlite:////var/lib/telemetry/telemetry.db"
UNIT = "etc/systemd/system/telemetry-writer@.service"
OWN = (
    "etc/systemd/system/telemetry-writer@{}.service.d/database.conf",
    "etc/telemetry-bus/{}.env",
    "etc/sysusers.d/telemetry-writer-{}.conf",
    "etc/tmpfiles.d/telemetry-writer-{}.conf",
)

Captured = pytest.CaptureFixture[str]


def install(root: Path, *words: str, name: str = "main", database: str = DATABASE) -> int:
    return main(["install-service", "--database", database, "--name", name, "--root", str(root), *words])


def uninstall(root: Path, *words: str, name: str = "main") -> int:
    return main(["uninstall-service", "--name", name, "--root", str(root), *words])


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def own(name: str) -> list[str]:
    return [path.format(name) for path in OWN]


def test_the_example_is_what_is_written() -> None:
    """`deploy/systemd` shows what is written for an installation in /opt."""
    example = Service(
        "example", DATABASE, Path("/var/lib/telemetry"), "telemetry", "telemetry", Path("/opt/telemetry/bin/python")
    )
    written = example.files(make_folder=True, in_a_home=False)
    assert {str(path)[1:]: marked(text) for path, text in written.items()} == files(ROOT / "deploy" / "systemd")


def test_files_and_next_commands(tmp_path: Path, capsys: Captured) -> None:
    """Unit, drop-in, environment, user and folder, with the Python that runs this; then what to run."""
    assert exit_codes.DONE == install(tmp_path)
    written = files(tmp_path)
    assert sorted([UNIT, *own("main")]) == sorted(written)
    assert f"\nExecStart={sys.executable} -P -m writer_daemon $WRITER_OPTIONS\n" in written[UNIT]
    assert 0o600 == (tmp_path / "etc/telemetry-bus/main.env").stat().st_mode & 0o777
    assert 0o644 == (tmp_path / UNIT).stat().st_mode & 0o777
    assert [
        "  systemd-sysusers telemetry-writer-main.conf",
        "  systemd-tmpfiles --create telemetry-writer-main.conf",
        "  systemctl daemon-reload",
        "  systemctl enable --now telemetry-writer@main",
    ] == capsys.readouterr().out.partition("next:\n")[2].splitlines()


def test_user_and_group(tmp_path: Path) -> None:
    """Each stands where it belongs."""
    assert exit_codes.DONE == install(tmp_path, "--user", "writer", "--group", "press")
    drop_in, environment, users, folder = (files(tmp_path)[path] for path in own("main"))
    assert "\nUser=writer\nGroup=press\n" in drop_in
    assert "\nWRITER_OPTIONS=--group press\n" in environment
    assert 'g press -\nu writer - "Telemetry writer"\nm writer press\n' == users.partition("\n")[2]
    assert "d /var/lib/telemetry 0750 writer press -\n" == folder.partition("\n")[2]


def test_special_characters_are_quoted(tmp_path: Path) -> None:
    """In units a % begins a specifier, in environment files $ and quotes are special."""
    assert exit_codes.DONE == install(tmp_path, database='/srv/a 5% "b" $c/x.db')
    drop_in, environment, _, folder = (files(tmp_path)[path] for path in own("main"))
    assert '\nReadWritePaths="/srv/a 5%% \\"b\\" $c"\n' in drop_in
    assert '\nTELEMETRY_DATABASE_URL="sqlite:////srv/a 5%25 \\"b\\" \\$c/x.db"\n' in environment
    assert '\nd "/srv/a 5%% \\"b\\" $c" 0750' in folder


@pytest.mark.parametrize(
    ("database", "place"),
    [
        ("/var/lib/a 5%/b/x.db", 'StateDirectory="a 5%%/b"\nStateDirectoryMode=0750\n'),
        ("/var/lib/x.db", "ReadWritePaths=/var/lib\n"),
        ("/var/lib/a:b/x.db", "ReadWritePaths=/var/lib/a:b\n"),
        ("/srv/a/x.db", "ReadWritePaths=/srv/a\n"),
        ("/var/lib/there/x.db", "ReadWritePaths=/var/lib/there\n"),
    ],
)
def test_the_folder_is_the_state_of_the_service(tmp_path: Path, database: str, place: str) -> None:
    """Where systemd keeps the state of services, and when it is not there yet: what is there may be others' too."""
    (tmp_path / "var/lib/there").mkdir(parents=True)
    assert exit_codes.DONE == install(tmp_path, database=database)
    drop_in = files(tmp_path)[own("main")[0]]
    assert f"\n{place}" in drop_in
    assert 1 == drop_in.count("StateDirectory=") + drop_in.count("ReadWritePaths=")


@pytest.mark.parametrize(("database", "seen"), [("/srv/x.db", False), ("/home/me/x.db", True)])
def test_a_home_is_seen_only_when_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, seen: bool
) -> None:
    """Because the database is there; this test's Python is said not to be."""
    monkeypatch.setattr("telemetry_bus.cli.service.command.sys.executable", "/opt/bin/python")
    monkeypatch.setattr("telemetry_bus.cli.service.command.__file__", "/opt/lib/service.py")
    assert exit_codes.DONE == install(tmp_path, database=database)
    assert seen == ("\nProtectHome=read-only\n" in files(tmp_path)[own("main")[0]])


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: Captured) -> None:
    """Its rights are somebody's choice: nothing changes them, and it is said who must be able to write."""
    (tmp_path / "var/lib/telemetry").mkdir(parents=True)
    assert exit_codes.DONE == install(tmp_path)
    assert sorted([UNIT, *own("main")[:3]]) == sorted(files(tmp_path))
    told = capsys.readouterr().out
    assert "/var/lib/telemetry is there already: telemetry must be able to write to it" in told
    assert "systemd-tmpfiles" not in told


def test_printing_writes_nothing(tmp_path: Path, capsys: Captured) -> None:
    """And shows each file under its path."""
    assert exit_codes.DONE == install(tmp_path, "--print")
    assert {} == files(tmp_path)
    told = capsys.readouterr().out
    assert [f"# /{UNIT}", *(f"# /{path}" for path in own("main"))] == [
        line for line in told.splitlines() if line.startswith("# /")
    ]
    assert "\nType=notify\n" in told


def test_again(tmp_path: Path, capsys: Captured) -> None:
    """What nobody has changed is replaced."""
    assert exit_codes.DONE == install(tmp_path)
    before = files(tmp_path)
    assert exit_codes.DONE == install(tmp_path, "--user", "another")
    assert before.keys() == files(tmp_path).keys()
    assert "\nUser=another\n" in files(tmp_path)[own("main")[0]]


@pytest.mark.parametrize("text", ["mine\n", None])
def test_what_somebody_has_changed_is_not_overwritten(tmp_path: Path, capsys: Captured, text: str | None) -> None:
    """A file of somebody else, or one of ours with another line: an error, nothing at all is written; --force does."""
    if text is None:
        assert exit_codes.DONE == install(tmp_path)
    environment = tmp_path / "etc/telemetry-bus/main.env"
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.open("a") as file:
        file.write(text or "A=1\n")
    before = files(tmp_path)
    assert exit_codes.USAGE == install(tmp_path, "--user", "another")
    assert f"[{environment}]" in capsys.readouterr().err
    assert before == files(tmp_path)
    assert exit_codes.DONE == install(tmp_path, "--user", "another", "--force")
    assert before[own("main")[1]] != environment.read_text()


def test_uninstall(tmp_path: Path) -> None:
    """The unit that all share goes with the last of them."""
    assert [exit_codes.DONE] * 2 == [install(tmp_path), install(tmp_path, name="other")]
    assert exit_codes.DONE == uninstall(tmp_path)
    assert sorted([UNIT, *own("other")]) == sorted(files(tmp_path))
    assert exit_codes.DONE == uninstall(tmp_path, name="other")
    assert {} == files(tmp_path)
    assert [] == sorted((tmp_path / "etc/systemd/system").iterdir())


def test_uninstall_keeps_what_somebody_has_changed(tmp_path: Path, capsys: Captured) -> None:
    """And names it; --force removes it."""
    assert exit_codes.DONE == install(tmp_path)
    environment = tmp_path / "etc/telemetry-bus/main.env"
    with environment.open("a") as file:
        file.write("A=1\n")
    assert exit_codes.DONE == uninstall(tmp_path)
    assert own("main")[1:2] == list(files(tmp_path))
    assert f"kept {environment}: somebody has changed it" in capsys.readouterr().out
    assert exit_codes.DONE == uninstall(tmp_path, "--force")
    assert {} == files(tmp_path)


def test_an_enabled_service_is_not_uninstalled(tmp_path: Path, capsys: Captured) -> None:
    """systemctl must disable it first, for then it needs the unit; the error says how."""
    assert exit_codes.DONE == install(tmp_path)
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/telemetry-writer@main.service"
    link.parent.mkdir()
    link.symlink_to("/etc/systemd/system/telemetry-writer@.service")
    before = files(tmp_path)
    assert exit_codes.USAGE == uninstall(tmp_path)
    assert "systemctl disable --now telemetry-writer@main" in capsys.readouterr().err
    assert before == files(tmp_path)
    link.unlink()
    assert exit_codes.DONE == uninstall(tmp_path)


def test_in_json(tmp_path: Path, capsys: Captured) -> None:
    """One document each: the files, and what to run next."""
    assert exit_codes.DONE == install(tmp_path, "--json")
    answer = json.loads(capsys.readouterr().out)
    assert sorted(str(tmp_path / path) for path in [UNIT, *own("main")]) == sorted(answer["files"])
    assert "systemctl enable --now telemetry-writer@main" == answer["next"][-1]
    assert exit_codes.DONE == uninstall(tmp_path, "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (5, []) == (len(answer["removed"]), answer["kept"])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"name": "../x"}, "is not a name of"),
        ({"name": ""}, "is not a name of"),
        ({"name": "-x"}, "NAME"),
        ({"database": ":memory:"}, "a service needs a file"),
        ({"database": "/tmp/x/y.db"}, "cannot have its database"),
        ({"database": "/x.db"}, "cannot have its database"),
        ({"database": "/srv/a\nb/x.db"}, "no unit takes"),
    ],
)
def test_refused(tmp_path: Path, capsys: Captured, words: dict[str, str], problem: str) -> None:
    """A name that no unit can have, a place that no service can use: in one line, and nothing is written."""
    assert exit_codes.USAGE == install(tmp_path, **words)
    told = capsys.readouterr().err
    assert problem in told or "expected one argument" in told
    assert 1 == told.count("\n")
    assert {} == files(tmp_path)


@pytest.mark.parametrize("option", ["--user", "--group"])
def test_an_account_that_cannot_be(tmp_path: Path, capsys: Captured, option: str) -> None:
    """It would become lines of its own in the files."""
    assert exit_codes.USAGE == install(tmp_path, option, "a b\nExecStart=/bin/sh")
    assert "is not the name of a" in capsys.readouterr().err


def test_without_root(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """An error that says so; nothing of the machine is touched."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("telemetry_bus.cli.service.command._write", None)
    assert exit_codes.USAGE == install(Path("/"))
    assert "needs root" in capsys.readouterr().err


def test_a_service_that_is_not_there(tmp_path: Path, capsys: Captured) -> None:
    """Nothing to remove."""
    assert exit_codes.USAGE == uninstall(tmp_path)
    assert "there is no such service [main]" in capsys.readouterr().err


SERVER = "postgresql://crawler@db.example:5433/tele:metry"
PASSWORDS = "etc/telemetry-bus/main.pgpass"


def test_a_server(tmp_path: Path, capsys: Captured) -> None:
    """The bus folder is the service's state, the network is open, and the password has a file of its own, which stays
    as its administrator has filled it in."""
    assert exit_codes.DONE == install(tmp_path, database=SERVER)
    assert "next:\n  $EDITOR /etc/telemetry-bus/main.pgpass\n" in capsys.readouterr().out
    written = files(tmp_path)
    drop_in, environment = written[own("main")[0]], written[own("main")[1]]
    for line in (
        "StateDirectory=telemetry-bus-main",
        "ExecStartPre=+/bin/chown telemetry /etc/telemetry-bus/main.pgpass",
        "Environment=PGPASSFILE=/etc/telemetry-bus/main.pgpass TELEMETRY_BUS_DIR=/var/lib/telemetry-bus-main",
        "PrivateNetwork=no",
        "After=network-online.target",
    ):
        assert f"\n{line}\n" in drop_in
    assert "\nTELEMETRY_DATABASE_URL=postgresql://crawler@db.example:5433/tele%3Ametry\n" in environment
    assert "TELEMETRY_BUS_DIR=/var/lib/telemetry-bus-main" in environment
    assert "\n#db.example:5433:tele\\:metry:crawler:PASSWORD\n" in written[PASSWORDS]
    assert 0o600 == (tmp_path / PASSWORDS).stat().st_mode & 0o777
    (tmp_path / PASSWORDS).write_text("db.example:5433:*:crawler:secret\n")
    assert exit_codes.DONE == install(tmp_path, database=SERVER)
    assert "$EDITOR" not in capsys.readouterr().out
    assert "secret" in (tmp_path / PASSWORDS).read_text()
    assert exit_codes.DONE == uninstall(tmp_path)
    assert [PASSWORDS] == [*files(tmp_path)], "what somebody has filled in is kept"


def test_a_server_on_this_machine(tmp_path: Path) -> None:
    """By its socket: the service needs no network."""
    assert exit_codes.DONE == install(tmp_path, database="postgresql://crawler@/telemetry?host=/run/postgresql")
    assert "PrivateNetwork" not in files(tmp_path)[own("main")[0]]
    assert "#/run/postgresql:5432:telemetry:crawler:PASSWORD\n" in files(tmp_path)[PASSWORDS]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://crawler:kanarienvogel@db.example/telemetry", "has no password"),
        ("postgresql://crawler@db.example/telemetry?password=kanarienvogel", "has no password"),
        ("postgresql://crawler@/telemetry?host=/tmp", "folder of sockets"),
    ],
)
def test_a_server_that_a_service_cannot_have(tmp_path: Path, capsys: Captured, url: str, says: str) -> None:
    assert exit_codes.USAGE == install(tmp_path, database=url)
    error = capsys.readouterr().err
    assert says in error
    assert "kanarienvogel" not in error
    assert {} == files(tmp_path)
