"""What it takes to begin: the import, the first `execute` without a writer, an orphaned journal."""

from __future__ import annotations

import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import time

from .crowd import ProcessFailed
from .fresh import end_writer, line, program
from .processes import peak_mb
from .rows import BUSY_S, FETCHES
from .setting import Figures, Measure, Setting
from .writer import launched, writing

#: Of processes in one round; the median counts.
IMPORTS, COLD_STARTS = 9, 3
#: Of the orphaned journal: in a quick run with few rows there are fewer.
MOST_JOBS, JOBS_PER_ROW = 1_000_000, 5
BYTES_PER_JOB = 300
POLL_S = 0.002
#: An installed package has its bytecode; ours gets it with the first process, which does not count.
KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
#: Also when nobody is left to end it.
LEAVES_SOON = {"TELEMETRY_BUS_IDLE_TIMEOUT": "1", **KEEP_BYTECODE}

COLD = """
import sys
from time import perf_counter
from telemetry_bus import TelemetryStore
database, ddl, sql = sys.argv[1:]
row = ("https://news.example.com/local/1", "news.example.com", 200, 12.5, 1, "newspaper4k", "2026-01-01")
began = perf_counter()
store = TelemetryStore(database)
store.execute(sql, row, ensure=[ddl])
returned = perf_counter()
store.flush()
visible = perf_counter()
print(returned - began, visible - began, store.stats().writer.pid, flush=True)
"""
ORPHAN = """
import sys
from telemetry_bus import TelemetryStore
database, sql, jobs, journal_bytes = sys.argv[1:]
store = TelemetryStore(database, spawn=False, on_full="raise", journal_bytes=int(journal_bytes))
for n in range(int(jobs)):
    store.execute(sql, (
        f"https://news.example.com/local/{n:07d}", "news.example.com", 200, n % 900 / 7, 10_000 + n, "newspaper4k",
        "2026-01-01 00:00:00",
    ))
print("submitted", flush=True)
sys.stdin.read()
"""

#: What a process has used so far: seconds of CPU, and MB that are resident without its journal's pages.
USED = """
import os, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
resident = {}
for line in open("/proc/self/status"):
    name, _, rest = line.partition(":")
    resident[name] = rest.split()
kib = int(resident["VmRSS"][0]) - int(resident["RssShmem"][0])
print(used.ru_utime + used.ru_stime, kib * 1024 / 1e6, flush=True)
os._exit(0)
"""
FIRST_RECORD = """
import sys
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from telemetry_bus import TelemetryStore
telemetry = ComprehensiveExtractionTelemetry(store=TelemetryStore(sys.argv[1], spawn=False))
metrics = ExtractionMetrics("operation", "article", "https://news.example.com/local/1", "Example")
metrics.start_method("newspaper4k")
metrics.end_method("newspaper4k", True, None, {"title": "A title"})
metrics.finalize({"title": "A title"})
telemetry.record_extraction(metrics)
"""


def import_time(setting: Setting) -> Figures:
    """Fresh processes that import the package, and others that import nothing, by turns."""
    seconds: dict[str, list[float]] = {"pass": [], "import telemetry_bus": []}
    cpu_seconds: dict[str, list[float]] = {"pass": [], "import telemetry_bus": []}
    environment = {**os.environ, **KEEP_BYTECODE}
    for number in range(IMPORTS + 1):
        for source in seconds:
            began, used = time.perf_counter(), _cpu_of_children()
            subprocess.run([sys.executable, "-P", "-c", source], check=True, start_new_session=True, env=environment)
            if number == 0:
                continue
            seconds[source].append(time.perf_counter() - began)
            cpu_seconds[source].append(_cpu_of_children() - used)
    plain, whole = map(statistics.median, seconds.values())
    cpu_plain, cpu_whole = map(statistics.median, cpu_seconds.values())
    return {
        "import_ms": (whole - plain) * 1e3,
        "python_ms": plain * 1e3,
        "import_cpu_ms": (cpu_whole - cpu_plain) * 1e3,
    }


def first_record(setting: Setting) -> Figures:
    """Fresh processes that import a package of producers and record a row, and others that do nothing, by turns."""
    used: dict[str, list[list[float]]] = {"": [], FIRST_RECORD: []}
    for number in range(IMPORTS + 1):
        for source, found in used.items():
            database = setting.folder / f"first{number}.db"
            with program(source + USED, database, environment=KEEP_BYTECODE) as process:
                words = line(process)
            if number:
                found.append([float(word) for word in words])
    (plain_s, plain_mb), (cpu_s, mb) = (map(statistics.median, zip(*found, strict=True)) for found in used.values())
    return {"cpu_ms": (cpu_s - plain_s) * 1e3, "above_python_mb": mb - plain_mb}


def cold(setting: Setting) -> Figures:
    """The first `execute` of a program, when there is no database and no writer: until it returns, and until `flush`
    does, which is a moment after the row is visible."""
    submits, visible = [], []
    for number in range(COLD_STARTS + 1):
        database = setting.folder / f"cold{number}.db"
        with program(COLD, database, FETCHES.ddl, FETCHES.sql, environment=LEAVES_SOON) as process:
            returned_s, visible_s, pid = line(process)
            process.wait()
        end_writer(int(pid))
        FETCHES.check(database, 1)
        if number == 0:
            continue
        submits.append(float(returned_s) * 1e3)
        visible.append(float(visible_s) * 1e3)
    return {"submit_ms": statistics.median(submits), "visible_ms": statistics.median(visible)}


def recovery(setting: Setting) -> Figures:
    """A killed producer's journal: from the start of the writer's process until a reader sees the last row."""
    jobs = min(MOST_JOBS, setting.rows * JOBS_PER_ROW)
    with writing(setting.database, FETCHES.ddl):
        pass  # the table is there; nobody is
    with program(ORPHAN, setting.database, FETCHES.sql, jobs, jobs * BYTES_PER_JOB) as process:
        line(process)
        process.kill()
        process.wait()
    reader = sqlite3.connect(f"file:{setting.database}?mode=ro", uri=True, timeout=BUSY_S)
    newest = f"SELECT max(rowid) FROM {FETCHES.table}"
    began = time.perf_counter()
    first = None
    with launched(setting.database) as writer:
        while (rows := reader.execute(newest).fetchone()[0] or 0) < jobs:
            if rows and first is None:
                first = time.perf_counter()
            if writer.poll() is not None:
                raise ProcessFailed(f"the writer has ended with {writer.returncode}")
            time.sleep(POLL_S)
        ended = time.perf_counter()
        peak = peak_mb(writer.pid)
    reader.close()
    FETCHES.check(setting.database, jobs)
    return {
        "jobs_per_s": jobs / (ended - began),
        "seconds": ended - began,
        "jobs": jobs,
        "first_row_s": (first or ended) - began,
        "writer_peak_mb": peak,
    }


def _cpu_of_children() -> float:
    """Seconds of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


MEASURES = (
    Measure("import", "import telemetry_bus", import_time, rare=True),
    Measure("import-producers", "a package of producers, and its first record", first_record, rare=True),
    Measure("cold-start", "the first execute, without a writer", cold, rare=True),
    Measure("recovery", "the journal of a killed producer", recovery, rare=True),
)
