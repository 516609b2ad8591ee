"""Checks of the bus folder: who may enter, what lies in it, what waits there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ...journal.layout import UNFINISHED_SUFFIX
from ...runtime.folder import JOURNAL_SUFFIX, MAX_SOCKET_PATH_BYTES
from ..output import counted
from .case import Case
from .finding import Finding, ok, problem, warning

_SOCKETS = ("jobs", "control")


def rights(case: Case) -> Finding:
    """It is private, or one group's; it and what is in it are no links."""
    folder = case.bus.folder
    if not os.path.lexists(folder.path):
        return ok("not there yet; the first producer makes it")
    for path in (folder.path, folder.journals, folder.writer_lock, folder.spawn_lock, folder.log):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            return problem(f"{path} is a link", f"remove it: rm {path}; nothing is read through it")
        if path in (folder.path, folder.journals):
            if not stat.S_ISDIR(found.st_mode):
                return problem(f"{path} is not a folder", f"remove it: rm {path}")
            if (trouble := _entry(path, found, folder.group)) is not None:
                return trouble
    return ok(str(folder.path))


def foreign_files(case: Case) -> Finding:
    """Among the journals."""
    try:
        with os.scandir(case.bus.folder.journals) as entries:
            strange = sorted(
                entry.name
                for entry in entries
                if not (
                    entry.name.endswith((JOURNAL_SUFFIX, UNFINISHED_SUFFIX)) and entry.is_file(follow_symlinks=False)
                )
            )
    except FileNotFoundError:
        strange = []
    if strange:
        return warning(
            f"{counted(len(strange), 'file')} among the journals that the bus did not make: {_some(strange)}",
            f"move them out of {case.bus.folder.journals}",
        )
    return ok("none")


def socket_path(case: Case) -> Finding:
    """What is too long for a socket is reached through a descriptor, where there is /proc."""
    longest = max(len(os.fsencode(case.bus.folder.socket_path(name))) for name in _SOCKETS)
    if longest <= MAX_SOCKET_PATH_BYTES:
        return ok(f"{longest} of {MAX_SOCKET_PATH_BYTES} bytes")
    message = f"{longest} bytes, {longest - MAX_SOCKET_PATH_BYTES} more than a socket's name holds"
    hint = "set TELEMETRY_BUS_DIR to a short folder, for all programs alike"
    if Path("/proc/self/fd").exists():
        return warning(f"{message}; reached through /proc", hint)
    return problem(message, hint)


def sockets(case: Case) -> Finding:
    """Those of a writer that was killed stay; the next one replaces them."""
    there = [path for name in _SOCKETS if os.path.lexists(path := case.bus.folder.socket_path(name))]
    for path in there:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return problem(f"{path} is not a socket", f"remove it: rm {path}")
    if there and not case.held:
        return warning(
            f"{' and '.join(path.name for path in there)} of a writer that is gone",
            "nothing to do: the next writer replaces them",
        )
    return ok("in place" if there else "none, and no writer")


def damaged(case: Case) -> Finding:
    """Journals that cannot be read, or are of another version."""
    if found := case.journals.damaged:
        name, trouble = next(iter(found.items()))
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        if "not a journal of this version" in trouble:
            hint = "telemetry-bus flush with that version finishes it; if no version made it, move it away"
        else:
            hint = "telemetry-bus flush has the writer apply what can be read, and keep the file in quarantine/"
        return problem(f"{name}: {trouble}{more}", hint)
    return ok("none")


def quarantine(case: Case) -> Finding:
    """What the writer could not read to the end, kept."""
    folder = case.bus.folder.quarantine
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if names:
        return warning(
            f"{counted(len(names), 'damaged journal')} kept: {_some(names)}",
            f"{case.bus.folder.log.name} says what is lost; then move them out of {folder}",
        )
    return ok("empty")


def orphans(case: Case) -> Finding:
    """What the dead left is adopted by a writer; without one it waits."""
    journals = case.journals.readable
    waiting = [journal for journal in journals if journal.pending_jobs and not journal.alive]
    if waiting and not case.held:
        jobs = sum(journal.pending_jobs for journal in waiting)
        return warning(
            f"{counted(jobs, 'job')} of {counted(len(waiting), 'dead producer')} waiting, and no writer runs",
            "have them written: telemetry-bus flush",
        )
    if waiting:
        return ok(f"{counted(len(waiting), 'dead producer')}, whose jobs the writer is about to take")
    living = sum(journal.alive for journal in journals)
    return ok(f"none; {counted(case.journals.pending_jobs, 'job')} of {counted(living, 'living producer')} pending")


def _entry(path: Path, found: os.stat_result, group: int | None) -> Finding | None:
    """What is wrong with the owner and the rights of a folder."""
    shared = bool(found.st_mode & stat.S_ISGID) and not found.st_mode & 0o007
    groups = {os.getegid(), *os.getgroups()}
    if group is not None:
        groups &= {group}
    if found.st_uid != os.geteuid() and not (shared and found.st_gid in groups):
        return problem(
            f"{path} belongs to user {found.st_uid}, not to us",
            "run as its owner, join its group, or set TELEMETRY_BUS_DIR",
        )
    mode = stat.S_IMODE(found.st_mode)
    if not shared and mode & 0o077:
        return warning(f"{path} has mode {mode:04o}: others may enter", f"chmod 700 {path}")
    if mode & (needed := 0o070 if shared else 0o700) != needed:
        wanted = "2770" if shared else "700"
        return problem(f"{path} has mode {mode:04o}: we may not use it", f"chmod {wanted} {path}")
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
