"""What the figures depend on: processors, versions, and the disk they were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from importlib import import_module, metadata
from pathlib import Path

from telemetry_bus import __version__

_PACKAGES = ("pyzmq", "msgpack", "SQLAlchemy", "apsw", "peewee", "sqlite_rx")
_PROBES, _PROBE_BYTES = 50, 4096


def describe(folder: Path) -> dict[str, str]:
    """Names and versions, for a person to read."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()}, {_memory_gib():.0f} GiB",
        "disk": f"{_file_system(folder)}, {_fdatasync_ms(folder):.2f} ms for fdatasync of a page",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "sqlite of apsw": _sqlite_of_apsw(),
        "telemetry-bus": __version__,
        **{name: version for name in _PACKAGES if (version := _version(name))},
    }


def load() -> float:
    """How many processes want a core, over the last minute: others may be at work."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def _file_system(folder: Path) -> str:
    """The kind of the mount that the folder stands on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(Path(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(around, key=lambda mount: len(mount[0].parts))[1]


def _fdatasync_ms(folder: Path) -> float:
    path = folder / "probe"
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(_PROBES):
            file.write(bytes(_PROBE_BYTES))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(times) * 1e3


def _sqlite_of_apsw() -> str:
    try:
        return str(import_module("apsw").sqlite_lib_version())
    except ModuleNotFoundError:
        return "not installed"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
