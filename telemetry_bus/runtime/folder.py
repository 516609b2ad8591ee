"""Where the bus of a database lives, and who may enter."""

from __future__ import annotations

import grp
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..config import Database, absolute
from ..errors import ConfigError
from .files import files_inside

#: `sun_path` of a unix socket holds 108 bytes with the terminating zero; see unix(7).
MAX_SOCKET_PATH_BYTES = 107


JOURNAL_SUFFIX = ".journal"


def group_id(name: str, option: str) -> int:
    """The number of a group. Raises `ConfigError` that names the option, when there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError("there is no such group", operation=option, subject=name) from None


class BusFolder:
    """The folder of one database's bus, and the names in it.

    It is private: 0700 and ours. With a group, 2770 and the group's, where only its owner removes another's journal.
    """

    def __init__(self, path: Path, group: int | None = None, database: Path | None = None) -> None:
        self.path = path
        self.group = group
        self._database = database
        self.writer_lock = path / "writer.lock"
        self.spawn_lock = path / "spawn.lock"
        self.log = path / "writer.log"
        self.attempts = path / "writer.attempts"
        self.journals = path / "journals"
        self.quarantine = path / "quarantine"
        self._fd = -1

    @classmethod
    def of(cls, database: Database, group: int | None = None, environ: Mapping[str, str] = os.environ) -> BusFolder:
        """The bus folder of a database; nothing is made yet. Its group is the one that is given, else that of
        `TELEMETRY_BUS_GROUP`. Raises `ConfigError` for `:memory:`, and for a group that there is not."""
        if database.is_memory:
            raise ConfigError(":memory: has no bus folder", operation="bus folder", subject=database.url)
        if group is None and (name := environ.get("TELEMETRY_BUS_GROUP")):
            group = group_id(name, "TELEMETRY_BUS_GROUP")
        parent = environ.get("TELEMETRY_BUS_DIR") or None
        if parent is None and database.path is not None:
            return cls(database.path.with_name(database.path.name + ".bus"), group, database.path)
        if parent is None:
            parent = os.path.join(environ.get("XDG_STATE_HOME") or "~/.local/state", "telemetry-bus")
        import hashlib  # 3 ms and a megabyte, for this alone

        digest = hashlib.sha256(database.identity.encode()).hexdigest()[:12]
        name = os.path.basename(database.identity.partition("?")[0]) or database.dialect
        return cls(absolute(parent, "bus folder") / f"{name}-{digest}", group, database.path)

    def prepare(self) -> None:
        """Make the folder and what is in it, or check that what stands there may be used.

        Raises `ConfigError` for a link, a file or somebody else's folder in its place, and when it cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.journals):
                self._private(folder)
        except OSError as error:
            raise ConfigError(
                f"cannot make the bus folder: {error.strerror}",
                operation="bus folder",
                subject=str(self.path),
                hint=_way_in(self.path.parent),
            ) from error

    def endpoint(self, name: str) -> str:
        """The ZeroMQ endpoint of a socket in the folder: `jobs` or `control`.

        A path that is too long for a socket is reached through a descriptor of the folder, on Linux.
        """
        path = self.path / f"{name}.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return f"ipc://{path}"
        if not sys.platform.startswith("linux"):
            raise ConfigError(
                f"the path is longer than the {MAX_SOCKET_PATH_BYTES} bytes of a socket's name",
                operation="bus folder",
                subject=str(path),
                hint="set TELEMETRY_BUS_DIR to a short folder",
            )
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"ipc:///proc/self/fd/{self._fd}/{name}.sock"

    def follow(self) -> None:
        """When somebody has removed the folder and it was made anew, let its endpoints lead to the new one."""
        if self._fd < 0:
            return
        with suppress(FileNotFoundError):
            fresh = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if not os.path.sameopenfile(fresh, self._fd):
                    os.dup2(fresh, self._fd, inheritable=False)
            finally:
                os.close(fresh)

    def socket_path(self, name: str) -> Path:
        return self.path / f"{name}.sock"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def journal_paths(self) -> list[Path]:
        """The journals there are, living or not; empty when there is no folder."""
        return files_inside(self.journals, JOURNAL_SUFFIX)

    def _private(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700)
            if self.group is not None:
                os.chown(folder, -1, self.group)
            folder.chmod(0o700 if self.group is None else self._shared_mode(folder))
        except FileExistsError:
            pass
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            kind = "a link" if stat.S_ISLNK(found.st_mode) else "not a folder"
            raise ConfigError(
                f"{kind} stands in the place of the bus folder",
                operation="bus folder",
                subject=str(folder),
                hint="remove it; nothing is read through it",
            )
        shared = self._shared(found)
        if shared and not self._is_rightful(found.st_uid):
            raise ConfigError(
                f"user {found.st_uid} has made the bus folder, and owns neither the database nor the folder around it",
                operation="bus folder",
                subject=str(folder),
                hint="have it removed, or set TELEMETRY_BUS_DIR to a folder that only the bus's owner may write to",
            )
        if found.st_uid != os.geteuid() and not shared:
            another = self.group not in (None, found.st_gid)
            raise ConfigError(
                f"the bus folder belongs to user {found.st_uid}, not to us",
                operation="bus folder",
                subject=str(folder),
                hint="its group is another one than TELEMETRY_BUS_GROUP or --group says"
                if another
                else "run as its owner, join its group, or set TELEMETRY_BUS_DIR",
            )
        if found.st_uid == os.geteuid() and not shared and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
        if found.st_uid == os.geteuid() and shared and stat.S_IMODE(found.st_mode) != self._shared_mode(folder):
            folder.chmod(self._shared_mode(folder))

    def _shared_mode(self, folder: Path) -> int:
        """Journals stay until their owner, or the folder's, removes them; sockets belong to any member that writes."""
        return 0o3770 if folder == self.journals else 0o2770

    def _is_rightful(self, user: int) -> bool:
        """Whether this user may have made the folder for us. Where each may make what is not there yet, as in /tmp, a
        member of the group could be first, and have all that the others submit."""
        parent = self.path.parent.stat()
        if not parent.st_mode & stat.S_ISVTX:
            return True
        owners = {os.geteuid(), 0, parent.st_uid}
        with suppress(OSError):
            if self._database is not None:
                owners.add(self._database.stat().st_uid)
        return user in owners

    def _shared(self, found: os.stat_result) -> bool:
        """Whether a folder is a group's on purpose, and the group is ours, and the configured one. A producer that
        names no group takes that of any it is in: the owner of the folder has chosen it."""
        if not found.st_mode & stat.S_ISGID or found.st_mode & 0o007:
            return False
        if self.group is not None and found.st_gid != self.group:
            return False
        return found.st_gid == os.getegid() or found.st_gid in os.getgroups()


def _way_in(parent: Path) -> str:
    """What helps who may not make a folder in `parent`: often only its group may enter, as with a service."""
    with suppress(OSError, KeyError):
        if parent.stat().st_mode & 0o010 and not os.access(parent, os.X_OK):
            return f"only members of group {parent.group()} may enter {parent}; or set TELEMETRY_BUS_DIR"
    return "correct the rights of its parent, or set TELEMETRY_BUS_DIR"
