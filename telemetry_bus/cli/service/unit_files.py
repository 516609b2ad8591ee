"""The files that make a writer a service of systemd, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...config import WATCHDOG_S

#: For every writer on the machine. What differs between them is in a drop-in, and in the environment file.
_UNIT = """\
[Unit]
Description=Telemetry writer %i
Documentation=man:systemd.exec(5)
# Never give up: producers keep their jobs, and whatever is wrong may be mended. RestartSec keeps it from being a loop.
StartLimitIntervalSec=0

[Service]
# Ready when its sockets are bound and the journals that dead producers have left are adopted.
Type=notify
NotifyAccess=main
EnvironmentFile=/etc/telemetry-bus/%i.env
ExecStart={python} -P -m writer_daemon $WRITER_OPTIONS

Restart=always
RestartSec=2s
# 2 means that settings must be changed first.
RestartPreventExitStatus=2
# Longer than any transaction: a statement may take 30 s. The loop tells of itself once a minute and a half.
WatchdogSec={watchdog}s
# A log that a crash has left behind is read before it is ready. As long as it adopts it asks for more time.
TimeoutStartSec=300s
# SIGTERM finishes the batch. What is killed after this time loses nothing either.
TimeoutStopSec=60s
TimeoutAbortSec=10s

# Batches and caches are bounded: far more than it ever needs.
MemoryMax=1G
TasksMax=32
# Two for each producer.
LimitNOFILE=65536
LimitCORE=0
OOMPolicy=stop
# The writer sets its own: 0007 when it shares the bus with a group.
UMask=0077

# The whole machine is read-only, but for the folder of the database (see the drop-in).
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
PrivateMounts=yes
PrivateUsers=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
# Not RestrictSUIDSGID: a bus folder that is shared with a group is setgid, so that what is made in it is the group's.
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The bus folder is given to the group; libzmq sets its threads' scheduling, to what it is, and aborts when it may not.
SystemCallFilter=@chown sched_setscheduler
SystemCallErrorNumber=EPERM
# Producers reach it through sockets in the bus folder; it needs no network. To let it listen on the loopback address,
# a drop-in says: PrivateNetwork=no, RestrictAddressFamilies=AF_INET AF_INET6, IPAddressAllow=localhost.
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX

[Install]
WantedBy=multi-user.target
"""

_DROP_IN = """\
[Unit]
RequiresMountsFor={folder}

[Service]
User={user}
Group={group}
# The database, its log, and the bus folder beside it.
{place}
"""

_IN_A_HOME = """\
# The database, or Python, is in a home: it must be seen. Homes stay read-only but for what is named above.
ProtectHome=read-only
"""

#: libpq takes a file of passwords only if nobody but its user may read it. One of `LoadCredential=` does not do: it is
#: root's, and lets the user in by an access list, which libpq takes for rights of a group.
_SERVER = """\
ExecStartPre=+/bin/chown {user} {passwords}
Environment=PGPASSFILE={passwords} TELEMETRY_BUS_DIR={folder}
"""

#: Beyond the sockets of the bus folder.
_NETWORK = """\
PrivateNetwork=no
IPAddressDeny=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
"""

_PASSWORDS = """\
# Read when telemetry-writer@{name} starts. One line, as libpq has it: host:port:database:user:password, where * stands
# for anything, and \\ goes before a : or a \\ in the password. Without a line none is sent, as for peer or trust.
#{line}:PASSWORD
"""

#: The producers' part: they need no password, unless they read.
_OF_SERVER = """\
#
# Producers find the bus by TELEMETRY_BUS_DIR={folder}
"""

_ENVIRONMENT = """\
# Read when telemetry-writer@{name} starts: after a change, systemctl restart telemetry-writer@{name}
TELEMETRY_DATABASE_URL={url}
# Options of telemetry-writer. With --group its members may produce; without, only {user} may.
WRITER_OPTIONS=--group {group}
#
# Producers run as any member of the group, with the same TELEMETRY_DATABASE_URL, and with TELEMETRY_BUS_SPAWN=0, so
# that none starts a writer of its own while this one is being restarted; with TELEMETRY_BUS_GROUP={group} they take
# no other group's folder for this one. A service joins the group by SupplementaryGroups={group}, a person by:
# usermod --append --groups {group} NAME
"""

_USERS = """\
g {group} -
u {user} - "Telemetry writer"
m {user} {group}
"""

#: Members of the group may pass to the bus folder; nobody else may do anything. The database is the writer's own.
_FOLDER = "d {folder} 0750 {user} {group} -\n"

#: What `StateDirectory=` is below; there a `:` would name a second place.
_STATE = Path("/var/lib")

UNIT_FOLDER = Path("/etc/systemd/system")
_HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True)
class Service:
    """One writer as a service: its name, the database's URL and folder (of a server's: that of the bus), who runs it,
    and the Python that does."""

    name: str
    url: str
    folder: Path
    user: str
    group: str
    python: Path
    #: Of a PostgreSQL database: how its line in the file of passwords begins, and whether it is reached by network.
    access: str = ""
    network: bool = False

    @property
    def unit(self) -> str:
        return f"telemetry-writer@{self.name}"

    def files(self, *, make_folder: bool, in_a_home: bool) -> dict[Path, str]:
        """Every file by its path. With `make_folder` systemd-tmpfiles makes the database's folder."""
        named = {
            "name": self.name,
            "user": self.user,
            "group": self.group,
            "folder": quoted(str(self.folder)),
            "python": quoted(str(self.python)).replace("$", "$$"),
            "place": self._place(make_folder=make_folder),
        }
        files = {
            UNIT_FOLDER / "telemetry-writer@.service": _UNIT.replace("{python}", named["python"]).replace(
                "{watchdog}", str(WATCHDOG_S)
            ),
            drop_in(self.name): self._drop_in(named) + (_IN_A_HOME if in_a_home else ""),
            environment(self.name): _ENVIRONMENT.format_map({**named, "url": _assigned(self.url)})
            + (_OF_SERVER.format_map(named) if self.access else ""),
            Path(f"/etc/sysusers.d/telemetry-writer-{self.name}.conf"): _USERS.format_map(named),
        }
        if make_folder:
            files[folder_file(self.name)] = _FOLDER.format_map(named)
        return files

    def passwords(self) -> dict[Path, str]:
        """The file of passwords, for its administrator to fill in."""
        if not self.access:
            return {}
        return {passwords(self.name): _PASSWORDS.format(name=self.name, line=self.access)}

    def _drop_in(self, named: Mapping[str, str]) -> str:
        text = _DROP_IN.format_map(named)
        if self.network:
            text = text.replace("[Unit]\n", "[Unit]\nWants=network-online.target\nAfter=network-online.target\n")
        if self.access:
            text = text.replace("# The database, its log, and the bus folder beside it.", "# The bus folder.")
            text += _SERVER.format_map({**named, "passwords": passwords(self.name)})
        return text + (_NETWORK if self.network else "")

    def _place(self, *, make_folder: bool) -> str:
        """How the drop-in names the folder. systemd gives a state directory to the service, whoever owned it."""
        if make_folder and self.folder != _STATE and self.folder.is_relative_to(_STATE) and ":" not in str(self.folder):
            return f"StateDirectory={quoted(str(self.folder.relative_to(_STATE)))}\nStateDirectoryMode=0750"
        return f"ReadWritePaths={quoted(str(self.folder))}"


def drop_in(name: str) -> Path:
    return UNIT_FOLDER / f"telemetry-writer@{name}.service.d" / "database.conf"


def environment(name: str) -> Path:
    return Path(f"/etc/telemetry-bus/{name}.env")


def passwords(name: str) -> Path:
    return Path(f"/etc/telemetry-bus/{name}.pgpass")


def folder_file(name: str) -> Path:
    return Path(f"/etc/tmpfiles.d/telemetry-writer-{name}.conf")


def enabled(name: str) -> Path:
    """The link that `systemctl enable` makes."""
    return UNIT_FOLDER / "multi-user.target.wants" / f"telemetry-writer@{name}.service"


def all_paths(name: str) -> list[Path]:
    """Where the files of a service of this name stand, if they are there; the unit that all share is the last."""
    users = Path(f"/etc/sysusers.d/telemetry-writer-{name}.conf")
    own = [drop_in(name), environment(name), passwords(name), users, folder_file(name)]
    return [*own, UNIT_FOLDER / "telemetry-writer@.service"]


def within_a_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in _HOMES)


def quoted(text: str) -> str:
    """One word of a unit or tmpfiles line: see systemd.syntax(7) and the specifiers of systemd.unit(5)."""
    text = text.replace("%", "%%")
    if all(character.isalnum() or character in "/._-+@:,=%" for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _assigned(text: str) -> str:
    """A value of an environment file: see `EnvironmentFile=` of systemd.exec(5)."""
    if all(character.isalnum() or character in "/._-+@:,=%" for character in text):
        return text
    for special in '\\"$`':
        text = text.replace(special, f"\\{special}")
    return f'"{text}"'
