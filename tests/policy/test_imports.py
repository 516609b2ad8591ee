"""What is not loaded, where it is not needed: beginnings stay quick, and processes small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DDL = "CREATE TABLE IF NOT EXISTS events (name TEXT)"
INSERT = "INSERT INTO events (name) VALUES (?)"

#: Libraries, and what of the standard library is large or slow to load.
LARGE = ("asyncio", "sqlalchemy", "rich", "argparse", "email", "hashlib", "importlib.metadata", "json", "ssl")
#: What a program needs when it reads, or when its jobs are under way.
LATER = (
    *("sqlite3", "subprocess", "zmq"),
    *("telemetry_bus.protocol", "telemetry_bus.producer.transport", "telemetry_bus.database"),
)

#: The thread that sends stands still, so that nothing is there but what the caller itself has loaded.
FIRST_JOB = f"""
from telemetry_bus import TelemetryStore
from telemetry_bus.producer.sender_thread import Sender
Sender._run = lambda sender: None
TelemetryStore(folder + "/x.db", spawn=False).execute({INSERT!r}, ("x",), ensure=[{DDL!r}])
assert os.listdir(folder + "/x.db.bus/journals")
"""
PRODUCER = f"""
from telemetry_bus import TelemetryStore
from telemetry_bus.producer.sender_thread import Sender
store = TelemetryStore(folder + "/x.db", spawn=False, timeout=20)
store.execute({INSERT!r}, ("x",), ensure=[{DDL!r}])
while not store._backend._sender._transport: time.sleep(0.001)
"""
WRITER = f"""
import writer_daemon.__main__
from telemetry_bus.config import parse_database
from telemetry_bus.jobs import Run, Template
from telemetry_bus.database import Writer
writer = Writer(parse_database(folder + "/x.db"))
assert [] == writer.apply([Run(b"s" * 16, 1, Template(({DDL!r},), (({INSERT!r}, False),)), [("x",)])])
writer.close()
"""

#: Each package of producers, and how its first row is recorded.
RECORDINGS = {
    "byline": """
from producers.byline import BylineCleaningTelemetry
telemetry = BylineCleaningTelemetry(store=store)
telemetry.start_cleaning_session("By Ann")
telemetry.log_transformation_step("a", "b", "c")
telemetry.finalize_cleaning_session(["Ann"])
""",
    "content_cleaning": """
from producers.content_cleaning import ContentCleaningTelemetry
telemetry = ContentCleaningTelemetry(store=store)
telemetry.start_cleaning_session("example.com", 3)
telemetry.log_segment_detection("Subscribe", 0.9, 3, "subscription", 1.0, 9, ["a"], True, "known")
telemetry.log_wire_detection("AP", "byline", "(AP)", 0.9, "early", ["a"])
telemetry.log_locality_detection("AP", "byline", "a", "example.com", {"is_local": True})
telemetry.finalize_cleaning_session(1, 1, 9, 0.1)
telemetry.get_persistent_patterns("example.com"), telemetry.get_domain_telemetry_summary("example.com")
""",
    "extraction": """
from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
telemetry = ComprehensiveExtractionTelemetry(store=store)
metrics = ExtractionMetrics("op", "a", "https://example.com/a", "Example")
metrics.start_method("newspaper4k")
metrics.end_method("newspaper4k", True, None, {"title": "t"})
metrics.set_http_metrics(404, 10, 1.0)
metrics.finalize({"title": "t"})
telemetry.record_extraction(metrics)
""",
    "extraction_outcomes": """
from datetime import datetime
from producers.extraction_outcomes import ExtractionOutcome, ExtractionResult, ExtractionTelemetry
now = datetime(2026, 1, 1)
result = ExtractionResult("u", 1, "op", ExtractionOutcome.TIMEOUT, 1, now, now)
ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "u", result)
""",
    "operations": """
from producers.operations import *
tracker = OperationTracker(store)
with tracker.track_operation(OperationType.CRAWL_DISCOVERY) as operation:
    operation.update_progress(1, 2)
tracker.record_discovery_outcome("op", "s", "S", "u", DiscoveryResult(DiscoveryOutcome.TIMEOUT))
tracker.track_http_status("op", "s", "u", DiscoveryMethod.RSS_FEED, "u", 200, 1.0)
tracker.update_discovery_method_effectiveness(
    "s", "u", DiscoveryMethod.RSS_FEED, DiscoveryMethodStatus.SUCCESS, 1, 1.0, [200])
tracker.get_effective_discovery_methods("s"), tracker.has_historical_data("s")
assert 0 == tracker.failures
""",
    "content_extractor": """
from producers.content_extractor import TelemetryContentExtractor
from producers.extraction_outcomes import ExtractionTelemetry
result = TelemetryContentExtractor().extract_content_with_telemetry("u", 1, "op", "<p>")
ExtractionTelemetry(store=store).record_extraction_outcome("op", 1, "u", result)
""",
}


def loaded(program: str, folder: Path, modules: tuple[str, ...]) -> str:
    """Which of the modules are there when a program has run."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import os, sys, time\nfolder, *modules = sys.argv[1:]\n{program}\n"
            "print(*(module for module in modules if module in sys.modules))",
            folder,
            *modules,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TELEMETRY_BUS_MODE": "daemon"},
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    return ended.stdout.strip()


@pytest.mark.parametrize("program", ["import telemetry_bus", FIRST_JOB], ids=["import", "first job"])
def test_a_first_job_waits_for_nothing_that_comes_later(program: str, tmp_path: Path) -> None:
    """It is in the journal before ZeroMQ, the protocol, or what starts a process is loaded."""
    assert "" == loaded(program, tmp_path, LARGE + LATER)


def test_a_first_job_finds_its_modules_loaded(tmp_path: Path) -> None:
    """The import of the package has brought them."""
    program = f"import telemetry_bus\nbefore = set(sys.modules)\n{FIRST_JOB}\nprint(*set(sys.modules) - before)"
    assert "" == loaded(program, tmp_path, ())


def test_a_producer_stays_without_the_database(tmp_path: Path) -> None:
    """Sending does not take a database, nor the writer."""
    few = tuple(module for module in LARGE if module not in ("json", "hashlib"))  # pyzmq's
    assert "" == loaded(PRODUCER, tmp_path, (*few, "sqlite3", "telemetry_bus.database", "telemetry_bus.writer.intake"))


def test_the_writer_of_a_sqlite_database_does_without_sqlalchemy(tmp_path: Path) -> None:
    """From its command line to a job that is applied."""
    assert "" == loaded(WRITER, tmp_path, ("asyncio", "sqlalchemy", "rich", "email", "ssl", "importlib.metadata"))


@pytest.mark.parametrize("package", sorted(RECORDINGS))
def test_a_recording_program_does_without_sqlalchemy(package: str, tmp_path: Path) -> None:
    """It loads a package of producers, and its first row is submitted."""
    store = 'from telemetry_bus import TelemetryStore\nstore = TelemetryStore(folder + "/x.db", spawn=False)\n'
    program = f"{store}{RECORDINGS[package]}\nassert store.stats().submitted\n"
    assert "" == loaded(program, tmp_path, ("sqlalchemy", "rich", "requests", "asyncio", "email", "ssl"))


def test_each_package_of_producers_is_tried() -> None:
    """Those that read are the only others."""
    packages = {path.parent.name for path in (Path(__file__).parents[2] / "producers").glob("*/__init__.py")}
    assert packages == {*RECORDINGS, "reports", "dashboard"}
