"""What `--metrics` serves, without HTTP: the address, the collector, the counting behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.database.stats import Histogram
from telemetry_bus.errors import ConfigError, DatabaseFault
from telemetry_bus.jobs import Failure
from telemetry_bus.protocol.messages import Hello
from telemetry_bus.writer.intake import BatchLimits, Intake
from writer_daemon.metrics import Figures, FiguresCollector, parse_address

FIGURES = Figures(
    taken=100.0,
    pending_since=95.0,
    gauges=(("pending_bytes", "Bytes that wait.", "state", {"received": 7, "orphaned": 9}),),
    counters=(("jobs_committed", "Jobs.", "", {"": 3}), ("job_failures", "Failures.", "error_type", {})),
    histograms=(("batch_jobs", "Jobs in one batch.", Histogram((1, 10)).snapshot()),),
    infos=(("build_info", "What runs.", {"version": "1", "python": "3"}),),
)


def served(figures: Figures, now: float = 101.5) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(lambda: figures, lambda: now))
    return generate_latest(registry).decode()


def test_values_and_names() -> None:
    """Every figure stands under its prefixed name, counters with `_total`, labels with their values."""
    lines = served(FIGURES).splitlines()
    assert {
        'telemetry_writer_pending_bytes{state="received"} 7.0',
        'telemetry_writer_pending_bytes{state="orphaned"} 9.0',
        "telemetry_writer_jobs_committed_total 3.0",
        'telemetry_writer_build_info{python="3",version="1"} 1.0',
    } <= set(lines)


def test_every_family_has_a_type_and_a_help() -> None:
    """Also one that has no values yet."""
    families = {family.name: family for family in text_string_to_metric_families(served(FIGURES))}
    assert {
        "telemetry_writer_pending_bytes": "gauge",
        "telemetry_writer_jobs_committed": "counter",
        "telemetry_writer_job_failures": "counter",
        "telemetry_writer_batch_jobs": "histogram",
        "telemetry_writer_build_info": "gauge",
        "telemetry_writer_oldest_pending_age_seconds": "gauge",
        "telemetry_writer_figures_age_seconds": "gauge",
    } == {name: family.type for name, family in families.items()}
    assert all(family.documentation for family in families.values())


def test_ages_grow_when_the_loop_stands_still() -> None:
    """They are those of the moment of the scrape; nothing pending has no age."""
    assert "telemetry_writer_oldest_pending_age_seconds 6.5" in served(FIGURES)
    assert "telemetry_writer_figures_age_seconds 1.5" in served(FIGURES)
    assert "telemetry_writer_oldest_pending_age_seconds 0.0" in served(replace(FIGURES, pending_since=None))


def test_a_histogram_is_cumulative() -> None:
    """A value on a bound belongs to it; one above the last is in +Inf alone."""
    histogram = Histogram((1, 10))
    for value in (1, 2, 10, 11):
        histogram.add(value)
    lines = served(replace(FIGURES, histograms=(("batch_jobs", "Jobs.", histogram.snapshot()),))).splitlines()
    assert [
        'telemetry_writer_batch_jobs_bucket{le="1.0"} 1.0',
        'telemetry_writer_batch_jobs_bucket{le="10.0"} 3.0',
        'telemetry_writer_batch_jobs_bucket{le="+Inf"} 4.0',
        "telemetry_writer_batch_jobs_count 4.0",
        "telemetry_writer_batch_jobs_sum 24.0",
    ] == [
        line.replace('le="1"', 'le="1.0"').replace('le="10"', 'le="10.0"')
        for line in lines
        if line.startswith("telemetry_writer_batch_jobs")
    ]


def test_types_of_errors_are_bounded(tmp_path: Path) -> None:
    """However many types of errors there are, they make few time series, and none is lost."""
    database = parse_database(tmp_path / "telemetry.db")
    writer = Writer(database)
    try:
        intake: Intake[bytes] = Intake(writer, database, BatchLimits())
        intake._count(1000, [Failure(b"s" * 16, number, f"Error{number}", "", None) for number in range(1000)], 0.1)
    finally:
        writer.close()
    assert 21 == len(intake.failures)
    assert 1000 == sum(intake.failures.values())
    assert 980 == intake.failures["other"]


def test_refusals_faults_and_checkpoints_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each under its own name; a checkpoint by what came of it."""
    database = parse_database(tmp_path / "telemetry.db")
    writer = Writer(database)
    try:
        intake: Intake[bytes] = Intake(writer, database, BatchLimits())
        for identity in (database.identity, "another"):
            intake.control(b"route", Hello(b"s" * 16, identity, 1, 0))
        intake.maintain(idle=True)
        writer.behind = True
        monkeypatch.setattr(writer, "maintain", lambda idle: None)
        intake.maintain(idle=True)
        monkeypatch.setattr(writer, "maintain", failing)
        intake.maintain(idle=True)
    finally:
        writer.close()
    assert {"ok": 1, "held_up": 1, "failed": 1} == intake.checkpoints
    assert (1, 1) == (intake.refused, intake.faults)


def failing(idle: bool) -> None:
    raise DatabaseFault("it is locked")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:0", ("::1", 0)),
        ("somewhere:80", ("somewhere", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """A port alone means this machine alone."""
    assert address == parse_address(text)


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", ":65536", "host:-1", "host:x"])
def test_what_is_no_address(text: str) -> None:
    """It is an error that names the option."""
    with pytest.raises(ConfigError, match="--metrics"):
        parse_address(text)
