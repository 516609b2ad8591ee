"""How long the reports on extractions take over a large table, and what they hold in memory."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from producers.extraction import ExtractionMetrics, extraction_job

from .crowd import ProcessFailed
from .processes import KIB_MB
from .setting import Figures, Measure, Setting
from .starting import KEEP_BYTECODE

#: In a quick run with few rows there are fewer.
MOST_EXTRACTIONS, EXTRACTIONS_PER_ROW = 1_000_000, 5
#: Extractions that differ; the others are these at other times.
DIFFERENT = 1_000
PUBLISHERS, DAYS = 400, 90
METHODS = ("newspaper4k", "beautifulsoup", "selenium")
REPORTS = {
    "publishers_s": ("publishers",),
    "publishers_week_s": ("publishers", "--days", "7"),
    "methods_s": ("methods",),
    "fields_s": ("fields",),
}

REPORT = """
import sys
from producers.reports.command import main
ended = main([*sys.argv[2:], "--database", sys.argv[1], "--format", "json"])
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(line.split()[1], file=sys.stderr)
sys.exit(ended)
"""
#: Each of the different ones again and again, the oldest first.
MULTIPLY = """
INSERT INTO extraction_telemetry_v2 ({columns})
WITH RECURSIVE turn (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM turn WHERE number < :turns)
SELECT {values} FROM turn CROSS JOIN different
"""
CREATED_AT = "datetime('now', ((number - :turns) * :seconds / :turns) || ' seconds')"


def reports(setting: Setting) -> Figures:
    """Each report in a process of its own, from its start to its end."""
    extractions = min(MOST_EXTRACTIONS, setting.rows * EXTRACTIONS_PER_ROW)
    fill(setting.database, extractions)
    figures: dict[str, float] = {"extractions": extractions, "peak_mb": 0.0}
    for figure, report in REPORTS.items():
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-P", "-c", REPORT, setting.database, *report],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **KEEP_BYTECODE},
        )
        figures[figure] = time.perf_counter() - began
        if ended.returncode:
            raise ProcessFailed(f"telemetry-report {' '.join(report)}: {ended.stderr}")
        figures["peak_mb"] = max(figures["peak_mb"], int(ended.stderr.split()[-1]) * KIB_MB)
    return figures


def fill(database: Path, extractions: int) -> None:
    """A table with so many extractions of the last days, in the thousand, as the recorder makes them."""
    job = extraction_job(_extraction(0))
    insert = job.statements[0].sql
    columns = insert.partition("(")[2].partition(")")[0]
    values = columns.replace("created_at", CREATED_AT)
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = [text for text in job.ensure if text.startswith("CREATE TABLE")]
        for text in tables:
            connection.execute(text)
        connection.execute(f"CREATE TEMP TABLE different AS SELECT {columns} FROM extraction_telemetry_v2")
        rows = (extraction_job(_extraction(number)).statements[0].rows[0] for number in range(DIFFERENT))
        connection.executemany(insert.replace("extraction_telemetry_v2", "different"), rows)
        turns = {"turns": max(1, extractions // DIFFERENT), "seconds": DAYS * 86_400}
        connection.execute(MULTIPLY.format(columns=columns, values=values), turns)
        for text in job.ensure:
            if text.startswith("CREATE INDEX"):
                connection.execute(text)


def _extraction(number: int) -> ExtractionMetrics:
    publisher = number % PUBLISHERS
    url = f"https://www.host{publisher}.example.com/news/local/2026/{number}/a-story-about-something"
    metrics = ExtractionMetrics(f"operation-{number // 50}", f"article-{number:032x}", url, f"Publisher {publisher}")
    for place, method in enumerate(METHODS[: 1 + number % 3]):
        succeeded = (number + place) % 4 > 0
        found = {"title": "A title", "author": "An author" if number % 5 else None, "content": "c" * 300}
        metrics.start_method(method)
        metrics.end_method(method, succeeded, None if succeeded else "no content in this page", found)
    metrics.set_http_metrics(200, 50_000, 120.0)
    metrics.finalize({"title": "A title", "content": "c" * 500} if number % 5 else {})
    return metrics


MEASURES = (Measure("reports", "reports over a million extractions", reports, rare=True),)
